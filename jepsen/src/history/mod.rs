//! What clients did and what they were told, in the order in which they were told.
//!
//! Invariants
//! - Every operation stands here once, when its fate is known or known to be unknown: *ok*, *fail* or *info*.
//! - Times rise with what happened: what was told before something else began has a smaller `told_us` than its `begun_us`.
//! - An operation that was *info* when the server was killed does not happen after the kill.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Acknowledged: it happened.
    Ok,
    /// Refused: it did not happen, and will not.
    Fail,
    /// No answer: it happened once, or not at all.
    Info,
}

/// Where a message is or was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub mailbox: String,
    pub uidvalidity: u32,
    pub uid: u32,
}

/// A message as a reader saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub uid: u32,
    pub token: String,
    pub flags: BTreeSet<String>,
    /// Whether its bytes are those that were sent.
    pub intact: bool,
}

/// A mailbox as a reader saw it, with nobody else at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxView {
    pub mailbox: String,
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub modseq: Option<u64>,
    pub messages: Vec<Seen>,
}

/// What was done. A token names one message for ever, wherever it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "f")]
pub enum Op {
    /// By LMTP or APPEND. A delivery tried again is the same operation once more.
    Add {
        token: String,
        mailbox: String,
        placed: Option<Place>,
    },
    Move {
        token: String,
        from: String,
        to: String,
        placed: Option<Place>,
    },
    Expunge {
        token: String,
        mailbox: String,
    },
    Flag {
        token: String,
        flag: String,
        set: bool,
    },
    /// A reader at work among others saw this UID stand for this message.
    Met {
        token: String,
        place: Place,
    },
    /// Every mailbox of the account by IMAP, with nobody else at work.
    Read {
        mailboxes: Vec<MailboxView>,
    },
    /// INBOX by POP3, with nobody else at work: unique ids and the tokens they stand for.
    Popped {
        messages: Vec<(String, String)>,
    },
    /// `kill -9`.
    Kill,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub client: u32,
    pub account: usize,
    pub begun_us: u64,
    pub told_us: u64,
    pub outcome: Outcome,
    pub op: Op,
}

/// Takes entries from many clients.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { start: Instant::now(), entries: Mutex::new(Vec::new()) }
    }
}

impl Recorder {
    /// The time, for `begun_us`.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Adds what has just been told.
    pub fn told(&self, client: u32, account: usize, begun_us: u64, outcome: Outcome, op: Op) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the order of entries is that of their times.
        let told_us = self.now_us();
        entries.push(Entry { client, account, begun_us, told_us, outcome, op });
    }

    pub fn history(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One JSON object a line.
pub fn to_json(history: &[Entry]) -> serde_json::Result<String> {
    let lines: serde_json::Result<Vec<String>> = history.iter().map(serde_json::to_string).collect();
    Ok(lines?.into_iter().map(|line| line + "\n").collect())
}

pub fn from_json(text: &str) -> serde_json::Result<Vec<Entry>> {
    text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}

/// One map a line, with keywords for keys, as Jepsen's own tools read it: an `:invoke` and its end for each operation.
pub fn to_edn(history: &[Entry]) -> serde_json::Result<String> {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for entry in history {
        let Value::Object(mut value) = serde_json::to_value(&entry.op)? else { continue };
        let f = value.remove("f").and_then(|f| f.as_str().map(str::to_owned)).unwrap_or_default();
        value.insert("account".to_owned(), entry.account.into());
        let mut shown = String::new();
        edn(&Value::Object(value), &mut shown);
        let outcome = match entry.outcome {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Info => "info",
        };
        for (kind, at) in [("invoke", entry.begun_us), (outcome, entry.told_us)] {
            let time_ns = at.saturating_mul(1000);
            let process = entry.client;
            lines.push((
                at,
                format!("{{:type :{kind}, :process {process}, :time {time_ns}, :f :{f}, :value {shown}}}\n"),
            ));
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    Ok(lines.into_iter().map(|(_, line)| line).collect())
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
                out.push_str(if at == 0 { ":" } else { ", :" });
                out.push_str(key);
                out.push(' ');
                edn(value, out);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_json_and_reads_as_edn() {
        let recorder = Recorder::default();
        let begun = recorder.now_us();
        let op = Op::Flag { token: "a\"1".to_owned(), flag: "\\Seen".to_owned(), set: true };
        recorder.told(3, 1, begun, Outcome::Info, op);
        let history = recorder.history();
        assert_eq!(from_json(&to_json(&history).unwrap()).unwrap(), history);
        let edn = to_edn(&history).unwrap();
        assert_eq!(edn.lines().count(), 2);
        assert!(edn.contains(":type :info, :process 3"), "{edn}");
        assert!(edn.contains(r#":flag "\\Seen", :set true, :token "a\"1""#), "{edn}");
    }
}
