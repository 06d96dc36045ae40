//! `roost flags add|remove|replace`

use account::Request;
use account::door::{EditFlags, FlagEdit};
use clap::{Args, Subcommand};
use futures::FutureExt as _;
use model::Flag;
use serde_json::json;

use super::about::{About, Shape};
use super::choose::{One, Place, Told, Whom, choose, tell_each};
use super::exit::{Exit, Failure};
use super::found::{CHANGE_BATCH, search_of};
use super::output::Context;
use super::query::Typed;
use crate::time;

#[derive(Debug, Subcommand)]
pub(crate) enum FlagsCommand {
    /// Add flags to messages
    #[command(override_usage = "roost flags add [OPTIONS] <USER> <FLAGS> <QUERY>...")]
    Add(FlagsArgs),
    /// Remove flags from messages
    #[command(override_usage = "roost flags remove [OPTIONS] <USER> <FLAGS> <QUERY>...")]
    Remove(FlagsArgs),
    /// Give messages these flags and no others; '' is none
    #[command(override_usage = "roost flags replace [OPTIONS] <USER> <FLAGS> <QUERY>...")]
    Replace(FlagsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FlagsArgs {
    #[command(flatten)]
    whom: Whom,
    /// The user, flags such as '\Seen Work', then IMAP search keys and MAILBOX NAME
    #[arg(value_names = ["USER", "FLAGS", "QUERY"], num_args = 1.., required = true)]
    words: Vec<String>,
}

impl FlagsCommand {
    pub(crate) fn about(&self) -> About<'_> {
        let (Self::Add(args) | Self::Remove(args) | Self::Replace(args)) = self;
        About::Chosen { whom: &args.whom, words: &args.words, place: Place::First, shape: Shape::MapIfJson }
    }
}

pub(crate) async fn run(context: &Context, command: FlagsCommand) -> Result<Exit, Failure> {
    let (edit, args) = match command {
        FlagsCommand::Add(args) => (FlagEdit::Add, args),
        FlagsCommand::Remove(args) => (FlagEdit::Remove, args),
        FlagsCommand::Replace(args) => (FlagEdit::Replace, args),
    };
    let chosen = choose(context, &args.whom, &args.words, Place::First).await?;
    let Some((flags, query)) = chosen.rest.split_first() else {
        return Err(Failure::usage("write the FLAGS, such as '\\Seen Work'"));
    };
    let flags = parse(flags)?;
    if flags.is_empty() && edit != FlagEdit::Replace {
        return Err(Failure::usage("write the FLAGS, such as '\\Seen Work'"));
    }
    let typed = Typed::parse(query, time::unix_s())?;
    tell_each(context, chosen, |one| {
        let (typed, flags) = (typed.clone(), flags.clone());
        async move { change(&one, &typed, edit, &flags).await }.boxed()
    })
    .await
}

fn parse(text: &str) -> Result<Vec<Flag>, Failure> {
    let words = text.split([' ', ',', '(', ')']).filter(|word| !word.is_empty());
    let flag = |word: &str| Flag::parse(word).ok_or_else(|| Failure::usage(format!("{word} is no flag")));
    words.map(flag).collect()
}

async fn change(one: &One, typed: &Typed, edit: FlagEdit, flags: &[Flag]) -> Result<Told, Failure> {
    let mut messages = 0;
    for found in search_of(one, typed).await? {
        for uids in found.uids().chunks(CHANGE_BATCH) {
            let mailbox = found.view.id;
            let flags = flags.to_vec();
            let edit = EditFlags { mailbox, uids: uids.to_vec(), edit, flags, unchanged_since: None };
            one.account.ask(Request::EditFlags(edit)).await?;
            messages += uids.len();
        }
    }
    Ok(Told { text: one.line(&format!("{messages} changed")), value: json!({ "changed": messages }) })
}
