//! What FETCH can ask about a message (RFC 3501 §6.4.5, RFC 7162, RFC 8474).
//!
//! BINARY (RFC 3516) would be further items with a [`Section`] of `Whole`; PREVIEW (RFC 8970) one more plain item.

/// Numbers in a section like `1.2.3`: deeper than any message we parse.
pub const PART_DEPTH_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    Uid,
    Flags,
    InternalDate,
    Rfc822Size,
    Envelope,
    /// `BODY` without a section: the structure without extension data.
    Body,
    BodyStructure,
    ModSeq,
    EmailId,
    ThreadId,
    /// `BODY[...]` and, with `peek`, `BODY.PEEK[...]`.
    Section {
        peek: bool,
        section: Section,
        partial: Option<Partial>,
    },
    /// As `BODY[]`, answered under its own name; sets `\Seen`.
    Rfc822,
    /// As `BODY.PEEK[HEADER]`.
    Rfc822Header,
    /// As `BODY[TEXT]`; sets `\Seen`.
    Rfc822Text,
}

impl FetchItem {
    /// Whether fetching it sets `\Seen` (RFC 3501 §6.4.5).
    pub fn sets_seen(&self) -> bool {
        match self {
            Self::Section { peek, .. } => !peek,
            Self::Rfc822 | Self::Rfc822Text => true,
            Self::Uid
            | Self::Flags
            | Self::InternalDate
            | Self::Rfc822Size
            | Self::Envelope
            | Self::Body
            | Self::BodyStructure
            | Self::ModSeq
            | Self::EmailId
            | Self::ThreadId
            | Self::Rfc822Header => false,
        }
    }

    /// The octets it asks for, if it asks for octets.
    pub fn octets(&self) -> Option<(Section, Option<Partial>)> {
        let top = |text| Some((Section { part: Vec::new(), text }, None));
        match self {
            Self::Section { section, partial, .. } => Some((section.clone(), *partial)),
            Self::Rfc822 => top(SectionText::Whole),
            Self::Rfc822Header => top(SectionText::Header),
            Self::Rfc822Text => top(SectionText::Text),
            Self::Uid
            | Self::Flags
            | Self::InternalDate
            | Self::Rfc822Size
            | Self::Envelope
            | Self::Body
            | Self::BodyStructure
            | Self::ModSeq
            | Self::EmailId
            | Self::ThreadId => None,
        }
    }
}

/// What stands between the brackets: `1.2.HEADER` is part 1, 2 and text `Header`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Each at least 1. Empty is the message itself.
    pub part: Vec<u32>,
    pub text: SectionText,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SectionText {
    /// The whole message, or the part's body.
    #[default]
    Whole,
    Header,
    /// At least one name.
    HeaderFields(Vec<String>),
    /// At least one name.
    HeaderFieldsNot(Vec<String>),
    Text,
    /// The part's own MIME header. Only with a part number.
    Mime,
}

/// `<offset.length>`: octets of the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    pub offset: u64,
    /// At least 1.
    pub length: u64,
}
