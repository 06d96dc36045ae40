//! `roost uid show`

use clap::{Args, Subcommand};
use model::MailboxName;
use serde_json::json;

use super::about::About;
use super::choose::{find, open};
use super::exit::{Exit, Failure};
use super::output::Context;

#[derive(Debug, Subcommand)]
pub(crate) enum UidCommand {
    /// Print UIDVALIDITY, UIDNEXT and the UIDs of a mailbox
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[arg(value_name = "USER")]
    user: String,
    #[arg(value_name = "MAILBOX")]
    mailbox: String,
}

impl UidCommand {
    pub(crate) fn about(&self) -> About<'_> {
        let Self::Show(args) = self;
        About::User(&args.user)
    }
}

pub(crate) async fn show(context: &Context, args: &ShowArgs) -> Result<Exit, Failure> {
    let name = MailboxName::new(&args.mailbox);
    let name = name.map_err(|error| Failure::usage(format!("{}: {error}", args.mailbox)))?;
    let one = open(context, find(context, &args.user).await?, false).await?;
    let snapshot = one.snapshot()?;
    let Some(view) = snapshot.by_name(&name).and_then(|entry| entry.view.as_ref()) else {
        return Err(Failure::no_mailbox(name.as_str()));
    };
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for message in view.iter() {
        let uid = message.uid.get();
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == uid => *last = uid,
            Some(_) | None => runs.push((uid, uid)),
        }
    }
    let run = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}:{last}") }
    };
    let uids = runs.iter().map(run).collect::<Vec<_>>().join(",");
    let text = format!(
        "mailbox {name}\nid {}\nuidvalidity {}\nuidnext {}\nhighestmodseq {}\nmessages {}\nuids {uids}\n",
        view.id,
        view.uid_validity,
        view.uid_next,
        view.highest_modseq,
        view.len()
    );
    let value = json!({
        "mailbox": name.as_str(), "id": view.id.to_string(), "uidvalidity": view.uid_validity.get(),
        "uidnext": view.uid_next.get(), "highestmodseq": view.highest_modseq.0, "messages": view.len(), "uids": uids,
    });
    context.say(text, value).await
}
