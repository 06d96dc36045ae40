//! The calls that mail rests on, each made once and looked at from behind.
//!
//! Invariants
//! - What a call did is judged by what is there afterwards, not by what it said.
//! - A call that fails where it must not is a finding, and the other trials go on.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Finding, Report, Severity};
use crate::{ErrorKind, Fs, Result};

type Clock<'a> = &'a dyn Fn() -> SystemTime;

/// Clocks that differ by less are told of, and not warned of.
const CLOCK_OFFSET_MAX_MS: i64 = 2_000;
/// No disk without a memory of its own that outlives a power cut, and no network, is this quick.
const SYNC_TOO_QUICK: Duration = Duration::from_micros(100);
const SYNCS: u64 = 8;
/// Below this no delivery is taken; below the next, one is warned.
const FREE_PERCENT_MIN: u64 = 2;
const FREE_PERCENT_LOW: u64 = 10;

const OTHER_VOLUME: &str = "use a local disk, or NFS 4.2 from a server that keeps POSIX's rules";

type Run<'a> = fn(&mut Trial<'a>) -> Result<()>;

struct Trial<'a> {
    fs: &'a dyn Fs,
    directory: &'a Path,
    now: Clock<'a>,
    report: &'a mut Report,
}

pub(super) fn run(fs: &dyn Fs, directory: &Path, now: Clock<'_>, report: &mut Report) {
    let mut trial = Trial { fs, directory, now, report };
    let trials: [(&'static str, Run<'_>); 8] = [
        ("create", Trial::create),
        ("link", Trial::link),
        ("rename", Trial::rename),
        ("unlink", Trial::unlink),
        ("names", Trial::names),
        ("sync", Trial::sync),
        ("times", Trial::times),
        ("space", Trial::space),
    ];
    for (code, run) in trials {
        if let Err(error) = run(&mut trial) {
            trial.refuse(code, format!("a call that mail needs fails: {error}"));
        }
    }
}

impl Trial<'_> {
    fn refuse(&mut self, code: &'static str, what: impl Into<String>) {
        self.report.add(Finding::new(Severity::Refuse, code, what, OTHER_VOLUME));
    }

    fn warn(&mut self, code: &'static str, what: impl Into<String>, change: &str) {
        self.report.add(Finding::new(Severity::Warn, code, what, change));
    }

    /// Makes a file under a name that nobody else knows.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<u64> {
        let path = self.directory.join(name);
        let file = match self.fs.create(&path) {
            Err(error) if error.is_exists() && self.fs.metadata(&path)?.length == 0 => {
                self.lost_answer();
                self.fs.open_write(&path)?
            }
            created => created?,
        };
        file.write_at(bytes, 0)?;
        file.sync()?;
        file.metadata().map(|found| found.inode)
    }

    fn lost_answer(&mut self) {
        if self.report.findings.iter().all(|finding| finding.code != "replies") {
            self.warn(
                "replies",
                "a new name was said to exist: the answer to the first request was lost, and the server carried the \
                 second one out as well",
                "look for a lossy network, and mount with `vers=4.2,proto=tcp`: its sessions know a request again",
            );
        }
    }

    /// Which file has this name, if one has.
    fn inode(&self, name: &str) -> Result<Option<u64>> {
        match self.fs.metadata(&self.directory.join(name)) {
            Ok(found) => Ok(Some(found.inode)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&mut self) -> Result<()> {
        self.write("created", b"first")?;
        if self.fs.read(&self.directory.join("created"), 64)? != b"first" {
            self.refuse("create", "a file that was written and synced is read with other bytes");
        }
        match self.fs.create(&self.directory.join("created")) {
            Err(error) if error.is_exists() => {}
            Ok(_) => self.refuse("create", "an exclusive create opens a file that is there"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn link(&mut self) -> Result<()> {
        let (one, other) = (self.write("one", b"one")?, self.write("other", b"other")?);
        let [from, second, to] = ["one", "other", "linked"].map(|name| self.directory.join(name));
        if let Err(error) = self.fs.link(&from, &to) {
            self.refuse("link", format!("there are no hard links, and every delivery is one: {error}"));
            return Ok(());
        }
        if self.inode("linked")? != Some(one) || self.fs.metadata(&from)?.links != 2 {
            self.refuse("link", "a hard link is a copy, or is not counted");
        }
        let taken = self.fs.link(&second, &to);
        let kept = self.inode("linked")? == Some(one) && one != other;
        match taken {
            Err(error) if error.is_exists() && kept => {}
            Ok(()) | Err(_) => {
                self.refuse("link", "a link replaces a name that is there: one delivery overwrites another")
            }
        }
        Ok(())
    }

    fn rename(&mut self) -> Result<()> {
        let moved = self.write("from", b"new")?;
        self.write("to", b"old")?;
        let [from, to] = ["from", "to"].map(|name| self.directory.join(name));
        self.fs.rename(&from, &to)?;
        // The new name first: one that is late may have come by the second look.
        let new_name = self.inode("to")?;
        let old_name = self.inode("from")?;
        if old_name.is_some() || new_name != Some(moved) {
            let what = match (old_name, new_name) {
                (None, None) => "for a moment a renamed file has neither its old name nor its new one",
                (Some(_), _) => "for a moment a renamed file has its old name still",
                (None, Some(_)) => "a rename copies the file instead of moving it",
            };
            self.refuse("rename", what);
        }
        if self.fs.read(&to, 64)? != b"new" {
            self.refuse("rename", "a rename over a file leaves other bytes than those of the renamed one");
        }
        self.fs.sync_dir(self.directory)
    }

    fn unlink(&mut self) -> Result<()> {
        self.write("removed", b"read me")?;
        let path = self.directory.join("removed");
        let file = self.fs.open(&path)?;
        self.fs.unlink(&path)?;
        if self.inode("removed")?.is_some() {
            self.refuse("unlink", "a removed file has its name still");
        }
        let mut bytes = [0; 7];
        let read = file.read_at(&mut bytes, 0);
        if !matches!(read, Ok(count) if count > 0 && bytes.starts_with(&b"read me"[..count])) {
            self.warn(
                "unlink",
                "a file that is open cannot be read any more once its name is removed: a client that fetches a message \
                 while another removes it is disconnected",
                OTHER_VOLUME,
            );
        }
        Ok(())
    }

    fn names(&mut self) -> Result<()> {
        // A flagged message of a Maildir, and mailboxes whose names differ by case.
        for (one, other) in [("1.M2P3.host:2,FS", "1.M2P3.HOST:2,FS"), (".Sent", ".sent")] {
            let made = match self.write(one, b"one") {
                Ok(one) => self.write(other, b"other").map(|other| (one, other)),
                Err(error) => Err(error),
            };
            match made {
                Ok((one_inode, other_inode)) => {
                    let listed = self.fs.read_dir(self.directory)?;
                    let is_listed = |name: &str| listed.iter().any(|entry| entry.name == name);
                    if one_inode == other_inode || !is_listed(one) || !is_listed(other) {
                        self.refuse(
                            "names",
                            format!("the names {one} and {other} are not kept apart as they are"),
                        );
                    }
                }
                Err(error) if error.kind == ErrorKind::Exists => {
                    self.refuse(
                        "names",
                        format!("{one} and {other} are one name here: mailboxes would become one"),
                    );
                }
                Err(error) => self.refuse("names", format!("a name that Maildirs have is refused: {error}")),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.write("synced", b"")?;
        let path = self.directory.join("synced");
        let file = self.fs.open_write(&path)?;
        let mut best: Option<Duration> = None;
        let mut ahead_ms = None;
        for number in 0..SYNCS {
            file.write_at(&[b'x'; 4096], number * 4096)?;
            let begun = (self.now)();
            file.sync()?;
            let ended = (self.now)();
            let took = ended.duration_since(begun).unwrap_or_default();
            if best.is_none_or(|best| took < best) {
                best = Some(took);
            }
            let modified = self.fs.metadata(&path)?.modified;
            // Stamped between the write and the end of its sync; a server's ticks are some milliseconds long.
            ahead_ms = Some(milliseconds_between(begun, ended, modified));
        }
        self.fs.sync_dir(self.directory)?;
        self.report.measured.sync = best;
        self.report.measured.clock_ahead_ms = ahead_ms;
        let is_nfs = self.report.mount.as_ref().is_some_and(super::Mount::is_nfs);
        if let Some(best) = best.filter(|best| is_nfs && *best < SYNC_TOO_QUICK) {
            self.warn(
                "async",
                format!("a sync takes {} us, and no request over a network does: it is not carried out", best.as_micros()),
                "see that the export is `sync`, and that nothing between acknowledges writes that it keeps in memory",
            );
        }
        if let Some(ahead) = ahead_ms.filter(|ahead| ahead.abs() > CLOCK_OFFSET_MAX_MS) {
            let side = if ahead > 0 { "ahead of" } else { "behind" };
            let by = ahead.unsigned_abs() as f64 / 1000.0;
            let what = format!(
                "the server's clock is {by:.1} s {side} this host's: times of messages and of log lines do not fit"
            );
            self.warn("clock", what, "have both follow the same NTP servers (chrony or systemd-timesyncd)");
        }
        Ok(())
    }

    fn times(&mut self) -> Result<()> {
        self.write("timed", b"x")?;
        let path = self.directory.join("timed");
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        self.fs.set_modified(&path, then)?;
        let kept = self.fs.metadata(&path)?.modified;
        if kept != then {
            self.warn(
                "times",
                "the time of a file cannot be set: messages get the time at which they were stored",
                OTHER_VOLUME,
            );
        }
        Ok(())
    }

    fn space(&mut self) -> Result<()> {
        let space = self.fs.space(self.directory)?;
        self.report.measured.space = Some(space);
        let percent = space.available_bytes.saturating_mul(100) / space.total_bytes.max(1);
        if percent < FREE_PERCENT_LOW {
            let what = if percent < FREE_PERCENT_MIN {
                format!("{percent} % of the volume is free: below {FREE_PERCENT_MIN} % no mail is taken")
            } else {
                format!("{percent} % of the volume is free")
            };
            self.warn("space", what, "make the volume larger, or remove what is not needed");
        }
        Ok(())
    }
}

/// From the span between two readings of this host's clock to a stamp; 0 when it lies within.
fn milliseconds_between(begun: SystemTime, ended: SystemTime, stamp: SystemTime) -> i64 {
    let milliseconds = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match (stamp.duration_since(ended), begun.duration_since(stamp)) {
        (Ok(ahead), _) => milliseconds(ahead),
        (Err(_), Ok(behind)) => -milliseconds(behind),
        (Err(_), Err(_)) => 0,
    }
}
