//! The admin socket, this node's side: commands typed elsewhere run here. So do those that other nodes carry here, because
//! this one owns the account.
//!
//! The words are parsed by the same definitions as at the caller's, so that there is one command line.

use std::os::unix::net::UnixListener;
use std::sync::{Arc, OnceLock};

use rpc::PeerIdentity;
use rpc::admin::{AdminSocket, Call, Carrier, Declined, Events, Handler, Input, Run};
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
        run(Arc::clone(&self.running), call, input, events).await
    }
}

async fn run(running: Arc<Running>, call: Call, input: Input, events: Events) -> u8 {
    let Call { arguments, carried } = call;
    let outcome = match Cli::of_words(&arguments) {
        Ok(cli) => {
            let out = Output::new(events.clone());
            let (json, input) = (cli.globals.json, Some(input));
            let context = Context { running, out, input, json, words: arguments, carried };
            cli::elsewhere::run(context, cli.command).await
        }
        Err(failure) => Err(failure),
    };
    finish(&events, outcome).await
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

/// The door for commands that other nodes carry here. It is there before the node can serve.
#[derive(Default)]
pub struct Door(OnceLock<Arc<Running>>);

impl Door {
    /// From now on what comes is run.
    pub fn open(&self, running: Arc<Running>) {
        // A door that is open stays as it is.
        let _ = self.0.set(running);
    }
}

impl Carrier for Door {
    async fn admit(&self, from: PeerIdentity, call: Call) -> Result<Run, Declined> {
        let running = self.0.get().cloned();
        let running = running.ok_or_else(|| Declined::Unavailable("this node is starting".into()))?;
        let cli = Cli::of_words(&call.arguments);
        let cli = cli.map_err(|failure| Declined::Unavailable(failure.message))?;
        let carried = call.carried.clone().unwrap_or_default();
        cli::elsewhere::admit(&running, &cli.command, &carried).await?;
        tracing::debug!(%from, "a command is carried here");
        Ok(Box::new(move |input, events| Box::pin(run(running, call, input, events))))
    }
}
