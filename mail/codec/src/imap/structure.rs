//! ENVELOPE, BODY and BODYSTRUCTURE of a parsed message (RFC 3501 §7.4.2).
//!
//! Invariant: what is written follows the grammar of RFC 3501 §9 whatever the message says of itself; recursion is as
//! deep as the tree of parts, which the parser bounds.

use bytes::BytesMut;
use message::{Address, Content, Disposition, Envelope, Message, Mime, Param, Part};

use super::encode::{list, nstring, put, string};
use super::fetch_encode::FetchWriter;

impl FetchWriter {
    pub fn envelope(&mut self, out: &mut BytesMut, envelope: &Envelope) {
        self.item(out, "ENVELOPE ");
        put_envelope(out, envelope);
    }

    /// `BODY`: the structure without extension data.
    pub fn body(&mut self, out: &mut BytesMut, root: &Part) {
        self.item(out, "BODY ");
        put_part(out, root, false);
    }

    pub fn body_structure(&mut self, out: &mut BytesMut, root: &Part) {
        self.item(out, "BODYSTRUCTURE ");
        put_part(out, root, true);
    }
}

fn put_envelope(out: &mut BytesMut, envelope: &Envelope) {
    put(out, "(");
    nstring(out, envelope.date.as_deref());
    put(out, " ");
    nstring(out, envelope.subject.as_deref());
    let lists =
        [&envelope.from, &envelope.sender, &envelope.reply_to, &envelope.to, &envelope.cc, &envelope.bcc];
    for addresses in lists {
        put(out, " ");
        put_addresses(out, addresses);
    }
    put(out, " ");
    nstring(out, envelope.in_reply_to.as_deref());
    put(out, " ");
    nstring(out, envelope.message_id.as_deref());
    put(out, ")");
}

/// Addresses stand side by side, without spaces (RFC 3501 §9 env-from).
fn put_addresses(out: &mut BytesMut, addresses: &[Address]) {
    if addresses.is_empty() {
        return put(out, "NIL");
    }
    put(out, "(");
    for address in addresses {
        list(out, [&address.name, &address.adl, &address.mailbox, &address.host], |out, field| {
            nstring(out, field.as_deref());
        });
    }
    put(out, ")");
}

fn put_part(out: &mut BytesMut, part: &Part, extended: bool) {
    put(out, "(");
    match &part.content {
        Content::Multipart(children) => {
            put_multipart(out, part, children, extended);
        }
        Content::Message(message) => {
            put_fields(out, &part.mime, part.body.len);
            put_message(out, message, part.lines, extended);
        }
        Content::Leaf => {
            put_leaf_fields(out, &part.mime, part.body.len);
            if part.mime.content_type.is_kind("text") {
                put(out, format_args!(" {}", part.lines));
            }
        }
    }
    if extended && !matches!(part.content, Content::Multipart(_)) {
        put(out, " ");
        nstring(out, part.mime.md5.as_deref());
        put_extension(out, &part.mime);
    }
    put(out, ")");
}

fn put_multipart(out: &mut BytesMut, part: &Part, children: &[Part], extended: bool) {
    for child in children {
        put_part(out, child, extended);
    }
    if children.is_empty() {
        // The grammar wants one part at least. An empty text is what clients know from other servers.
        put(out, "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0");
        put(out, if extended { " NIL NIL NIL NIL)" } else { ")" });
    }
    put(out, " ");
    string(out, &part.mime.content_type.subtype);
    if extended {
        put(out, " ");
        put_params(out, &part.mime.content_type.params);
        put_extension(out, &part.mime);
    }
}

/// What stands between the octets and the extension data of a `message/rfc822` part.
fn put_message(out: &mut BytesMut, message: &Message, lines: u64, extended: bool) {
    put(out, " ");
    put_envelope(out, &message.envelope);
    put(out, " ");
    put_part(out, &message.root, extended);
    put(out, format_args!(" {lines}"));
}

/// Type, subtype and body-fields.
fn put_fields(out: &mut BytesMut, mime: &Mime, octets: u64) {
    string(out, &mime.content_type.kind);
    put(out, " ");
    string(out, &mime.content_type.subtype);
    put_common_fields(out, mime, octets);
}

/// What the parser did not look into has no structure to show, so it must not have a type that promises one.
fn put_leaf_fields(out: &mut BytesMut, mime: &Mime, octets: u64) {
    let content_type = &mime.content_type;
    if content_type.is_kind("multipart") || content_type.is("message", "rfc822") {
        put(out, "\"application\" \"octet-stream\"");
        put_common_fields(out, mime, octets);
    } else {
        put_fields(out, mime, octets);
    }
}

fn put_common_fields(out: &mut BytesMut, mime: &Mime, octets: u64) {
    put(out, " ");
    put_params(out, &mime.content_type.params);
    put(out, " ");
    nstring(out, mime.id.as_deref());
    put(out, " ");
    nstring(out, mime.description.as_deref());
    put(out, " ");
    string(out, mime.encoding.as_deref().unwrap_or(b"7bit"));
    put(out, format_args!(" {octets}"));
}

/// Disposition, language and location, each with a space before it.
fn put_extension(out: &mut BytesMut, mime: &Mime) {
    put(out, " ");
    match &mime.disposition {
        None => put(out, "NIL"),
        Some(Disposition { kind, params }) => {
            put(out, "(");
            string(out, kind);
            put(out, " ");
            put_params(out, params);
            put(out, ")");
        }
    }
    put(out, " ");
    match mime.language.as_slice() {
        [] => put(out, "NIL"),
        [only] => string(out, only),
        many => list(out, many, |out, language| string(out, language)),
    }
    put(out, " ");
    nstring(out, mime.location.as_deref());
}

fn put_params(out: &mut BytesMut, params: &[Param]) {
    if params.is_empty() {
        return put(out, "NIL");
    }
    list(out, params, |out, (name, value)| {
        string(out, name);
        put(out, " ");
        string(out, value);
    });
}

#[cfg(test)]
mod tests {
    use message::{Limits, parse};

    use super::*;

    fn show(wire: &str, what: fn(&mut FetchWriter, &mut BytesMut, &Message)) -> String {
        let message = parse(wire.replace('\n', "\r\n").as_bytes(), &Limits::default());
        let mut out = BytesMut::new();
        let mut writer = FetchWriter::begin(&mut out, 1);
        what(&mut writer, &mut out, &message);
        assert!(writer.end(&mut out));
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn envelope(wire: &str) -> String {
        show(wire, |writer, out, message| writer.envelope(out, &message.envelope))
    }

    fn body(wire: &str) -> String {
        show(wire, |writer, out, message| writer.body(out, &message.root))
    }

    fn body_structure(wire: &str) -> String {
        show(wire, |writer, out, message| writer.body_structure(out, &message.root))
    }

    #[test]
    fn the_envelope_is_that_of_rfc_3501() {
        // RFC 3501 §8, the sample session.
        let wire = "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\nFrom: Terry Gray <gray@cac.washington.edu>\n\
            Subject: IMAP4rev1 WG mtg summary and minutes\nTo: imap@cac.washington.edu\n\
            cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\n\
            Message-Id: <B27397-0100000@cac.washington.edu>\n\nx\n";
        let gray = "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\"))";
        let expected = format!(
            "* 1 FETCH (ENVELOPE (\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \
             \"IMAP4rev1 WG mtg summary and minutes\" {gray} {gray} {gray} \
             ((NIL NIL \"imap\" \"cac.washington.edu\")) \
             ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) \
             NIL NIL \"<B27397-0100000@cac.washington.edu>\"))\r\n"
        );
        assert_eq!(envelope(wire), expected);
        assert_eq!(envelope("\n"), "* 1 FETCH (ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL))\r\n");
    }

    #[test]
    fn raw_eight_bit_headers_travel_as_literals() {
        assert!(envelope("Subject: caf\u{e9}\n\n").contains("(NIL {5}\r\ncaf\u{e9} NIL"));
    }

    #[test]
    fn a_plain_text_has_lines() {
        let structure = body("Content-Type: text/plain; charset=us-ascii\n\none\ntwo\n");
        let expected =
            "* 1 FETCH (BODY (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 10 2))\r\n";
        assert_eq!(structure, expected);
    }

    #[test]
    fn multiparts_and_messages_nest() {
        let wire = "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhi\n--b\n\
            Content-Type: message/rfc822\nContent-Disposition: attachment; filename=\"m.eml\"\n\n\
            Subject: in\n\nhello\n--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\
            Content-ID: <i@x>\nContent-Language: en, de\n\nAAAA\n--b--\n";
        let expected = "* 1 FETCH (BODYSTRUCTURE (\
            (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 2 0 NIL NIL NIL NIL)\
            (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 20 \
            (NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) \
            (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 5 0 NIL NIL NIL NIL) 2 \
            NIL (\"attachment\" (\"filename\" \"m.eml\")) NIL NIL)\
            (\"image\" \"png\" NIL \"<i@x>\" NIL \"base64\" 4 NIL NIL (\"en\" \"de\") NIL) \
            \"mixed\" (\"boundary\" \"b\") NIL NIL NIL))\r\n";
        assert_eq!(body_structure(wire), expected);
    }

    #[test]
    fn a_multipart_without_parts_still_has_one() {
        let structure = body("Content-Type: multipart/mixed; boundary=b\n\nnothing\n");
        let expected = "* 1 FETCH (BODY ((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0) \"mixed\"))\r\n";
        assert_eq!(structure, expected);
    }
}
