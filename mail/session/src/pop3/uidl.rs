//! Unique ids (RFC 1939 §7 UIDL): a stored one, else one made of the message by the operator's format.
//!
//! The format is that of the server whose clients we inherit: `%u` UID, `%v` UIDVALIDITY, `%f` the store's file name,
//! `%g` an id of the message; the numbers with `X` in hex and with a width as in `%08Xu`, filled with zeros. The digits
//! of hex are lower-case, although `X` is not: clients compare octet by octet, so it must be as it always was.

use std::fmt::Write as _;

use account::MessageView;
use model::UidValidity;

const DEFAULT: &str = "%08Xu%08Xv";

/// "The unique-id of a message is an arbitrary server-determined string, consisting of one to 70 characters in the range
/// 0x21 to 0x7E". Other servers have handed out longer ones made of file names, and clients know messages by them.
const UIDL_BYTES_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Literal(char),
    Uid(Number),
    Validity(Number),
    Base,
    Entry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Number {
    hex: bool,
    zeros: usize,
}

impl Number {
    fn write(self, number: u32, out: &mut String) {
        let zeros = self.zeros;
        let written =
            if self.hex { write!(out, "{number:0zeros$x}") } else { write!(out, "{number:0zeros$}") };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
}

/// How POP3 calls messages.
#[derive(Debug)]
pub struct UidlFormat(Vec<Part>);

impl UidlFormat {
    /// Reads a format. One that cannot tell messages apart, or is none, is as good as none: the default is taken, the
    /// configuration has been complained about by then.
    pub fn read(format: &str) -> Self {
        let names = |part: &Part| matches!(part, Part::Uid(_) | Part::Base | Part::Entry);
        match parse(format) {
            Some(parts) if parts.iter().any(names) => Self(parts),
            Some(_) | None => Self(parse(DEFAULT).unwrap_or_default()),
        }
    }

    /// What POP3 calls the message: what clients have seen for it before it came to us, else what the format makes.
    pub fn uidl(&self, validity: UidValidity, message: &MessageView) -> String {
        if let Some(stored) = message.uidl.as_deref().filter(|stored| is_uidl(stored)) {
            return stored.to_owned();
        }
        let made = made(&self.0, validity, message);
        if is_uidl(&made) {
            return made;
        }
        // A file name that no line can carry.
        made_of_numbers(validity, message)
    }
}

fn made_of_numbers(validity: UidValidity, message: &MessageView) -> String {
    format!("{:08x}{:08x}", message.uid.get(), validity.get())
}

fn made(parts: &[Part], validity: UidValidity, message: &MessageView) -> String {
    let mut made = String::new();
    for part in parts {
        match part {
            Part::Literal(character) => made.push(*character),
            Part::Uid(number) => number.write(message.uid.get(), &mut made),
            Part::Validity(number) => number.write(validity.get(), &mut made),
            Part::Base => made.push_str(&message.base),
            Part::Entry => made.push_str(&message.entry.to_string()),
        }
    }
    made
}

fn is_uidl(text: &str) -> bool {
    (1..=UIDL_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn parse(format: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            parts.push(Part::Literal(character));
            continue;
        }
        let mut digits = String::new();
        while let Some(digit) = characters.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        // Without a leading zero the width is a limit elsewhere; cutting ids short would make them alike.
        let zeros =
            if digits.starts_with('0') { digits.parse().ok().filter(|width| *width <= 32)? } else { 0 };
        let hex = characters.next_if(|character| matches!(character, 'X' | 'x')).is_some();
        let number = Number { hex, zeros };
        parts.push(match characters.next()? {
            'u' => Part::Uid(number),
            'v' => Part::Validity(number),
            'f' => Part::Base,
            'g' => Part::Entry,
            '%' => Part::Literal('%'),
            _ => return None,
        });
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use model::{ContentId, EntryId, MessageId, ModSeq, SystemFlags, Uid};

    use super::*;

    fn message(uidl: Option<&str>, base: &str) -> MessageView {
        MessageView {
            uid: Uid::new(0xABC).unwrap(),
            flags: SystemFlags::NONE,
            keywords: None,
            modseq: ModSeq(1),
            internal_date: 0,
            save_date: 0,
            wire_size: 1,
            size: 1,
            entry: EntryId::from_bytes([0x5A; 16]),
            message: MessageId::from_bytes([0; 16]),
            content: ContentId::of(b""),
            base: base.into(),
            uidl: uidl.map(Into::into),
        }
    }

    fn uidl(format: &str, message: &MessageView) -> String {
        UidlFormat::read(format).uidl(UidValidity::new(1_795_319_790).unwrap(), message)
    }

    #[test]
    fn each_former_server_has_its_format() {
        let message = message(None, "1795319790.M210291P826.mx1,S=182");
        assert_eq!(uidl("%08Xu%08Xv", &message), "00000abc6b0267ee");
        assert_eq!(uidl("UID%u-%v", &message), "UID2748-1795319790");
        assert_eq!(uidl("%v.%u", &message), "1795319790.2748");
        assert_eq!(uidl("%08Xv%08Xu", &message), "6b0267ee00000abc");
        assert_eq!(uidl("%u", &message), "2748");
        assert_eq!(uidl("%f", &message), "1795319790.M210291P826.mx1,S=182");
        assert_eq!(uidl("%g", &message), "5a".repeat(16));
        assert_eq!(uidl("%%%Xu%06u", &message), "%abc002748");
        assert_eq!(uidl("%8Xu", &message), "abc");
    }

    #[test]
    fn a_stored_uidl_wins() {
        assert_eq!(uidl("%u", &message(Some("old-7"), "b")), "old-7");
    }

    #[test]
    fn what_no_line_can_carry_is_not_sent() {
        for odd in ["", "a b", "a\r\n+OK", "\u{e9}", &"x".repeat(256)] {
            assert_eq!(uidl("%u", &message(Some(odd), "b")), "2748", "{odd:?}");
            if !odd.is_empty() {
                assert_eq!(uidl("%f", &message(None, odd)), "00000abc6b0267ee", "{odd:?}");
            }
        }
    }

    #[test]
    fn a_format_that_cannot_tell_messages_apart_is_not_used() {
        for bad in ["", "%v", "%", "%u%q", "%08X", "%099u", "x"] {
            assert_eq!(uidl(bad, &message(None, "b")), "00000abc6b0267ee", "{bad}");
        }
    }
}
