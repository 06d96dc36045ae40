//! `roost lock show`: who holds what, under which epoch, and what of an account counts.

use clap::{Args, Subcommand};
use locking::{BUCKETS, Bucket, BucketStatus};
use model::AccountId;
use serde_json::{Value, json};

use super::choose::find;
use super::exit::{Exit, Failure};
use super::output::Context;
use crate::serve::Running;
use crate::tenure::{self, Witnessing};
use crate::users::account_id;

#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    /// Print who holds the bucket of KEY, under which epoch and session, and the account's witness; without KEY, who holds what
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A user, the id of an account, or the number of a bucket
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

pub(crate) async fn show(context: &Context, args: &ShowArgs) -> Result<Exit, Failure> {
    let Some(key) = &args.key else { return all(context).await };
    let account = match key.parse::<Bucket>() {
        Ok(bucket) => return one(context, bucket, None).await,
        Err(_) => match AccountId::parse_hex(key) {
            Some(account) => account,
            None => account_id(&find(context, key).await?.user),
        },
    };
    one(context, account.bucket(), Some(account)).await
}

/// One bucket, and the witness of one account in it.
async fn one(context: &Context, bucket: Bucket, account: Option<AccountId>) -> Result<Exit, Failure> {
    let running = &context.running;
    let status = running.locking.bucket(bucket);
    let (mut text, mut value) =
        (format!("bucket {bucket} {}\n", sentence(running, &status)), value(running, &status));
    value["bucket"] = json!(bucket);
    if let Some(account) = account {
        let witness = witness(running, account).await?;
        text.push_str(&format!("account {account}\nwitness {}\n", witness_text(witness.as_ref())));
        value["account"] = json!(account.to_string());
        value["witness"] = witness_value(witness.as_ref());
    }
    context.say(text, json!([value])).await
}

/// Neighbours of one owner together. A bucket that nobody ever held is left out.
async fn all(context: &Context) -> Result<Exit, Failure> {
    let running = &context.running;
    let mut runs: Vec<(Bucket, Bucket, BucketStatus)> = Vec::new();
    for bucket in (0..BUCKETS).filter_map(|bucket| Bucket::try_from(bucket).ok()) {
        let status = running.locking.bucket(bucket);
        match runs.last_mut() {
            Some((_, last, of)) if *of == status && last.checked_add(1) == Some(bucket) => *last = bucket,
            Some(_) | None => runs.push((bucket, bucket, status)),
        }
    }
    runs.retain(|(_, _, status)| status.epoch.is_some());
    let (mut text, mut values) = (String::new(), Vec::new());
    for (first, last, status) in &runs {
        let buckets =
            if first == last { format!("bucket {first}") } else { format!("buckets {first} to {last}") };
        text.push_str(&format!("{buckets} {}\n", sentence(running, status)));
        let mut value = value(running, status);
        (value["bucket"], value["last"]) = (json!(first), json!(last));
        values.push(value);
    }
    context.say(text, json!(values)).await
}

/// How a node is called: this one by its name.
pub(crate) fn node_name(running: &Running, node: u8) -> String {
    if node == running.config.node.id { running.name.clone() } else { format!("node {node}") }
}

pub(crate) fn sentence(running: &Running, status: &BucketStatus) -> String {
    let owner = status.owner.map_or_else(|| "nobody".to_owned(), |node| node_name(running, node.0));
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut text = format!(
        "owner {owner} epoch {} session {}",
        dash(status.epoch.map(|epoch| epoch.to_string())),
        dash(status.session.map(|session| session.to_string())),
    );
    if status.owner.is_none() && status.session.is_some() {
        text.push_str(" (over)");
    }
    if let Some(to) = status.draining_to {
        text.push_str(&format!(" draining to node {to}"));
    }
    text
}

pub(crate) fn value(running: &Running, status: &BucketStatus) -> Value {
    json!({
        "owner": status.owner.map(|node| node_name(running, node.0)), "owner_id": status.owner.map(|node| node.0),
        "epoch": status.epoch.map(|epoch| epoch.to_string()), "session": status.session.map(|session| session.0),
        "draining_to": status.draining_to.map(|node| node.0),
    })
}

/// What of an account counts, as of now or later.
pub(crate) async fn witness(running: &Running, account: AccountId) -> Result<Option<Witnessing>, Failure> {
    let read = tenure::witness(&running.locking, account).await;
    read.map_err(|error| Failure::try_again(error.to_string()))
}

pub(crate) fn witness_text(witness: Option<&Witnessing>) -> String {
    let Some(Witnessing { epoch, witnessed }) = witness else { return "none yet".to_owned() };
    format!(
        "segment {} length {} lsn {} hash {:016x} accepted under epoch {epoch}",
        witnessed.segment_name(),
        witnessed.length,
        witnessed.lsn,
        witnessed.hash,
    )
}

pub(crate) fn witness_value(witness: Option<&Witnessing>) -> Value {
    let Some(Witnessing { epoch, witnessed }) = witness else { return Value::Null };
    json!({
        "epoch": witnessed.epoch.to_string(), "segment": witnessed.segment, "file": witnessed.segment_name(),
        "length": witnessed.length, "lsn": witnessed.lsn, "hash": format!("{:016x}", witnessed.hash),
        "accepted_epoch": epoch.to_string(),
    })
}
