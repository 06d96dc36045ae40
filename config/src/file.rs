//! Reading a file: from text to a checked [`Config`], or to everything that is wrong with it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::check::check;
use crate::keys::Config;
use crate::nearest::nearest;
use crate::section::read_table;

/// What is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)
    }
}

/// Reads the text of the file at `path`. All mistakes are told at once, in the order of the file.
pub fn load(text: &str, path: &Path) -> Result<Config, Vec<Mistake>> {
    let mut reader = Reader::new(text, path);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        reader.complain(error.span().unwrap_or(0..0), error.message().to_owned());
    }
    if !reader.mistakes.is_empty() {
        return Err(reader.finish());
    }
    let config: Config = read_table(table.get_ref(), 0..0, "", &mut reader);
    check(&config, &mut reader);
    if reader.mistakes.is_empty() { Ok(config) } else { Err(reader.finish()) }
}

/// What is known while a file is read.
pub(crate) struct Reader<'a> {
    text: &'a str,
    file: &'a Path,
    base: &'a Path,
    /// Where each key stands, by dotted name.
    places: HashMap<String, Range<usize>>,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, file: &'a Path) -> Self {
        let base = file.parent().unwrap_or(Path::new(""));
        Self { text, file, base, places: HashMap::new(), mistakes: Vec::new() }
    }

    /// The directory that relative paths start at.
    pub(crate) fn base(&self) -> &Path {
        self.base
    }

    pub(crate) fn place(&mut self, path: &str, span: Range<usize>) {
        self.places.insert(path.to_owned(), span);
    }

    /// Whether the file says something about this key.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    pub(crate) fn complain(&mut self, span: Range<usize>, message: String) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.mistakes.push(Mistake {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message,
        });
    }

    /// Complains about a key by its dotted name; about the nearest table above it if the file does not mention it.
    pub(crate) fn complain_at(&mut self, path: &str, message: impl Into<String>) {
        let mut known = path;
        while !self.places.contains_key(known) {
            match known.rsplit_once('.') {
                Some((above, _)) => known = above,
                None => break,
            }
        }
        let span = self.places.get(known).cloned().unwrap_or(0..0);
        self.complain(span, format!("{path}: {}", message.into()));
    }

    pub(crate) fn unknown(&mut self, span: Range<usize>, name: &str, path: &str, known: &[&str]) {
        let (kind, place) = match path {
            "" => ("section", String::new()),
            path => ("key", format!(" in [{path}]")),
        };
        let advice = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.complain(span, format!("unknown {kind} {name}{place}; {advice}"));
    }

    fn finish(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        self.mistakes
    }
}

#[cfg(test)]
mod tests;
