//! From octets to the MIME tree, in one pass over the lines.
//!
//! No recursion: parts whose end has not been seen stand on a stack. A line that begins with a delimiter of any open
//! multipart closes everything above it. As in Dovecot, a delimiter need only begin the line, the longest one that
//! fits wins, and delimiters of outer parts are seen within headers too (RFC 2046 §5.1.2).

use memchr::memchr_iter;

use crate::header;
use crate::mime::{Collector, ContentType};
use crate::{Content, Envelope, Limits, Message, Mime, Part, Span};

/// Parses a message in wire form. Never fails: see the crate's header for what happens to broken mail.
pub fn parse(wire: &[u8], limits: &Limits) -> Message {
    let mut parser = Parser { wire, limits, here: Mark::default(), stack: Vec::new(), watched: 0, parts: 0 };
    parser.open(ContentType::text_plain());
    parser.read_lines();
    let end = parser.here;
    parser.close_above(0, end);
    let (envelope, root) = match parser.stack.pop() {
        Some(open) => open.close(end).0,
        None => unreachable!("the root is opened first and closed here"),
    };
    Message { envelope: envelope.unwrap_or_default(), root }
}

/// A place in the message, and how many line ends lie before it.
#[derive(Clone, Copy, Default)]
struct Mark {
    at: usize,
    lines: u64,
}

impl Mark {
    fn later(self, other: Self) -> Self {
        if other.at > self.at { other } else { self }
    }
}

/// A part whose end has not been seen.
struct Open {
    mime: Mime,
    /// Set for the root of a message.
    envelope: Option<Envelope>,
    header_start: usize,
    body_start: Mark,
    inside: Inside,
}

enum Inside {
    Leaf,
    /// The delimiter is `None` once the closing one was seen, or when there never was one.
    Multipart {
        delimiter: Option<Vec<u8>>,
        digest: bool,
        children: Vec<Part>,
    },
    /// Holds the message as soon as that is closed.
    Message(Option<Box<Message>>),
}

impl Inside {
    fn is_watched(&self) -> bool {
        matches!(self, Self::Multipart { delimiter: Some(_), .. })
    }
}

impl Open {
    /// Ends the part at `end`, or where its header ends if that is later.
    fn close(self, end: Mark) -> ((Option<Envelope>, Part), Mark) {
        let end = end.later(self.body_start);
        let part = Part {
            mime: self.mime,
            header: span(self.header_start, self.body_start.at),
            body: span(self.body_start.at, end.at),
            lines: end.lines.saturating_sub(self.body_start.lines),
            content: match self.inside {
                Inside::Multipart { children, .. } => Content::Multipart(children),
                Inside::Message(Some(message)) => Content::Message(message),
                Inside::Message(None) | Inside::Leaf => Content::Leaf,
            },
        };
        ((self.envelope, part), end)
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { offset: start as u64, len: end.saturating_sub(start) as u64 }
}

struct Parser<'a> {
    wire: &'a [u8],
    limits: &'a Limits,
    here: Mark,
    stack: Vec<Open>,
    /// Multiparts on the stack whose closing delimiter has not been seen.
    watched: usize,
    parts: usize,
}

/// A delimiter line that was met.
struct Delimiter {
    /// Place of its multipart on the stack.
    level: usize,
    closing: bool,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a [u8] {
        self.wire.get(self.here.at..).unwrap_or_default()
    }

    fn skip(&mut self, line: &[u8]) {
        self.here.at += line.len();
        self.here.lines += u64::from(line.last() == Some(&b'\n'));
    }

    fn read_lines(&mut self) {
        while !self.rest().is_empty() {
            if self.parts >= self.limits.parts_max || self.watched == 0 {
                let rest = self.rest();
                self.here.lines += memchr_iter(b'\n', rest).count() as u64;
                self.here.at += rest.len();
                return;
            }
            let line = header::line(self.rest());
            let Some(delimiter) = self.delimiter(line) else {
                self.skip(line);
                continue;
            };
            let end = self.before_line_end();
            self.close_above(delimiter.level, end);
            self.skip(line);
            self.pass_delimiter(&delimiter);
        }
    }

    /// Everything above the delimiter's multipart is closed; now it ends, or its next part begins.
    fn pass_delimiter(&mut self, delimiter: &Delimiter) {
        let Some(Open { inside: Inside::Multipart { delimiter: name, digest, .. }, .. }) =
            self.stack.last_mut()
        else {
            return;
        };
        if delimiter.closing {
            *name = None;
            self.watched = self.watched.saturating_sub(1);
            return;
        }
        let default = if *digest { ContentType::message_rfc822() } else { ContentType::text_plain() };
        self.open(default);
    }

    fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let text = line.strip_prefix(b"--")?;
        let mut best: Option<(usize, &[u8])> = None;
        for (level, open) in self.stack.iter().enumerate().rev() {
            let Inside::Multipart { delimiter: Some(name), .. } = &open.inside else { continue };
            if text.starts_with(name) && best.is_none_or(|(_, best)| best.len() < name.len()) {
                best = Some((level, name));
            }
        }
        let (level, name) = best?;
        let closing = text.get(name.len()..).is_some_and(|after| after.starts_with(b"--"));
        Some(Delimiter { level, closing })
    }

    /// Where the line end before `here` begins: it belongs to the delimiter that follows.
    fn before_line_end(&self) -> Mark {
        let before = self.wire.get(..self.here.at).unwrap_or_default();
        let trimmed = before.strip_suffix(b"\r\n").or_else(|| before.strip_suffix(b"\n"));
        match trimmed {
            Some(trimmed) => Mark { at: trimmed.len(), lines: self.here.lines.saturating_sub(1) },
            None => self.here,
        }
    }

    /// Closes the parts above `level`, innermost first; each ends no earlier than what it holds.
    fn close_above(&mut self, level: usize, mut end: Mark) {
        while self.stack.len() > level + 1 {
            let Some(open) = self.stack.pop() else { return };
            if open.inside.is_watched() {
                self.watched = self.watched.saturating_sub(1);
            }
            let ((envelope, part), closed_at) = open.close(end);
            end = closed_at;
            match self.stack.last_mut().map(|parent| &mut parent.inside) {
                Some(Inside::Multipart { children, .. }) => children.push(part),
                Some(Inside::Message(message)) => {
                    *message = Some(Box::new(Message { envelope: envelope.unwrap_or_default(), root: part }));
                }
                Some(Inside::Leaf) | None => {
                    unreachable!("leaves hold nothing and the root is not closed here")
                }
            }
        }
    }

    /// Reads the header at `here` and opens its part; then the embedded message's, if it is one.
    fn open(&mut self, mut default: ContentType) {
        loop {
            self.parts += 1;
            let is_message = match self.stack.last() {
                None => true,
                Some(parent) => matches!(parent.inside, Inside::Message(_)),
            };
            // An embedded message begins where the part's body does: before `here`, if a delimiter broke its header off.
            let start = match self.stack.last() {
                Some(Open { inside: Inside::Message(_), body_start, .. }) => *body_start,
                Some(_) | None => self.here,
            };
            let (fields, body_start) = self.read_header(start);
            let mut envelope = is_message.then(Envelope::default);
            let mut mime = self.interpret(fields, default, envelope.as_mut());
            let inside = self.inside_of(&mut mime);
            let embeds = matches!(inside, Inside::Message(_));
            self.watched += usize::from(inside.is_watched());
            self.stack.push(Open { mime, envelope, header_start: start.at, body_start, inside });
            if !embeds {
                return;
            }
            default = ContentType::text_plain();
        }
    }

    /// Steps over the header. Returns its fields and where the body begins.
    fn read_header(&mut self, start: Mark) -> (&'a [u8], Mark) {
        let watch = self.watched > 0;
        let mut body_start = None;
        while !self.rest().is_empty() {
            let line = header::line(self.rest());
            if watch && self.delimiter(line).is_some() {
                // The header breaks off; the line end before the delimiter is the delimiter's.
                let end = self.before_line_end();
                body_start = Some(start.later(end));
                break;
            }
            self.skip(line);
            if header::is_blank(line) {
                break;
            }
        }
        let body_start = body_start.unwrap_or(self.here);
        (self.wire.get(start.at..body_start.at).unwrap_or_default(), body_start)
    }

    fn interpret(&self, fields: &[u8], default: ContentType, mut envelope: Option<&mut Envelope>) -> Mime {
        let mut mime = Collector::default();
        let mut left = self.limits.header_bytes_max;
        for field in header::fields(fields) {
            let Some(after) = left.checked_sub(field.raw.len()) else { break };
            left = after;
            mime.note(&field, self.limits);
            if let Some(envelope) = envelope.as_deref_mut() {
                envelope.note(&field, self.limits);
            }
        }
        if let Some(envelope) = envelope {
            envelope.complete();
        }
        mime.finish(default)
    }

    /// Decides what the part holds, within the limits.
    fn inside_of(&self, mime: &mut Mime) -> Inside {
        let content_type = &mime.content_type;
        let compound = content_type.is_kind("multipart") || content_type.is("message", "rfc822");
        if !compound {
            return Inside::Leaf;
        }
        if self.stack.len() + 1 >= self.limits.depth_max || self.parts >= self.limits.parts_max {
            // Named as what it is to a client: bytes. `multipart` without parts is not a sentence of IMAP.
            mime.content_type = ContentType::opaque();
            return Inside::Leaf;
        }
        if content_type.is_kind("multipart") {
            let name = content_type.param("boundary").filter(|name| !name.is_empty());
            let delimiter = name.map(<[u8]>::to_vec);
            let digest = content_type.is("multipart", "digest");
            return Inside::Multipart { delimiter, digest, children: Vec::new() };
        }
        Inside::Message(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(wire: &str) -> Message {
        parse(wire.as_bytes(), &Limits::default())
    }

    fn body(wire: &str, part: &Part) -> String {
        String::from_utf8_lossy(part.body.of(wire.as_bytes())).into_owned()
    }

    fn children(part: &Part) -> &[Part] {
        match &part.content {
            Content::Multipart(children) => children,
            Content::Leaf | Content::Message(_) => panic!("not a multipart: {part:?}"),
        }
    }

    #[test]
    fn a_plain_message_is_one_leaf() {
        let wire = "From: a@b\r\nSubject: x\r\n\r\none\r\ntwo\r\n";
        let message = parsed(wire);
        assert_eq!(message.root.content, Content::Leaf);
        assert_eq!(message.root.lines, 2);
        assert_eq!(body(wire, &message.root), "one\r\ntwo\r\n");
        assert_eq!(message.envelope.subject.as_deref(), Some(&b"x"[..]));
        assert_eq!(message.envelope.sender, message.envelope.from);
        assert_eq!(message.span().len, wire.len() as u64);
    }

    #[test]
    fn line_ends_before_delimiters_belong_to_them() {
        let wire = "Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\nfirst\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n--b--\r\nepilogue\r\n--b\r\n";
        let message = parsed(wire);
        let parts = children(&message.root);
        assert_eq!(parts.len(), 2);
        assert_eq!(body(wire, &parts[0]), "first\r\n");
        assert_eq!(parts[0].lines, 1);
        assert_eq!(body(wire, &parts[1]), "");
        assert!(parts[1].mime.content_type.is("text", "html"));
        assert_eq!(message.root.body.end(), wire.len() as u64);
    }

    #[test]
    fn outer_delimiters_close_inner_parts() {
        let wire = "Content-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\nContent-Type: multipart/mixed; boundary=outer2\r\n\r\n--outer2\r\n\r\ninner\r\n--outer\r\n\r\nlast";
        let message = parsed(wire);
        let parts = children(&message.root);
        assert_eq!(parts.len(), 2);
        assert_eq!(body(wire, &children(&parts[0])[0]), "inner");
        assert_eq!(body(wire, &parts[1]), "last");
    }

    #[test]
    fn a_header_broken_off_by_a_delimiter_has_an_empty_body() {
        let wire = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: y\r\n--b\r\n--b--\r\n";
        let message = parsed(wire);
        let parts = children(&message.root);
        assert_eq!(parts[0].header.of(wire.as_bytes()), b"X: y");
        assert_eq!(parts[0].body.len, 0);
        assert_eq!(parts[1].header.len, 0);
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn digests_hold_messages() {
        let wire = "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: inner\r\n\r\ntext\r\n--b--\r\n";
        let message = parsed(wire);
        let part = &children(&message.root)[0];
        let Content::Message(inner) = &part.content else { panic!("not a message") };
        assert_eq!(inner.envelope.subject.as_deref(), Some(&b"inner"[..]));
        assert_eq!(body(wire, &inner.root), "text");
        assert_eq!(part.lines, 2);
        assert_eq!(inner.span(), part.body);
    }

    #[test]
    fn embedded_messages_end_with_their_part_even_without_body() {
        let wire = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: s\r\n\r\n--b--\r\n";
        let message = parsed(wire);
        let part = &children(&message.root)[0];
        let Content::Message(inner) = &part.content else { panic!("not a message") };
        assert_eq!(inner.span(), part.body);
        assert_eq!(body(wire, part), "Subject: s\r\n\r\n");
    }

    #[test]
    fn ten_thousand_nested_multiparts_end_in_an_opaque_leaf() {
        let mut wire = String::new();
        for level in 0..10_000 {
            wire.push_str(&format!(
                "Content-Type: multipart/mixed; boundary=b{level}x\r\n\r\n--b{level}x\r\n"
            ));
        }
        let message = parsed(&wire);
        let (mut part, mut depth) = (&message.root, 1);
        while let Content::Multipart(children) = &part.content {
            part = &children[0];
            depth += 1;
        }
        assert_eq!(depth, Limits::default().depth_max);
        assert!(part.mime.content_type.is("application", "octet-stream"));
        assert_eq!(part.body.end(), wire.len() as u64);
    }

    #[test]
    fn ten_thousand_nested_messages_are_bounded_too() {
        let wire = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
        let mut message = &parsed(&wire);
        let mut depth = 1;
        while let Content::Message(inner) = &message.root.content {
            message = inner;
            depth += 1;
        }
        assert_eq!(depth, Limits::default().depth_max);
    }

    #[test]
    fn parts_are_counted() {
        let mut wire = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
        wire.push_str(&"--b\r\n\r\nx\r\n".repeat(20_000));
        let message = parsed(&wire);
        assert_eq!(children(&message.root).len() + 1, Limits::default().parts_max);
        assert_eq!(message.root.body.end(), wire.len() as u64);
    }

    #[test]
    fn headers_of_ten_mebibytes_are_cut_in_the_envelope_only() {
        let wire = format!("Subject: {}\r\nFrom: a@b\r\n\r\nx", "s".repeat(10 << 20));
        let message = parsed(&wire);
        assert_eq!(message.envelope.subject.as_ref().map(Vec::len), Some(Limits::default().value_bytes_max));
        assert_eq!(message.envelope.from.len(), 1);
        assert_eq!(body(&wire, &message.root), "x");
    }

    #[test]
    fn a_multipart_without_boundary_is_empty() {
        let message = parsed("Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\n");
        assert_eq!(children(&message.root), []);
    }

    #[test]
    fn the_tree_survives_its_cache() {
        let message = parsed(
            "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nFrom: a: b@c;\r\n\r\nx\r\n--b--",
        );
        let bytes = bincode::serialize(&message).unwrap();
        assert_eq!(bincode::deserialize::<Message>(&bytes).unwrap(), message);
    }
}
