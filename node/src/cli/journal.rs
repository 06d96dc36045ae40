//! `roost journal show`

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use journal::{Entry, Show, Shown};
use model::{AccountId, Epoch};
use nfs_compat::Fs;
use serde_json::{Value, json};
use store::paths::Home;

use super::about::About;
use super::choose::find;
use super::exit::{Exit, Failure};
use super::output::{Blocking, Context};
use super::{journal_text, when};
use crate::users::account_id;

/// Lines printed together.
const LINES: usize = 200;

#[derive(Debug, Subcommand)]
pub(crate) enum JournalCommand {
    /// Print the records of an account's journal, oldest first: EPOCH/SEQ, time, what happened
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[arg(value_name = "USER")]
    user: String,
    /// Print records from this epoch and sequence on, such as 7/120
    #[arg(long, value_name = "EPOCH/SEQ", value_parser = From::parse)]
    from: Option<From>,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct From {
    /// Without one: of the incarnation that runs now.
    incarnation: Option<u32>,
    counter: u32,
    lsn: u64,
}

impl From {
    /// Reads `7/120`, `1.7/120` and `0000000100000007/120`.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write EPOCH/SEQ as it is printed, such as 7/120 or 1.7/120");
        let (epoch, lsn) = text.split_once('/').ok_or_else(wrong)?;
        let lsn = lsn.parse().map_err(|_| wrong())?;
        if let Some(epoch) = Epoch::parse_hex(epoch) {
            let (incarnation, counter) = parts(epoch);
            return Ok(Self { incarnation: Some(incarnation), counter, lsn });
        }
        let (incarnation, counter) = match epoch.split_once('.') {
            Some((incarnation, counter)) => (Some(incarnation.parse().map_err(|_| wrong())?), counter),
            None => (None, epoch),
        };
        Ok(Self { incarnation, counter: counter.parse().map_err(|_| wrong())?, lsn })
    }
}

fn parts(epoch: Epoch) -> (u32, u32) {
    (epoch.incarnation(), (epoch.get() & u64::from(u32::MAX)) as u32)
}

impl JournalCommand {
    pub(crate) fn about(&self) -> About<'_> {
        let Self::Show(args) = self;
        About::User(&args.user)
    }
}

pub(crate) async fn show(context: &Context, args: &ShowArgs) -> Result<Exit, Failure> {
    let record = find(context, &args.user).await?;
    let running = &context.running;
    let home = running.services.homes.home(&record);
    let home = home.map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let from = args.from.map(|from| {
        let incarnation = from.incarnation.unwrap_or_else(|| running.locking.incarnation());
        (Epoch::new(incarnation, from.counter), from.lsn)
    });
    let (fs, account) = (Arc::clone(&running.fs), account_id(&record.user));
    let (out, json) = (context.out.blocking(), context.json);
    tokio::task::spawn_blocking(move || print(&*fs, home, account, from, &out, json)).await?
}

fn print(
    fs: &dyn Fs,
    home: PathBuf,
    account: AccountId,
    from: Option<(Epoch, u64)>,
    out: &Blocking,
    json: bool,
) -> Result<Exit, Failure> {
    let directory = Home::recognise(fs, &home)?.journal();
    let damaged = |error: journal::ReadError| Failure::new(Exit::Data, error.to_string());
    let show = match Show::new(fs, &directory, account) {
        // Nobody has used the account yet.
        Err(_) if !fs.exists(&directory)? => None,
        show => Some(show.map_err(damaged)?),
    };
    let (mut exit, mut text, mut lines) = (Exit::Ok, String::new(), 0);
    let mut separator = "[";
    for shown in show.into_iter().flatten() {
        let shown = shown.map_err(damaged)?;
        let position = match &shown {
            Shown::Record(entry) => Some((entry.segment.epoch, entry.lsn)),
            Shown::Torn(_) | Shown::Orphan(_) => None,
            Shown::Garbled { .. } => {
                exit = Exit::Data;
                None
            }
        };
        if position.zip(from).is_some_and(|(position, from)| position < from) {
            continue;
        }
        if json {
            text.push_str(&format!("{separator}\n  {}", value(&shown)));
            separator = ",";
        } else {
            text.push_str(&line(&shown));
        }
        lines += 1;
        if lines % LINES == 0 {
            out.print(std::mem::take(&mut text))?;
        }
    }
    if json {
        text.push_str(if separator == "[" { "[]\n" } else { "\n]\n" });
    }
    out.print(text)?;
    Ok(exit)
}

fn line(shown: &Shown) -> String {
    match shown {
        Shown::Record(entry) => {
            let (name, fields) = journal_text::describe(&entry.record.op);
            let time = moment(entry);
            let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            format!("{} {time} {name}{fields}\n", position(entry))
        }
        Shown::Torn(torn) => {
            format!(
                "-- {} at {}: {} bytes that were never synced, or are being written\n",
                torn.segment, torn.offset, torn.bytes
            )
        }
        Shown::Garbled { segment, offset } => {
            format!("-- {segment} at {offset}: synced bytes that cannot be read\n")
        }
        Shown::Orphan(orphan) => {
            format!(
                "-- {}: a segment that nobody continues from, with {} records\n",
                orphan.name, orphan.records
            )
        }
    }
}

fn value(shown: &Shown) -> Value {
    match shown {
        Shown::Record(entry) => {
            let (name, fields) = journal_text::describe(&entry.record.op);
            let fields: serde_json::Map<_, _> =
                fields.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect();
            let (incarnation, counter) = parts(entry.segment.epoch);
            json!({
                "position": position(entry), "incarnation": incarnation, "epoch": counter, "seq": entry.lsn,
                "segment": entry.segment.to_string(), "offset": entry.offset, "time": moment(entry),
                "stamp": entry.record.stamp.get(), "modseq": entry.record.modseq.0, "op": name, "fields": fields,
            })
        }
        Shown::Torn(torn) => {
            json!({ "torn": torn.segment.to_string(), "offset": torn.offset, "bytes": torn.bytes })
        }
        Shown::Garbled { segment, offset } => json!({ "garbled": segment.to_string(), "offset": offset }),
        Shown::Orphan(orphan) => json!({ "orphan": orphan.name.to_string(), "records": orphan.records }),
    }
}

fn position(entry: &Entry) -> String {
    let (incarnation, counter) = parts(entry.segment.epoch);
    format!("{incarnation}.{counter}/{}", entry.lsn)
}

fn moment(entry: &Entry) -> String {
    when::text(i64::try_from(entry.record.stamp.unix_ms() / 1000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_printed() {
        let from = From { incarnation: Some(1), counter: 7, lsn: 120 };
        assert_eq!(From::parse("1.7/120"), Ok(from));
        assert_eq!(From::parse("0000000100000007/120"), Ok(from));
        assert_eq!(From::parse("7/120"), Ok(From { incarnation: None, ..from }));
        for bad in ["", "7", "7/", "/1", "a/1", "1.2.3/4", "-1/2"] {
            assert!(From::parse(bad).is_err(), "{bad}");
        }
    }
}
