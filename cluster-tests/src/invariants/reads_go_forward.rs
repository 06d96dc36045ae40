//! J6: what a later owner shows is never older than what an earlier one showed.

use crate::oracle::{Oracle, Shown};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    let (before, now) = (oracle.lsn, shown.snapshot.lsn);
    if now < before {
        Err(format!("record {now} is the last, after record {before} was shown"))
    } else {
        Ok(())
    }
}
