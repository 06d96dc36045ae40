//! A file appears whole or not at all.
//!
//! Invariants
//! - Under its name a reader finds the old bytes or the new ones, before and after a crash, and no mixture.
//! - When `publish` returns, the new bytes are durable under their name.
//! - A temporary file that a crash left behind has a name that [`is_temporary`] knows; whoever owns the directory
//!   may remove it when nobody publishes there.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Fs, Result};

/// Temporary names tried for one publication. Each one taken is a crash that nobody swept up after, or a neighbour
/// who is publishing the same name at this moment.
pub const TEMPORARY_NAMES_MAX: u32 = 1000;

const SUFFIX: &str = ".new";

/// Puts `bytes` under `name`, replacing what was there.
///
/// Only for names that are ours to replace: what was witnessed is never overwritten (L-FN1).
pub fn publish(fs: &dyn Fs, directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary = stage(fs, directory, name, bytes)?;
    let renamed = fs.rename(&temporary, &directory.join(name));
    discard_if_failed(fs, &temporary, renamed)?;
    fs.sync_dir(directory)
}

/// Puts `bytes` under `name`, which must be free: fails with `Exists` otherwise, and changes nothing.
pub fn publish_new(fs: &dyn Fs, directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let temporary = stage(fs, directory, name, bytes)?;
    let linked = fs.link(&temporary, &directory.join(name));
    discard_if_failed(fs, &temporary, linked)?;
    fs.unlink(&temporary)?;
    fs.sync_dir(directory)
}

/// Whether a name is that of a publication under way, or of one that never came to its end.
pub fn is_temporary(name: &str) -> bool {
    let number = name.strip_suffix(SUFFIX).and_then(|rest| rest.rsplit_once('.'));
    number.is_some_and(|(rest, number)| rest.starts_with('.') && number.parse::<u32>().is_ok())
}

/// Writes the bytes, durably, under a name of their own.
fn stage(fs: &dyn Fs, directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    // O_EXCL decides who has a name, so numbers from nought are as unique as random ones, and repeatable.
    for number in 0..TEMPORARY_NAMES_MAX {
        let path = directory.join(format!(".{name}.{number}{SUFFIX}"));
        match fs.create(&path) {
            Ok(file) => {
                let written = file.write_at(bytes, 0).and_then(|()| file.sync());
                discard_if_failed(fs, &path, written)?;
                return Ok(path);
            }
            Err(error) if error.is_exists() => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error {
        kind: ErrorKind::Exists,
        operation: "publish",
        path: directory.join(name),
        source: std::io::Error::other("too many temporary files left behind"),
    })
}

/// The first error is the one to report; that the temporary file could not be removed either only costs its space.
fn discard_if_failed(fs: &dyn Fs, temporary: &Path, result: Result<()>) -> Result<()> {
    if result.is_err()
        && let Err(error) = fs.unlink(temporary)
    {
        tracing::debug!(%error, "temporary file stays behind");
    }
    result
}
