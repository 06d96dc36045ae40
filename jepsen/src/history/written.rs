//! A history on disk: JSON, one object a line, and EDN as Jepsen's own checkers read it.
//!
//! Two lines an operation, `invoke` and its end, tied together by a number; a nemesis's are both `info`. In EDN an
//! operation about account 3 has the value `[3 {…}]`, a tuple of `jepsen.independent`, and no process goes on after
//! an `:info`, as Knossos and Elle demand: whoever was left without an answer is somebody else from then on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Did, Entry, NEVER, Outcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

impl Kind {
    fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Ok,
            Outcome::Fail => Self::Fail,
            Outcome::Info => Self::Info,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Process {
    Client(u32),
    Named(String),
}

/// One line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line<O> {
    number: u64,
    process: Process,
    #[serde(rename = "type")]
    kind: Kind,
    /// Nanoseconds, as Jepsen counts.
    time: u64,
    account: usize,
    #[serde(flatten)]
    op: O,
}

const NANOSECONDS: u64 = 1000;

impl<O: Did> Line<O> {
    pub(super) fn begin(number: u64, client: u32, account: usize, at_us: u64, op: &O) -> Self {
        let kind = if op.fault().is_some() { Kind::Info } else { Kind::Invoke };
        Self::new(number, client, account, at_us, kind, op)
    }

    pub(super) fn end(number: u64, entry: &Entry<O>) -> Self {
        let kind = if entry.op.fault().is_some() { Kind::Info } else { Kind::of(entry.outcome) };
        Self::new(number, entry.client, entry.account, entry.told_us, kind, &entry.op)
    }

    fn new(number: u64, client: u32, account: usize, at_us: u64, kind: Kind, op: &O) -> Self {
        let nemesis = op.fault().is_some();
        let process = if nemesis { Process::Named("nemesis".to_owned()) } else { Process::Client(client) };
        Self { number, process, kind, time: at_us.saturating_mul(NANOSECONDS), account, op: op.clone() }
    }

    pub(super) fn to_text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// Beginnings and ends in the order of their times; with the place of their entry.
fn lines<O: Did>(history: &[Entry<O>]) -> Vec<(usize, Line<O>)> {
    let mut lines = Vec::with_capacity(history.len() * 2);
    for (place, entry) in history.iter().enumerate() {
        let number = u64::try_from(place).unwrap_or(u64::MAX);
        lines.push((place, Line::begin(number, entry.client, entry.account, entry.begun_us, &entry.op)));
        if entry.told_us != NEVER {
            lines.push((place, Line::end(number, entry)));
        }
    }
    lines.sort_by_key(|(_, line)| line.time);
    lines
}

pub fn to_json<O: Did>(history: &[Entry<O>]) -> serde_json::Result<String> {
    lines(history).iter().map(|(_, line)| line.to_text()).collect()
}

/// Reads a history back, also that of a run that was killed while it wrote.
pub fn from_json<O: Did>(text: &str) -> serde_json::Result<Vec<Entry<O>>> {
    let mut entries = Vec::new();
    let mut begun: BTreeMap<u64, Line<O>> = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.len() > 1) {
        let line: Line<O> = serde_json::from_str(line)?;
        let Some(first) = begun.remove(&line.number) else {
            begun.insert(line.number, line);
            continue;
        };
        let outcome = match line.kind {
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            // A nemesis does what it says.
            Kind::Info if line.op.fault().is_some() => Outcome::Ok,
            Kind::Info | Kind::Invoke => Outcome::Info,
        };
        entries.push(entry(&first, line.time / NANOSECONDS, outcome, line.op));
    }
    entries.extend(begun.values().map(|first| entry(first, NEVER, Outcome::Info, first.op.clone())));
    Ok(entries)
}

fn entry<O>(first: &Line<O>, told_us: u64, outcome: Outcome, op: O) -> Entry<O> {
    let client = match first.process {
        Process::Client(client) => client,
        Process::Named(_) => 0,
    };
    Entry { client, account: first.account, begun_us: first.time / NANOSECONDS, told_us, outcome, op }
}

/// Gives every operation a process that has nothing else under way, and never will after an *info*.
#[derive(Default)]
struct Processes {
    free: BTreeMap<u32, BTreeSet<u32>>,
    next: u32,
    at: BTreeMap<usize, u32>,
}

impl Processes {
    fn of(&mut self, place: usize, client: u32, kind: Kind) -> u32 {
        match kind {
            Kind::Invoke => {
                let process = self.free.get_mut(&client).and_then(BTreeSet::pop_first).unwrap_or_else(|| {
                    self.next += 1;
                    self.next - 1
                });
                self.at.insert(place, process);
                process
            }
            Kind::Ok | Kind::Fail | Kind::Info => {
                let process = self.at.remove(&place).unwrap_or_default();
                if kind != Kind::Info {
                    self.free.entry(client).or_default().insert(process);
                }
                process
            }
        }
    }
}

/// One map a line, with keywords for keys.
pub fn to_edn<O: Did>(history: &[Entry<O>]) -> serde_json::Result<String> {
    let mut processes = Processes::default();
    let mut text = String::new();
    for (index, (place, line)) in lines(history).into_iter().enumerate() {
        let Value::Object(mut op) = serde_json::to_value(&line.op)? else { continue };
        let mut value = String::new();
        edn(&op.remove("value").unwrap_or(Value::Null), &mut value);
        let (process, f, value) = match line.op.fault() {
            Some(fault) => (":nemesis".to_owned(), fault.kind, value),
            None => {
                let client = match line.process {
                    Process::Client(client) => client,
                    Process::Named(_) => 0,
                };
                let f = op.remove("f").and_then(|f| f.as_str().map(str::to_owned)).unwrap_or_default();
                let process = processes.of(place, client, line.kind).to_string();
                (process, f, format!("[{} {value}]", line.account))
            }
        };
        text.push_str(&format!(
            "{{:index {index}, :type :{}, :process {process}, :time {}, :f :{f}, :value {value}}}\n",
            line.kind.word(),
            line.time
        ));
    }
    Ok(text)
}

fn edn(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("nil"),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { " " });
                edn(value, out);
            }
            out.push(']');
        }
        Value::Object(values) => {
            out.push('{');
            for (at, (key, value)) in values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ", " });
                key_edn(key, out);
                out.push(' ');
                edn(value, out);
            }
            out.push('}');
        }
    }
}

/// A keyword when it can be one: names of messages need not.
fn key_edn(key: &str, out: &mut String) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if key.starts_with(|first: char| first.is_ascii_alphabetic()) && key.bytes().all(plain) {
        out.push(':');
        out.push_str(key);
    } else {
        out.push_str(&Value::String(key.to_owned()).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, Op, Phase, Recorder};
    use super::*;

    fn flag(token: &str) -> Op {
        Op::Flag { token: token.to_owned(), flag: "\\Seen".to_owned(), set: true }
    }

    fn kill(phase: Phase) -> Op {
        Op::Nemesis(Fault { kind: "kill".to_owned(), nodes: vec!["a1".to_owned()], phase })
    }

    #[test]
    fn a_history_survives_json_and_reads_as_edn() {
        let recorder = Recorder::default();
        let begun = recorder.now_us();
        recorder.told(3, 1, begun, Outcome::Info, flag("a\"1"));
        let places = BTreeMap::from([("b 2".to_owned(), 7), ("c".to_owned(), 8)]);
        let counters = Op::Counters { session: 4, frozen: false, counters: places };
        recorder.told(4, 0, begun, Outcome::Ok, counters);
        recorder.told(0, 0, recorder.now_us(), Outcome::Ok, Op::Kill);
        let history = recorder.history();
        assert_eq!(from_json::<Op>(&to_json(&history).unwrap()).unwrap(), history);
        let edn = to_edn(&history).unwrap();
        assert_eq!(edn.lines().count(), 6);
        assert!(edn.contains(":type :info, :process 0"), "{edn}");
        assert!(edn.contains(r#":f :flag, :value [1 {:flag "\\Seen", :set true, :token "a\"1"}]"#), "{edn}");
        assert!(edn.contains(r#":counters {"b 2" 7, :c 8}"#), "{edn}");
    }

    #[test]
    fn a_nemesis_is_a_process_of_its_own_and_only_informs() {
        let recorder = Recorder::default();
        recorder.told(0, 0, recorder.now_us(), Outcome::Ok, kill(Phase::Once));
        let history = recorder.history();
        assert_eq!(from_json::<Op>(&to_json(&history).unwrap()).unwrap(), history);
        let edn = to_edn(&history).unwrap();
        assert_eq!(edn.matches(":type :info, :process :nemesis").count(), 2, "{edn}");
        assert!(edn.contains(r#":f :kill, :value {:kind "kill", :nodes ["a1"], :phase "once"}"#), "{edn}");
    }

    #[test]
    fn no_process_has_two_operations_under_way_or_goes_on_after_an_unknown_one() {
        let entry = |begun_us, told_us, outcome| Entry {
            client: 7,
            account: 0,
            begun_us,
            told_us,
            outcome,
            op: flag("a"),
        };
        let history = [
            entry(1, 5, Outcome::Ok),
            entry(2, 6, Outcome::Info),
            entry(7, 8, Outcome::Fail),
            entry(9, 10, Outcome::Ok),
        ];
        let edn = to_edn(&history).unwrap();
        let process = |line: &str| line.split(", ").nth(2).map(str::to_owned).unwrap();
        let mut busy = BTreeSet::new();
        let mut over = BTreeSet::new();
        for line in edn.lines() {
            let process = process(line);
            assert!(!over.contains(&process), "{edn}");
            if line.contains(":invoke") {
                assert!(busy.insert(process), "{edn}");
            } else {
                assert!(busy.remove(&process), "{edn}");
                if line.contains(":info") {
                    over.insert(process);
                }
            }
        }
        assert_eq!(over.len(), 1);
    }

    #[test]
    fn a_run_that_is_killed_leaves_what_it_did_and_what_it_was_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let recorder = Recorder::writing_to(&path).unwrap();
        let first = recorder.begin(1, 0, &flag("a"));
        recorder.end(first, Outcome::Ok, flag("a"));
        let _no_answer_yet = recorder.begin(2, 0, &flag("b"));
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"number\":9,\"pro");
        let read = from_json::<Op>(&text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].outcome, read[1].outcome), (Outcome::Ok, Outcome::Info));
        assert_eq!((read[1].client, read[1].told_us), (2, NEVER));
        assert_eq!(recorder.failure(), None);
    }
}
