//! One JSON value made of those that the turns of a loop print, as they print.

use serde_json::json;

use super::exit::Failure;

/// Takes the brackets off each turn's value, and puts one pair around all of them.
pub(crate) struct Pieces {
    open: char,
    close: char,
    /// Something stands between the brackets.
    begun: bool,
    /// Of this turn: its bracket has come, something after it has.
    opened: bool,
    entered: bool,
    /// What may be the turn's closing bracket.
    held: Vec<u8>,
}

impl Pieces {
    pub(crate) fn new(open: char, close: char) -> Self {
        Self { open, close, begun: false, opened: false, entered: false, held: Vec::new() }
    }

    /// What to print of what a turn has printed.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        if !self.opened {
            let Some(at) = self.held.iter().position(|byte| !byte.is_ascii_whitespace()) else {
                return Vec::new();
            };
            self.held.drain(..=at);
            self.opened = true;
        }
        let Some(last) = self.held.iter().rposition(|byte| !byte.is_ascii_whitespace()) else {
            return Vec::new();
        };
        let ready: Vec<u8> = self.held.drain(..last).collect();
        if ready.iter().all(u8::is_ascii_whitespace) && !self.entered {
            return Vec::new();
        }
        let mut text = Vec::new();
        if !std::mem::replace(&mut self.entered, true) {
            text = self.before().into_bytes();
        }
        text.extend_from_slice(&ready);
        text
    }

    /// The turn has printed all.
    pub(crate) fn turn_ended(&mut self) {
        (self.opened, self.entered) = (false, false);
        self.held.clear();
    }

    /// The entry of a user whose turn said nothing; `None` in a list.
    pub(crate) fn failed(&mut self, user: &str, failure: &Failure) -> Option<String> {
        if self.open != '{' {
            return None;
        }
        let value = json!({ "error": failure.message, "exit": failure.exit.code() });
        Some(format!("{}\n  {}: {value}", self.before(), json!(user)))
    }

    fn before(&mut self) -> String {
        if std::mem::replace(&mut self.begun, true) { ",".to_owned() } else { self.open.to_string() }
    }

    pub(crate) fn end(mut self) -> String {
        if self.begun {
            return format!("\n{}\n", self.close);
        }
        format!("{}{}\n", self.before(), self.close)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::exit::Exit;
    use super::*;

    fn joined(open: char, close: char, turns: &[&str], step: usize) -> Value {
        let mut pieces = Pieces::new(open, close);
        let mut text = Vec::new();
        for turn in turns {
            for piece in turn.as_bytes().chunks(step) {
                text.extend(pieces.take(piece));
            }
            pieces.turn_ended();
        }
        text.extend(pieces.end().into_bytes());
        serde_json::from_slice(&text)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)))
    }

    #[test]
    fn turns_become_one_value_however_they_come() {
        for step in [1, 2, 3, 1000] {
            let lists = ["[\n  {\"a\": [1]},\n  {}\n]\n", "[]\n", "[]", "[2, []]\n"];
            assert_eq!(joined('[', ']', &lists, step), json!([{"a": [1]}, {}, 2, []]));
            let maps = ["{}\n", "{\n  \"ada\": { \"x\": {} }\n}\n", "{\"bob\":{}}"];
            assert_eq!(joined('{', '}', &maps, step), json!({"ada": {"x": {}}, "bob": {}}));
            assert_eq!(joined('[', ']', &[], step), json!([]));
            assert_eq!(joined('{', '}', &["{ }"], step), json!({}));
        }
    }

    #[test]
    fn a_turn_that_failed_is_an_entry() {
        let mut pieces = Pieces::new('{', '}');
        let mut text = pieces.failed("ada", &Failure::new(Exit::TryAgain, "gone")).unwrap();
        text.push_str(&String::from_utf8(pieces.take(b"{\"bob\": 1}\n")).unwrap());
        pieces.turn_ended();
        text.push_str(&pieces.end());
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, json!({"ada": {"error": "gone", "exit": 75}, "bob": 1}));
        assert!(Pieces::new('[', ']').failed("ada", &Failure::usage("x")).is_none());
    }
}
