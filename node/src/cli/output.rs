//! What a command inside a node works with: the node, the caller's ears, and the caller's input.

use std::sync::Arc;

use bytes::Bytes;
use rpc::admin::{Events, Input, Progress};
use serde_json::Value;
use tokio::runtime::Handle;

use super::exit::{Exit, Failure};
use crate::serve::Running;

/// One call.
pub(crate) struct Context {
    pub(crate) running: Arc<Running>,
    pub(crate) out: Output,
    pub(crate) input: Input,
    pub(crate) json: bool,
}

impl Context {
    /// Ends a command that has one thing to say: text for eyes, or a value.
    pub(crate) async fn say(&self, text: impl Into<String>, value: Value) -> Result<Exit, Failure> {
        if self.json {
            self.out.value(&value).await?;
        } else {
            self.out.print(text.into()).await?;
        }
        Ok(Exit::Ok)
    }
}

/// Where a command prints. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Output(Events);

impl Output {
    pub(crate) fn new(events: Events) -> Self {
        Self(events)
    }

    pub(crate) async fn print(&self, text: impl Into<Bytes>) -> Result<(), Failure> {
        Ok(self.0.stdout(text).await?)
    }

    pub(crate) async fn warn(&self, failure: &Failure) -> Result<(), Failure> {
        Ok(self.0.stderr(format!("roost: {failure}\n")).await?)
    }

    pub(crate) async fn value(&self, value: &Value) -> Result<(), Failure> {
        self.print(format!("{value:#}\n")).await
    }

    pub(crate) async fn progress(
        &self,
        done: u64,
        total: u64,
        unit: &str,
        label: &str,
    ) -> Result<(), Failure> {
        let progress = Progress { done, total: Some(total), unit: unit.to_owned(), label: label.to_owned() };
        Ok(self.0.progress(progress).await?)
    }

    /// For a thread that may block. To be called on the runtime.
    pub(crate) fn blocking(&self) -> Blocking {
        Blocking { out: self.clone(), runtime: Handle::current() }
    }
}

/// Prints from a blocking thread; waits there for a slow reader.
pub(crate) struct Blocking {
    out: Output,
    runtime: Handle,
}

impl Blocking {
    pub(crate) fn print(&self, text: impl Into<Bytes>) -> Result<(), Failure> {
        self.runtime.block_on(self.out.print(text))
    }

    pub(crate) fn warn(&self, failure: &Failure) -> Result<(), Failure> {
        self.runtime.block_on(self.out.warn(failure))
    }
}
