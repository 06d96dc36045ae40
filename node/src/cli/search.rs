//! `roost search`

use clap::Args;
use serde_json::json;

use super::about::{About, Shape};
use super::choose::{Place, choose, open};
use super::exit::{Exit, Failure};
use super::found::{UserAndQuery, search_of};
use super::output::Context;
use super::query::Typed;
use crate::time;

/// Find messages: prints the GUID of the mailbox and the UID of each
#[derive(Debug, Args)]
#[command(
    override_usage = "roost search [OPTIONS] <USER> <QUERY>...\n       roost search [OPTIONS] -A <QUERY>..."
)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    which: UserAndQuery,
}

impl SearchArgs {
    pub(crate) fn about(&self) -> About<'_> {
        About::query(&self.which, Shape::ListIfJson)
    }
}

pub(crate) async fn run(context: &Context, args: &SearchArgs) -> Result<Exit, Failure> {
    let chosen = choose(context, &args.which.whom, &args.which.words, Place::First).await?;
    let typed = Typed::parse(&chosen.rest, time::unix_s())?;
    let mut exit = Exit::Ok;
    let mut separator = "[";
    for record in chosen.users {
        let one = open(context, record, chosen.many).await;
        let found = match &one {
            Ok(one) => search_of(one, &typed).await,
            Err(failure) => Err(failure.clone()),
        };
        let (one, found) = match (one, found) {
            (Ok(one), Ok(found)) => (one, found),
            (_, Err(failure)) | (Err(failure), _) if chosen.many => {
                context.out.warn(&failure).await?;
                exit = if exit == Exit::Ok { failure.exit } else { exit };
                continue;
            }
            (_, Err(failure)) | (Err(failure), _) => return Err(failure),
        };
        for mailbox in &found {
            let mut text = String::new();
            for message in &mailbox.messages {
                let (guid, uid) = (mailbox.view.id.to_string(), message.uid.get());
                if context.json {
                    let (user, name) = (one.name(), mailbox.name.as_str());
                    let value = json!({ "user": user, "mailbox": name, "mailbox-guid": guid, "uid": uid });
                    text.push_str(&format!("{separator}\n  {value}"));
                    separator = ",";
                } else {
                    text.push_str(&one.line(&format!("{guid} {uid}")));
                }
            }
            context.out.print(text).await?;
        }
    }
    if context.json {
        context.out.print(if separator == "[" { "[]\n" } else { "\n]\n" }).await?;
    }
    Ok(exit)
}
