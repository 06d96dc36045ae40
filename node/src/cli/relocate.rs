//! `roost move`

use account::Request;
use account::door::Reply;
use clap::Args;
use futures::FutureExt as _;
use model::MailboxName;
use serde_json::json;

use super::about::{About, Shape};
use super::choose::{One, Place, Told, Whom, choose, tell_each};
use super::exit::{Exit, Failure};
use super::found::{CHANGE_BATCH, search_of};
use super::output::Context;
use super::query::Typed;
use crate::time;

/// Move messages to a mailbox of the same user
#[derive(Debug, Args)]
#[command(override_usage = "roost move [OPTIONS] <USER> <MAILBOX> <QUERY>...\n       \
                            roost move [OPTIONS] -A <MAILBOX> <QUERY>...")]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    whom: Whom,
    /// The user, the mailbox to move to, then IMAP search keys and MAILBOX NAME
    #[arg(value_names = ["USER", "MAILBOX", "QUERY"], num_args = 1.., required = true)]
    words: Vec<String>,
}

impl MoveArgs {
    pub(crate) fn about(&self) -> About<'_> {
        About::Chosen { whom: &self.whom, words: &self.words, place: Place::First, shape: Shape::MapIfJson }
    }
}

pub(crate) async fn run(context: &Context, args: &MoveArgs) -> Result<Exit, Failure> {
    let chosen = choose(context, &args.whom, &args.words, Place::First).await?;
    let Some((mailbox, query)) = chosen.rest.split_first() else {
        return Err(Failure::usage("name the MAILBOX to move to"));
    };
    let to = MailboxName::new(mailbox).map_err(|error| Failure::usage(format!("{mailbox}: {error}")))?;
    let typed = Typed::parse(query, time::unix_s())?;
    tell_each(context, chosen, |one| {
        let (typed, to) = (typed.clone(), to.clone());
        async move { relocate(&one, &typed, &to).await }.boxed()
    })
    .await
}

async fn relocate(one: &One, typed: &Typed, to: &MailboxName) -> Result<Told, Failure> {
    if one.snapshot()?.by_name(to).is_none_or(|entry| entry.view.is_none()) {
        return Err(Failure::no_mailbox(to.as_str()));
    }
    let mut moved = 0;
    for found in search_of(one, typed).await? {
        // What is there already stays as it is.
        if found.name == *to {
            continue;
        }
        for uids in found.uids().chunks(CHANGE_BATCH) {
            let request = Request::Move { from: found.view.id, uids: uids.to_vec(), to: to.clone() };
            if let Reply::Copied { uids, .. } = one.account.ask(request).await?.reply {
                moved += uids.len();
            }
        }
    }
    Ok(Told { text: one.line(&format!("{moved} moved")), value: json!({ "moved": moved }) })
}
