//! Modified UTF-7 (RFC 3501 §5.1.3): how IMAP writes mailbox names, and Maildir++ names its directories.
//!
//! Invariants
//! - Decoding accepts exactly what encoding produces: each name has one form.

/// What is wrong with a text in modified UTF-7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Utf7Error {
    #[error("it has an 8-bit or control character")]
    NotPrintable,
    #[error("'&' without '-'")]
    Unterminated,
    #[error("a character between '&' and '-' is not of the alphabet")]
    Alphabet,
    #[error("bits are left over between '&' and '-'")]
    Padding,
    #[error("half of a surrogate pair")]
    Surrogate,
    #[error("an ASCII character is encoded, or two shifts follow each other")]
    NotShortest,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Reads modified UTF-7. Refuses every form but the one that `encode_utf7` writes, so that two spellings never name
/// one mailbox.
pub fn decode_utf7(bytes: &[u8]) -> Result<String, Utf7Error> {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut after_shift = false;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'&' {
            if !(0x20..0x7f).contains(first) {
                return Err(Utf7Error::NotPrintable);
            }
            text.push(char::from(*first));
            after_shift = false;
            continue;
        }
        let end = rest.iter().position(|byte| *byte == b'-').ok_or(Utf7Error::Unterminated)?;
        let (shifted, tail) = rest.split_at(end);
        rest = tail.get(1..).unwrap_or_default();
        if shifted.is_empty() {
            text.push('&');
            after_shift = false;
        } else if after_shift {
            return Err(Utf7Error::NotShortest);
        } else {
            decode_shifted(shifted, &mut text)?;
            after_shift = true;
        }
    }
    Ok(text)
}

/// Reads what stands between `&` and `-`: UTF-16, big-endian, in base64 without padding.
fn decode_shifted(shifted: &[u8], text: &mut String) -> Result<(), Utf7Error> {
    let mut units = Vec::with_capacity(shifted.len() * 6 / 16);
    let mut bits = 0u32;
    let mut held = 0u32;
    for byte in shifted {
        let value = ALPHABET.iter().position(|letter| letter == byte).ok_or(Utf7Error::Alphabet)?;
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
            bits &= (1 << held) - 1;
        }
    }
    if held >= 6 || bits != 0 {
        return Err(Utf7Error::Padding);
    }
    for unit in char::decode_utf16(units) {
        let character = unit.map_err(|_| Utf7Error::Surrogate)?;
        if (' '..='~').contains(&character) {
            return Err(Utf7Error::NotShortest);
        }
        text.push(character);
    }
    Ok(())
}

/// Writes modified UTF-7.
pub fn encode_utf7(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shifted: Vec<u16> = Vec::new();
    let mut units = [0; 2];
    for character in text.chars() {
        if !(' '..='~').contains(&character) {
            shifted.extend_from_slice(character.encode_utf16(&mut units));
            continue;
        }
        flush_shifted(&mut shifted, &mut out);
        out.push(character);
        if character == '&' {
            out.push('-');
        }
    }
    flush_shifted(&mut shifted, &mut out);
    out
}

fn flush_shifted(shifted: &mut Vec<u16>, out: &mut String) {
    if shifted.is_empty() {
        return;
    }
    out.push('&');
    let letter = |value: u32| char::from(ALPHABET.get((value & 63) as usize).copied().unwrap_or(b'A'));
    let mut bits = 0u32;
    let mut held = 0u32;
    for unit in shifted.drain(..) {
        bits = bits << 16 | u32::from(unit);
        held += 16;
        while held >= 6 {
            held -= 6;
            out.push(letter(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(letter(bits << (6 - held)));
    }
    out.push('-');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn modified_utf7_reads_and_writes_the_examples() {
        // RFC 3501 §5.1.3, RFC 2060 §5.1.3, and a character outside the first plane.
        for (wire, text) in [
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/\u{53f0}\u{5317}/\u{65e5}\u{672c}\u{8a9e}"),
            ("Entw&APw-rfe", "Entw\u{fc}rfe"),
            ("Q&-A", "Q&A"),
            ("&-&2D3cqQ-", "&\u{1f4a9}"),
            ("&AOQA9gD8-", "\u{e4}\u{f6}\u{fc}"),
        ] {
            assert_eq!(decode_utf7(wire.as_bytes()).as_deref(), Ok(text));
            assert_eq!(encode_utf7(text), wire);
        }
    }

    #[test]
    fn each_way_of_being_wrong_has_its_name() {
        for (wire, error) in [
            (&b"&Jjo"[..], Utf7Error::Unterminated),
            (b"&Jjo!-", Utf7Error::Alphabet),
            (b"&Jjo/-", Utf7Error::Alphabet),
            (b"&J-", Utf7Error::Padding),
            (b"&Jj-", Utf7Error::Padding),
            (b"&JjoA-", Utf7Error::Padding),
            (b"&AOR-", Utf7Error::Padding),
            (b"&2D0-", Utf7Error::Surrogate),
            (b"&3Kk-", Utf7Error::Surrogate),
            (b"&AGE-", Utf7Error::NotShortest),
            (b"&U,BTFw-&ZeVnLIqe-", Utf7Error::NotShortest),
            (b"caf\xc3\xa9", Utf7Error::NotPrintable),
            (b"a\tb", Utf7Error::NotPrintable),
        ] {
            assert_eq!(decode_utf7(wire), Err(error), "{}", wire.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn every_text_survives_modified_utf7(text in any::<String>()) {
            prop_assert_eq!(decode_utf7(encode_utf7(&text).as_bytes()), Ok(text));
        }

        #[test]
        fn what_decodes_is_written_in_its_only_form(wire in "[&A-Za-z,+ -]{0,12}") {
            if let Ok(text) = decode_utf7(wire.as_bytes()) {
                prop_assert_eq!(encode_utf7(&text), wire);
            }
        }
    }
}
