//! `dovecot-keywords`: which letter of a file name is which keyword (maildir.md §4).
//!
//! Invariants
//! - A number never changes its meaning and is never given to another keyword.
//! - Where an account may have several owners, one after the other, numbers are given in the order in which the journal
//!   named the keywords ([`Keywords::follow`]): an owner that is late writes a table that is shorter than its
//!   successor's, and never another one.
//! - The file names a letter before any file name shows it.

use std::path::Path;

use model::Keyword;
use nfs_compat::{Fs, Result, publish};

const FILE: &str = "dovecot-keywords";
/// Letters are `a` to `z`.
const LETTERS: usize = 26;
/// More than any mailbox has; bounds what a garbled file can make us hold.
const NUMBERS_MAX: usize = 4096;
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The table of one mailbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Keywords {
    names: Vec<Option<Keyword>>,
    /// Numbers that the file names.
    written: usize,
    loaded: bool,
}

impl Keywords {
    /// Reads the table, once.
    pub(super) fn load(&mut self, fs: &dyn Fs, mailbox: &Path) -> Result<()> {
        if self.loaded {
            return Ok(());
        }
        match fs.read(&mailbox.join(FILE), FILE_BYTES_MAX) {
            Ok(bytes) => self.parse(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.written = self.names.len();
        self.loaded = true;
        Ok(())
    }

    /// Gives numbers to all that the journal has named and that have none, in this order.
    pub(super) fn follow(&mut self, journal: &[Keyword]) {
        for keyword in journal {
            if self.names.len() >= LETTERS {
                return;
            }
            if !self.names.contains(&Some(keyword.clone())) {
                self.names.push(Some(keyword.clone()));
            }
        }
    }

    fn parse(&mut self, text: &str) {
        for line in text.lines() {
            let Some((number, name)) = line.split_once(' ') else { continue };
            let (Ok(number), Some(name)) = (number.parse::<usize>(), Keyword::new(name)) else { continue };
            if number >= NUMBERS_MAX {
                continue;
            }
            if self.names.len() <= number {
                self.names.resize(number + 1, None);
            }
            self.names[number] = Some(name);
        }
    }

    /// What a letter means. One that the file does not name gets the name that Dovecot makes up.
    pub(super) fn name(&self, number: usize) -> Keyword {
        let named = self.names.get(number).cloned().flatten();
        named.unwrap_or_else(|| {
            Keyword::new(&format!("unknown-{number}"))
                .unwrap_or_else(|| unreachable!("letters, a dash and digits"))
        })
    }

    /// Letters for these keywords. Keywords without one get it, and the file is written before they are returned;
    /// those beyond the 26th have none and are left out.
    pub(super) fn letters(&mut self, fs: &dyn Fs, mailbox: &Path, keywords: &[Keyword]) -> Result<Vec<char>> {
        let mut letters = Vec::with_capacity(keywords.len());
        let before = self.names.len();
        let mut greatest = 0;
        for keyword in keywords {
            let number = match self.names.iter().position(|name| name.as_ref() == Some(keyword)) {
                Some(number) => number,
                None if self.names.len() < LETTERS => {
                    self.names.push(Some(keyword.clone()));
                    self.names.len() - 1
                }
                None => continue,
            };
            if number < LETTERS {
                letters.push(char::from(b'a' + number as u8));
                greatest = greatest.max(number + 1);
            }
        }
        if greatest > self.written {
            if let Err(error) = self.write(fs, mailbox) {
                self.names.truncate(before);
                return Err(error);
            }
            self.written = self.names.len();
        }
        Ok(letters)
    }

    fn write(&self, fs: &dyn Fs, mailbox: &Path) -> Result<()> {
        let mut text = String::new();
        for (number, name) in self.names.iter().enumerate() {
            if let Some(name) = name {
                text.push_str(&format!("{number} {}\n", name.as_str()));
            }
        }
        publish::publish(fs, mailbox, FILE, text.as_bytes())
    }
}
