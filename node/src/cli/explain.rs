//! `roost explain`: who owns an account, under which epoch, what counts, and what lies on disk.

use std::path::Path;

use clap::Args;
use nfs_compat::{EntryKind, Fs};
use serde_json::json;
use store::paths::Home;

use super::choose::{find, open};
use super::exit::{Exit, Failure};
use super::output::Context;
use crate::users::account_id;

/// Say who owns an account, under which epoch, what is witnessed, and which files there are
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[arg(value_name = "USER")]
    user: String,
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
    let witness = running.locking.read_witness(id.bucket(), id.as_bytes()).await;
    let witness = witness.map_err(|error| Failure::try_again(error.to_string()))?;
    let witnessed = witness.map(|witness| witness.counter);
    let fs = std::sync::Arc::clone(&running.fs);
    let home = directory.clone();
    let files = tokio::task::spawn_blocking(move || files(&*fs, &home)).await??;
    let mut text = format!(
        "user {}\naccount {id}\nbucket {}\nowner {} (site {})\nepoch {}\nrecords {}\nwitnessed to record {}\n\
         messages {} in {} mailboxes, {} bytes\nsessions {}\nhome {}\n",
        one.name(),
        id.bucket(),
        running.name,
        running.config.cluster.site,
        epoch.as_deref().unwrap_or("none held"),
        snapshot.lsn,
        witnessed.map_or_else(|| "none yet".to_owned(), |lsn| lsn.to_string()),
        snapshot.messages,
        snapshot.mailboxes.len(),
        snapshot.used_bytes,
        running.services.live.count_of(one.name()),
        directory.display(),
    );
    for (name, bytes) in &files {
        text.push_str(&format!("file {name} {bytes} bytes\n"));
    }
    let value = json!({
        "user": one.name(), "account": id.to_string(), "bucket": id.bucket(), "owner": running.name,
        "site": running.config.cluster.site, "epoch": epoch, "records": snapshot.lsn, "witnessed": witnessed,
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
