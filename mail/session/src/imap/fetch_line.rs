//! One FETCH response on its way out: items from the snapshot and the description at once, octets as they come.

use bytes::{Bytes, BytesMut};
use codec::imap::date::DateTime;
use codec::imap::{FetchItem, FetchWriter, Partial, Section, SectionText};
use message::{Kind, Span, section};

use super::fetch::Message;
use super::sync::flags_of;

/// Octets of a header from which fields are picked, where the cache does not hold it. A header that is longer is
/// looked through so far.
const PICKED_HEADER_MAX: u64 = 4 << 20;

/// What each response of one FETCH has.
pub(super) struct Shape {
    items: Vec<FetchItem>,
    condstore: bool,
}

impl Shape {
    /// "The server MUST include the UID" of UID FETCH (RFC 3501 §6.4.8); CHANGEDSINCE asks for MODSEQ (RFC 7162
    /// §3.1.4.1).
    pub(super) fn new(mut items: Vec<FetchItem>, uid: bool, changed_since: bool, condstore: bool) -> Self {
        if uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        if changed_since && !items.contains(&FetchItem::ModSeq) {
            items.push(FetchItem::ModSeq);
        }
        Self { items, condstore }
    }

    pub(super) fn tells_flags(&self, seen_now: bool) -> bool {
        seen_now || self.items.contains(&FetchItem::Flags)
    }
}

/// Whether the item is about the inside of a message, so that it must have been parsed.
pub(super) fn needs_description(item: &FetchItem) -> bool {
    match item {
        FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure => true,
        FetchItem::Section { .. } | FetchItem::Rfc822 | FetchItem::Rfc822Header | FetchItem::Rfc822Text => {
            item.octets().is_some_and(|(section, _)| !is_whole(&section))
        }
        FetchItem::Uid
        | FetchItem::Flags
        | FetchItem::InternalDate
        | FetchItem::Rfc822Size
        | FetchItem::ModSeq
        | FetchItem::EmailId
        | FetchItem::ThreadId => false,
    }
}

fn is_whole(section: &Section) -> bool {
    section.part.is_empty() && section.text == SectionText::Whole
}

/// What a line needs before it can go on.
pub(super) enum Need {
    /// It is complete.
    Nothing,
    Octets {
        offset: u64,
        length: u64,
    },
}

pub(super) struct Line {
    message: Message,
    recent: bool,
    writer: Option<FetchWriter>,
    text: BytesMut,
    /// Some of it has been handed over.
    begun: bool,
    /// Place in the shape of the item that comes next.
    next: usize,
    reading: Option<Reading>,
    flags_told: bool,
    modseq_told: bool,
}

/// Octets that are being read.
struct Reading {
    next: u64,
    left: u64,
    /// A header from which fields will be picked for the item at this place; otherwise the octets go out as they come.
    picking: Option<(usize, BytesMut)>,
}

/// Where the octets of an item come from.
enum Source {
    Missing,
    Here(Bytes),
    At(Span),
    /// Fields are to be picked from the header there.
    PickFrom(Span),
}

impl Line {
    pub(super) fn begin(message: Message, recent: bool) -> Self {
        let mut text = BytesMut::new();
        Self {
            recent,
            writer: Some(FetchWriter::begin(&mut text, message.rank + 1)),
            message,
            text,
            begun: false,
            next: 0,
            reading: None,
            flags_told: false,
            modseq_told: false,
        }
    }

    pub(super) fn message(&self) -> &Message {
        &self.message
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whether octets are collected that nothing was announced of.
    pub(super) fn is_picking(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.picking.is_some())
    }

    /// The text so far, for sending.
    pub(super) fn take_text(&mut self) -> Bytes {
        self.begun |= !self.text.is_empty();
        self.text.split().freeze()
    }

    /// Octets that were asked for.
    pub(super) fn take_octets(&mut self, octets: &[u8]) {
        let Some(reading) = &mut self.reading else { return };
        let count = usize::try_from(reading.left).map_or(octets.len(), |left| left.min(octets.len()));
        let octets = octets.get(..count).unwrap_or_default();
        reading.next += count as u64;
        reading.left -= count as u64;
        match (&mut reading.picking, &mut self.writer) {
            (Some((_, header)), _) => header.extend_from_slice(octets),
            (None, Some(writer)) => writer.octets(&mut self.text, octets),
            (None, None) => {}
        }
    }

    /// Writes items until one needs octets that are not here.
    pub(super) fn advance(&mut self, shape: &Shape) -> Need {
        loop {
            let done = self.reading.take_if(|reading| reading.left == 0);
            if let Some((place, header)) = done.and_then(|reading| reading.picking)
                && let Some(item) = shape.items.get(place)
            {
                self.write_picked(item, &header);
            }
            if let Some(reading) = &self.reading {
                return Need::Octets { offset: reading.next, length: reading.left };
            }
            let place = self.next;
            let Some(item) = shape.items.get(place) else {
                self.end(shape);
                return Need::Nothing;
            };
            self.next += 1;
            self.item(place, item);
        }
    }

    fn end(&mut self, shape: &Shape) {
        let Some(mut writer) = self.writer.take() else { return };
        // "The \Seen flag is implicitly set; if this causes the flags to change, they SHOULD be included as part of the
        // FETCH responses" (RFC 3501 §6.4.5).
        if self.message.seen_now && !self.flags_told {
            writer.flags(&mut self.text, &flags_of(&self.message.view), self.recent);
            self.flags_told = true;
        }
        if shape.condstore && self.flags_told && !self.modseq_told {
            writer.modseq(&mut self.text, self.message.view.modseq);
        }
        writer.end(&mut self.text);
    }

    fn item(&mut self, place: usize, item: &FetchItem) {
        let Some(writer) = &mut self.writer else { return };
        let (out, view) = (&mut self.text, &self.message.view);
        let description = self.message.description.as_deref();
        match item {
            FetchItem::Uid => writer.uid(out, view.uid),
            FetchItem::Flags => {
                writer.flags(out, &flags_of(view), self.recent);
                self.flags_told = true;
            }
            FetchItem::InternalDate => writer.internal_date(out, DateTime::utc(view.internal_date)),
            FetchItem::Rfc822Size => writer.rfc822_size(out, view.wire_size),
            FetchItem::ModSeq => {
                writer.modseq(out, view.modseq);
                self.modseq_told = true;
            }
            FetchItem::EmailId => writer.email_id(out, view.message),
            FetchItem::ThreadId => writer.thread_id(out, None),
            FetchItem::Envelope => {
                if let Some(description) = description {
                    writer.envelope(out, &description.message.envelope);
                }
            }
            FetchItem::Body => {
                if let Some(description) = description {
                    writer.body(out, &description.message.root);
                }
            }
            FetchItem::BodyStructure => {
                if let Some(description) = description {
                    writer.body_structure(out, &description.message.root);
                }
            }
            FetchItem::Section { .. }
            | FetchItem::Rfc822
            | FetchItem::Rfc822Header
            | FetchItem::Rfc822Text => {
                self.octets_item(place, item);
            }
        }
    }

    fn octets_item(&mut self, place: usize, item: &FetchItem) {
        let Some((section, partial)) = item.octets() else { return };
        match self.source(&section) {
            Source::Missing => {
                if let Some(writer) = &mut self.writer {
                    writer.octets_nil(&mut self.text, item);
                }
            }
            Source::Here(octets) => self.write_here(item, partial, &octets),
            Source::At(span) => {
                let span = clip(span, partial);
                if let Some(writer) = &mut self.writer {
                    writer.octets_begin(&mut self.text, item, span.len);
                    self.reading = Some(Reading { next: span.offset, left: span.len, picking: None });
                }
            }
            Source::PickFrom(span) => {
                let left = span.len.min(PICKED_HEADER_MAX);
                let picking = Some((place, BytesMut::new()));
                self.reading = Some(Reading { next: span.offset, left, picking });
            }
        }
    }

    fn source(&self, wanted: &Section) -> Source {
        if is_whole(wanted) {
            return Source::At(Span { offset: 0, len: self.message.view.wire_size });
        }
        let Some(description) = self.message.description.as_deref() else { return Source::Missing };
        let kind = match wanted.text {
            SectionText::Whole => Kind::Whole,
            SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => {
                Kind::Header
            }
            SectionText::Text => Kind::Text,
            SectionText::Mime => Kind::Mime,
        };
        let Some(span) = section::span(&description.message, &wanted.part, kind) else {
            return Source::Missing;
        };
        let cached = description.header.as_ref().filter(|_| wanted.part.is_empty() && kind == Kind::Header);
        match (cached, is_picked(wanted)) {
            (Some(header), false) => Source::Here(header.clone()),
            (Some(header), true) => Source::Here(picked(wanted, header)),
            (None, false) => Source::At(span),
            (None, true) => Source::PickFrom(span),
        }
    }

    fn write_picked(&mut self, item: &FetchItem, header: &[u8]) {
        if let Some((section, partial)) = item.octets() {
            let octets = picked(&section, header);
            self.write_here(item, partial, &octets);
        }
    }

    fn write_here(&mut self, item: &FetchItem, partial: Option<Partial>, octets: &[u8]) {
        let span = clip(Span { offset: 0, len: octets.len() as u64 }, partial);
        if let Some(writer) = &mut self.writer {
            writer.octets_begin(&mut self.text, item, span.len);
            writer.octets(&mut self.text, span.of(octets));
        }
    }
}

fn is_picked(section: &Section) -> bool {
    matches!(section.text, SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_))
}

fn picked(section: &Section, header: &[u8]) -> Bytes {
    match &section.text {
        SectionText::HeaderFields(names) => section::header_fields(header, names, false).into(),
        SectionText::HeaderFieldsNot(names) => section::header_fields(header, names, true).into(),
        SectionText::Whole | SectionText::Header | SectionText::Text | SectionText::Mime => {
            Bytes::copy_from_slice(header)
        }
    }
}

/// "If the starting octet is beyond the end of the text, an empty string is returned" (RFC 3501 §6.4.5).
fn clip(span: Span, partial: Option<Partial>) -> Span {
    let Some(Partial { offset, length }) = partial else { return span };
    let skipped = offset.min(span.len);
    Span { offset: span.offset + skipped, len: length.min(span.len - skipped) }
}
