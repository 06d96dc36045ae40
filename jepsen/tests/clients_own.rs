//! Our own clients against the server: 2,000 varied messages in by LMTP and APPEND, out by IMAP and POP3.

use jepsen::client::Failure;
use jepsen::corpus;
use jepsen::server::{Setup, user};
use jepsen::strangers::{is_below_trace, is_ours, server_for};

const COUNT: u64 = 2000;
const SEED: u64 = 2;

#[test]
fn what_is_appended_comes_back_byte_for_byte() -> anyhow::Result<()> {
    let test = "what_is_appended_comes_back_byte_for_byte";
    let Some(server) = server_for(test, &[], Setup::from_environment())? else { return Ok(()) };
    let messages = corpus::messages(SEED, COUNT);
    let mut imap = server.imap(0)?;
    for message in &messages {
        let placed = imap.append("INBOX", "", &message.bytes)?;
        assert!(placed.is_some(), "no APPENDUID");
    }
    let selected = imap.select("INBOX")?;
    assert_eq!(u64::from(selected.exists), COUNT);
    let fetched = imap.uid_fetch("1:*", "(UID RFC822.SIZE BODY.PEEK[])")?;
    assert_eq!(fetched.len(), messages.len());
    for (message, fetched) in messages.iter().zip(&fetched) {
        let number = message.number;
        assert!(fetched.body() == Some(&message.bytes), "message {number}, {:?}, has changed", message.kind);
        let size = fetched.item("RFC822.SIZE").and_then(|size| size.number());
        assert_eq!(size, Some(message.bytes.len() as u64), "size of message {number}, {:?}", message.kind);
    }
    imap.logout()?;

    let mut pop3 = server.pop3(0)?;
    for (message, number) in messages.iter().zip(1..) {
        let kind = message.kind;
        assert!(
            pop3.retr(number)? == message.with_final_newline(),
            "POP3 message {number}, {kind:?}, has changed"
        );
    }
    pop3.quit()?;
    Ok(())
}

#[test]
fn what_is_delivered_comes_back_byte_for_byte() -> anyhow::Result<()> {
    let test = "what_is_delivered_comes_back_byte_for_byte";
    let Some(server) = server_for(test, &[], Setup::from_environment())? else { return Ok(()) };
    let messages = corpus::messages(SEED, COUNT);
    let (ada, grace) = (user(0), user(1));
    let mut lmtp = server.lmtp()?;
    let chunking = lmtp.offers("CHUNKING");
    assert!(chunking || !is_ours(&server), "LHLO does not offer CHUNKING");
    for message in &messages {
        let chunked = chunking && message.number % 2 == 1;
        let to = [ada.as_str(), "nobody-here@example.org", grace.as_str()];
        let verdicts = if chunked {
            lmtp.deliver_chunked("sender@example.net", &to, &message.bytes)?
        } else {
            lmtp.deliver("sender@example.net", &to, &message.bytes)?
        };
        let [Ok(()), Err(Failure::Refused(_)), Ok(())] = verdicts.as_slice() else { panic!("{verdicts:?}") };
    }
    for account in [0, 1] {
        let mut imap = server.imap(account)?;
        imap.select("INBOX")?;
        let fetched = imap.uid_fetch("1:*", "(UID BODY.PEEK[])")?;
        assert_eq!(fetched.len(), messages.len());
        for (message, fetched) in messages.iter().zip(&fetched) {
            let chunked = chunking && message.number % 2 == 1;
            let sent = if chunked { message.bytes.clone() } else { message.with_final_newline() };
            let stored = fetched.body().unwrap_or_default();
            assert!(
                is_below_trace(stored, &sent),
                "message {}, {:?}, has changed",
                message.number,
                message.kind
            );
        }
    }
    Ok(())
}
