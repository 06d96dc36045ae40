//! `roost kick`

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};

use super::elsewhere::{self, Part};
use super::exit::{Exit, Failure};
use super::output::Context;
use super::{choose, wildcard};
use crate::live::Via;

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
    let (served, mut edges) = own(context, args).await?;
    if context.carried.is_some() {
        return context.say("", json!({ "kicked": served, "edges": edges })).await;
    }
    let (mut kicked, mut untold) = (served, Vec::new());
    for Part { node, said } in elsewhere::parts(context, &["kick", "--json", "--", &args.user]).await {
        match said {
            Ok(value) => {
                kicked += value["kicked"].as_u64().unwrap_or(0);
                for (node, count) in value["edges"].as_object().into_iter().flatten() {
                    *edges.entry(node.clone()).or_insert(0) += count.as_u64().unwrap_or(0);
                }
            }
            Err(why) => {
                let failure = Failure::try_again(format!("node {node} may still have sessions: {why}"));
                context.out.warn(&failure).await?;
                untold.push(node);
            }
        }
    }
    // A session that is carried has two ends, and counts where it is served. Those of a node that was not told count here.
    kicked += untold.iter().filter_map(|node| edges.get(&node.to_string())).sum::<u64>();
    let text =
        if kicked == 1 { "1 session ended\n".to_owned() } else { format!("{kicked} sessions ended\n") };
    let mut value = json!({ "kicked": kicked });
    if !untold.is_empty() {
        value["unreachable"] = Value::from(untold.clone());
    }
    context.say(text, value).await?;
    Ok(if untold.is_empty() { Exit::Ok } else { Exit::TryAgain })
}

/// Ends those at this node. Returns how many were served here, and how many were carried to which node.
async fn own(context: &Context, args: &KickArgs) -> Result<(u64, BTreeMap<String, u64>), Failure> {
    let live = &context.running.services.live;
    let sessions = live.list();
    let mut users = BTreeSet::new();
    if args.user.contains(['*', '?']) {
        let connected = sessions.iter().filter_map(|who| who.user.clone());
        users.extend(connected.filter(|user| wildcard::matches(&args.user, user)));
    } else {
        users.insert(choose::find(context, &args.user).await?.user.as_str().to_owned());
    }
    let (mut served, mut edges) = (0, BTreeMap::new());
    for who in sessions.iter().filter(|who| who.user.as_ref().is_some_and(|user| users.contains(user))) {
        match &who.via {
            Some(Via::To { node }) => *edges.entry(node.to_string()).or_insert(0) += 1,
            Some(Via::From { .. }) | None => served += 1,
        }
    }
    for user in &users {
        live.kick(user, "ended by the operator");
    }
    Ok((served, edges))
}
