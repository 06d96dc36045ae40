//! The queue id in the topmost `Received:` field, by which a delivery tried again is recognised (L-CM2).

use crate::header;
use crate::token::Cursor;

/// Longer ids are not taken: no mailer writes them, and the key would keep them.
const ID_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 16 << 10;

/// Returns what the last mailer before us called this message. `header` may be a whole message.
pub fn queue_id(header: &[u8]) -> Option<Vec<u8>> {
    let field = header::fields(header).find(|field| field.is(b"received"))?;
    let value = field.unfolded(VALUE_BYTES_MAX);
    let mut cursor = Cursor::new(&value);
    let mut after_id = false;
    loop {
        cursor.skip_cfws();
        match cursor.peek()? {
            b';' => return None,
            b'"' => {
                cursor.quoted_string();
                after_id = false;
                continue;
            }
            _ => {}
        }
        let word = word(&mut cursor);
        if after_id {
            return (!word.is_empty() && word.len() <= ID_BYTES_MAX).then(|| word.to_vec());
        }
        after_id = word.eq_ignore_ascii_case(b"id");
    }
}

/// Octets up to white space, a comment or the date. Steps over one octet at least.
fn word<'a>(cursor: &mut Cursor<'a>) -> &'a [u8] {
    let rest = cursor.rest();
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"(;\"".contains(byte);
    let end = rest.iter().position(ends).unwrap_or(rest.len());
    let (word, rest) = rest.split_at_checked(end).unwrap_or((rest, b""));
    cursor.reset(rest);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_ids_of_common_mailers_are_found() {
        let postfix = b"Return-Path: <a@b>\r\nReceived: from mail.example.org (mail (id x) [192.0.2.1])\r\n\tby mx.example.net (Postfix) with ESMTPS id 4X1y2z\r\n\tfor <u@example.net>; Mon, 1 Jan 2024 00:00:00 +0000 (UTC)\r\nReceived: by y id OLD; x\r\n\r\n";
        assert_eq!(queue_id(postfix).as_deref(), Some(&b"4X1y2z"[..]));
        let exim = b"Received: from localhost by x with local (Exim 4.96)\r\n (envelope-from <a@b>) id 1rKabc-0001xY-2z for u@x; Mon, 1 Jan 2024 00:00:00 +0000\r\n";
        assert_eq!(queue_id(exim).as_deref(), Some(&b"1rKabc-0001xY-2z"[..]));
    }

    #[test]
    fn without_id_there_is_none() {
        assert_eq!(queue_id(b"Subject: id x\r\n\r\nReceived: by a id b\r\n"), None);
        assert_eq!(queue_id(b"Received: by a with LMTP; id x\r\n\r\n"), None);
        assert_eq!(queue_id(b"Received: id"), None);
        assert_eq!(queue_id(b"Received: by \"id x\" (id y\r\n"), None);
    }
}
