//! FETCH responses, item by item, so that a message's octets pass through without being collected.

use std::fmt;

use bytes::BytesMut;
use model::{Flag, MessageId, ModSeq, Uid};

use super::date::DateTime;
use super::encode::{astring, list, octets, put};
use super::fetch::{FetchItem, Section, SectionText};

/// One `* n FETCH (...)` on its way out. The buffer may be sent and emptied between any two calls.
///
/// Begin with [`begin`](Self::begin), finish with [`end`](Self::end); between them each item once.
#[derive(Debug)]
#[must_use = "an unfinished FETCH response breaks the connection's grammar"]
pub struct FetchWriter {
    items: usize,
    /// Octets that were announced and have not been written.
    owed: u64,
}

impl FetchWriter {
    pub fn begin(out: &mut BytesMut, number: u32) -> Self {
        put(out, format_args!("* {number} FETCH ("));
        Self { items: 0, owed: 0 }
    }

    /// Ends the response. Returns false when octets are still owed: then only hanging up keeps the client from
    /// taking what follows for them.
    pub fn end(self, out: &mut BytesMut) -> bool {
        out.extend_from_slice(b")\r\n");
        self.owed == 0
    }

    pub fn uid(&mut self, out: &mut BytesMut, uid: Uid) {
        self.item(out, format_args!("UID {uid}"));
    }

    /// `recent`: the session is the first to see the message.
    pub fn flags<'f>(&mut self, out: &mut BytesMut, flags: impl IntoIterator<Item = &'f Flag>, recent: bool) {
        self.item(out, "FLAGS ");
        let names = flags.into_iter().map(Flag::as_str).chain(recent.then_some("\\Recent"));
        list(out, names, put);
    }

    pub fn internal_date(&mut self, out: &mut BytesMut, date: DateTime) {
        self.item(out, format_args!("INTERNALDATE \"{date}\""));
    }

    pub fn rfc822_size(&mut self, out: &mut BytesMut, size: u64) {
        self.item(out, format_args!("RFC822.SIZE {size}"));
    }

    pub fn modseq(&mut self, out: &mut BytesMut, modseq: ModSeq) {
        self.item(out, format_args!("MODSEQ ({modseq})"));
    }

    pub fn email_id(&mut self, out: &mut BytesMut, id: MessageId) {
        self.item(out, format_args!("EMAILID ({id})"));
    }

    /// NIL when messages are not put into threads (RFC 8474 §5.2).
    pub fn thread_id(&mut self, out: &mut BytesMut, id: Option<&str>) {
        match id {
            Some(id) => self.item(out, format_args!("THREADID ({id})")),
            None => self.item(out, "THREADID NIL"),
        }
    }

    /// An item that asks for octets, when the message has no such section.
    pub fn octets_nil(&mut self, out: &mut BytesMut, item: &FetchItem) {
        self.item(out, ResponseName(item));
        out.extend_from_slice(b" NIL");
    }

    /// Announces `length` octets of `item`, which `octets` then writes, all of them, before anything else.
    pub fn octets_begin(&mut self, out: &mut BytesMut, item: &FetchItem, length: u64) {
        self.item(out, ResponseName(item));
        put(out, format_args!(" {{{length}}}\r\n"));
        self.owed = length;
    }

    /// Some of the octets that were announced. More than that is cut off.
    pub fn octets(&mut self, out: &mut BytesMut, chunk: &[u8]) {
        let count = usize::try_from(self.owed).map_or(chunk.len(), |owed| chunk.len().min(owed));
        octets(out, chunk.get(..count).unwrap_or_default());
        self.owed = self.owed.saturating_sub(count as u64);
    }

    /// Octets that were announced and have not been written.
    pub fn owed(&self) -> u64 {
        self.owed
    }

    /// The space before an item, and how it begins.
    pub(super) fn item(&mut self, out: &mut BytesMut, text: impl fmt::Display) {
        debug_assert!(self.owed == 0, "octets are owed");
        if self.items > 0 {
            out.extend_from_slice(b" ");
        }
        self.items += 1;
        put(out, text);
    }
}

/// An item as its response names it: `BODY.PEEK[1]<10.20>` is answered as `BODY[1]<10>`.
struct ResponseName<'a>(&'a FetchItem);

impl fmt::Display for ResponseName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FetchItem::Section { section, partial, .. } => {
                write!(f, "BODY[{section}]")?;
                partial.map_or(Ok(()), |partial| write!(f, "<{}>", partial.offset))
            }
            FetchItem::Uid => f.write_str("UID"),
            FetchItem::Flags => f.write_str("FLAGS"),
            FetchItem::InternalDate => f.write_str("INTERNALDATE"),
            FetchItem::Rfc822Size => f.write_str("RFC822.SIZE"),
            FetchItem::Envelope => f.write_str("ENVELOPE"),
            FetchItem::Body => f.write_str("BODY"),
            FetchItem::BodyStructure => f.write_str("BODYSTRUCTURE"),
            FetchItem::ModSeq => f.write_str("MODSEQ"),
            FetchItem::EmailId => f.write_str("EMAILID"),
            FetchItem::ThreadId => f.write_str("THREADID"),
            FetchItem::Rfc822 => f.write_str("RFC822"),
            FetchItem::Rfc822Header => f.write_str("RFC822.HEADER"),
            FetchItem::Rfc822Text => f.write_str("RFC822.TEXT"),
        }
    }
}

/// What stands between the brackets.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.part.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            write!(f, "{dot}{number}")?;
        }
        if !self.part.is_empty() && self.text != SectionText::Whole {
            f.write_str(".")?;
        }
        match &self.text {
            SectionText::Whole => Ok(()),
            SectionText::Header => f.write_str("HEADER"),
            SectionText::Text => f.write_str("TEXT"),
            SectionText::Mime => f.write_str("MIME"),
            SectionText::HeaderFields(names) => write!(f, "HEADER.FIELDS {}", FieldNames(names)),
            SectionText::HeaderFieldsNot(names) => write!(f, "HEADER.FIELDS.NOT {}", FieldNames(names)),
        }
    }
}

struct FieldNames<'a>(&'a [String]);

impl fmt::Display for FieldNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let before = if index == 0 { "(" } else { " " };
            write!(f, "{before}{}", astring(name))?;
        }
        f.write_str(")")
    }
}
