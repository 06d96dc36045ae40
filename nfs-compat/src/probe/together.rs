//! Two nodes find out how old their views of one volume get: each changes files of its own and watches the other's.
//!
//! Invariants
//! - Both run the same steps and say in files of new names how far they are. Nothing that is watched lies in the
//!   directory with those files: listing it anew would mend what is to be measured.
//! - Times are those of the server's clock, as far as a host can tell it, so that the hosts' clocks may differ.
//! - Nobody waits in here: [`Party::step`] says when it wants to be called again.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::cases::{self, Case, Seen};
use super::{Finding, Report, Severity, remove_all};
use crate::{ErrorKind, File, Fs, Result, publish};

/// Between two looks. What is measured is not known more finely.
const LOOK: Duration = Duration::from_millis(100);
/// What is not seen by then is not waited for: an account would have been given up (`account::patience`).
pub(super) const WATCHED_FOR: Duration = Duration::from_secs(70);
/// A node that says nothing for so long, once it has begun, is gone.
const SILENT_FOR: Duration = Duration::from_secs(120);
/// After so many looks a listing that shows nothing new is doubted.
const LOOKS_UNTIL_POKE: u32 = 10;
/// Names that both try to take.
const CONTESTED: usize = 40;
/// An open that waits longer waits for somebody to give something back (`locking.md` §1).
const OPEN_MAX: Duration = Duration::from_secs(2);
const MARK_BYTES_MAX: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Here,
    Primed,
    Changed,
    Watched,
    Raced,
    Bye,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Primed => "primed",
            Self::Changed => "changed",
            Self::Watched => "watched",
            Self::Raced => "raced",
            Self::Bye => "bye",
        }
    }
}

/// What the caller does next.
pub enum Step {
    Again(Duration),
    /// How long each change of the other node took to be seen here; the findings are in the report.
    Done(Vec<(&'static str, Option<Duration>)>),
}

/// One of the two.
pub struct Party {
    root: PathBuf,
    base: PathBuf,
    me: String,
    other: Option<String>,
    phase: Phase,
    since: SystemTime,
    /// How far the server's clock is ahead of ours.
    ahead_ms: i64,
    /// Held open for writing, so that the other finds out what that means to it.
    held: Option<Box<dyn File>>,
    watched: Vec<Seen>,
    /// When the other made its changes, by the server's clock.
    changed_ms: Vec<(Case, i64)>,
    won: Won,
    looks: u32,
}

/// Which of the contested names a node took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Won {
    linked: Vec<usize>,
    created: Vec<usize>,
}

impl Party {
    /// `inside` lies below `root`; `token` is the same at both nodes, `me` is not.
    pub fn new(root: &Path, inside: &Path, token: &str, me: &str, now: SystemTime) -> Self {
        Self {
            root: root.to_owned(),
            base: root.join(inside).join(format!("with-{token}")),
            me: me.to_owned(),
            other: None,
            phase: Phase::Here,
            since: now,
            ahead_ms: 0,
            held: None,
            watched: Vec::new(),
            changed_ms: Vec::new(),
            won: Won::default(),
            looks: 0,
        }
    }

    /// For who waits in front of the screen.
    pub fn is_alone(&self) -> bool {
        self.other.is_none()
    }

    /// Makes what the other will watch, and says so.
    pub fn begin(&mut self, fs: &dyn Fs, now: SystemTime) -> Result<()> {
        fs.create_dir_all(&self.marks())?;
        fs.create_dir_all(&self.base.join("contested"))?;
        let mine = self.base.join(&self.me);
        fs.create_dir(&mine)?;
        let held = fs.create(&mine.join("held"))?;
        held.write_at(b"held", 0)?;
        held.sync()?;
        let stamped = held.metadata()?.modified;
        self.ahead_ms = cases::milliseconds(stamped) - cases::milliseconds(now);
        self.held = Some(held);
        for case in Case::ALL {
            cases::prepare(fs, &mine, case)?;
        }
        self.say(fs, Phase::Here, "")
    }

    /// Goes on as far as the other allows.
    pub fn step(&mut self, fs: &dyn Fs, now: SystemTime, report: &mut Report) -> Result<Step> {
        if self.phase != Phase::Here && now.duration_since(self.since).unwrap_or_default() > SILENT_FOR {
            let what = "the other node has said nothing for two minutes: the trial with it was given up";
            let change = "see that `roost doctor` still runs there, and begin again with a new token";
            report.add(Finding::new(Severity::Warn, "together", what, change));
            return Ok(Step::Done(self.seen()));
        }
        let phase = self.phase;
        match self.phase {
            Phase::Here => self.meet(fs, report)?,
            Phase::Primed => self.change(fs, now)?,
            Phase::Changed => self.watch(fs, now)?,
            Phase::Watched => self.race(fs, now, report)?,
            Phase::Raced => self.compare(fs, report)?,
            Phase::Bye => return self.end(fs, report),
        }
        if self.phase != phase {
            self.since = now;
        }
        Ok(Step::Again(LOOK))
    }

    fn meet(&mut self, fs: &dyn Fs, report: &mut Report) -> Result<()> {
        let here = self.marked(fs, Phase::Here)?;
        let others: Vec<&String> = here.iter().filter(|who| **who != self.me).collect();
        match others.as_slice() {
            [] => Ok(()),
            [other] => {
                self.watched =
                    Case::ALL.into_iter().map(|case| Seen::prime(fs, &self.base.join(other), case)).collect();
                self.other = Some((*other).clone());
                self.go(fs, Phase::Primed, "")
            }
            [_, _, ..] => {
                let what = "more than two nodes answer to this token, or it was used before";
                let change = "begin again with a new token, at two nodes";
                report.add(Finding::new(Severity::Warn, "together", what, change));
                self.phase = Phase::Bye;
                Ok(())
            }
        }
    }

    fn change(&mut self, fs: &dyn Fs, now: SystemTime) -> Result<()> {
        if !self.has_said(fs, Phase::Primed)? {
            return Ok(());
        }
        let at = cases::milliseconds(now) + self.ahead_ms;
        let mut made = String::new();
        for case in Case::ALL {
            cases::change(fs, &self.base.join(&self.me), case)?;
            made.push_str(&format!("{} {at}\n", case.word()));
        }
        self.go(fs, Phase::Changed, &made)
    }

    fn watch(&mut self, fs: &dyn Fs, now: SystemTime) -> Result<()> {
        if self.changed_ms.is_empty() && self.has_said(fs, Phase::Changed)? {
            self.changed_ms = self.heard(fs, Phase::Changed)?.lines().filter_map(cases::parse).collect();
        }
        let Some(other) = &self.other else { return Ok(()) };
        let theirs = self.base.join(other);
        let told = !self.changed_ms.is_empty();
        for seen in &mut self.watched {
            seen.look(fs, &theirs, now, told);
        }
        let is_over = now.duration_since(self.since).unwrap_or_default() >= WATCHED_FOR;
        if told && (is_over || self.watched.iter().all(|seen| seen.at.is_some())) {
            self.go(fs, Phase::Watched, "")?;
        }
        Ok(())
    }

    fn race(&mut self, fs: &dyn Fs, now: SystemTime, report: &mut Report) -> Result<()> {
        if !self.has_said(fs, Phase::Watched)? {
            return Ok(());
        }
        let mine = self.base.join(&self.me).join("held");
        for number in 0..CONTESTED {
            let contested = |kind: &str| self.base.join("contested").join(format!("{kind}.{number}"));
            match fs.link(&mine, &contested("linked")) {
                Ok(()) => self.won.linked.push(number),
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error),
            }
            match fs.create(&contested("created")) {
                Ok(_) => self.won.created.push(number),
                Err(error) if error.is_exists() => {}
                Err(error) => return Err(error),
            }
        }
        self.open_theirs(fs, now, report)?;
        let text = |won: &[usize]| won.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        let won = format!("linked {}\ncreated {}\n", text(&self.won.linked), text(&self.won.created));
        self.go(fs, Phase::Raced, &won)
    }

    /// Opens for writing what the other holds open for writing. The server's clock says how long that took.
    fn open_theirs(&self, fs: &dyn Fs, now: SystemTime, report: &mut Report) -> Result<()> {
        let Some(other) = &self.other else { return Ok(()) };
        let file = fs.open_write(&self.base.join(other).join("held"))?;
        file.write_at(b"!", 4)?;
        file.sync()?;
        let stamped = cases::milliseconds(file.metadata()?.modified) - self.ahead_ms;
        let took = Duration::from_millis(u64::try_from(stamped - cases::milliseconds(now)).unwrap_or(0));
        if took > OPEN_MAX {
            let what = format!(
                "opening a file that the other node writes to took {:.1} s: the server waits for that node to give \
                 something back, and when it is dead a take-over waits up to the server's lease",
                took.as_secs_f64()
            );
            let change = "turn write delegations off at the server, or mount with `vers=3`";
            report.add(Finding::new(Severity::Warn, "delegation", what, change));
        }
        Ok(())
    }

    fn compare(&mut self, fs: &dyn Fs, report: &mut Report) -> Result<()> {
        if !self.has_said(fs, Phase::Raced)? {
            return Ok(());
        }
        let heard = self.heard(fs, Phase::Raced)?;
        let numbers = |kind: &str| -> Vec<usize> {
            let line = heard.lines().find_map(|line| line.strip_prefix(kind));
            line.unwrap_or_default().split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        let both =
            |mine: &[usize], theirs: &[usize]| mine.iter().filter(|number| theirs.contains(number)).count();
        let linked = both(&self.won.linked, &numbers("linked"));
        if linked > 0 {
            let what = format!(
                "both nodes were given {linked} of {CONTESTED} names by link: one delivery overwrites another"
            );
            let change = "use NFS 4.2 from a server that keeps POSIX's rules";
            report.add(Finding::new(Severity::Refuse, "link", what, change));
        }
        let created = both(&self.won.created, &numbers("created"));
        if created > 0 {
            let what = format!("both nodes were given {created} of {CONTESTED} names by an exclusive create");
            let change = "nothing for Roost, whose names carry the node or the epoch; mount with `vers=4.2` for others";
            report.add(Finding::new(Severity::Note, "create", what, change));
        }
        self.go(fs, Phase::Bye, "")
    }

    /// The one whose name is greater clears up, once the other has no more to read.
    fn end(&mut self, fs: &dyn Fs, report: &mut Report) -> Result<Step> {
        self.held = None;
        let Some(other) = self.other.clone() else {
            // Three came, and nobody goes on.
            self.give_up(fs)?;
            return Ok(Step::Done(Vec::new()));
        };
        if self.me > other {
            if !self.has_said(fs, Phase::Bye)? {
                return Ok(Step::Again(LOOK));
            }
            remove_all(fs, &self.base)?;
            self.clear_above(fs, &self.base);
        }
        report.findings.extend(self.late().filter_map(|(case, late)| cases::judge(case, late)));
        report.findings.sort_by_key(|finding| finding.severity);
        Ok(Step::Done(self.seen()))
    }

    /// Takes what is ours away again; the rest goes with whoever is the last.
    pub fn give_up(&mut self, fs: &dyn Fs) -> Result<()> {
        self.held = None;
        remove_all(fs, &self.base.join(&self.me))?;
        fs.unlink(&self.mark(Phase::Here, &self.me))?;
        for directory in ["marks", "contested"] {
            match fs.remove_dir(&self.base.join(directory)) {
                Err(error) if error.kind != ErrorKind::NotEmpty && !error.is_not_found() => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        self.clear_above(fs, &self.marks());
        Ok(())
    }

    /// Directories in which somebody else has something stay.
    fn clear_above(&self, fs: &dyn Fs, directory: &Path) {
        for above in directory.ancestors().skip(1).take_while(|above| *above != self.root) {
            if fs.remove_dir(above).is_err() {
                return;
            }
        }
    }

    fn seen(&self) -> Vec<(&'static str, Option<Duration>)> {
        self.late().map(|(case, late)| (case.sentence(), late)).collect()
    }

    fn late(&self) -> impl Iterator<Item = (Case, Option<Duration>)> {
        self.watched.iter().filter_map(|seen| {
            let (case, changed_ms) = self.changed_ms.iter().find(|(case, _)| *case == seen.case)?;
            Some((*case, seen.late(*changed_ms, self.ahead_ms)))
        })
    }

    fn marks(&self) -> PathBuf {
        self.base.join("marks")
    }

    fn mark(&self, phase: Phase, who: &str) -> PathBuf {
        self.marks().join(format!("{}.{who}", phase.word()))
    }

    /// Comes to a phase, and says so.
    fn go(&mut self, fs: &dyn Fs, phase: Phase, text: &str) -> Result<()> {
        self.phase = phase;
        self.say(fs, phase, text)
    }

    fn say(&self, fs: &dyn Fs, phase: Phase, text: &str) -> Result<()> {
        publish(fs, &self.marks(), &format!("{}.{}", phase.word(), self.me), text.as_bytes())
    }

    /// Who has come to a phase. Listed, not looked up: a name that was missing once may stay so for a minute.
    fn marked(&mut self, fs: &dyn Fs, phase: Phase) -> Result<Vec<String>> {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_UNTIL_POKE) {
            // NFS 3 does not tell two changes of one moment apart, but a change of one's own from none.
            let poke = self.marks().join(format!("poke-{}.{}", self.looks, self.me));
            drop(fs.create(&poke)?);
            fs.unlink(&poke)?;
        }
        let names =
            fs.read_dir(&self.marks())?.into_iter().map(|entry| entry.name.to_string_lossy().into_owned());
        let who = |name: String| Some(name.strip_prefix(phase.word())?.strip_prefix('.')?.to_owned());
        Ok(names.filter_map(who).collect())
    }

    fn has_said(&mut self, fs: &dyn Fs, phase: Phase) -> Result<bool> {
        Ok(self.marked(fs, phase)?.iter().any(|who| Some(who) == self.other.as_ref()))
    }

    fn heard(&self, fs: &dyn Fs, phase: Phase) -> Result<String> {
        let Some(other) = &self.other else { return Ok(String::new()) };
        let bytes = fs.read(&self.mark(phase, other), MARK_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
