//! Other programs on the same Maildir: an MDA that delivers into `new`, a client that renames in `cur`, an
//! administrator who removes a file. They know nothing of us and go by the files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use model::{ContentId, MailboxName};
use nfs_compat::{EntryKind, Fs, SimFs};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::client::{self, NewToken};
use crate::oracle::Oracle;
use crate::world::HOME;

/// Does one thing, and says what.
pub fn act(rng: &mut StdRng, fs: &SimFs, oracle: &mut Oracle, now_us: u64) -> nfs_compat::Result<String> {
    let root = Path::new(HOME).join("Maildir");
    let mut directories = vec![root.clone()];
    directories
        .extend(names(fs, &root)?.into_iter().filter(|name| is_folder(name)).map(|name| root.join(name)));
    directories.retain(|directory| fs.exists(&directory.join("cur")).unwrap_or(false));
    if directories.is_empty() {
        return Ok("finds no Maildir".to_owned());
    }
    let directory = if rng.random_bool(0.6) {
        &directories[0]
    } else {
        &directories[rng.random_range(0..directories.len())]
    };
    match rng.random_range(0..10) {
        0..5 => deliver(rng, fs, oracle, directory, now_us),
        5..9 => rename(rng, fs, oracle, directory),
        _ => remove(rng, fs, oracle, directory),
    }
}

fn is_folder(name: &str) -> bool {
    name.starts_with('.') && !name.starts_with("..")
}

/// Sorted: the volume lists in any order.
fn names(fs: &SimFs, directory: &Path) -> nfs_compat::Result<Vec<String>> {
    let names = fs.read_dir(directory)?.into_iter().map(|entry| entry.name.to_string_lossy().into_owned());
    let sorted: BTreeSet<_> = names.collect();
    Ok(sorted.into_iter().collect())
}

fn deliver(
    rng: &mut StdRng,
    fs: &SimFs,
    oracle: &mut Oracle,
    directory: &Path,
    now_us: u64,
) -> nfs_compat::Result<String> {
    let token = NewToken {
        flags: BTreeSet::new(),
        internal_date: None,
        key: None,
        mailbox: MailboxName::inbox(),
        by_neighbour: true,
        asked_at_us: 0,
    };
    let octets = client::new_message(rng, oracle, token);
    let name =
        format!("{}.M{:06}P{}.mx1", now_us / 1_000_000, now_us % 1_000_000, rng.random_range(1..u32::MAX));
    let (stage, new) = (directory.join("tmp").join(&name), directory.join("new").join(&name));
    let file = fs.create(&stage)?;
    file.write_at(&octets, 0)?;
    file.sync()?;
    fs.rename(&stage, &new)?;
    fs.sync_dir(&directory.join("new"))?;
    fs.sync_dir(&directory.join("tmp"))?;
    // A directory that its maker had no time to make durable takes all that was delivered with it.
    for above in directory.ancestors().take_while(|above| above.starts_with(HOME)) {
        fs.sync_dir(above)?;
    }
    if directory.ends_with("Maildir") {
        oracle.arrivals.insert(ContentId::of(&octets), name.clone());
    }
    Ok(format!("delivers message {} as {}", oracle.tokens.len() - 1, new.display()))
}

/// A message file, with its base.
fn some_file(
    rng: &mut StdRng,
    fs: &SimFs,
    directory: &Path,
) -> nfs_compat::Result<Option<(PathBuf, String)>> {
    let mut files = Vec::new();
    for place in ["cur", "new"] {
        let place = directory.join(place);
        for name in names(fs, &place)? {
            let path = place.join(&name);
            if !name.starts_with('.') && fs.metadata(&path)?.kind == EntryKind::File {
                files.push((path, name.split(':').next().unwrap_or_default().to_owned()));
            }
        }
    }
    Ok((!files.is_empty()).then(|| files.swap_remove(rng.random_range(0..files.len()))))
}

fn rename(rng: &mut StdRng, fs: &SimFs, oracle: &mut Oracle, directory: &Path) -> nfs_compat::Result<String> {
    let Some((path, base)) = some_file(rng, fs, directory)? else { return Ok("finds no message".to_owned()) };
    let old =
        path.to_string_lossy().rsplit_once(":2,").map_or(String::new(), |(_, letters)| letters.to_owned());
    let mut letters: BTreeSet<char> = old.chars().collect();
    let letter = ['F', 'R', 'S', 'S', 'T'][rng.random_range(0..5)];
    if !letters.remove(&letter) {
        letters.insert(letter);
    }
    let letters: String = letters.into_iter().collect();
    oracle.renamed_by_neighbour(&base);
    let to = directory.join("cur").join(format!("{base}:2,{letters}"));
    fs.rename(&path, &to)?;
    Ok(format!("renames {} to {}", path.display(), to.display()))
}

fn remove(rng: &mut StdRng, fs: &SimFs, oracle: &mut Oracle, directory: &Path) -> nfs_compat::Result<String> {
    let Some((path, base)) = some_file(rng, fs, directory)? else { return Ok("finds no message".to_owned()) };
    oracle.removed_by_neighbour(&base);
    fs.unlink(&path)?;
    // A removal that a crash undoes is a message put back.
    path.parent().map_or(Ok(()), |place| fs.sync_dir(place))?;
    Ok(format!("removes {}", path.display()))
}
