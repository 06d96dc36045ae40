//! `roost who`

use clap::Args;
use serde_json::{Value, json};

use super::elsewhere::{self, Part};
use super::exit::{Exit, Failure};
use super::output::Context;
use super::table::table;
use super::{when, wildcard};

/// List live sessions of all nodes of the site: who is connected, from where, doing what
///
/// A session that is carried from the node of its client to the owner of its account is listed once, at the owner.
#[derive(Debug, Args)]
pub(crate) struct WhoArgs {
    /// Sessions of users like this only
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &WhoArgs) -> Result<Exit, Failure> {
    let here = own(context, args);
    if context.carried.is_some() {
        return context.say("", json!(here)).await;
    }
    let mut words = vec!["who", "--json"];
    if let Some(pattern) = &args.pattern {
        words.extend(["--", pattern]);
    }
    let mut sessions = here;
    for Part { node, said } in elsewhere::parts(context, &words).await {
        match said {
            Ok(Value::Array(theirs)) => sessions.extend(theirs),
            Ok(_) => context.out.warn(&unheard(node, "it answered no list")).await?,
            Err(why) => context.out.warn(&unheard(node, &why)).await?,
        }
    }
    let sessions = once(sessions);
    let rows: Vec<_> = sessions.iter().map(row).collect();
    let heading = [
        "SESSION",
        "NODE",
        "PROTOCOL",
        "USER",
        "REMOTE",
        "TLS",
        "SINCE (UTC)",
        "COMMAND",
        "MAILBOX",
        "CARRIED",
    ];
    context.say(table(heading, &rows), json!(sessions)).await
}

fn unheard(node: u8, why: &str) -> Failure {
    Failure::try_again(format!("the sessions of node {node} are not listed: {why}"))
}

/// The sessions at this node.
fn own(context: &Context, args: &WhoArgs) -> Vec<Value> {
    let node = context.running.config.node.id;
    let mut sessions = context.running.services.live.list();
    if let Some(pattern) = &args.pattern {
        sessions.retain(|who| who.user.as_deref().is_some_and(|user| wildcard::matches(pattern, user)));
    }
    let value = |who: &crate::live::Who| {
        let mut value = json!(who);
        value["node"] = json!(node);
        value
    };
    sessions.iter().map(value).collect()
}

/// Leaves out the end at the edge of a session whose other end is listed.
fn once(sessions: Vec<Value>) -> Vec<Value> {
    let served: Vec<(Value, Value)> = sessions
        .iter()
        .map(|session| (session["via"]["from"]["node"].clone(), session["via"]["from"]["session"].clone()))
        .collect();
    let is_edge = |session: &Value| {
        !session["via"]["to"].is_null()
            && served.contains(&(session["node"].clone(), session["session"].clone()))
    };
    sessions.iter().filter(|session| !is_edge(session)).cloned().collect()
}

fn row(session: &Value) -> [String; 10] {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    };
    let via = match (&session["via"]["from"], &session["via"]["to"]) {
        (Value::Null, Value::Null) => "-".to_owned(),
        (Value::Null, to) => format!("to node {}", text(&to["node"])),
        (from, _) => format!("from node {} ({})", text(&from["node"]), text(&from["session"])),
    };
    [
        text(&session["session"]),
        text(&session["node"]),
        text(&session["protocol"]),
        text(&session["user"]),
        text(&session["remote"]),
        if session["tls"] == true { "yes" } else { "no" }.to_owned(),
        when::text(session["since_unix_s"].as_i64().unwrap_or(0)),
        text(&session["command"]),
        text(&session["mailbox"]),
        via,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carried_session_is_listed_once_where_it_is_served() {
        let edge = json!({"session": "e1", "node": 1, "via": {"to": {"node": 2}}});
        let owner = json!({"session": "o1", "node": 2, "via": {"from": {"node": 1, "session": "e1"}}});
        let lost = json!({"session": "e2", "node": 1, "via": {"to": {"node": 3}}});
        let plain = json!({"session": "e1", "node": 3, "via": null});
        let all = vec![edge, owner.clone(), lost.clone(), plain.clone()];
        assert_eq!(once(all), [owner, lost, plain]);
    }
}
