//! Single messages: save, search, fetch, flags, move, expunge; in by LMTP, seen by IMAP.

use super::node::{ADA, Node};

const LETTER: &str = "From: Grace <grace@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from\r\n afar\r\n\
                      Date: Tue, 24 Nov 2026 04:40:00 +0100\r\n\r\nfirst line\r\nsecond line";

#[test]
fn pop3_fetch_and_dump_call_a_message_by_the_same_name() {
    let node = Node::start();
    let uid = node.save(ADA, "INBOX", LETTER);
    let mut pop3 = node.talk("pop3");
    pop3.hear("+OK");
    pop3.ask(&format!("USER {ADA}"), "+OK");
    pop3.ask("PASS secret", "+OK");
    pop3.ask("UIDL 1", "+OK 1 ");
    let name = pop3.hear("\r\n").trim_end().to_owned();
    assert!(name.ends_with(&format!(".{uid}")), "as quirks.pop3_uidl_format says: {name}");
    assert_eq!(node.roost(&["fetch", ADA, "pop3.uidl", "all"]).ok(), format!("pop3.uidl: {name}\n"));
    assert_eq!(node.roost(&["dump", ADA]).json()["pop3_uidl_inbox"], serde_json::json!([name]));
}

#[test]
fn fields_are_printed_as_doveadm_prints_them() {
    let node = Node::start();
    node.save(ADA, "INBOX", LETTER);
    node.save(ADA, "INBOX", "Subject: two\n\nbare line ends\n");
    let fetched = node.roost(&["fetch", ADA, "uid seq flags mailbox hdr.subject size.virtual", "all"]).ok();
    let expected = format!(
        "uid: 1\nseq: 1\nflags: \nmailbox: INBOX\nhdr.subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from afar\n\
         size.virtual: {}\n\u{c}\nuid: 2\nseq: 2\nflags: \nmailbox: INBOX\nhdr.subject: two\nsize.virtual: 32\n",
        LETTER.len()
    );
    assert_eq!(fetched, expected);
    assert_eq!(node.roost(&["fetch", ADA, "text", "uid", "1"]).ok(), format!("text:\n{LETTER}\n"));
    assert_eq!(node.roost(&["fetch", ADA, "body", "uid", "2"]).ok(), "body:\nbare line ends\r\n");
    let value = node.roost(&[
        "fetch",
        ADA,
        "date.sent date.sent.unixtime imap.envelope body.1",
        "uid",
        "1",
        "--json",
    ]);
    let value = value.json();
    assert_eq!(value[0]["date.sent"], "2026-11-24 04:40:00 (+0100)");
    assert_eq!(value[0]["date.sent.unixtime"], 1_795_491_600);
    assert_eq!(value[0]["body.1"], "first line\r\nsecond line");
    assert!(value[0]["imap.envelope"].as_str().unwrap().starts_with("(\"Tue, 24 Nov 2026"));
    assert_eq!(
        node.roost(&["fetch", "-f", "tab", ADA, "uid hdr.subject", "uid", "2"]).ok(),
        "uid\thdr.subject\n2\ttwo\n"
    );
    assert_eq!(node.roost(&["fetch", "-f", "flow", ADA, "uid seq", "uid", "2"]).ok(), "uid=2 seq=2\n");
    assert_eq!(node.roost(&["fetch", ADA, "uid", "uid", "9", "--json"]).ok(), "[]\n");
    let said = node.roost(&["fetch", ADA, "uid nonsense", "all"]).fails(64);
    assert!(said.contains("hdr.NAME"), "it names the known ones: {said}");
    node.roost(&["fetch", ADA, "uid"]).fails(64);
}

#[test]
fn queries_are_imaps_keys_and_mailboxes() {
    let node = Node::start();
    node.roost(&["mailbox", "create", ADA, "Sent Items"]).ok();
    node.save(ADA, "INBOX", LETTER);
    node.save(ADA, "Sent Items", "From: ada@example.org\r\nSubject: two words\r\n\r\nx\r\n");
    let found = |words: &[&str]| {
        let found = node.roost(&[&["search", "--json", ADA], words].concat()).json();
        let mailboxes =
            found.as_array().unwrap().iter().map(|one| one["mailbox"].as_str().unwrap().to_owned());
        mailboxes.collect::<Vec<_>>()
    };
    assert_eq!(found(&["all"]), ["INBOX", "Sent Items"]);
    assert_eq!(found(&["subject", "two words"]), ["Sent Items"]);
    assert_eq!(found(&["subject \"two words\""]), ["Sent Items"]);
    assert_eq!(found(&["subject", "grüße"]), ["INBOX"]);
    assert_eq!(found(&["mailbox", "Sent Items"]), ["Sent Items"]);
    assert_eq!(found(&["not", "mailbox", "sent*", "body", "second"]), ["INBOX"]);
    assert_eq!(
        found(&["or", "from", "grace", "(", "subject", "two", "unseen", ")"]),
        ["INBOX", "Sent Items"]
    );
    assert_eq!(found(&["seen"]), Vec::<String>::new());
    assert_eq!(found(&["savedsince", "1h", "senton", "2026-11-24"]), ["INBOX"]);
    let text = node.roost(&["search", ADA, "mailbox", "inbox", "all"]).ok();
    assert_eq!(text.trim_end().split(' ').nth(1), Some("1"), "{text}");
    for bad in [&["nonsense"][..], &[], &["from"], &["(", "all"], &["since", "tomorrow"]] {
        node.roost(&[&["search", ADA], bad].concat()).fails(64);
    }
}

#[test]
fn flags_are_added_removed_and_replaced() {
    let node = Node::start();
    node.save(ADA, "INBOX", LETTER);
    let flags = || node.roost(&["fetch", ADA, "flags", "all", "--json"]).json()[0]["flags"].to_string();
    assert_eq!(node.roost(&["flags", "add", ADA, "\\Seen Work", "all"]).ok(), "1 changed\n");
    assert_eq!(flags(), r#"["\\Seen","Work"]"#);
    node.roost(&["flags", "remove", ADA, "\\Seen", "all"]).ok();
    assert_eq!(flags(), r#"["Work"]"#);
    node.roost(&["flags", "replace", ADA, "\\Flagged", "all"]).ok();
    assert_eq!(flags(), r#"["\\Flagged"]"#);
    node.roost(&["flags", "replace", ADA, "", "all"]).ok();
    assert_eq!(flags(), "[]");
    node.roost(&["flags", "add", ADA, "\\Nonsense", "all"]).fails(64);
    node.roost(&["flags", "add", ADA, "", "all"]).fails(64);
    assert_eq!(node.roost(&["flags", "add", ADA, "\\Seen", "uid", "9"]).ok(), "0 changed\n");
}

#[test]
fn messages_are_moved_and_expunged() {
    let node = Node::start();
    node.roost(&["mailbox", "create", ADA, "Old"]).ok();
    for _ in 0..3 {
        node.save(ADA, "INBOX", LETTER);
    }
    assert_eq!(node.roost(&["move", ADA, "Old", "mailbox", "INBOX", "uid", "1:2"]).ok(), "2 moved\n");
    assert_eq!(node.roost(&["expunge", ADA, "mailbox", "INBOX", "all"]).ok(), "1 expunged\n");
    let status = node.roost(&["mailbox", "status", ADA, "messages"]).ok();
    assert_eq!(status, "INBOX messages=0\nOld messages=2\n");
    node.roost(&["move", ADA, "Nowhere", "all"]).fails(68);
    node.roost(&["expunge", ADA]).fails(64);
    assert_eq!(node.roost(&["expunge", ADA, "--json", "mailbox", "INBOX"]).json()["expunged"], 0);
}

#[test]
fn saving_streams_and_says_what_it_stored() {
    let node = Node::start();
    let long = format!("Subject: long\r\n\r\n{}", "0123456789abcdef\r\n".repeat(200_000));
    assert_eq!(node.save(ADA, "INBOX", &long), 1);
    let text = node.roost(&["fetch", ADA, "text", "all"]).ok();
    assert!(text == format!("text:\n{long}"), "{} octets came back of {}", text.len(), long.len());
    let said = node.roost_with(&["save", ADA, "-m", "Nowhere"], b"x").fails(68);
    assert!(said.contains("Nowhere"), "{said}");
    node.roost_with(&["save", ADA], b"").fails(65);
    node.roost_with(&["save", ADA, "-m", "a//b"], b"x").fails(64);
}

#[test]
fn what_comes_in_by_lmtp_is_seen_by_imap_and_by_commands() {
    let node = Node::start();
    let mut lmtp = node.talk("lmtp");
    lmtp.hear("220 ");
    lmtp.hear("\r\n");
    lmtp.ask("LHLO test", "250 ");
    lmtp.hear("\r\n");
    lmtp.ask("MAIL FROM:<grace@example.org>", "250 ");
    lmtp.ask(&format!("RCPT TO:<{ADA}>"), "250 ");
    lmtp.ask("DATA", "354 ");
    lmtp.ask(&format!("{LETTER}\r\n."), "250 ");
    let fetched = node.roost(&["fetch", ADA, "hdr.from body", "all"]).ok();
    assert!(fetched.contains("hdr.from: Grace <grace@example.org>\n"), "{fetched}");
    let mut imap = node.talk("imap");
    imap.hear("* OK");
    imap.ask(&format!("a LOGIN {ADA} secret"), "a OK");
    imap.ask("b SELECT INBOX", "b OK");
    let answer = imap.ask("c FETCH 1 BODY[]", "c OK");
    assert!(answer.contains("second line"), "{answer}");
    // What an operator changes, the session hears of.
    node.roost(&["flags", "add", ADA, "Urgent", "all"]).ok();
    let answer = imap.ask("d NOOP", "d OK");
    assert!(answer.contains("Urgent"), "{answer}");
}
