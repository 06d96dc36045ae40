//! Random octets, random almost-mail, and random well-formed trees that must be found again.

use message::{Content, Kind, Limits, Part, exercise, parse, section};
use proptest::prelude::*;

/// Pieces that mean something to the parser, in any order.
fn almost_mail() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => Just("\r\n"), 2 => Just("\n"), 1 => Just("\r"), 2 => Just("\r\n\r\n"), 3 => Just("--"), 3 => Just("b"),
        2 => Just("bb"), 2 => Just("\r\n--b\r\n"), 2 => Just("\r\n--bb\r\n"), 1 => Just("\r\n--b--\r\n"),
        3 => Just("Content-Type: multipart/mixed; boundary=b\r\n"), 3 => Just("Content-Type: multipart/digest; boundary=\"bb\"\r\n"),
        3 => Just("Content-Type: message/rfc822\r\n\r\n"), 1 => Just("Content-Type: text/plain; charset*0*=utf"), 1 => Just("; name*1*=%e9"),
        2 => Just("Content-Transfer-Encoding: base64\r\n"), 1 => Just("Content-Transfer-Encoding: quoted-printable\r\n"),
        2 => Just("From: "), 1 => Just("To: "), 1 => Just("a@b"), 1 => Just("<"), 1 => Just(">"), 1 => Just("("), 1 => Just(")"), 1 => Just("\""), 1 => Just("\\"),
        1 => Just("g:"), 1 => Just(";"), 1 => Just(","), 1 => Just("=?utf-8?Q?=C3=A4?="), 1 => Just("=?iso-2022-jp?B?"), 1 => Just("?="), 1 => Just("\0"), 1 => Just(" "),
        1 => Just("Received: by x id Y"), 1 => Just("Content-Disposition: attachment; filename=x"),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
}

#[derive(Clone, Debug)]
enum Tree {
    Leaf(String),
    Multipart(Vec<Tree>),
    Message(Box<Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = "[ -,.-~\r\n]{0,30}".prop_map(|text| Tree::Leaf(message_lines(&text)));
    leaf.prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Tree::Multipart),
            inner.prop_map(|tree| Tree::Message(Box::new(tree))),
        ]
    })
}

fn message_lines(text: &str) -> String {
    String::from_utf8_lossy(&message::wire::convert(text.as_bytes())).into_owned()
}

/// Writes the tree; `expected` gathers each leaf's part number and text.
fn render(tree: &Tree, path: &[u32], boundaries: &mut u32, expected: &mut Vec<(Vec<u32>, String)>) -> String {
    match tree {
        Tree::Leaf(text) => {
            // A leaf that is a message's whole body is its part 1.
            expected.push((path.to_vec(), text.clone()));
            format!("Content-Type: text/plain\r\n\r\n{text}")
        }
        Tree::Multipart(children) => {
            *boundaries += 1;
            let boundary = format!("{:08}", *boundaries);
            let mut wire = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n");
            for (child, number) in children.iter().zip(1..) {
                let path = [path, &[number]].concat();
                let child = render_part(child, &path, boundaries, expected);
                wire.push_str(&format!("--{boundary}\r\n{child}\r\n"));
            }
            wire + &format!("--{boundary}--")
        }
        Tree::Message(_) => {
            let wire = render_part(tree, path, boundaries, expected);
            format!("Subject: x\r\n{wire}")
        }
    }
}

/// As a body part: an embedded message that is no multipart numbers its body 1.
fn render_part(
    tree: &Tree,
    path: &[u32],
    boundaries: &mut u32,
    expected: &mut Vec<(Vec<u32>, String)>,
) -> String {
    match tree {
        Tree::Leaf(_) | Tree::Multipart(_) => render(tree, path, boundaries, expected),
        Tree::Message(inner) => {
            let inner = render_message(inner, path, boundaries, expected);
            format!("Content-Type: message/rfc822\r\n\r\n{inner}")
        }
    }
}

fn render_message(
    tree: &Tree,
    path: &[u32],
    boundaries: &mut u32,
    expected: &mut Vec<(Vec<u32>, String)>,
) -> String {
    match tree {
        Tree::Multipart(_) => render(tree, path, boundaries, expected),
        Tree::Leaf(_) | Tree::Message(_) => render(tree, &[path, &[1]].concat(), boundaries, expected),
    }
}

fn leaves(part: &Part) -> usize {
    match &part.content {
        Content::Leaf => 1,
        Content::Multipart(children) => children.iter().map(leaves).sum(),
        Content::Message(inner) => leaves(&inner.root),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_octets_are_some_message(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        exercise::message(&data);
    }

    #[test]
    fn almost_mail_is_some_message(data in almost_mail()) {
        exercise::message(&data);
    }

    #[test]
    fn well_formed_trees_are_found_again(tree in tree()) {
        let mut expected = Vec::new();
        let wire = render_message(&tree, &[], &mut 0, &mut expected);
        let message = parse(wire.as_bytes(), &Limits::default());
        prop_assert_eq!(leaves(&message.root), expected.len());
        for (path, text) in expected {
            let span = section::span(&message, &path, Kind::Whole);
            let found = span.map(|span| String::from_utf8_lossy(span.of(wire.as_bytes())).into_owned());
            prop_assert_eq!(found, Some(text), "part {:?} of\n{}", path, wire);
        }
    }
}
