//! `roost serve`

use std::io::Read as _;

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use super::exit::{Exit, Failure};
use super::{Globals, logging};
use crate::serve::load_config;

/// Run one node in the foreground, of the configuration in --config FILE
///
/// Logs to standard error, says READY=1 to systemd and logs "ready" when it serves. SIGTERM drains and stops, SIGHUP
/// reads the configuration again.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Stop when standard input ends: whoever started this is gone
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

pub(crate) fn run(args: &ServeArgs, globals: &Globals) -> Result<Exit, Failure> {
    let file = globals.config_file();
    let config = load_config(&file).map_err(|mistakes| Failure::new(Exit::Config, mistakes.join("\n")))?;
    logging::start(config.log.level, config.log.format);
    if args.until_stdin_ends {
        std::thread::Builder::new().name("parent".into()).spawn(stop_with_parent)?;
    }
    match crate::serve::run(config, file) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => {
            tracing::error!("{error:#}");
            let is_unfit = error.downcast_ref::<crate::mail_volume::Unfit>().is_some();
            let exit = if is_unfit { Exit::Config } else { Exit::Software };
            Err(Failure::new(exit, format!("{error:#}")))
        }
    }
}

/// The pipe ends with the process that holds its other end, however that ended.
fn stop_with_parent() {
    let mut ignored = [0; 64];
    while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
    if let Err(error) = kill(getpid(), Signal::SIGTERM) {
        tracing::error!(%error, "cannot stop myself");
    }
}
