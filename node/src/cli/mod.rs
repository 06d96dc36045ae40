//! The command line: what can be typed, and where it runs.
//!
//! Most commands run inside a node: the words are sent over its admin socket as they were typed, and parsed there by
//! these same definitions. `demo`, `serve`, `doctor`, `config check|show`, `pw`, `completions` and `man`
//! need no node.
//!
//! Invariants
//! - Every command ends with one of the codes in [`exit`]; what went wrong is said on standard error.
//! - With `--json`, standard output is one JSON value or nothing.

mod about;
mod auth;
mod choose;
mod client;
mod cluster;
mod config;
mod doctor;
mod dump;
pub(crate) mod elsewhere;
pub(crate) mod exit;
mod explain;
mod expunge;
mod fetch;
mod fields;
mod flags;
mod found;
mod index;
mod journal;
mod journal_text;
mod kick;
mod lock;
pub mod logging;
mod mailbox;
mod man;
mod output;
mod pieces;
mod pki;
mod progress;
mod prompt;
mod pw;
mod query;
mod rebuild;
mod relocate;
mod save;
mod search;
mod serve;
mod stats;
mod table;
mod uid;
mod verify;
pub(crate) mod when;
mod who;
mod wildcard;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::demo;
use exit::{Exit, Failure};
pub(crate) use output::{Context, Output};
pub(crate) use when::rfc5322;

/// Read where neither `--config` nor `--socket` says otherwise.
const CONFIG_DEFAULT: &str = "/etc/roost/roost.toml";
const CONFIG_VARIABLE: &str = "ROOST_CONFIG";

/// A replicated, clustered mail store
#[derive(Debug, Parser)]
#[command(name = "roost", version, after_help = EXIT_CODES, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 what was examined can lose mail, 64 usage, 65 damaged or impossible, 67 no such user, 68 no such \
                          mailbox, message or node, 70 trouble of ours, 73 cannot create, 74 disk, 75 try again, \
                          77 not permitted, 78 configuration";

#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// Admin socket of the node to talk to
    #[arg(long, global = true, value_name = "PATH", display_order = 900)]
    pub(crate) socket: Option<PathBuf>,
    /// Configuration of the node [default: $ROOST_CONFIG, or /etc/roost/roost.toml]
    #[arg(long, global = true, value_name = "FILE", display_order = 901)]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON value
    #[arg(long, global = true, display_order = 902)]
    pub(crate) json: bool,
}

impl Cli {
    /// Reads words that were typed at another process.
    pub(crate) fn of_words(words: &[String]) -> Result<Self, Failure> {
        let words = std::iter::once("roost").chain(words.iter().map(String::as_str));
        // Whoever sent them has parsed them too: only another version could come here.
        Self::try_parse_from(words).map_err(|error| Failure::usage(error.to_string()))
    }
}

impl Globals {
    /// The configuration file to read.
    pub(crate) fn config_file(&self) -> PathBuf {
        let from_environment =
            || std::env::var_os(CONFIG_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        self.config.clone().or_else(from_environment).unwrap_or_else(|| CONFIG_DEFAULT.into())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the product on loopback with two users, and show mail flowing
    Demo(demo::DemoArgs),
    /// Run a node
    Serve(serve::ServeArgs),
    /// Check, print or reload a configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Examine a directory and its mount: what could lose mail, and what to change
    Doctor(doctor::DoctorArgs),
    /// Hash a password
    Pw(pw::PwArgs),
    /// Try a login
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    /// List live sessions
    Who(who::WhoArgs),
    /// End the sessions of a user
    Kick(kick::KickArgs),
    /// List and change mailboxes
    #[command(subcommand)]
    Mailbox(mailbox::MailboxCommand),
    /// Print fields of messages
    Fetch(fetch::FetchArgs),
    /// Find messages
    Search(search::SearchArgs),
    /// Remove messages for good
    Expunge(expunge::ExpungeArgs),
    /// Move messages to a mailbox
    Move(relocate::MoveArgs),
    /// Change flags of messages
    #[command(subcommand)]
    Flags(flags::FlagsCommand),
    /// Store the message on standard input
    Save(save::SaveArgs),
    /// Print a whole account as JSON
    Dump(dump::DumpArgs),
    /// Read every byte and compare it with journal and index
    Verify(verify::VerifyArgs),
    /// Read an account's journal
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Care for derived files
    #[command(subcommand)]
    Index(index::IndexCommand),
    /// Print the metrics of a node
    Stats(stats::StatsArgs),
    /// Say who owns an account, and what lies on disk
    Explain(explain::ExplainArgs),
    /// Look at ownership
    #[command(subcommand)]
    Lock(lock::LockCommand),
    /// Look at UIDs
    #[command(subcommand)]
    Uid(uid::UidCommand),
    /// Look at the nodes of this site, and change who takes part and who owns what
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Print completions for a shell
    Completions(man::CompletionsArgs),
    /// Write man pages to a directory
    Man(man::ManArgs),
}

/// Runs what was typed.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match Cli::try_parse_from(&words) {
        Ok(cli) => run(cli, words),
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nothing more can be said to a closed terminal.
            let _ = error.print();
            if asked { Exit::Ok.into() } else { Exit::Usage.into() }
        }
    }
}

fn run(cli: Cli, words: Vec<OsString>) -> ExitCode {
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(&args, cli.globals.json),
        Command::Serve(args) => serve::run(&args, &cli.globals),
        Command::Config(config::ConfigCommand::Check(args)) => config::check(&args, cli.globals.json),
        Command::Config(config::ConfigCommand::Show(args)) => config::show(&args, cli.globals.json),
        Command::Doctor(args) => doctor::run(&args, cli.globals.json),
        Command::Pw(args) => pw::run(&args, cli.globals.json),
        Command::Completions(args) => man::completions(&args),
        Command::Man(args) => man::pages(&args),
        Command::Cluster(cluster::ClusterCommand::Pki(command)) => pki::run(&command, cli.globals.json),
        Command::Cluster(cluster::ClusterCommand::Rebuild) => rebuild::run(&cli.globals, cli.globals.json),
        command @ (Command::Config(config::ConfigCommand::Reload)
        | Command::Auth(_)
        | Command::Who(_)
        | Command::Kick(_)
        | Command::Mailbox(_)
        | Command::Fetch(_)
        | Command::Search(_)
        | Command::Expunge(_)
        | Command::Move(_)
        | Command::Flags(_)
        | Command::Save(_)
        | Command::Dump(_)
        | Command::Verify(_)
        | Command::Journal(_)
        | Command::Index(_)
        | Command::Stats(_)
        | Command::Explain(_)
        | Command::Lock(_)
        | Command::Uid(_)
        | Command::Cluster(_)) => client::run(&command, &cli.globals, words),
    };
    outcome.unwrap_or_else(|failure| failure.tell()).into()
}

/// Runs, inside a node, what a command line somewhere else was given.
pub(crate) async fn dispatch(context: &mut Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Config(config::ConfigCommand::Reload) => config::reload(context).await,
        Command::Auth(auth::AuthCommand::Test(args)) => auth::test(context, &args).await,
        Command::Who(args) => who::run(context, &args).await,
        Command::Kick(args) => kick::run(context, &args).await,
        Command::Mailbox(command) => mailbox::run(context, command).await,
        Command::Fetch(args) => fetch::run(context, &args).await,
        Command::Search(args) => search::run(context, &args).await,
        Command::Expunge(args) => expunge::run(context, &args).await,
        Command::Move(args) => relocate::run(context, &args).await,
        Command::Flags(command) => flags::run(context, command).await,
        Command::Save(args) => save::run(context, &args).await,
        Command::Dump(args) => dump::run(context, &args).await,
        Command::Verify(args) => verify::run(context, &args).await,
        Command::Journal(journal::JournalCommand::Show(args)) => journal::show(context, &args).await,
        Command::Index(index::IndexCommand::Rebuild(args)) => index::rebuild(context, &args).await,
        Command::Stats(_) => stats::run(context).await,
        Command::Explain(args) => explain::run(context, &args).await,
        Command::Lock(lock::LockCommand::Show(args)) => lock::show(context, &args).await,
        Command::Uid(uid::UidCommand::Show(args)) => uid::show(context, &args).await,
        Command::Cluster(command) => cluster::run(context, command).await,
        Command::Demo(_)
        | Command::Serve(_)
        | Command::Config(config::ConfigCommand::Check(_) | config::ConfigCommand::Show(_))
        | Command::Doctor(_)
        | Command::Pw(_)
        | Command::Completions(_)
        | Command::Man(_) => Err(Failure::usage("this command does not run inside a node")),
    }
}

/// The definitions, for man pages and completions.
pub(crate) fn definitions() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definitions_are_sound() {
        super::definitions().debug_assert();
    }
}
