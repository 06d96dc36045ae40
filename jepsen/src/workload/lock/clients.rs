//! Clients of the coordination service: several a bucket, each at one node until that has no answer.
//!
//! Invariants
//! - A counter of a subkey is used for one value only.
//! - An epoch that a client knows may be over: it uses it all the same, now and then.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::dice::Dice;
use crate::history::lock::{LockOp, Witness};
use crate::history::{Outcome, Recorder};

/// Longer than a new leader takes to be elected; shorter than the longest pause.
const PATIENCE: Duration = Duration::from_millis(2500);
const SUBKEYS: u64 = 2;
/// Between two questions of one client.
const BREATH_MS: u64 = 12;

/// Two lines: a question and its answer.
struct Line {
    reader: BufReader<TcpStream>,
}

impl Line {
    fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    fn ask(&mut self, question: &str) -> std::io::Result<String> {
        self.reader.get_mut().write_all(format!("{question}\n").as_bytes())?;
        let mut answer = String::new();
        self.reader.read_line(&mut answer)?;
        if answer.ends_with('\n') {
            Ok(answer.trim_end().to_owned())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// What all clients of a run share.
pub(super) struct Arena {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) recorder: Recorder<LockOp>,
    pub(super) stopping: AtomicBool,
    counters: Vec<[AtomicU64; SUBKEYS as usize]>,
    pub(super) accepted: AtomicU64,
    pub(super) granted: AtomicU64,
}

impl Arena {
    pub(super) fn new(addresses: Vec<SocketAddr>, recorder: Recorder<LockOp>, buckets: usize) -> Self {
        Self {
            addresses,
            recorder,
            stopping: AtomicBool::new(false),
            counters: (0..buckets).map(|_| Default::default()).collect(),
            accepted: AtomicU64::new(0),
            granted: AtomicU64::new(0),
        }
    }
}

/// What a client was told, as far as that goes.
enum Told {
    Answer(String),
    /// The node is still there.
    Unknown,
    Lost,
}

pub(super) struct Client<'a> {
    arena: &'a Arena,
    number: u32,
    bucket: usize,
    dice: Dice,
    node: usize,
    line: Option<Line>,
    epoch: Option<u64>,
    faults: Vec<String>,
}

impl<'a> Client<'a> {
    pub(super) fn new(arena: &'a Arena, number: u32, bucket: usize, seed: u64) -> Self {
        let mut dice = Dice::part(seed, u64::from(number));
        let node = dice.index(arena.addresses.len());
        Self { arena, number, bucket, dice, node, line: None, epoch: None, faults: Vec::new() }
    }

    /// Works until all stop; tells what it was told that is no answer.
    pub(super) fn work(mut self) -> Vec<String> {
        while !self.arena.stopping.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(self.dice.below(BREATH_MS)));
            match (self.dice.below(100), self.epoch) {
                (0..60, Some(epoch)) => self.witness(epoch),
                (60..85, _) => {
                    let subkey = self.dice.below(SUBKEYS);
                    self.read(subkey);
                }
                (85..88, Some(epoch)) => self.release(epoch),
                _ => self.grant(),
            }
        }
        self.faults
    }

    /// Reads every subkey, until it is answered.
    pub(super) fn read_all(mut self, node: usize, patience: Duration) -> Result<(), String> {
        self.node = node;
        for subkey in 0..SUBKEYS {
            let answered = crate::wait::until(patience, || self.read(subkey).then_some(()));
            answered.ok_or_else(|| format!("bucket {}: no read within {patience:?}", self.bucket))?;
        }
        Ok(())
    }

    /// Has the bucket and one witness accepted, until it is so.
    pub(super) fn grant_and_witness(mut self, patience: Duration) -> Result<(), String> {
        let done = crate::wait::until(patience, || {
            self.epoch = None;
            self.grant();
            let before = self.arena.accepted.load(Ordering::Acquire);
            let epoch = self.epoch?;
            self.witness(epoch);
            (self.arena.accepted.load(Ordering::Acquire) > before).then_some(())
        });
        done.ok_or_else(|| format!("bucket {}: nobody can own it within {patience:?}", self.bucket))
    }

    fn ask(&mut self, question: &str) -> Told {
        if self.line.is_none() {
            let address = self.arena.addresses.get(self.node);
            self.line = address.and_then(|address| Line::connect(*address).ok());
        }
        let answer = self.line.as_mut().map(|line| line.ask(question));
        match answer {
            Some(Ok(answer)) if answer.starts_with("unknown") => Told::Unknown,
            Some(Ok(answer)) => Told::Answer(answer),
            Some(Err(_)) | None => {
                self.line = None;
                self.node = self.dice.index(self.arena.addresses.len());
                Told::Lost
            }
        }
    }

    /// Asks and records: `judge` makes of an answer what happened, or nothing if it is no answer.
    fn record(
        &mut self,
        question: &str,
        op: LockOp,
        judge: impl FnOnce(&[&str]) -> Option<(Outcome, LockOp)>,
    ) -> Outcome {
        // Without a connection nothing is asked.
        if self.line.is_none() {
            let address = self.arena.addresses.get(self.node);
            self.line = address.and_then(|address| Line::connect(*address).ok());
            if self.line.is_none() {
                self.node = self.dice.index(self.arena.addresses.len());
                return Outcome::Fail;
            }
        }
        let begun = self.arena.recorder.begin(self.number, self.bucket, &op);
        let (outcome, op) = match self.ask(question) {
            Told::Unknown | Told::Lost => (Outcome::Info, op),
            Told::Answer(answer) => {
                let words: Vec<&str> = answer.split(' ').collect();
                judge(&words).unwrap_or_else(|| {
                    self.faults.push(format!("{question} was answered {answer}"));
                    (Outcome::Info, op)
                })
            }
        };
        self.arena.recorder.end(begun, outcome, op);
        outcome
    }

    fn grant(&mut self) {
        let bucket = self.bucket;
        let mut learnt = None;
        let op = LockOp::Grant { session: 0, epoch: 0 };
        let outcome = self.record(&format!("grant {bucket}"), op.clone(), |words| match words {
            ["granted", epoch, session] => {
                let (epoch, session) = (epoch.parse().ok()?, session.parse().ok()?);
                learnt = Some(epoch);
                Some((Outcome::Ok, LockOp::Grant { session, epoch }))
            }
            // Nobody was asked: nothing was granted.
            ["held", epoch, _] => {
                learnt = Some(epoch.parse().ok()?);
                Some((Outcome::Fail, op))
            }
            ["no", ..] => Some((Outcome::Fail, op)),
            _ => None,
        });
        if outcome == Outcome::Ok {
            self.arena.granted.fetch_add(1, Ordering::AcqRel);
        }
        // An old epoch is kept now and then, to be refused with.
        if learnt.is_some() || self.dice.once_in(3) {
            self.epoch = learnt;
        }
    }

    fn release(&mut self, epoch: u64) {
        let bucket = self.bucket;
        let op = LockOp::Release { epoch };
        self.record(&format!("release {bucket} {epoch}"), op.clone(), |words| match words {
            ["released"] => Some((Outcome::Ok, op)),
            ["no", ..] => Some((Outcome::Fail, op)),
            _ => None,
        });
        if !self.dice.once_in(4) {
            self.epoch = None;
        }
    }

    fn witness(&mut self, epoch: u64) {
        let subkey = self.dice.below(SUBKEYS);
        let (bucket, value) = (self.bucket, self.dice.below(1_000_000));
        let counters = self.arena.counters.get(bucket).zip(usize::try_from(subkey).ok());
        let counter = counters.and_then(|(counters, subkey)| counters.get(subkey));
        let counter = counter.map_or(1, |counter| counter.fetch_add(1, Ordering::AcqRel) + 1);
        let question = format!("witness {bucket} {epoch} {subkey} {counter} {value}");
        let subkey = u8::try_from(subkey).unwrap_or(0);
        let op = LockOp::Witness { subkey, epoch, counter, value };
        let mut stale = false;
        let outcome = self.record(&question, op.clone(), |words| match words {
            ["ok"] => Some((Outcome::Ok, op)),
            ["stale"] => {
                stale = true;
                Some((Outcome::Fail, op))
            }
            ["backwards"] => Some((Outcome::Fail, op)),
            _ => None,
        });
        if outcome == Outcome::Ok {
            self.arena.accepted.fetch_add(1, Ordering::AcqRel);
        }
        if stale && !self.dice.once_in(8) {
            self.epoch = None;
        }
    }

    fn read(&mut self, subkey: u64) -> bool {
        let bucket = self.bucket;
        let key = u8::try_from(subkey).unwrap_or(0);
        let op = LockOp::Read { subkey: key, found: None };
        let outcome = self.record(&format!("read {bucket} {subkey}"), op, |words| match words {
            ["none"] => Some((Outcome::Ok, LockOp::Read { subkey: key, found: None })),
            ["found", epoch, counter, value] => {
                let (epoch, counter) = (epoch.parse().ok()?, counter.parse().ok()?);
                let found = Some(Witness { epoch, counter, value: value.parse().ok()? });
                Some((Outcome::Ok, LockOp::Read { subkey: key, found }))
            }
            _ => None,
        });
        outcome == Outcome::Ok
    }
}
