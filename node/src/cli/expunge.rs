//! `roost expunge`

use account::Request;
use account::door::{Expunge, Reply};
use clap::Args;
use futures::FutureExt as _;
use serde_json::json;

use super::about::{About, Shape};
use super::choose::{One, Place, Told, choose, tell_each};
use super::exit::{Exit, Failure};
use super::found::{CHANGE_BATCH, UserAndQuery, search_of};
use super::output::Context;
use super::query::Typed;
use crate::time;

/// Remove messages for good, whatever their flags
#[derive(Debug, Args)]
#[command(
    override_usage = "roost expunge [OPTIONS] <USER> <QUERY>...\n       roost expunge [OPTIONS] -A <QUERY>..."
)]
pub(crate) struct ExpungeArgs {
    #[command(flatten)]
    which: UserAndQuery,
}

impl ExpungeArgs {
    pub(crate) fn about(&self) -> About<'_> {
        About::query(&self.which, Shape::MapIfJson)
    }
}

pub(crate) async fn run(context: &Context, args: &ExpungeArgs) -> Result<Exit, Failure> {
    let chosen = choose(context, &args.which.whom, &args.which.words, Place::First).await?;
    let typed = Typed::parse(&chosen.rest, time::unix_s())?;
    tell_each(context, chosen, |one| {
        let typed = typed.clone();
        async move { expunge(&one, &typed).await }.boxed()
    })
    .await
}

async fn expunge(one: &One, typed: &Typed) -> Result<Told, Failure> {
    let mut expunged = 0;
    for found in search_of(one, typed).await? {
        for uids in found.uids().chunks(CHANGE_BATCH) {
            let which = Expunge::Exactly(uids.to_vec());
            let done = one.account.ask(Request::Expunge { mailbox: found.view.id, which }).await?;
            if let Reply::Expunged { uids } = done.reply {
                expunged += uids.len();
            }
        }
    }
    Ok(Told { text: one.line(&format!("{expunged} expunged")), value: json!({ "expunged": expunged }) })
}
