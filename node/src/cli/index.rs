//! `roost index rebuild`

use account::Request;
use clap::{Args, Subcommand};
use futures::FutureExt as _;
use serde_json::json;

use super::about::{About, Shape};
use super::choose::{Place, Told, Whom, choose, tell_each};
use super::exit::{Exit, Failure};
use super::output::Context;

#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Forget derived files of an account and make them again from journal and messages
    Rebuild(RebuildArgs),
}

#[derive(Debug, Args)]
#[command(override_usage = "roost index rebuild [OPTIONS] <USER>\n       roost index rebuild [OPTIONS] -A")]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    whom: Whom,
    #[arg(value_name = "USER", required_unless_present_any = ["all", "pattern"])]
    user: Option<String>,
}

impl IndexCommand {
    pub(crate) fn about(&self) -> About<'_> {
        let Self::Rebuild(args) = self;
        let words = args.user.as_slice();
        About::Chosen { whom: &args.whom, words, place: Place::First, shape: Shape::MapIfJson }
    }
}

pub(crate) async fn rebuild(context: &Context, args: &RebuildArgs) -> Result<Exit, Failure> {
    let words: Vec<String> = args.user.iter().cloned().collect();
    let chosen = choose(context, &args.whom, &words, Place::First).await?;
    tell_each(context, chosen, |one| {
        async move {
            let done = one.account.ask(Request::RebuildIndex).await?;
            let messages = done.snapshot.messages;
            let text = one.line(&format!(
                "rebuilt: {messages} messages in {} mailboxes",
                done.snapshot.mailboxes.len()
            ));
            Ok(Told {
                text,
                value: json!({ "messages": messages, "mailboxes": done.snapshot.mailboxes.len() }),
            })
        }
        .boxed()
    })
    .await
}
