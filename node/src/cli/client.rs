//! This side of a command that runs inside a node: finds the admin socket, sends the words, passes input on, prints.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use rpc::admin::{AdminClient, CallError, ConnectError, Event};

use super::auth::{self, AuthCommand};
use super::exit::{Exit, Failure, complain};
use super::progress::Display;
use super::{Command, Globals, prompt};
use crate::serve::load_config;

/// Sends the command line and does what comes back.
pub(crate) fn run(command: &Command, globals: &Globals, words: Vec<OsString>) -> Result<Exit, Failure> {
    let socket = socket(globals)?;
    let arguments = arguments(command, globals, words)?;
    let takes_input = matches!(command, Command::Save(_));
    if takes_input && std::io::stdin().is_terminal() {
        complain("roost: reading the message from the terminal; end it with Ctrl-D");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(call(&socket, arguments, takes_input));
    // A read of standard input that nobody waits for must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// The words as they were typed; where a password was asked for, with it.
fn arguments(command: &Command, globals: &Globals, words: Vec<OsString>) -> Result<Vec<String>, Failure> {
    if let Command::Auth(AuthCommand::Test(args)) = command
        && args.password.is_none()
    {
        let password = prompt::password("Password: ")?;
        return Ok(auth::words(&args.user, password, globals.json));
    }
    let word =
        |word: OsString| word.into_string().map_err(|word| Failure::usage(format!("{word:?} is not UTF-8")));
    words.into_iter().skip(1).map(word).collect()
}

fn socket(globals: &Globals) -> Result<PathBuf, Failure> {
    if let Some(socket) = &globals.socket {
        return Ok(socket.clone());
    }
    let file = globals.config_file();
    match load_config(&file) {
        Ok(config) => Ok(config.node.admin_socket),
        Err(mistakes) => Err(Failure::new(
            Exit::Config,
            format!("{}\nname the node with --socket PATH or --config FILE", mistakes.join("\n")),
        )),
    }
}

async fn call(socket: &Path, arguments: Vec<String>, takes_input: bool) -> Result<Exit, Failure> {
    let mut client = AdminClient::connect(socket).await?;
    let mut replies = if takes_input {
        client.run(arguments, tokio::io::stdin()).await?
    } else {
        client.run(arguments, tokio::io::empty()).await?
    };
    let mut display = Display::default();
    loop {
        let event = tokio::select! {
            event = replies.next() => event?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::try_again("interrupted: what was begun may be done")),
        };
        match event {
            Some(Event::Stdout(bytes)) => {
                display.clear();
                let mut stdout = std::io::stdout().lock();
                match stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
                    // `head` has read enough: silence, as for a signal.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Exit::Disk),
                    written => written?,
                }
            }
            Some(Event::Stderr(bytes)) => {
                display.clear();
                std::io::stderr().lock().write_all(&bytes)?;
            }
            Some(Event::Progress(progress)) => display.show(&progress, crate::time::now()),
            Some(Event::Finished(code)) => {
                display.clear();
                return Exit::from_code(code);
            }
            None => return Err(CallError::Lost.into()),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match &error {
            ConnectError::NoSocket(_) | ConnectError::NobodyAnswers(_) | ConnectError::Failed { .. } => {
                Exit::TryAgain
            }
            ConnectError::NotPermitted(_) => Exit::NotPermitted,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let exit = match &error {
            CallError::Version(_) | CallError::Lost => Exit::TryAgain,
            CallError::Refused(_) => Exit::Software,
        };
        Self::new(exit, error.to_string())
    }
}
