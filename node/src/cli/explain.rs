//! `roost explain`: who owns an account, under which epoch, what counts, and what lies on disk.

use std::path::Path;

use clap::Args;
use nfs_compat::{EntryKind, Fs};
use serde_json::json;
use store::paths::Home;

use super::about::About;
use super::choose::{find, open};
use super::exit::{Exit, Failure};
use super::output::Context;
use super::{lock, when};
use crate::users::account_id;

/// Say who owns an account, under which epoch, what is witnessed, when it was taken over, and which files there are
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[arg(value_name = "USER")]
    user: String,
}

impl ExplainArgs {
    pub(crate) fn about(&self) -> About<'_> {
        About::User(&self.user)
    }
}

pub(crate) async fn run(context: &Context, args: &ExplainArgs) -> Result<Exit, Failure> {
    let record = find(context, &args.user).await?;
    let running = &context.running;
    let id = account_id(&record.user);
    let directory = running.services.homes.home(&record);
    let directory = directory.map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let one = open(context, record, false).await?;
    let snapshot = one.snapshot()?;
    let epoch = running.locking.held(id.bucket()).map(|epoch| epoch.to_string());
    let bucket = running.locking.bucket(id.bucket());
    let witness = lock::witness(running, id).await?;
    let witnessed = witness.map(|witness| witness.witnessed.lsn);
    let takeovers = running.services.registry.takeovers(id);
    let fs = std::sync::Arc::clone(&running.fs);
    let home = directory.clone();
    let files = tokio::task::spawn_blocking(move || files(&*fs, &home)).await??;
    let mut text = format!(
        "user {}\naccount {id}\nbucket {}\nowner {} (node {} of site {})\nepoch {}\nsession {}\nrecords {}\nwitness {}\n\
         messages {} in {} mailboxes, {} bytes\nsessions {}\nhome {}\n",
        one.name(),
        id.bucket(),
        running.name,
        running.config.node.id,
        running.config.cluster.site,
        epoch.as_deref().unwrap_or("none held"),
        bucket.session.map_or_else(|| "none".to_owned(), |session| session.to_string()),
        snapshot.lsn,
        lock::witness_text(witness.as_ref()),
        snapshot.messages,
        snapshot.mailboxes.len(),
        snapshot.used_bytes,
        running.services.live.count_of(one.name()),
        directory.display(),
    );
    if let Some(to) = bucket.draining_to {
        text.push_str(&format!("draining to node {to}\n"));
    }
    for takeover in &takeovers {
        let (when, ms) = (when::text(takeover.unix_s), takeover.took.as_millis());
        text.push_str(&format!("taken over {when} under epoch {} in {ms} ms\n", takeover.epoch));
    }
    for (name, bytes) in &files {
        text.push_str(&format!("file {name} {bytes} bytes\n"));
    }
    let value = json!({
        "user": one.name(), "account": id.to_string(), "bucket": id.bucket(), "owner": running.name,
        "owner_id": running.config.node.id, "site": running.config.cluster.site, "epoch": epoch,
        "session": bucket.session.map(|session| session.0), "draining_to": bucket.draining_to.map(|to| to.0),
        "witness": lock::witness_value(witness.as_ref()),
        "takeovers": takeovers.iter().map(|takeover| json!({
            "unix_s": takeover.unix_s, "epoch": takeover.epoch.to_string(), "ms": takeover.took.as_millis() as u64,
        })).collect::<Vec<_>>(),
        "records": snapshot.lsn, "witnessed": witnessed,
        "messages": snapshot.messages, "bytes": snapshot.used_bytes, "home": directory.to_string_lossy(),
        "files": files.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
    });
    context.say(text, value).await
}

/// The journal's segments and checkpoints, with their sizes.
fn files(fs: &dyn Fs, directory: &Path) -> Result<Vec<(String, u64)>, Failure> {
    let home = Home::recognise(fs, directory)?;
    let mut files = Vec::new();
    for directory in [home.journal(), home.checkpoints()] {
        let entries = match fs.read_dir(&directory) {
            Err(error) if error.is_not_found() => continue,
            entries => entries?,
        };
        for entry in entries.into_iter().filter(|entry| entry.kind == EntryKind::File) {
            let path = directory.join(&entry.name);
            match fs.metadata(&path) {
                Ok(metadata) => files.push((path.display().to_string(), metadata.length)),
                // Trimmed while we looked.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    files.sort();
    Ok(files)
}
