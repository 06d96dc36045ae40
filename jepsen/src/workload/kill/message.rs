//! Messages that say which they are, and whose bytes follow from that.

use crate::dice::Dice;

/// The message of a token, with the queue id that a mailer keeps over its retries.
pub(crate) fn compose(token: &str) -> Vec<u8> {
    let seed = token.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
    let mut dice = Dice::new(seed);
    let mut message = format!(
        "Received: from client.example (client.example [192.0.2.7])\r\n\tby mx.example.net (Postfix) with ESMTP id \
         Q{token}\r\n\tfor <user@example.org>; Mon, 1 Jan 2024 12:00:00 +0000 (UTC)\r\nFrom: s@example.net\r\n\
         Subject: {token}\r\nX-Token: {token}\r\nMessage-ID: <{token}@example.net>\r\n\r\n",
    )
    .into_bytes();
    let lines = if dice.once_in(30) { 3000 } else { dice.between(0, 40) };
    for line in 0..lines {
        message.extend_from_slice(format!("{line} {:x}\r\n", dice.throw()).as_bytes());
    }
    message
}

/// The token of a message or of its header.
pub(crate) fn token_of(message: &[u8]) -> Option<String> {
    let name = b"X-Token: ";
    let at = message.windows(name.len()).position(|window| window.eq_ignore_ascii_case(name))?;
    let rest = message.get(at + name.len()..)?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_follows_from_its_token_and_names_it() {
        let message = compose("r1-c2-3");
        assert_eq!(message, compose("r1-c2-3"));
        assert_ne!(message, compose("r1-c2-4"));
        assert_eq!(token_of(&message).as_deref(), Some("r1-c2-3"));
        assert_eq!(token_of(b"Subject: x\r\n\r\n"), None);
    }
}
