//! The admin socket, this node's side: commands typed elsewhere run here.
//!
//! The words are parsed by the same definitions as at the caller's, so that there is one command line.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use clap::Parser as _;
use rpc::admin::{AdminSocket, Call, Events, Handler, Input};
use tokio::sync::watch;

use crate::cli::exit::{Exit, Failure};
use crate::cli::{self, Cli, Context, Output};
use crate::serve::Running;

/// Who owns the socket may use it, and root.
const SOCKET_MODE: u32 = 0o600;

/// Answers commands until the node has stopped.
pub async fn serve(listener: UnixListener, running: Arc<Running>, mut ended: watch::Receiver<bool>) {
    let socket = match AdminSocket::bound(listener, SOCKET_MODE) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "no command can reach this node");
            return;
        }
    };
    let shutdown = async move {
        // The sender is gone only when the node is.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    if let Err(error) = rpc::admin::serve(socket, Arc::new(Commands { running }), shutdown).await {
        tracing::error!(%error, "the admin socket ended");
    }
}

struct Commands {
    running: Arc<Running>,
}

impl Handler for Commands {
    async fn run(&self, call: Call, input: Input, events: Events) -> u8 {
        let words = std::iter::once("roost".to_owned()).chain(call.arguments);
        let cli = match Cli::try_parse_from(words) {
            Ok(cli) => cli,
            // The caller has parsed it too: only another version could come here.
            Err(error) => return finish(&events, Err(Failure::usage(error.to_string()))).await,
        };
        let out = Output::new(events.clone());
        let mut context = Context { running: Arc::clone(&self.running), out, input, json: cli.globals.json };
        let outcome = cli::serve_call(&mut context, cli.command).await;
        finish(&events, outcome).await
    }
}

async fn finish(events: &Events, outcome: Result<Exit, Failure>) -> u8 {
    match outcome {
        Ok(exit) => exit.code(),
        Err(failure) => {
            // If nobody listens, the code says enough.
            let _ = events.stderr(format!("roost: {failure}\n")).await;
            failure.exit.code()
        }
    }
}
