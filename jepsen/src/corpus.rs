//! Varied messages from a seed: what real mail looks like, and what broken mailers make of it.
//!
//! Invariants
//! - The same seed and number give the same bytes.
//! - Lines end in CRLF (but for the last, in the kind that is about that), and there is no NUL: such a message may be
//!   APPENDed (RFC 3501 §4.3.1) as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::dice::Dice;

/// What a message is a sample of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Plain,
    Html,
    Attachment,
    Nested,
    Forwarded,
    EightBit,
    BrokenMime,
    NoFinalNewline,
    NoBody,
    NoHeader,
    LongHeader,
    LongBodyLine,
    OddCharset,
    Dots,
    ManyRecipients,
    BareMinimum,
}

pub const KINDS: [Kind; 16] = [
    Kind::Plain,
    Kind::Html,
    Kind::Attachment,
    Kind::Nested,
    Kind::Forwarded,
    Kind::EightBit,
    Kind::BrokenMime,
    Kind::NoFinalNewline,
    Kind::NoBody,
    Kind::NoHeader,
    Kind::LongHeader,
    Kind::LongBodyLine,
    Kind::OddCharset,
    Kind::Dots,
    Kind::ManyRecipients,
    Kind::BareMinimum,
];

impl Kind {
    /// Whether a mailer passes it on as it is: none adds a newline, an empty line, or breaks a line.
    pub fn survives_mailers(self) -> bool {
        !matches!(
            self,
            Self::NoFinalNewline
                | Self::NoHeader
                | Self::NoBody
                | Self::LongHeader
                | Self::LongBodyLine
                | Self::BareMinimum
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub number: u64,
    pub kind: Kind,
    pub bytes: Vec<u8>,
}

impl Message {
    /// With the last line ended, as DATA and POP3 carry it.
    pub fn with_final_newline(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if !bytes.is_empty() && !bytes.ends_with(b"\r\n") {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

/// The messages 0 to `count` of a seed; every kind comes equally often.
pub fn messages(seed: u64, count: u64) -> Vec<Message> {
    (0..count).map(|number| message(seed, number)).collect()
}

pub fn message(seed: u64, number: u64) -> Message {
    let mut dice = Dice::part(seed, number);
    let at = usize::try_from(number % KINDS.len() as u64).unwrap_or(0);
    let kind = KINDS.get(at).copied().unwrap_or(Kind::Plain);
    Message { number, kind, bytes: of_kind(kind, number, &mut dice) }
}

fn of_kind(kind: Kind, number: u64, dice: &mut Dice) -> Vec<u8> {
    match kind {
        Kind::Plain => joined(&head(number, dice, ""), &text(dice)),
        Kind::Html => joined(
            &head(
                number,
                dice,
                "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n",
            ),
            b"<p>caf=C3=A9 =\r\nun</p>\r\n",
        ),
        Kind::Attachment => attachment(number, dice),
        Kind::Nested => nested(number, dice),
        Kind::Forwarded => forwarded(number, dice),
        Kind::EightBit => eight_bit(number, dice),
        Kind::BrokenMime => broken_mime(number, dice),
        Kind::NoFinalNewline => {
            let mut bytes = joined(&head(number, dice, ""), &text(dice));
            bytes.extend_from_slice(b"and no end");
            bytes
        }
        Kind::NoBody => head(number, dice, ""),
        Kind::NoHeader => joined(
            b"",
            &[&b"only a body, "[..], number.to_string().as_bytes(), b"\r\n", &text(dice)].concat(),
        ),
        Kind::LongHeader => long_header(number, dice),
        Kind::LongBodyLine => {
            let line = "x y ".repeat(500 + dice.index(4000));
            joined(&head(number, dice, ""), format!("{line}\r\n").as_bytes())
        }
        Kind::OddCharset => odd_charset(number, dice),
        Kind::Dots => joined(&head(number, dice, ""), b".\r\n..\r\n. \r\n...and more\r\n.\r\n\r\n.\r\n"),
        Kind::ManyRecipients => {
            let to: Vec<String> =
                (0..100).map(|each| format!("\"R {each}, the\" <r{each}@example.net>")).collect();
            joined(&head(number, dice, &format!("Cc: {}\r\n", to.join(",\r\n\t"))), &text(dice))
        }
        // One field, and nothing in the body: the least that RFC 5322 parsers call a message.
        Kind::BareMinimum => format!("X: {number}\r\n\r\n").into_bytes(),
    }
}

fn joined(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, b"\r\n", body].concat()
}

fn head(number: u64, dice: &mut Dice, more: &str) -> Vec<u8> {
    let names = ["Ada Lovelace", "\"Hopper, Grace\"", "=?utf-8?Q?J=C3=BCrgen?=", "", "a (comment (nested))"];
    let name = dice.pick(&names).copied().unwrap_or_default();
    let (day, hour, second) = (dice.between(1, 28), dice.below(24), dice.below(60));
    format!(
        "From: {name} <from{}@example.org>\r\nTo: you@example.org\r\nSubject: Sample {number}\r\n\
         Date: Mon, {day} Jan 2024 {hour:02}:30:{second:02} +0100\r\nMessage-ID: <{number}.{:x}@example.org>\r\n{more}",
        dice.below(9),
        dice.throw(),
    )
    .into_bytes()
}

fn text(dice: &mut Dice) -> Vec<u8> {
    let words = ["mail", "store", "the", "a", "From", "quick", "\t", ">From", "--", "=20", "end."];
    let mut text = Vec::new();
    for _ in 0..dice.between(1, 40) {
        for _ in 0..dice.below(14) {
            text.extend_from_slice(dice.pick(&words).map_or(&b""[..], |word| word.as_bytes()));
            text.push(b' ');
        }
        text.extend_from_slice(b"\r\n");
    }
    text
}

fn encoded(dice: &mut Dice, count: usize) -> Vec<u8> {
    let whole = STANDARD.encode(dice.bytes(count));
    let mut lines = Vec::new();
    for line in whole.as_bytes().chunks(76) {
        lines.extend_from_slice(line);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

fn attachment(number: u64, dice: &mut Dice) -> Vec<u8> {
    let more = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_b 1\"\r\n";
    let size = if dice.once_in(20) { 200_000 } else { 100 + dice.index(8000) };
    let body = [
        &b"preamble\r\n--=_b 1\r\nContent-Type: text/plain\r\n\r\n"[..],
        &text(dice),
        b"--=_b 1\r\nContent-Type: application/octet-stream; name*=utf-8''na%C3%AFve.bin\r\nContent-Disposition: attachment;\r\n filename=\"naive.bin\"\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        &encoded(dice, size),
        b"--=_b 1--\r\nepilogue\r\n",
    ];
    joined(&head(number, dice, more), &body.concat())
}

fn nested(number: u64, dice: &mut Dice) -> Vec<u8> {
    let depth = dice.between(2, 12);
    let mut inner = [&b"Content-Type: text/plain; format=flowed\r\n\r\n"[..], &text(dice)].concat();
    for level in 0..depth {
        let kind =
            dice.pick(&["mixed", "alternative", "related", "digest", "signed"]).copied().unwrap_or("mixed");
        let mut outer = format!("Content-Type: multipart/{kind}; boundary=b{level}\r\n\r\n").into_bytes();
        for part in [&inner[..], b"\r\nno header here\r\n"] {
            outer.extend_from_slice(format!("--b{level}\r\n").as_bytes());
            outer.extend_from_slice(part);
            outer.extend_from_slice(b"\r\n");
        }
        outer.extend_from_slice(format!("--b{level}--\r\n").as_bytes());
        inner = outer;
    }
    [&head(number, dice, "MIME-Version: 1.0\r\n")[..], &inner].concat()
}

fn forwarded(number: u64, dice: &mut Dice) -> Vec<u8> {
    let inner = nested(number + 1_000_000, dice);
    let body = [&b"--f\r\nContent-Type: message/rfc822\r\n\r\n"[..], &inner, b"\r\n--f--\r\n"].concat();
    joined(&head(number, dice, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=f\r\n"), &body)
}

fn eight_bit(number: u64, dice: &mut Dice) -> Vec<u8> {
    let more =
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";
    let mut body = "Grüße aus München, 日本語, \u{1F4EC}\r\n".as_bytes().to_vec();
    // Any octet may come: mail is bytes. Not NUL, CR and LF.
    body.extend(dice.bytes(300).into_iter().filter(|byte| !matches!(byte, 0 | b'\r' | b'\n')));
    body.extend_from_slice(b"\r\n");
    let mut head = head(number, dice, more);
    head.extend_from_slice("X-Raw: käse\r\n".as_bytes());
    joined(&head, &body)
}

fn broken_mime(number: u64, dice: &mut Dice) -> Vec<u8> {
    let ways = [
        "Content-Type: multipart/mixed; boundary=never\r\n",
        "Content-Type: multipart/mixed\r\n",
        "Content-Type: ///; ;;=\"\r\n",
        "Content-Type: text/plain; charset=\"unclosed\r\nContent-Transfer-Encoding: rot13\r\n",
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n",
        "Content-Type: multipart/mixed; boundary=\"\"\r\n",
    ];
    let more = dice.pick(&ways).copied().unwrap_or_default();
    let body = [&b"--never\r\n\r\n--neve\r\n--never--x\r\nBinary=\r\n=ZZ=\r\n"[..], &text(dice)].concat();
    joined(&head(number, dice, more), &body)
}

fn long_header(number: u64, dice: &mut Dice) -> Vec<u8> {
    let references: Vec<String> =
        (0..dice.between(50, 400)).map(|each| format!("<{each}@ref.example>")).collect();
    let folded = references.join("\r\n ");
    let unfolded = "v".repeat(1000 + dice.index(9000));
    joined(&head(number, dice, &format!("References: {folded}\r\nX-Long: {unfolded}\r\n")), &text(dice))
}

fn odd_charset(number: u64, dice: &mut Dice) -> Vec<u8> {
    let charsets = ["iso-2022-jp", "koi8-r", "x-unknown", "utf-7", "windows-1252", "gb18030"];
    let charset = dice.pick(&charsets).copied().unwrap_or_default();
    let more = format!(
        "Comments: =?{charset}?B?GyRCRnxLXDhsGyhC?= =?x?Z?broken?=\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n",
    );
    let mut body = b"\x1b$BF|K\\8l\x1b(B \xd0\xd2\xc9 +AGE- \x81\x30\x81\x30\r\n".to_vec();
    body.extend_from_slice(&text(dice));
    joined(&head(number, dice, &more), &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_messages_and_all_of_them_differ() {
        let (first, again) = (messages(3, 320), messages(3, 320));
        assert_eq!(first, again);
        let distinct: std::collections::BTreeSet<&[u8]> = first.iter().map(|one| &one.bytes[..]).collect();
        assert_eq!(distinct.len(), first.len());
        assert_ne!(messages(4, 320), first);
    }

    #[test]
    fn lines_end_in_crlf_and_nothing_is_nul() {
        for message in messages(1, 640) {
            let bytes = message.with_final_newline();
            assert!(!bytes.contains(&0), "{:?}", message.kind);
            assert!(!bytes.is_empty());
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let bare = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("{:?}", message.kind));
                assert!(!bare.contains(&b'\r'), "{:?}", message.kind);
            }
        }
    }
}
