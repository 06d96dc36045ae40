//! `roost verify`

use account::Request;
use account::verify::{Problem, Verified};
use clap::Args;
use serde_json::json;

use super::about::{About, Shape};
use super::choose::{One, Place, Whom, choose, open};
use super::exit::{Exit, Failure};
use super::output::Context;

/// Read every byte of an account, compare it with journal and index, and say what differs
///
/// Exits with 65 if something is wrong that was not put right.
#[derive(Debug, Args)]
#[command(override_usage = "roost verify [OPTIONS] <USER>\n       roost verify [OPTIONS] --all")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    whom: Whom,
    #[arg(value_name = "USER", required_unless_present_any = ["all", "pattern"])]
    user: Option<String>,
    /// Make derived files again, then look once more
    #[arg(long)]
    repair: bool,
}

impl VerifyArgs {
    pub(crate) fn about(&self) -> About<'_> {
        let words = self.user.as_slice();
        About::Chosen { whom: &self.whom, words, place: Place::First, shape: Shape::MapIfJson }
    }
}

pub(crate) async fn run(context: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    let words: Vec<String> = args.user.iter().cloned().collect();
    let chosen = choose(context, &args.whom, &words, Place::First).await?;
    let (many, total) = (chosen.many, chosen.users.len() as u64);
    let mut exit = Exit::Ok;
    let mut values = serde_json::Map::new();
    for (done, record) in chosen.users.into_iter().enumerate() {
        let user = record.user.as_str().to_owned();
        let verified = match open(context, record, many).await {
            Ok(one) => verify(&one, args.repair).await,
            Err(failure) => Err(failure),
        };
        match verified {
            Ok(verified) => {
                if !verified.problems.iter().all(is_healed) {
                    exit = Exit::Data;
                }
                if !context.json {
                    context.out.print(text(&user, &verified)).await?;
                }
                values.insert(user, json!(verified));
            }
            Err(failure) if many => {
                context.out.warn(&Failure::new(failure.exit, format!("{user}: {failure}"))).await?;
                values.insert(user, json!({ "error": failure.message, "exit": failure.exit.code() }));
                exit = failure.exit;
            }
            Err(failure) => return Err(failure),
        }
        if many {
            context.out.progress(done as u64 + 1, total, "accounts", "verify").await?;
        }
    }
    if context.json {
        let only = if many { None } else { values.values().next().cloned() };
        context.out.value(&only.unwrap_or(serde_json::Value::Object(values))).await?;
    }
    Ok(exit)
}

async fn verify(one: &One, repair: bool) -> Result<Verified, Failure> {
    let first = one.account.verify().await.map_err(Failure::try_again)?;
    if !repair || first.problems.is_empty() {
        return Ok(first);
    }
    one.account.ask(Request::RebuildIndex).await?;
    let mut second = one.account.verify().await.map_err(Failure::try_again)?;
    // What was put right at the first look is told too.
    let healed = first.problems.into_iter().filter(is_healed);
    second.problems = healed.chain(second.problems).collect();
    Ok(second)
}

fn is_healed(problem: &Problem) -> bool {
    matches!(problem, Problem::Healed { .. })
}

fn text(user: &str, verified: &Verified) -> String {
    let Verified { mailboxes, messages, bytes, problems } = verified;
    let (healed, wrong): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| is_healed(problem));
    let state = if wrong.is_empty() { "sound" } else { "DAMAGED" };
    let mut text =
        format!("{user}: {state}: {messages} messages in {mailboxes} mailboxes, {bytes} bytes read\n");
    for problem in healed.into_iter().chain(wrong) {
        text.push_str(&format!("{user}: {}\n", sentence(problem)));
    }
    text
}

fn sentence(problem: &Problem) -> String {
    match problem {
        Problem::Missing { mailbox, uid, base } => {
            format!("{mailbox}, UID {uid}: the file {base} is missing")
        }
        Problem::Unreadable { mailbox, uid: 0, error, .. } => format!("{mailbox} cannot be read: {error}"),
        Problem::Unreadable { mailbox, uid, base, error } => {
            format!("{mailbox}, UID {uid}: {base} cannot be read: {error}")
        }
        Problem::Changed { mailbox, uid, base, what } => {
            format!("{mailbox}, UID {uid}: {base} is not what was delivered: {what}")
        }
        Problem::Orphan { mailbox, base } => format!("{mailbox}: the file {base} is no message"),
        Problem::Healed { what } => format!("put right: {what}"),
        Problem::Journal { what } => format!("the journal: {what}"),
    }
}
