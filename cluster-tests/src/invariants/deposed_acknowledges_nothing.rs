//! J4, L-CM2: an owner whose epoch is over acknowledges no change.

use account::door::Done;
use account::{Refused, Reply};

/// `lsn` is what the deposed owner last showed.
pub fn check(lsn: u64, answers: &[Result<Done, Refused>]) -> Result<(), String> {
    let changed = answers.iter().flatten().find(|done| done.snapshot.lsn > lsn);
    let Some(Done { reply, snapshot }) = changed else { return Ok(()) };
    let what = match reply {
        Reply::Appended { .. } => "an append",
        Reply::Copied { .. } => "a copy or move",
        Reply::FlagsEdited { .. } => "a change of flags",
        Reply::Expunged { .. } => "an expunge",
        Reply::Created { .. } | Reply::Done => "a change",
    };
    Err(format!(
        "deposed_acknowledges_nothing (J4): {what} counts as record {}, after record {lsn}",
        snapshot.lsn
    ))
}
