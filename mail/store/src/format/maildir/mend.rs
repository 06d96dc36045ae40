//! Mending what a look found: broken names, and two names for one message (maildir.md §2, §3).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nfs_compat::{Fs, Result};

use super::filename;
use super::hold::Hold;
use super::mailbox::{Mailbox, Place, Trouble};

/// Mends each trouble; says what was found and done.
pub(super) fn mend(
    fs: &dyn Fs,
    hold: &Hold,
    mailbox: &mut Mailbox,
    trouble: Vec<Trouble>,
    now_unix_us: u64,
) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for (number, trouble) in trouble.into_iter().enumerate() {
        match trouble {
            Trouble::BrokenName(path) => {
                let from = mailbox.directory.join(&path);
                let base = fresh_base(now_unix_us, number);
                let place = Place { fresh: true, suffix: "".into(), known: None };
                fs.rename(&from, &mailbox.path_at(&base, &place))?;
                done.push(format!("{}: broken file name, renamed to {base} in new", from.display()));
                mailbox.files.insert(base, place);
            }
            Trouble::Twice { base, first, second } => {
                done.extend(match separate(fs, mailbox, &base, &first, second, now_unix_us, number)? {
                    Separated::No => None,
                    Separated::Apart(what) => Some(what),
                    Separated::SameFile(other) => {
                        // Not unlinked: while we looked another owner can have made this name the only one.
                        hold.take(&other, &base, i64::try_from(now_unix_us / 1_000_000).unwrap_or(0))?;
                        Some(format!("{}: a second name of one message, taken away", other.display()))
                    }
                });
            }
        }
    }
    Ok(done)
}

/// What two names with one base turned out to be.
enum Separated {
    /// One of them is gone.
    No,
    /// Links of one file: this one is to go.
    SameFile(PathBuf),
    /// Two files: the second became another message.
    Apart(String),
}

/// Two names in `cur` with one base.
fn separate(
    fs: &dyn Fs,
    mailbox: &mut Mailbox,
    base: &Arc<str>,
    first: &Place,
    second: Place,
    now_unix_us: u64,
    number: usize,
) -> Result<Separated> {
    let (kept, other) = (mailbox.path_at(base, first), mailbox.path_at(base, &second));
    // A rename under our eyes shows both names and leaves one.
    let (Some(kept_at), Some(other_at)) = (look_up(fs, &kept)?, look_up(fs, &other)?) else {
        mailbox.scanned = None;
        return Ok(Separated::No);
    };
    if kept_at == other_at {
        return Ok(Separated::SameFile(other));
    }
    let new_base = fresh_base(now_unix_us, number);
    let place = Place { known: None, ..second };
    fs.rename(&other, &mailbox.path_at(&new_base, &place))?;
    mailbox.files.insert(Arc::clone(&new_base), place);
    let what = format!("{}: another message under a name in use, renamed to {new_base}", other.display());
    Ok(Separated::Apart(what))
}

fn look_up(fs: &dyn Fs, path: &Path) -> Result<Option<u64>> {
    match fs.metadata(path) {
        Ok(metadata) => Ok(Some(metadata.inode)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A base that is not one of ours, so that the file counts as delivered by somebody else.
fn fresh_base(now_unix_us: u64, number: usize) -> Arc<str> {
    let base = format!("{}.M{:06}N{number}.mended", now_unix_us / 1_000_000, now_unix_us % 1_000_000);
    debug_assert!(filename::read_own(&base).is_none());
    base.into()
}
