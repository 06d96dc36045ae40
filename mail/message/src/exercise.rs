//! What must hold for every octet string, as one function: fuzzing and the tests call it.

use crate::{Content, Kind, Limits, Message, Part, Span, header, parse, received, search, section, wire};

/// Reads `data` as a stored message and looks at it in every way this crate offers.
///
/// # Panics
/// When a promise of this crate is broken.
pub fn message(data: &[u8]) {
    let wire = wire::convert(data);
    assert!(wire::is_wire(&wire));
    assert_eq!(wire::wire_size(data), wire.len() as u64);
    check_wire(&wire, &Limits::default());
    let tight =
        Limits { depth_max: 3, parts_max: 5, header_bytes_max: 200, value_bytes_max: 20, addresses_max: 2 };
    check_wire(&wire, &tight);
    // Octets that were not converted must do no harm either.
    check_wire(data, &Limits::default());
}

fn check_wire(wire: &[u8], limits: &Limits) {
    let message = parse(wire, limits);
    assert_eq!(message.span(), Span { offset: 0, len: wire.len() as u64 });
    let mut parts = 0;
    check_message(&message, wire, limits, 1, &mut parts);
    assert!(parts <= limits.parts_max);
    check_sections(&message, wire);
    check_header(wire);
    let needle = search::Needle::new("Ä needle");
    needle.is_in_message(&message, wire);
    received::queue_id(wire);
}

fn check_message(message: &Message, wire: &[u8], limits: &Limits, depth: usize, parts: &mut usize) {
    let envelope = &message.envelope;
    for list in [&envelope.from, &envelope.to, &envelope.cc, &envelope.bcc] {
        // One more, for the end of a group.
        assert!(list.len() <= limits.addresses_max + 1);
    }
    check_part(&message.root, wire, limits, depth, parts);
}

fn check_part(part: &Part, wire: &[u8], limits: &Limits, depth: usize, parts: &mut usize) {
    *parts += 1;
    assert!(depth <= limits.depth_max);
    assert_eq!(part.header.end(), part.body.offset);
    assert!(part.body.end() <= wire.len() as u64);
    let line_ends = part.body.of(wire).iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(part.lines, line_ends as u64);
    match &part.content {
        Content::Leaf => {}
        Content::Message(inner) => {
            assert_eq!(inner.span(), part.body);
            check_message(inner, wire, limits, depth + 1, parts);
        }
        Content::Multipart(children) => {
            let mut from = part.body.offset;
            for child in children {
                assert!(child.header.offset >= from);
                from = child.body.end();
                assert!(from <= part.body.end());
                check_part(child, wire, limits, depth + 1, parts);
            }
        }
    }
}

fn check_sections(message: &Message, wire: &[u8]) {
    let whole = section::span(message, &[], Kind::Whole);
    assert_eq!(whole.map(|span| span.of(wire)), Some(wire));
    for path in [&[1][..], &[2], &[1, 1], &[1, 2], &[2, 1, 1], &[0], &[1, 0]] {
        for kind in [Kind::Whole, Kind::Header, Kind::Text, Kind::Mime] {
            let span = section::span(message, path, kind);
            assert!(span.is_none_or(|span| span.end() <= wire.len() as u64));
        }
    }
}

fn check_header(wire: &[u8]) {
    let header = wire.get(..header::header_len(wire)).unwrap_or_default();
    let mut fields = header::fields(header);
    let raw: usize = fields.by_ref().map(|field| field.raw.len()).sum();
    assert_eq!(raw + fields.rest().len(), header.len());
    let all = section::header_fields::<&[u8]>(header, &[], true);
    assert!(all.starts_with(header.strip_suffix(b"\r\n").or(header.strip_suffix(b"\n")).unwrap_or(header)));
}
