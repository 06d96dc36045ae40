//! Directories of a Maildir++ tree, and the mailboxes they are (maildir.md §1.1).
//!
//! INBOX is the root; every other mailbox is `.A.B` in it, levels in modified UTF-7. A directory carries its
//! mailbox's id in the file [`ID_FILE`], which other programs leave alone.

use std::path::{Path, PathBuf};

use model::utf7::{decode_utf7, encode_utf7};
use model::{MailboxId, MailboxName, NameError};
use nfs_compat::{EntryKind, Fs, Result, publish};

/// In every mailbox directory: 32 hex digits.
pub(super) const ID_FILE: &str = "roost-mailbox";
/// Ours, where the account's home is itself a Maildir: no mailbox, whatever it looks like.
const OURS: &str = ".roost";
/// Longest directory entry.
const ENTRY_BYTES_MAX: usize = 255;

/// The directory of this name, or why there can be none.
pub(super) fn directory_name(name: &MailboxName) -> Result<Option<String>, NameError> {
    if name.is_inbox() {
        return Ok(None);
    }
    if name.levels().any(|level| level.contains('.')) {
        return Err(NameError::Store("'.' cannot be part of a name in a Maildir++ tree"));
    }
    let mut directory = String::new();
    for level in name.levels() {
        directory.push('.');
        directory.push_str(&encode_utf7(level));
    }
    if directory == OURS {
        return Err(NameError::Store("this name is kept for the server's own files"));
    }
    if directory.len() > ENTRY_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    Ok(Some(directory))
}

/// The mailbox that a directory entry is; `None` for every name that cannot be opened (maildir.md §1.1).
pub(super) fn mailbox_name(entry: &str) -> Option<MailboxName> {
    let levels = entry.strip_prefix('.').filter(|_| entry != OURS)?;
    let decoded = decode_utf7(levels.as_bytes()).ok()?;
    if decoded.contains('/') {
        return None;
    }
    let name = MailboxName::new(&decoded.replace('.', "/")).ok()?;
    // `.INBOX` is never shown, and `.inbox.lower` would not lead back here.
    let leads_back = directory_name(&name).ok().flatten().as_deref() == Some(entry);
    (!name.is_inbox() && leads_back).then_some(name)
}

/// Path of the mailbox directory of this name. The name has been checked.
pub(super) fn path(root: &Path, name: &MailboxName) -> PathBuf {
    match directory_name(name) {
        Ok(Some(directory)) => root.join(directory),
        Ok(None) => root.to_owned(),
        // A name from another format that this one cannot hold: a directory that no name leads to.
        Err(_) => root.join(format!(".{}", blake_name(name))),
    }
}

fn blake_name(name: &MailboxName) -> String {
    format!("roost-{}", &model::ContentId::of(name.as_str().as_bytes()).to_string()[..32])
}

/// All mailboxes on disk. INBOX only if it is there.
pub(super) fn scan(fs: &dyn Fs, root: &Path) -> Result<Vec<(MailboxName, PathBuf)>> {
    let entries = match fs.read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let Some(text) = entry.name.to_str() else { continue };
        if text == "cur" {
            found.push((MailboxName::inbox(), root.to_owned()));
        } else if let Some(name) = mailbox_name(text)
            && (entry.kind == EntryKind::Directory || is_directory(fs, &root.join(text))?)
        {
            found.push((name, root.join(text)));
        }
    }
    found.sort();
    Ok(found)
}

fn is_directory(fs: &dyn Fs, path: &Path) -> Result<bool> {
    match fs.metadata(path) {
        Ok(metadata) => Ok(metadata.kind == EntryKind::Directory),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The id that a directory carries. A garbled file is as none: the mailbox is recognised by its name then.
pub(super) fn read_id(fs: &dyn Fs, directory: &Path) -> Result<Option<MailboxId>> {
    match fs.read(&directory.join(ID_FILE), 64) {
        Ok(bytes) => {
            Ok(std::str::from_utf8(&bytes).ok().and_then(|text| MailboxId::parse_hex(text.trim_end())))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn write_id(fs: &dyn Fs, directory: &Path, id: MailboxId) -> Result<()> {
    publish::publish(fs, directory, ID_FILE, format!("{id}\n").as_bytes())
}

/// Makes a mailbox directory complete and durable. What is there stays.
pub(super) fn create(fs: &dyn Fs, root: &Path, name: &MailboxName, id: MailboxId) -> Result<PathBuf> {
    let directory = path(root, name);
    fs.create_dir_all(&directory)?;
    for part in ["tmp", "new", "cur"] {
        match fs.create_dir(&directory.join(part)) {
            Err(error) if !error.is_exists() => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    if !name.is_inbox() {
        match fs.create(&directory.join("maildirfolder")) {
            Err(error) if !error.is_exists() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    fs.sync_dir(&directory)?;
    write_id(fs, &directory, id)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_names_lead_to_each_other() {
        for (name, directory) in
            [("Sent", ".Sent"), ("A/B/C", ".A.B.C"), ("Entw\u{fc}rfe", ".Entw&APw-rfe"), ("R&D", ".R&-D")]
        {
            let name = MailboxName::new(name).unwrap();
            assert_eq!(directory_name(&name).unwrap().as_deref(), Some(directory));
            assert_eq!(mailbox_name(directory), Some(name));
        }
    }

    #[test]
    fn names_that_cannot_be_opened_are_not_shown() {
        for entry in [
            "..DOVECOT-TRASHED",
            ".roost",
            ".INBOX",
            ".inbox.lower",
            ".a..b",
            ".end.",
            ".bad&name",
            ".&AC8-x",
            "cur",
        ] {
            assert_eq!(mailbox_name(entry), None, "{entry}");
        }
        assert_eq!(mailbox_name(".INBOX.Sub").unwrap().as_str(), "INBOX/Sub");
        assert!(directory_name(&MailboxName::new("v1.2").unwrap()).is_err());
    }
}
