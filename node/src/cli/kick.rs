//! `roost kick`

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use super::elsewhere::{self, Part};
use super::exit::{Exit, Failure};
use super::output::Context;
use super::{choose, wildcard};
use crate::live::{Via, Who};

/// End the sessions of a user, of all protocols, at all nodes of the site
///
/// Exits with 75 if a node could not be told.
#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// User, or a pattern such as '*@example.org'
    #[arg(value_name = "USER")]
    user: String,
}

pub(crate) async fn run(context: &Context, args: &KickArgs) -> Result<Exit, Failure> {
    let mut ended = own(context, args).await?;
    if context.carried.is_some() {
        return context.say("", json!({ "ended": ended })).await;
    }
    let mut untold = Vec::new();
    for Part { node, said } in elsewhere::parts(context, &["kick", "--json", "--", &args.user]).await {
        match said {
            Ok(value) => {
                let theirs = value["ended"].as_array().into_iter().flatten().filter_map(Value::as_str);
                ended.extend(theirs.map(str::to_owned));
            }
            Err(why) => {
                let failure = Failure::try_again(format!("node {node} may still have sessions: {why}"));
                context.out.warn(&failure).await?;
                untold.push(node);
            }
        }
    }
    let kicked = ended.len();
    let text =
        if kicked == 1 { "1 session ended\n".to_owned() } else { format!("{kicked} sessions ended\n") };
    let mut value = json!({ "kicked": kicked });
    if !untold.is_empty() {
        value["unreachable"] = Value::from(untold.clone());
    }
    context.say(text, value).await?;
    Ok(if untold.is_empty() { Exit::Ok } else { Exit::TryAgain })
}

/// Ends those at this node, and names each by where its client is: one that is carried has two ends, and either may be
/// the first to go.
async fn own(context: &Context, args: &KickArgs) -> Result<BTreeSet<String>, Failure> {
    let (live, me) = (&context.running.services.live, context.running.config.node.id);
    let sessions = live.list();
    let mut users = BTreeSet::new();
    if args.user.contains(['*', '?']) {
        let connected = sessions.iter().filter_map(|who| who.user.clone());
        users.extend(connected.filter(|user| wildcard::matches(&args.user, user)));
    } else {
        users.insert(choose::find(context, &args.user).await?.user.as_str().to_owned());
    }
    let theirs = sessions.iter().filter(|who| who.user.as_ref().is_some_and(|user| users.contains(user)));
    let name = |who: &Who| match &who.via {
        Some(Via::From { node, session }) => format!("{node}/{session}"),
        Some(Via::To { .. }) | None => format!("{me}/{}", who.session),
    };
    let ended = theirs.map(name).collect();
    for user in &users {
        live.kick(user, "ended by the operator");
    }
    Ok(ended)
}
