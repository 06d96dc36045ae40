//! What a command inside a node works with: the node, the caller's ears, and the caller's input.

use std::sync::Arc;

use bytes::Bytes;
use rpc::admin::{Carried, Event, Events, Input, Progress};
use serde_json::Value;
use tokio::runtime::Handle;

use super::exit::{Exit, Failure};
use crate::serve::Running;

/// One call.
pub(crate) struct Context {
    pub(crate) running: Arc<Running>,
    pub(crate) out: Output,
    /// Standard input; a command that is one of many has none.
    pub(crate) input: Option<Input>,
    pub(crate) json: bool,
    /// As it was typed.
    pub(crate) words: Vec<String>,
    /// It was typed at another node, or is one turn of a loop over many users.
    pub(crate) carried: Option<Carried>,
}

impl Context {
    /// The user of this turn, in a loop that runs elsewhere.
    pub(crate) fn one_of_many(&self) -> Option<&str> {
        self.carried.as_ref()?.user.as_deref()
    }

    /// Whether users before this one have printed something.
    pub(crate) fn is_continued(&self) -> bool {
        self.carried.as_ref().is_some_and(|carried| carried.continued)
    }

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

    /// What a command said somewhere else. The loop over many tells how far it is itself.
    pub(crate) async fn repeat(&self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Stdout(bytes) => self.0.stdout(bytes).await?,
            Event::Stderr(bytes) => self.0.stderr(bytes).await?,
            Event::Progress(progress) => self.0.progress(progress).await?,
            Event::Finished(_) => {}
        }
        Ok(())
    }

    /// Returns when nobody listens any more.
    pub(crate) async fn hung_up(&self) {
        self.0.hung_up().await;
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
