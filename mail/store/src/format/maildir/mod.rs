//! Maildir++ as Dovecot uses it, kept a Maildir: other programs deliver into `new` and rename in `cur` as they always
//! did (design decision 5).
//!
//! Invariants
//! - A message of ours is staged in `tmp` under its final base, and comes into `new` or `cur` by one rename, after its
//!   append was journaled. So no program ever sees a message in `new` that does not count.
//! - A base of ours names the entry and the epoch, so no two owners ever write one file (L-FN1).
//! - Bytes are unlinked only from the hold (L-UN), or from the stage when they never became a message; and only those
//!   of which the owner knows that they are no message, whatever it missed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use model::{EntryId, Epoch, Keyword, MailboxId, MailboxName, NameError};
use nfs_compat::{Error, Fs, Result};

use super::{Examined, Flags, Format, FormerLists, FoundMailbox, Lists, Observed, ObservedFile, Source};
use crate::body::Body;
use crate::paths::Home;

mod filename;
mod hold;
mod keywords;
mod layout;
mod lists;
mod mailbox;
mod mend;

pub use filename::{arrival_order, made_under};

use hold::Hold;
use mailbox::{Mailbox, Place};

/// Looks for a file whose name changes under us, before it counts as gone (Dovecot tries as often).
const TRIES: u32 = 10;
/// Stage files of other programs are left alone for so long (maildir.md §3).
const FOREIGN_STAGE: Duration = Duration::from_secs(36 * 60 * 60);

/// The Maildir of one account.
pub struct Maildir {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    hold: Hold,
    mailboxes: Mutex<HashMap<MailboxId, Arc<Mutex<Mailbox>>>>,
    /// Keywords in the journal's order ([`Format::know_keywords`]).
    keywords: Mutex<Arc<[Keyword]>>,
}

impl Maildir {
    pub fn new(fs: Arc<dyn Fs>, home: &Home) -> Self {
        let hold = Hold::new(Arc::clone(&fs), home.hold());
        let keywords = Mutex::new(Arc::from([]));
        Self { fs, root: home.maildir().to_owned(), hold, mailboxes: Mutex::default(), keywords }
    }

    /// The mailbox of this id: as remembered, or found by the id that its directory carries.
    fn mailbox(&self, id: MailboxId) -> Result<Arc<Mutex<Mailbox>>> {
        if let Some(mailbox) = lock(&self.mailboxes).get(&id) {
            return Ok(Arc::clone(mailbox));
        }
        for (name, directory) in layout::scan(&*self.fs, &self.root)? {
            if layout::read_id(&*self.fs, &directory)? == Some(id) {
                return Ok(self.remember(id, name, directory));
            }
        }
        Err(missing("find mailbox", &self.root.join(id.to_string())))
    }

    fn remember(&self, id: MailboxId, name: MailboxName, directory: PathBuf) -> Arc<Mutex<Mailbox>> {
        let mailbox = Arc::new(Mutex::new(Mailbox::new(name, directory)));
        Arc::clone(lock(&self.mailboxes).entry(id).or_insert(mailbox))
    }

    /// Moves a mailbox directory to the name it should have, and what is in its way aside first.
    fn rename_mailbox(&self, id: MailboxId, from: &Path, name: &MailboxName) -> Result<()> {
        let to = layout::path(&self.root, name);
        if self.fs.exists(&to)? {
            self.move_aside(&to, id)?;
        }
        self.fs.rename(from, &to)?;
        self.fs.sync_dir(&self.root)?;
        if let Some(mailbox) = lock(&self.mailboxes).get(&id) {
            let mut mailbox = lock(mailbox);
            mailbox.name = name.clone();
            mailbox.directory = to;
        }
        Ok(())
    }

    fn move_aside(&self, directory: &Path, or: MailboxId) -> Result<()> {
        let id = layout::read_id(&*self.fs, directory)?.unwrap_or(or);
        self.fs.rename(directory, &self.root.join(format!("..roost-moving-{id}")))
    }

    /// Makes the directory of a mailbox that has none. One that carries another mailbox's id is that mailbox, wherever
    /// somebody put it, and makes room.
    fn create_mailbox(&self, id: MailboxId, name: &MailboxName) -> Result<()> {
        let to = layout::path(&self.root, name);
        let theirs = layout::read_id(&*self.fs, &to)?.filter(|theirs| *theirs != id);
        if theirs.is_some() && !name.is_inbox() {
            self.move_aside(&to, id)?;
        }
        let directory = layout::create(&*self.fs, &self.root, name, id)?;
        // What is remembered of a directory that is gone says nothing of this one.
        lock(&self.mailboxes).remove(&id);
        self.remember(id, name.clone(), directory);
        Ok(())
    }

    /// Directories by the id they carry, those that a rename moved aside included.
    fn carried(&self) -> Result<HashMap<MailboxId, (Option<MailboxName>, PathBuf)>> {
        let all = self.all_carried()?;
        Ok(all.into_iter().map(|(id, name, directory)| (id, (name, directory))).collect())
    }

    fn all_carried(&self) -> Result<Vec<(MailboxId, Option<MailboxName>, PathBuf)>> {
        let mut carried = Vec::new();
        let aside = match self.fs.read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        for entry in aside {
            if entry.name.to_str().is_some_and(|name| name.starts_with("..roost-moving-")) {
                let directory = self.root.join(&entry.name);
                if let Some(id) = layout::read_id(&*self.fs, &directory)? {
                    carried.push((id, None, directory));
                }
            }
        }
        for (name, directory) in layout::scan(&*self.fs, &self.root)? {
            if let Some(id) = layout::read_id(&*self.fs, &directory)? {
                carried.push((id, Some(name), directory));
            }
        }
        Ok(carried)
    }

    /// Of two directories that carry one id, which only an owner that was deposed can have made, the one under the
    /// mailbox's name takes in what lies in the other.
    fn merge_twins(&self, wanted: &[(MailboxId, MailboxName)], now_unix_s: i64) -> Result<()> {
        let all = self.all_carried()?;
        for (id, name) in wanted {
            let twins: Vec<_> = all.iter().filter(|(carried, _, _)| carried == id).collect();
            let Some(kept) = twins.iter().find(|(_, is, _)| is.as_ref() == Some(name)).or(twins.first())
            else {
                continue;
            };
            for (_, _, other) in twins.iter().filter(|(_, _, directory)| *directory != kept.2) {
                for part in ["tmp", "new", "cur"] {
                    self.move_files(&other.join(part), &kept.2.join(part))?;
                }
                self.hold.take_directory(other, *id, now_unix_s)?;
            }
        }
        Ok(())
    }

    /// Moves files whose names are free there.
    fn move_files(&self, from: &Path, to: &Path) -> Result<()> {
        let entries = match self.fs.read_dir(from) {
            Err(error) if error.is_not_found() => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let to = to.join(&entry.name);
            if !self.fs.exists(&to)? {
                self.fs.rename(&from.join(&entry.name), &to)?;
            }
        }
        Ok(())
    }

    /// Moves a file of `mailbox` to where its flags say, from wherever it is.
    fn settle_file(
        &self,
        mailbox: &mut Mailbox,
        base: &str,
        at: &Path,
        old: &str,
        flags: Flags<'_>,
    ) -> Result<()> {
        let directory = mailbox.directory.clone();
        mailbox.keywords.load(&*self.fs, &directory)?;
        mailbox.keywords.follow(&lock(&self.keywords));
        let letters = mailbox.keywords.letters(&*self.fs, &directory, flags.keywords)?;
        let bare = flags.system == model::SystemFlags::NONE && letters.is_empty() && old.is_empty();
        let fresh = flags.fresh && bare;
        let suffix = if fresh { String::new() } else { filename::suffix(old, flags.system, &letters) };
        let suffix: Arc<str> = suffix.into();
        let place = Place { fresh, suffix: Arc::clone(&suffix), known: Some(suffix) };
        let to = mailbox.path_at(base, &place);
        if at != to {
            self.fs.rename(at, &to)?;
        }
        mailbox.files.insert(base.into(), place);
        Ok(())
    }

    /// Where the bytes of `base` are now: the mailbox, its stage, another mailbox, the hold.
    fn locate(&self, mailbox: &mut Mailbox, base: &str) -> Result<(PathBuf, Arc<str>)> {
        let staged = mailbox.tmp(base);
        if self.fs.exists(&staged)? {
            return Ok((staged, "".into()));
        }
        for attempt in 0..TRIES {
            if let Some(place) = mailbox.files.get(base) {
                let path = mailbox.path_at(base, place);
                if self.fs.exists(&path)? {
                    return Ok((path, Arc::clone(&place.suffix)));
                }
            } else if attempt > 0 {
                break;
            }
            self.relist(mailbox)?;
        }
        Err(missing("find message", &mailbox.directory.join("cur").join(base)))
    }

    /// Bytes that are not where they were expected: in the hold, or where a change left them that a crash undid
    /// elsewhere. Bases of ours name one message; of others, another message can have the same.
    fn lost(&self, base: &str) -> Result<(PathBuf, Arc<str>)> {
        let held = self.hold.find(base);
        match &held {
            Err(error) if error.is_not_found() && filename::read_own(base).is_some() => {}
            Err(_) | Ok(_) => return Ok((held?, "".into())),
        }
        for (_, directory) in layout::scan(&*self.fs, &self.root)? {
            if let Some(path) = self.hold.find_in_mailbox(&directory, base)? {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let suffix = name.and_then(|name| name.strip_prefix(base).map(Arc::from));
                return Ok((path, suffix.unwrap_or_else(|| "".into())));
            }
        }
        Ok((held?, "".into()))
    }

    /// Lists without telling anybody: the next `observe` looks for itself.
    fn relist(&self, mailbox: &mut Mailbox) -> Result<()> {
        mailbox.look(&*self.fs, SystemTime::UNIX_EPOCH)?;
        mailbox.scanned = None;
        Ok(())
    }
}

impl Format for Maildir {
    fn mailboxes(&self) -> Result<Vec<FoundMailbox>> {
        let mut found = Vec::new();
        for (name, directory) in layout::scan(&*self.fs, &self.root)? {
            let id = layout::read_id(&*self.fs, &directory)?;
            found.push(FoundMailbox { name, id });
        }
        Ok(found)
    }

    fn check_name(&self, name: &MailboxName) -> Result<(), NameError> {
        layout::directory_name(name).map(|_| ())
    }

    fn arrange(
        &self,
        wanted: &[(MailboxId, MailboxName)],
        is_gone: &dyn Fn(MailboxId) -> bool,
        now_unix_s: i64,
    ) -> Result<()> {
        self.fs.create_dir_all(&self.root)?;
        self.merge_twins(wanted, now_unix_s)?;
        let mut carried = self.carried()?;
        for (id, name) in wanted {
            match carried.remove(id) {
                Some((Some(is), directory)) if is == *name => {
                    self.remember(*id, is, directory);
                }
                Some((_, directory)) => {
                    self.rename_mailbox(*id, &directory, name)?;
                    self.remember(*id, name.clone(), layout::path(&self.root, name));
                }
                None => self.create_mailbox(*id, name)?,
            }
            // What a rename moved aside is found under its new name by those that come after.
            carried.extend(self.carried()?.into_iter().filter(|(_, (name, _))| name.is_none()));
        }
        for (id, (name, directory)) in carried {
            let is_wanted = || wanted.iter().any(|(wanted, _)| *wanted == id);
            if is_gone(id)
                && !is_wanted()
                && name.as_ref().is_none_or(|name| !name.is_inbox())
                && layout::read_id(&*self.fs, &directory)? == Some(id)
            {
                self.hold.take_directory(&directory, id, now_unix_s)?;
                lock(&self.mailboxes).remove(&id);
            }
        }
        Ok(())
    }

    fn adopt(&self, found: &MailboxName, id: MailboxId) -> Result<()> {
        let directory = layout::create(&*self.fs, &self.root, found, id)?;
        self.remember(id, found.clone(), directory);
        Ok(())
    }

    fn base(&self, entry: EntryId, epoch: Epoch, unix_us: u64, size: u64, wire_size: u64) -> Arc<str> {
        filename::own(entry, epoch, unix_us, size, wire_size).into()
    }

    fn stage(&self, mailbox: MailboxId, base: &str, source: Source<'_>, internal_date: i64) -> Result<()> {
        let to = lock(&*self.mailbox(mailbox)?).tmp(base);
        match source {
            Source::Spooled(path) => {
                self.fs.link(path, &to)?;
                self.fs.set_modified(&to, unix_time(internal_date))
            }
            Source::Message { mailbox, base } => {
                for _ in 0..TRIES {
                    let from = self.find(mailbox, base)?;
                    match self.fs.link(&from, &to) {
                        Err(error) if error.is_not_found() => {}
                        outcome => return outcome,
                    }
                }
                Err(missing("copy message", Path::new(base)))
            }
        }
    }

    fn sync_staged(&self, mailboxes: &[MailboxId]) -> Result<()> {
        for id in mailboxes {
            let stage = lock(&*self.mailbox(*id)?).directory.join("tmp");
            self.fs.sync_dir(&stage)?;
        }
        Ok(())
    }

    fn unstage(&self, mailbox: MailboxId, base: &str) {
        if let Ok(mailbox) = self.mailbox(mailbox)
            && let Err(error) = self.fs.unlink(&lock(&*mailbox).tmp(base))
            && !error.is_not_found()
        {
            tracing::debug!(%error, "staged file stays until the next sweep");
        }
    }

    fn place(&self, mailbox: MailboxId, base: &str, from: &[MailboxId], flags: Flags<'_>) -> Result<()> {
        let target = self.mailbox(mailbox)?;
        let mut found = None;
        for from in from.iter().filter(|from| **from != mailbox) {
            // A mailbox that was deleted since is in the hold, as a whole.
            match self.mailbox(*from) {
                Err(error) if !error.is_not_found() => return Err(error),
                Err(_) => {}
                Ok(source) => {
                    let mut source = lock(&source);
                    if let Ok((path, suffix)) = self.locate(&mut source, base) {
                        source.files.remove(base);
                        found = Some((path, suffix));
                        break;
                    }
                }
            }
        }
        let mut target = lock(&target);
        target.explain(&*self.fs, |target| {
            let (path, suffix) = match found {
                Some(found) => found,
                None => match self.locate(target, base) {
                    Err(error) if error.is_not_found() => self.lost(base)?,
                    located => located?,
                },
            };
            self.settle_file(target, base, &path, &suffix, flags)
        })
    }

    fn sync_placed(&self, mailboxes: &[MailboxId]) -> Result<()> {
        for id in mailboxes {
            let directory = lock(&*self.mailbox(*id)?).directory.clone();
            for part in ["new", "cur"] {
                self.fs.sync_dir(&directory.join(part))?;
            }
        }
        Ok(())
    }

    fn write_flags(&self, mailbox: MailboxId, base: &str, flags: Flags<'_>) -> Result<()> {
        let mailbox = self.mailbox(mailbox)?;
        let mut mailbox = lock(&mailbox);
        mailbox.explain(&*self.fs, |mailbox| {
            for _ in 0..TRIES {
                let (path, suffix) = self.locate(mailbox, base)?;
                match self.settle_file(mailbox, base, &path, &suffix, flags) {
                    Err(error) if error.is_not_found() => self.relist(mailbox)?,
                    outcome => return outcome,
                }
            }
            Err(missing("rename message", Path::new(base)))
        })
    }

    fn retire(&self, mailbox: MailboxId, base: &str, now_unix_s: i64) -> Result<()> {
        let mailbox = self.mailbox(mailbox)?;
        let mut mailbox = lock(&mailbox);
        mailbox.explain(&*self.fs, |mailbox| {
            let (path, _) = self.locate(mailbox, base)?;
            self.hold.take(&path, base, now_unix_s)?;
            mailbox.files.remove(base);
            Ok(())
        })
    }

    fn sweep(&self, before_unix_s: i64, own: Epoch, is_live: &dyn Fn(&str) -> bool) -> Result<u64> {
        let may_go =
            |base: &str| filename::read_own(base).is_none_or(|(_, epoch)| epoch <= own) && !is_live(base);
        let mut removed = self.hold.sweep(before_unix_s, &may_go)?;
        let foreign_before = unix_time(before_unix_s).checked_sub(FOREIGN_STAGE);
        for (_, directory) in layout::scan(&*self.fs, &self.root)? {
            let stage = directory.join("tmp");
            let entries = match self.fs.read_dir(&stage) {
                Err(error) if error.is_not_found() => continue,
                entries => entries?,
            };
            for entry in entries {
                let path = stage.join(&entry.name);
                let name = entry.name.to_string_lossy();
                let stale = match filename::read_own(&name) {
                    Some(_) => may_go(&name),
                    None => match self.fs.metadata(&path) {
                        Ok(metadata) => foreign_before.is_some_and(|before| metadata.modified < before),
                        Err(_) => false,
                    },
                };
                if stale && self.fs.unlink(&path).is_ok() {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn open(&self, mailbox: MailboxId, base: &str) -> Result<Body> {
        for _ in 0..TRIES {
            let path = self.find(mailbox, base)?;
            match self.fs.open(&path) {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(file) => return body(file, base),
            }
        }
        Err(missing("open message", Path::new(base)))
    }

    fn observe(&self, mailbox: MailboxId, now_unix_us: u64, thorough: bool) -> Result<Option<Observed>> {
        let mailbox = self.mailbox(mailbox)?;
        let mut mailbox = lock(&mailbox);
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(now_unix_us);
        if !mailbox.look_is_due(&*self.fs, now, thorough)? {
            return Ok(None);
        }
        let trouble = mailbox.look(&*self.fs, now)?;
        let healed = mend::mend(&*self.fs, &self.hold, &mut mailbox, trouble, now_unix_us)?;
        mailbox.keywords.follow(&lock(&self.keywords));
        let keywords = mailbox.keywords.clone();
        let mut observed = Observed { files: Vec::with_capacity(mailbox.files.len()), healed };
        for (base, place) in &mut mailbox.files {
            let (system, named) = filename::flags(&place.suffix, &keywords);
            let changed_from = place
                .known
                .replace(Arc::clone(&place.suffix))
                .filter(|known| *known != place.suffix)
                .map(|known| filename::flags(&known, &keywords));
            let base = Arc::clone(base);
            observed.files.push(ObservedFile {
                base,
                flags: system,
                keywords: named,
                changed_from,
                fresh: place.fresh,
            });
        }
        Ok(Some(observed))
    }

    fn list(&self, mailbox: MailboxId) -> Result<Vec<Arc<str>>> {
        let mailbox = self.mailbox(mailbox)?;
        let mailbox = lock(&mailbox);
        mailbox.bases(&*self.fs)
    }

    fn has(&self, mailbox: MailboxId, base: &str) -> Result<bool> {
        let mailbox = self.mailbox(mailbox)?;
        match self.locate(&mut lock(&mailbox), base) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn know_keywords(&self, keywords: Vec<Keyword>) {
        *lock(&self.keywords) = keywords.into();
    }

    fn held(&self, bases: &HashSet<Arc<str>>) -> Result<HashSet<Arc<str>>> {
        self.hold.among(bases)
    }

    fn examine(&self, mailbox: MailboxId, base: &str) -> Result<Examined> {
        // Only there: a listing can be older than a move of ours, and what lies elsewhere is no new message.
        let path = self.locate(&mut lock(&*self.mailbox(mailbox)?), base)?.0;
        let body = body(self.fs.open(&path)?, base)?;
        let metadata = body.file().metadata()?;
        let mut measure = crate::spool::Measure::default();
        let mut chunk = vec![0; 64 * 1024];
        let mut offset = 0;
        loop {
            match body.file().read_at(&mut chunk, offset)? {
                0 => break,
                count => {
                    measure.feed(&chunk[..count]);
                    offset += count as u64;
                }
            }
        }
        let (size, wire_size, content) = measure.finish();
        Ok(Examined { size, wire_size, content, internal_date: unix_seconds(metadata.modified) })
    }

    fn write_lists(&self, mailbox: MailboxId, lists: &Lists) -> Result<()> {
        let mailbox = self.mailbox(mailbox)?;
        let directory = lock(&mailbox).directory.clone();
        lists::write_uidlist(&*self.fs, &directory, mailbox_guid(&*self.fs, &directory)?, lists)
    }

    fn write_subscriptions(&self, names: &[MailboxName]) -> Result<()> {
        lists::write_subscriptions(&*self.fs, &self.root, names)
    }

    fn former_lists(&self, mailbox: &MailboxName) -> Result<FormerLists> {
        lists::read_uidlist(&*self.fs, &layout::path(&self.root, mailbox))
    }

    fn former_subscriptions(&self) -> Result<Vec<MailboxName>> {
        lists::read_subscriptions(&*self.fs, &self.root)
    }
}

impl Maildir {
    /// Where a reader finds the bytes.
    fn find(&self, id: MailboxId, base: &str) -> Result<PathBuf> {
        let in_mailbox = self.mailbox(id).and_then(|mailbox| {
            let mut mailbox = lock(&mailbox);
            if mailbox.files.is_empty() && mailbox.scanned.is_none() {
                self.relist(&mut mailbox)?;
            }
            self.locate(&mut mailbox, base).map(|(path, _)| path)
        });
        match in_mailbox {
            // Out of its mailbox, or brought elsewhere by an owner that was deposed.
            Err(error) if error.is_not_found() => self.lost(base).map(|(path, _)| path),
            found => found,
        }
    }
}

fn body(file: Box<dyn nfs_compat::File>, base: &str) -> Result<Body> {
    let length = file.metadata()?.length;
    // A name that lies about the length is believed about nothing (maildir.md §2).
    let is_wire = filename::sizes(base) == (Some(length), Some(length));
    Ok(Body::new(file, is_wire))
}

/// The GUID that Dovecot will read is the id that the directory carries.
fn mailbox_guid(fs: &dyn Fs, directory: &Path) -> Result<MailboxId> {
    layout::read_id(fs, directory)?
        .ok_or_else(|| missing("read mailbox id", &directory.join(layout::ID_FILE)))
}

fn missing(operation: &'static str, path: &Path) -> Error {
    /// The same number on every Linux.
    const ENOENT: i32 = 2;
    Error::new(operation, path, std::io::Error::from_raw_os_error(ENOENT))
}

/// A poisoned lock only says that a thread died; what it guards is looked at again anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_time(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

#[cfg(test)]
mod tests;
