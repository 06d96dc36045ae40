//! What happened, in order, as text: the same seed writes the same text.

use std::fmt::Write;

#[derive(Default)]
pub struct History {
    text: String,
}

impl History {
    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _written = writeln!(self.text, "{line}");
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The last lines.
    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<_> = self.text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
