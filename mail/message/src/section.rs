//! Sections of a message by number and name, as `BODY[...]` names them (RFC 3501 §6.4.5).
//!
//! Everything but HEADER.FIELDS is a range of the wire octets. For those, read [`Kind::Header`] and give its octets to
//! [`header_fields`].

use crate::{Content, Message, Part, Span, header};

/// What of the part is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `[]` or `[1.2]`: the whole message, or a part's body.
    Whole,
    /// `[HEADER]`, and the header that HEADER.FIELDS picks from.
    Header,
    /// `[TEXT]`
    Text,
    /// `[1.MIME]`
    Mime,
}

/// Finds the section. `None` when the message has no such part, or the part no such section.
pub fn span(message: &Message, path: &[u32], kind: Kind) -> Option<Span> {
    let Some(part) = part(message, path)? else {
        return match kind {
            Kind::Whole => Some(message.span()),
            Kind::Header => Some(message.root.header),
            Kind::Text => Some(message.root.body),
            Kind::Mime => None,
        };
    };
    match kind {
        Kind::Whole => Some(part.body),
        Kind::Mime => Some(part.header),
        // "[HEADER and TEXT] refer to the [RFC-2822] header [or text] of the message or of an encapsulated
        // [MIME-IMT] MESSAGE/RFC822 message."
        Kind::Header | Kind::Text => match &part.content {
            Content::Message(inner) if kind == Kind::Header => Some(inner.root.header),
            Content::Message(inner) => Some(inner.root.body),
            Content::Leaf | Content::Multipart(_) => None,
        },
    }
}

/// Finds the part of this number. The outer option is whether there is one; the inner is `None` for the message itself,
/// which the empty path names.
pub fn part<'a>(message: &'a Message, path: &[u32]) -> Option<Option<&'a Part>> {
    let mut numbers = path.iter();
    let Some(&first) = numbers.next() else { return Some(None) };
    let mut part = part_of_message(message, first)?;
    for &number in numbers {
        part = match &part.content {
            Content::Multipart(children) => child(children, number)?,
            Content::Message(inner) => part_of_message(inner, number)?,
            Content::Leaf => return None,
        };
    }
    Some(Some(part))
}

/// "Non-multipart messages [...] only have a part 1": their body.
fn part_of_message(message: &Message, number: u32) -> Option<&Part> {
    match &message.root.content {
        Content::Multipart(children) => child(children, number),
        Content::Leaf | Content::Message(_) => (number == 1).then_some(&message.root),
    }
}

fn child(children: &[Part], number: u32) -> Option<&Part> {
    children.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// Picks fields out of a header's octets: those named, or with `not` all others. "Subsetting does not exclude the
/// delimiting blank line" (RFC 3501 §6.4.5). It follows even where the header has none, which that section would allow
/// to leave out: clients read fields up to it.
pub fn header_fields<N: AsRef<[u8]>>(header: &[u8], names: &[N], not: bool) -> Vec<u8> {
    let mut picked = Vec::new();
    for field in header::fields(header) {
        if names.iter().any(|name| field.is(name.as_ref())) != not {
            picked.extend_from_slice(field.raw);
            if !field.raw.ends_with(b"\n") {
                picked.extend_from_slice(b"\r\n");
            }
        }
    }
    picked.extend_from_slice(b"\r\n");
    picked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, parse};

    /// The example of RFC 3501 §6.4.5:
    /// 1 TEXT/PLAIN, 2 APPLICATION/OCTET-STREAM, 3 MESSAGE/RFC822 (3.1 TEXT/PLAIN, 3.2 APPLICATION/OCTET-STREAM),
    /// 4 MULTIPART/MIXED (4.1 IMAGE/GIF, 4.2 MESSAGE/RFC822 (4.2.1 TEXT/PLAIN, 4.2.2 MULTIPART/ALTERNATIVE (4.2.2.1, 4.2.2.2))).
    fn example() -> String {
        let leaf = |kind: &str, text: &str| format!("Content-Type: {kind}\r\n\r\n{text}\r\n");
        let multi = |kind: &str, boundary: &str, extra: &str, parts: &[String]| {
            let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}")).collect();
            format!(
                "{extra}Content-Type: multipart/{kind}; boundary={boundary}\r\n\r\n{parts}--{boundary}--\r\n"
            )
        };
        let three = multi(
            "mixed",
            "m3",
            "Subject: three\r\n",
            &[leaf("text/plain", "3.1"), leaf("application/octet-stream", "3.2")],
        );
        let alternative =
            multi("alternative", "a", "", &[leaf("text/plain", "4.2.2.1"), leaf("text/richtext", "4.2.2.2")]);
        let four_two =
            multi("mixed", "m42", "Subject: four two\r\n", &[leaf("text/plain", "4.2.1"), alternative]);
        let embed = |message: &str| format!("Content-Type: message/rfc822\r\n\r\n{message}");
        let four = multi("mixed", "m4", "", &[leaf("image/gif", "4.1"), embed(&four_two)]);
        multi(
            "mixed",
            "m",
            "Subject: top\r\n",
            &[leaf("text/plain", "1"), leaf("application/octet-stream", "2"), embed(&three), four],
        )
    }

    fn section(wire: &str, path: &[u32], kind: Kind) -> Option<String> {
        let message = parse(wire.as_bytes(), &Limits::default());
        let span = span(&message, path, kind)?;
        Some(String::from_utf8_lossy(span.of(wire.as_bytes())).into_owned())
    }

    #[test]
    fn part_numbers_follow_the_example_of_rfc_3501() {
        let wire = example();
        for path in ["1", "2", "3.1", "3.2", "4.1", "4.2.1", "4.2.2.1", "4.2.2.2"] {
            let numbers: Vec<u32> = path.split('.').map(|number| number.parse().unwrap()).collect();
            assert_eq!(section(&wire, &numbers, Kind::Whole).as_deref(), Some(path));
        }
        assert!(section(&wire, &[3, 3], Kind::Whole).is_none());
        assert!(section(&wire, &[1, 1], Kind::Whole).is_none());
        assert!(section(&wire, &[0], Kind::Whole).is_none());
        assert!(section(&wire, &[5], Kind::Whole).is_none());
    }

    #[test]
    fn header_text_and_mime_belong_to_messages_and_parts() {
        let wire = example();
        let starts = |path: &[u32], kind, start: &str| {
            section(&wire, path, kind).is_some_and(|text| text.starts_with(start))
        };
        assert!(starts(&[], Kind::Header, "Subject: top\r\n"));
        assert!(starts(&[], Kind::Text, "--m\r\n"));
        assert!(starts(&[3], Kind::Header, "Subject: three\r\n"));
        assert!(starts(&[3], Kind::Text, "--m3\r\n"));
        assert!(starts(&[3], Kind::Mime, "Content-Type: message/rfc822\r\n"));
        assert!(starts(&[4, 2], Kind::Header, "Subject: four two\r\n"));
        assert!(starts(&[4, 2, 2, 1], Kind::Mime, "Content-Type: text/plain\r\n"));
        assert_eq!(section(&wire, &[], Kind::Whole).as_deref(), Some(wire.as_str()));
        for kind in [Kind::Header, Kind::Text] {
            assert_eq!(section(&wire, &[1], kind), None);
            assert_eq!(section(&wire, &[4], kind), None);
        }
        assert_eq!(section(&wire, &[], Kind::Mime), None);
    }

    #[test]
    fn a_message_without_parts_has_part_one() {
        let wire = "Subject: x\r\n\r\nbody";
        assert_eq!(section(wire, &[1], Kind::Whole).as_deref(), Some("body"));
        assert_eq!(section(wire, &[1], Kind::Mime).as_deref(), Some("Subject: x\r\n\r\n"));
        assert_eq!(section(wire, &[1, 1], Kind::Whole), None);
        assert_eq!(section(wire, &[2], Kind::Whole), None);
    }

    #[test]
    fn a_message_that_is_a_message_is_part_one() {
        let wire = "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody";
        assert_eq!(section(wire, &[1], Kind::Whole).as_deref(), Some("Subject: in\r\n\r\nbody"));
        assert_eq!(section(wire, &[1], Kind::Header).as_deref(), Some("Subject: in\r\n\r\n"));
        assert_eq!(section(wire, &[1, 1], Kind::Whole).as_deref(), Some("body"));
    }

    #[test]
    fn header_fields_are_picked_byte_for_byte() {
        let header = b"A: 1\r\nb:  2\r\n\tfolded\r\nA: 3\r\nnonsense\r\n\r\n";
        assert_eq!(header_fields(header, &["a"], false), b"A: 1\r\nA: 3\r\n\r\n");
        assert_eq!(header_fields(header, &["a"], true), b"b:  2\r\n\tfolded\r\nnonsense\r\n\r\n");
        assert_eq!(header_fields(header, &["none"], false), b"\r\n");
        assert_eq!(header_fields(b"A: 1", &["a"], false), b"A: 1\r\n\r\n");
    }
}
