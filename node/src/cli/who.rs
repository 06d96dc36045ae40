//! `roost who`

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::Context;
use super::table::table;
use super::{when, wildcard};

/// List live sessions: who is connected, from where, doing what
#[derive(Debug, Args)]
pub(crate) struct WhoArgs {
    /// Sessions of users like this only
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &WhoArgs) -> Result<Exit, Failure> {
    let mut sessions = context.running.services.live.list();
    if let Some(pattern) = &args.pattern {
        sessions.retain(|who| who.user.as_deref().is_some_and(|user| wildcard::matches(pattern, user)));
    }
    let row = |who: &crate::live::Who| {
        [
            who.session.clone(),
            who.protocol.to_owned(),
            who.user.clone().unwrap_or_else(|| "-".into()),
            who.remote.to_string(),
            if who.tls { "yes" } else { "no" }.to_owned(),
            when::text(who.since_unix_s),
            who.command.to_owned(),
            who.mailbox.clone().unwrap_or_else(|| "-".into()),
            who.via.as_ref().map_or_else(|| "-".into(), ToString::to_string),
        ]
    };
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let heading =
        ["SESSION", "PROTOCOL", "USER", "REMOTE", "TLS", "SINCE (UTC)", "COMMAND", "MAILBOX", "CARRIED"];
    context.say(table(heading, &rows), json!(sessions)).await
}
