//! `roost kick`

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::Context;
use super::{choose, wildcard};

/// End the sessions of a user, of all protocols
#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// User, or a pattern such as '*@example.org'
    #[arg(value_name = "USER")]
    user: String,
}

pub(crate) async fn run(context: &Context, args: &KickArgs) -> Result<Exit, Failure> {
    let live = &context.running.services.live;
    let mut users = std::collections::BTreeSet::new();
    if args.user.contains(['*', '?']) {
        let connected = live.list().into_iter().filter_map(|who| who.user);
        users.extend(connected.filter(|user| wildcard::matches(&args.user, user)));
    } else {
        users.insert(choose::find(context, &args.user).await?.user.as_str().to_owned());
    }
    let kicked: usize = users.iter().map(|user| live.kick(user, "ended by the operator")).sum();
    let text =
        if kicked == 1 { "1 session ended\n".to_owned() } else { format!("{kicked} sessions ended\n") };
    context.say(text, json!({ "kicked": kicked })).await
}
