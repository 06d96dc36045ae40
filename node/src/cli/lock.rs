//! `roost lock show`

use clap::{Args, Subcommand};
use locking::BUCKETS;
use serde_json::json;

use super::choose::find;
use super::exit::{Exit, Failure};
use super::output::Context;
use crate::users::account_id;

#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    /// Print which buckets this node owns, or who owns that of KEY
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// A user, or the number of a bucket
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

pub(crate) async fn show(context: &Context, args: &ShowArgs) -> Result<Exit, Failure> {
    let locking = &context.running.locking;
    let buckets: Vec<u16> = match &args.key {
        None => (0..BUCKETS).filter_map(|bucket| u16::try_from(bucket).ok()).collect(),
        Some(key) => vec![match key.parse() {
            Ok(bucket) => bucket,
            Err(_) => account_id(&find(context, key).await?.user).bucket(),
        }],
    };
    let held = buckets.iter().map(|bucket| (*bucket, locking.held(*bucket)));
    let (mut text, mut values) = (String::new(), Vec::new());
    for (bucket, epoch) in held.filter(|(_, epoch)| args.key.is_some() || epoch.is_some()) {
        let owner = epoch.map(|_| context.running.name.as_str());
        let epoch = epoch.map(|epoch| epoch.to_string());
        text.push_str(&format!(
            "bucket {bucket} owner {} epoch {}\n",
            owner.unwrap_or("nobody"),
            epoch.as_deref().unwrap_or("-")
        ));
        values.push(json!({ "bucket": bucket, "owner": owner, "epoch": epoch }));
    }
    context.say(text, json!(values)).await
}
