//! One message instance: its immutable header, the tags that place it, its flags.
//!
//! There are millions of these, so there is no map in one: tags and flags are short vectors, flag names are numbers.

use serde::{Deserialize, Serialize};

use crate::op::{Header, NumberedUid};
use crate::{Dot, Flag, Keyword, MailboxId, Stamp, SystemFlag, SystemFlags};

/// A message instance as operations describe it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    header: Header,
    /// Stamp and dot of the earliest append. There are two only when both sites imported the message (R-ID5).
    created: Stamp,
    creation: Dot,
    tags: Vec<Tag>,
    flags: Vec<FlagRegister>,
}

/// Where an entry is (V1, V2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub mailbox: MailboxId,
    /// The dot that placed it there.
    pub tag: Dot,
    pub stamp: Stamp,
    /// `None` until the home site assigns one under the mailbox's present UIDVALIDITY.
    pub uid: Option<NumberedUid>,
}

/// "This operation put the entry there", until another operation that saw it takes it off.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Tag {
    pub(super) dot: Dot,
    pub(super) mailbox: MailboxId,
    pub(super) stamp: Stamp,
    pub(super) uid: Option<NumberedUid>,
}

/// A flag's number: the system flags first, then the account's keywords in the order they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FlagId(u32);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FlagRegister {
    pub(super) id: FlagId,
    pub(super) on: bool,
    pub(super) stamp: Stamp,
}

const KEYWORDS_FROM: u32 = SystemFlag::ALL.len() as u32;

impl FlagId {
    fn of_system(flag: SystemFlag) -> Self {
        Self((flag as u8).trailing_zeros())
    }

    pub(super) fn system(self) -> Option<SystemFlag> {
        SystemFlag::ALL.into_iter().find(|flag| Self::of_system(*flag) == self)
    }
}

impl Entry {
    pub(super) fn new(header: &Header, created: Stamp, creation: Dot) -> Self {
        Self { header: header.clone(), created, creation, tags: Vec::new(), flags: Vec::new() }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Stamp of the append that created it.
    pub fn created(&self) -> Stamp {
        self.created
    }

    pub fn system_flags(&self) -> SystemFlags {
        self.flags.iter().filter(|flag| flag.on).filter_map(|flag| flag.id.system()).collect()
    }

    pub(super) fn keyword_ids(&self) -> impl Iterator<Item = FlagId> {
        self.flags.iter().filter(|flag| flag.on && flag.id.0 >= KEYWORDS_FROM).map(|flag| flag.id)
    }

    pub(super) fn flags(&self) -> &[FlagRegister] {
        &self.flags
    }

    pub(super) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    pub(super) fn has_tag_in(&self, mailbox: MailboxId) -> bool {
        self.tags.iter().any(|tag| tag.mailbox == mailbox)
    }

    /// Joins the header of another append of the same entry: the earliest one's stays.
    pub(super) fn join_header(&mut self, header: &Header, created: Stamp, creation: Dot) {
        if (created, creation) < (self.created, self.creation) {
            (self.header, self.created, self.creation) = (header.clone(), created, creation);
        }
    }

    pub(super) fn add_tag(&mut self, tag: Tag) {
        // Nearly every entry has one tag for ever; the default growth would reserve four.
        self.tags.reserve_exact(1);
        self.tags.push(tag);
    }

    /// Takes a tag off, and returns it if it was there.
    pub(super) fn remove_tag(&mut self, dot: Dot) -> Option<Tag> {
        let at = self.tags.iter().position(|tag| tag.dot == dot)?;
        Some(self.tags.swap_remove(at))
    }

    /// Joins a UID into a tag's register, greatest (UIDVALIDITY, UID) first. Returns the tag's mailbox.
    pub(super) fn join_uid(&mut self, dot: Dot, uid: NumberedUid) -> Option<MailboxId> {
        let tag = self.tags.iter_mut().find(|tag| tag.dot == dot)?;
        tag.uid = tag.uid.max(Some(uid));
        Some(tag.mailbox)
    }

    /// Joins a flag: the greater stamp wins, and of equal stamps the one that sets it. Returns whether the flag changed.
    pub(super) fn join_flag(&mut self, id: FlagId, on: bool, stamp: Stamp) -> bool {
        match self.flags.iter_mut().find(|flag| flag.id == id) {
            Some(flag) if (stamp, on) > (flag.stamp, flag.on) => {
                let changed = flag.on != on;
                (flag.stamp, flag.on) = (stamp, on);
                changed
            }
            Some(_) => false,
            None => {
                self.flags.reserve_exact(1);
                self.flags.push(FlagRegister { id, on, stamp });
                on
            }
        }
    }
}

/// The keywords of an account, each with the case it was first given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Keyword>", into = "Vec<Keyword>")]
pub(super) struct Keywords {
    names: Vec<Keyword>,
    numbers: std::collections::BTreeMap<Keyword, u32>,
}

impl Keywords {
    /// The number of a flag; a keyword not met before gets the next.
    pub(super) fn number(&mut self, flag: &Flag) -> FlagId {
        match flag {
            Flag::System(flag) => FlagId::of_system(*flag),
            Flag::Keyword(keyword) => {
                let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX - KEYWORDS_FROM);
                let number = *self.numbers.entry(keyword.clone()).or_insert_with(|| {
                    self.names.push(keyword.clone());
                    next
                });
                FlagId(KEYWORDS_FROM + number)
            }
        }
    }

    pub(super) fn get(&self, id: FlagId) -> Option<&Keyword> {
        self.names.get(usize::try_from(id.0.checked_sub(KEYWORDS_FROM)?).ok()?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Keyword> {
        self.names.iter()
    }
}

impl From<Vec<Keyword>> for Keywords {
    fn from(names: Vec<Keyword>) -> Self {
        let numbers = names.iter().cloned().zip(0..).collect();
        Self { names, numbers }
    }
}

impl From<Keywords> for Vec<Keyword> {
    fn from(keywords: Keywords) -> Self {
        keywords.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Entry>() <= 216, "{}", size_of::<Entry>());
        assert!(size_of::<Tag>() <= 48, "{}", size_of::<Tag>());
        assert!(size_of::<FlagRegister>() <= 16, "{}", size_of::<FlagRegister>());
    }

    #[test]
    fn keywords_keep_the_case_first_given_and_their_number() {
        let mut keywords = Keywords::default();
        let flag = |name| Flag::Keyword(Keyword::new(name).unwrap());
        let first = keywords.number(&flag("$Forwarded"));
        assert_eq!(keywords.number(&flag("$forwarded")), first);
        assert_ne!(keywords.number(&flag("other")), first);
        assert_eq!(keywords.get(first).unwrap().as_str(), "$Forwarded");
        let mut again = Keywords::from(Vec::from(keywords.clone()));
        assert_eq!(again.number(&flag("$FORWARDED")), first);
    }
}
