//! Takes entries from many clients, and writes them down while it does.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::written::Line;
use super::{Did, Entry, Op, Outcome};

/// An operation that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    client: u32,
    account: usize,
    at_us: u64,
    number: u64,
}

#[derive(Debug)]
struct Book<O> {
    entries: Vec<Entry<O>>,
    numbers: u64,
    file: Option<File>,
    failure: Option<std::io::Error>,
}

#[derive(Debug)]
pub struct Recorder<O = Op> {
    start: Instant,
    book: Mutex<Book<O>>,
}

impl<O> Default for Recorder<O> {
    fn default() -> Self {
        Self::with(None)
    }
}

impl<O> Recorder<O> {
    fn with(file: Option<File>) -> Self {
        let book = Book { entries: Vec::new(), numbers: 0, file, failure: None };
        Self { start: Instant::now(), book: Mutex::new(book) }
    }

    fn book(&self) -> MutexGuard<'_, Book<O>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, for `begun_us`.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl<O: Did> Recorder<O> {
    /// Writes everything to this file as well, line by line, so that a run that is killed leaves it.
    pub fn writing_to(path: &Path) -> std::io::Result<Self> {
        Ok(Self::with(Some(File::create(path)?)))
    }

    /// Something is about to be asked for. What is known of it then is what a history has of an operation without end.
    pub fn begin(&self, client: u32, account: usize, op: &O) -> Begun {
        let mut book = self.book();
        // Under the lock, so that the order of lines is that of their times.
        let at_us = self.now_us();
        book.number(client, account, at_us, op)
    }

    /// What was begun has an answer, or will have none.
    pub fn end(&self, begun: Begun, outcome: Outcome, op: O) {
        let Begun { client, account, at_us, number } = begun;
        let mut book = self.book();
        let told_us = self.now_us();
        let entry = Entry { client, account, begun_us: at_us, told_us, outcome, op };
        book.write(&Line::end(number, &entry));
        book.entries.push(entry);
    }

    /// Adds what began at `begun_us` and has just been told.
    pub fn told(&self, client: u32, account: usize, begun_us: u64, outcome: Outcome, op: O) {
        let begun = self.book().number(client, account, begun_us, &op);
        self.end(begun, outcome, op);
    }

    pub fn history(&self) -> Vec<Entry<O>> {
        self.book().entries.clone()
    }

    /// Why the file does not have everything, if so.
    pub fn failure(&self) -> Option<String> {
        self.book().failure.as_ref().map(ToString::to_string)
    }
}

impl<O: Did> Book<O> {
    fn number(&mut self, client: u32, account: usize, at_us: u64, op: &O) -> Begun {
        let number = self.numbers;
        self.numbers += 1;
        self.write(&Line::begin(number, client, account, at_us, op));
        Begun { client, account, at_us, number }
    }

    fn write(&mut self, line: &Line<O>) {
        let Some(file) = &mut self.file else { return };
        let written = line.to_text().map_err(std::io::Error::other);
        if let Err(error) = written.and_then(|text| file.write_all(text.as_bytes())) {
            self.failure.get_or_insert(error);
        }
    }
}
