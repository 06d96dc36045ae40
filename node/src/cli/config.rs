//! `roost config check|show|reload`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use config::Config;
use serde_json::{Value, json};

use super::exit::{Exit, Failure, complain, say};
use super::output::Context;
use crate::reload;
use crate::serve::load_config;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with a configuration: each mistake with file and line, and what to write instead
    Check(FileArgs),
    /// Print the configuration in effect
    Show(ShowArgs),
    /// Have a node read its configuration again, and say what needs a restart
    Reload,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// Configuration to read
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Configuration to read
    #[arg(value_name = "FILE", required_unless_present = "defaults")]
    file: Option<PathBuf>,
    /// Print every key there is, with its default and what it is for
    #[arg(long)]
    defaults: bool,
}

pub(crate) fn check(args: &FileArgs, json: bool) -> Result<Exit, Failure> {
    let mistakes = load_config(&args.file).err().unwrap_or_default();
    if json {
        say(format_args!("{:#}", json!({ "ok": mistakes.is_empty(), "mistakes": mistakes })));
    } else {
        mistakes.iter().for_each(complain);
    }
    Ok(if mistakes.is_empty() { Exit::Ok } else { Exit::Config })
}

pub(crate) fn show(args: &ShowArgs, json: bool) -> Result<Exit, Failure> {
    let config = match &args.file {
        Some(file) if !args.defaults => {
            load_config(file).map_err(|mistakes| Failure::new(Exit::Config, mistakes.join("\n")))?
        }
        Some(_) | None => Config::default(),
    };
    let text = config::show(&config, args.defaults);
    if json {
        let table: Value = toml::from_str(&text).map_err(|error| {
            Failure::new(Exit::Software, format!("cannot read what was printed: {error}"))
        })?;
        say(format_args!("{table:#}"));
    } else {
        say(text.trim_end());
    }
    Ok(Exit::Ok)
}

pub(crate) async fn reload(context: &Context) -> Result<Exit, Failure> {
    let reloaded = reload::apply(&context.running);
    let reloaded = reloaded.map_err(|mistakes| {
        Failure::new(Exit::Config, format!("{}\nthe configuration stays as it was", mistakes.join("\n")))
    })?;
    let mut text = String::new();
    for key in &reloaded.applied {
        text.push_str(&format!("{key}: applied\n"));
    }
    for key in &reloaded.needs_restart {
        text.push_str(&format!("{key}: changed; takes effect when the node is restarted\n"));
    }
    if text.is_empty() {
        text.push_str("nothing has changed; users and certificates are read again by themselves\n");
    }
    context.say(text, json!({ "applied": reloaded.applied, "needs_restart": reloaded.needs_restart })).await
}
