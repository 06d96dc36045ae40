//! Responses, byte by byte, and by another implementation's reading.

use bytes::BytesMut;
use codec::imap::command::{BadCommand, BadKind, StatusItem, Tag};
use codec::imap::date::DateTime;
use codec::imap::response::{ListAttribute, ListEntry, Namespace, SearchResult, StatusValue};
use codec::imap::{
    Code, Encoder, FetchItem, FetchWriter, NameEncoding, Partial, Section, SectionText, Status,
};
use model::{
    Flag, Keyword, MailboxId, MailboxName, MessageId, ModSeq, SpecialUse, SystemFlag, Uid, UidValidity,
};

use proptest::prelude::*;

use crate::oracle::assert_response_is_understood;

fn written(write: impl FnOnce(&mut Encoder<'_>)) -> String {
    let mut out = BytesMut::new();
    write(&mut Encoder::new(&mut out, NameEncoding::ModifiedUtf7));
    String::from_utf8(out.to_vec()).unwrap()
}

fn tag() -> Tag {
    Tag::new(b"a1").unwrap()
}

fn uid(uid: u32) -> Uid {
    Uid::new(uid).unwrap()
}

fn name(name: &str) -> MailboxName {
    MailboxName::new(name).unwrap()
}

#[test]
fn status_responses_carry_their_codes() {
    let uid_validity = UidValidity::new(38505).unwrap();
    let seen = Flag::System(SystemFlag::Seen);
    for (code, text) in [
        (Code::Alert, "ALERT"),
        (Code::ReadOnly, "READ-ONLY"),
        (Code::ReadWrite, "READ-WRITE"),
        (Code::TryCreate, "TRYCREATE"),
        (Code::UidNext(uid(4392)), "UIDNEXT 4392"),
        (Code::UidValidity(uid_validity), "UIDVALIDITY 38505"),
        (Code::Unseen(12), "UNSEEN 12"),
        (Code::BadCharset(vec!["UTF-8".into()]), "BADCHARSET (\"UTF-8\")"),
        (Code::Capability(vec!["IMAP4rev1".into(), "IDLE".into()]), "CAPABILITY IMAP4rev1 IDLE"),
        (Code::PermanentFlags { flags: vec![seen], star: true }, "PERMANENTFLAGS (\\Seen \\*)"),
        (Code::PermanentFlags { flags: vec![], star: false }, "PERMANENTFLAGS ()"),
        // RFC 4315 §3.
        (Code::AppendUid { uid_validity, uid: uid(3955) }, "APPENDUID 38505 3955"),
        (
            Code::CopyUid {
                uid_validity,
                source: [304, 319, 320].map(uid).to_vec(),
                copies: [3956, 3957, 3958].map(uid).to_vec(),
            },
            "COPYUID 38505 304,319:320 3956:3958",
        ),
        (Code::HighestModSeq(ModSeq(715_194_045_007)), "HIGHESTMODSEQ 715194045007"),
        (Code::NoModSeq, "NOMODSEQ"),
        (Code::Modified(vec![7, 9]), "MODIFIED 7,9"),
        (Code::Closed, "CLOSED"),
        (Code::OverQuota, "OVERQUOTA"),
        (Code::AuthenticationFailed, "AUTHENTICATIONFAILED"),
        (Code::Nonexistent, "NONEXISTENT"),
        (Code::MailboxId(MailboxId::from_bytes([0xab; 16])), "MAILBOXID (abababababababababababababababab)"),
    ] {
        let line = written(|out| out.tagged(&tag(), Status::Ok, Some(&code), "Done"));
        assert_eq!(line, format!("a1 OK [{text}] Done\r\n"));
        assert_response_is_understood(line.as_bytes());
    }
    assert_eq!(written(|out| out.untagged(Status::Bye, None, "Bye")), "* BYE Bye\r\n");
    assert_eq!(written(|out| out.continuation("idling")), "+ idling\r\n");
    assert_eq!(written(|out| out.challenge(b"")), "+ \r\n");
    assert_eq!(written(|out| out.challenge(b"x")), "+ eA==\r\n");
}

#[test]
fn text_for_humans_can_break_nothing() {
    let line = written(|out| out.tagged(&tag(), Status::No, None, "no\r\n* OK caf\u{e9}"));
    assert_eq!(line, "a1 NO no??* OK caf?\r\n");
    assert_eq!(written(|out| out.untagged(Status::Ok, None, "[ALERT] x")), "* OK .[ALERT] x\r\n");
    assert_eq!(written(|out| out.untagged(Status::Ok, None, "")), "* OK .\r\n");
}

#[test]
fn a_bad_command_is_answered_by_its_kind() {
    let answer =
        |tag: Option<Tag>, kind| written(|out| out.bad(&BadCommand { tag, kind, message: "Why".to_owned() }));
    assert_eq!(answer(Some(tag()), BadKind::Syntax), "a1 BAD Why\r\n");
    assert_eq!(answer(Some(tag()), BadKind::TooBig), "a1 BAD [TOOBIG] Why\r\n");
    assert_eq!(answer(Some(tag()), BadKind::MessageTooBig), "a1 NO [TOOBIG] Why\r\n");
    assert_eq!(answer(Some(tag()), BadKind::UseAttr), "a1 NO [USEATTR] Why\r\n");
    assert_eq!(answer(None, BadKind::Syntax), "* BAD Why\r\n");
}

#[test]
fn mailbox_data_is_written_as_the_rfcs_show() {
    let entry = ListEntry {
        attributes: vec![ListAttribute::HasNoChildren, ListAttribute::SpecialUse(SpecialUse::Sent)],
        name: name("Entw\u{fc}rfe"),
        child_subscribed: false,
        old_name: None,
    };
    let line = written(|out| out.list(&entry));
    assert_eq!(line, "* LIST (\\HasNoChildren \\Sent) \"/\" \"Entw&APw-rfe\"\r\n");
    assert_response_is_understood(line.as_bytes());
    let child = ListEntry { attributes: vec![], child_subscribed: true, ..entry.clone() };
    let line = written(|out| out.list(&child));
    assert_eq!(line, "* LIST () \"/\" \"Entw&APw-rfe\" (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n");
    let old = ListEntry { old_name: Some(name("x")), ..child };
    let line = written(|out| out.list(&old));
    assert!(line.ends_with("(\"CHILDINFO\" (\"SUBSCRIBED\") \"OLDNAME\" (\"x\"))\r\n"));
    let mut out = BytesMut::new();
    Encoder::new(&mut out, NameEncoding::Utf8).list(&entry);
    assert!(String::from_utf8(out.to_vec()).unwrap().ends_with("\"Entw\u{fc}rfe\"\r\n"));

    assert_eq!(written(|out| out.list_root("")), "* LIST (\\Noselect) \"/\" \"\"\r\n");
    assert_eq!(written(|out| out.lsub(&[], &name("a\"b"))), "* LSUB () \"/\" \"a\\\"b\"\r\n");
    let values = [
        StatusValue::Number(StatusItem::Messages, 231),
        StatusValue::Number(StatusItem::UidNext, 44292),
        StatusValue::MailboxId(MailboxId::from_bytes([1; 16])),
    ];
    let line = written(|out| out.status(&name("blurdybloop"), &values));
    let id = "01".repeat(16);
    assert_eq!(line, format!("* STATUS \"blurdybloop\" (MESSAGES 231 UIDNEXT 44292 MAILBOXID ({id}))\r\n"));
    let flags = [Flag::System(SystemFlag::Answered), Flag::Keyword(Keyword::new("$Junk").unwrap())];
    assert_eq!(written(|out| out.flags(&flags)), "* FLAGS (\\Answered $Junk)\r\n");
    let numbers = written(|out| {
        out.exists(23);
        out.recent(0);
        out.expunge(44);
    });
    assert_eq!(numbers, "* 23 EXISTS\r\n* 0 RECENT\r\n* 44 EXPUNGE\r\n");
}

#[test]
fn searches_and_vanished_are_written_as_the_rfcs_show() {
    let search = |numbers: &[u32], modseq| written(|out| out.search(numbers.iter().copied(), modseq));
    assert_eq!(search(&[2, 84, 882], None), "* SEARCH 2 84 882\r\n");
    assert_eq!(search(&[], None), "* SEARCH\r\n");
    assert_eq!(search(&[2, 5], Some(ModSeq(917_162_500))), "* SEARCH 2 5 (MODSEQ 917162500)\r\n");
    // RFC 4731 §3.1.
    let result = SearchResult { min: Some(2), count: Some(3), ..SearchResult::default() };
    let line = written(|out| out.esearch(&tag(), false, &result));
    assert_eq!(line, "* ESEARCH (TAG \"a1\") MIN 2 COUNT 3\r\n");
    let result =
        SearchResult { all: Some(vec![2, 10, 11]), modseq: Some(ModSeq(7)), ..SearchResult::default() };
    let line = written(|out| out.esearch(&tag(), true, &result));
    assert_eq!(line, "* ESEARCH (TAG \"a1\") UID ALL 2,10:11 MODSEQ 7\r\n");
    let nothing = SearchResult { all: Some(vec![]), ..SearchResult::default() };
    assert_eq!(written(|out| out.esearch(&tag(), true, &nothing)), "* ESEARCH (TAG \"a1\") UID\r\n");
    // RFC 7162 §3.2.10.
    let uids: Vec<Uid> = (300..=310).chain([405, 411]).map(uid).collect();
    assert_eq!(written(|out| out.vanished(true, &uids)), "* VANISHED (EARLIER) 300:310,405,411\r\n");
    assert_eq!(written(|out| out.vanished(false, &uids[..1])), "* VANISHED 300\r\n");
    assert_eq!(written(|out| out.vanished(false, &[])), "");
}

#[test]
fn server_data_is_written_as_the_rfcs_show() {
    assert_eq!(written(|out| out.capability(&["IMAP4rev1", "IDLE"])), "* CAPABILITY IMAP4rev1 IDLE\r\n");
    assert_eq!(written(|out| out.enabled(&["CONDSTORE"])), "* ENABLED CONDSTORE\r\n");
    assert_eq!(written(|out| out.enabled::<&str>(&[])), "* ENABLED\r\n");
    let personal = [Namespace { prefix: String::new(), separator: '/' }];
    let line = written(|out| out.namespace(&personal, &[], &[]));
    assert_eq!(line, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
    assert_eq!(written(|out| out.id(None)), "* ID NIL\r\n");
    let fields = [("name".to_owned(), Some("Roost".to_owned())), ("os".to_owned(), None)];
    assert_eq!(written(|out| out.id(Some(&fields))), "* ID (\"name\" \"Roost\" \"os\" NIL)\r\n");
}

#[test]
fn a_fetch_response_is_written_item_by_item() {
    let mut out = BytesMut::new();
    let mut writer = FetchWriter::begin(&mut out, 23);
    let flags = [Flag::System(SystemFlag::Seen)];
    writer.uid(&mut out, uid(4827313));
    writer.flags(&mut out, &flags, true);
    writer.internal_date(&mut out, DateTime::new(837_596_665, -420));
    writer.rfc822_size(&mut out, 44_827);
    let fields = SectionText::HeaderFields(vec!["DATE".into(), "a b".into()]);
    let section = Section { part: vec![3, 1], text: fields };
    let partial = Some(Partial { offset: 2, length: 9 });
    writer.octets_begin(&mut out, &FetchItem::Section { peek: true, section, partial }, 5);
    writer.octets(&mut out, b"a\0");
    assert_eq!(writer.owed(), 3);
    writer.octets(&mut out, b"\r\n\xffbeyond");
    writer.octets_nil(&mut out, &FetchItem::Rfc822Text);
    assert!(writer.end(&mut out));
    let expected = b"* 23 FETCH (UID 4827313 FLAGS (\\Seen \\Recent) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" \
        RFC822.SIZE 44827 BODY[3.1.HEADER.FIELDS (DATE \"a b\")]<2> {5}\r\na\x80\r\n\xff RFC822.TEXT NIL)\r\n";
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_response_is_understood(&out);
}

#[test]
fn a_fetch_response_carries_the_extensions_items() {
    let mut out = BytesMut::new();
    let mut writer = FetchWriter::begin(&mut out, 1);
    writer.modseq(&mut out, ModSeq(624_140_003));
    writer.email_id(&mut out, MessageId::from_bytes([0x11; 16]));
    writer.thread_id(&mut out, None);
    writer.thread_id(&mut out, Some("t1"));
    writer.octets_begin(&mut out, &FetchItem::Rfc822, 3);
    assert!(!writer.end(&mut out), "octets are owed");
    let id = "11".repeat(16);
    let expected = format!(
        "* 1 FETCH (MODSEQ (624140003) EMAILID ({id}) THREADID NIL THREADID (t1) RFC822 {{3}}\r\n)\r\n"
    );
    assert_eq!(out, expected);
}

#[test]
fn structures_are_understood_by_another_implementation() {
    for stored in [
        "",
        "Subject: caf\u{e9}\r\nFrom: \"a\\\"b\" <x@y>, group: a@b;\r\n\r\nx",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n\
         Subject: in\r\n\r\nhello\r\n--b\r\nContent-Type: image/png; name=\"a b\"\r\n\
         Content-Disposition: attachment; filename*=utf-8''x\r\nContent-Language: en, de\r\n\r\nAAAA\r\n--b--\r\n",
        "Content-Type: multipart/mixed; boundary=b\r\n\r\nnothing",
    ] {
        assert_response_is_understood(&structures(stored.as_bytes()));
    }
}

/// BODY and BODYSTRUCTURE of these octets, and their envelope.
fn structures(stored: &[u8]) -> BytesMut {
    let message = message::parse(stored, &message::Limits::default());
    let mut out = BytesMut::new();
    let mut writer = FetchWriter::begin(&mut out, 1);
    writer.envelope(&mut out, &message.envelope);
    writer.body(&mut out, &message.root);
    writer.body_structure(&mut out, &message.root);
    assert!(writer.end(&mut out));
    out
}

#[test]
fn the_deepest_message_has_a_structure() {
    let embedded = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
    let out = structures(embedded.as_bytes());
    assert!(out.ends_with(b"))\r\n"));
    let opaque = b"(\"application\" \"octet-stream\"";
    assert!(out.windows(opaque.len()).any(|window| window == opaque));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_structure_is_understood_by_another_implementation(
        lines in proptest::collection::vec(header_or_text(), 0..20),
    ) {
        assert_response_is_understood(&structures(lines.join("\r\n").as_bytes()));
    }
}

/// A line that means something to a parser of messages, or almost.
fn header_or_text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "(Subject|Date|Message-ID|In-Reply-To|Content-ID|Content-MD5|Content-Location): [ -~\u{e9}]{0,20}",
        2 => "(From|To|Cc|Sender): [a-c@<>,:;\"\\\\ ()]{0,20}",
        3 => "Content-Type: (multipart/(mixed|digest)|message/rfc822|text/plain|image/png); [a-z]{1,3}=[!-~]{0,5}; boundary=b",
        1 => "Content-(Disposition|Language|Transfer-Encoding): [a-z,;=\" ]{0,20}",
        4 => Just("--b".to_owned()),
        1 => Just("--b--".to_owned()),
        4 => Just(String::new()),
        1 => "[ -~]{0,20}",
    ]
}
