//! Commands as the RFCs show them, and what is none.

use codec::imap::command::{
    AppendCommand, AppendLiteral, Body, ListReturn, ListSelection, QresyncParameters, SearchReturn,
    SelectParameters, StatusItem, StoreAction,
};
use codec::imap::date::{Date, DateTime};
use codec::imap::{FetchItem, Partial, SearchKey, Section, SectionText, SequenceSet};
use model::{Flag, Keyword, SpecialUse, SystemFlag, UidValidity};

use crate::read;

/// No command, by RFC 3501 alone: the oracle refuses these too.
pub(crate) const MALFORMED: &[&str] = &[
    "",
    " ",
    "a",
    "a ",
    " NOOP",
    "+ NOOP",
    "a+b NOOP",
    "a* NOOP",
    "a\tNOOP",
    "a  NOOP",
    "a NOOP ",
    "a NOOP x",
    "a FROBNICATE",
    "a UID",
    "a UID NOOP",
    "a UID FETCH",
    "a LOGIN",
    "a LOGIN x",
    "a LOGIN x y z",
    "a LOGIN \"x",
    "a LOGIN \"x\\n\" y",
    "a LOGIN x \"y\"z",
    "a LOGIN x %",
    "a SELECT",
    "a SELECT (",
    "a SELECT INBOX x",
    "a CREATE",
    "a RENAME a",
    "a LIST \"\"",
    "a LIST \"\" * x",
    "a STATUS INBOX",
    "a STATUS INBOX (MESSAGES",
    "a STATUS INBOX (MESSAGES FOO)",
    "a APPEND INBOX",
    "a APPEND INBOX foo",
    "a APPEND INBOX (\\Seen {3}",
    "a SEARCH",
    "a SEARCH FOO",
    "a SEARCH NOT",
    "a SEARCH OR ALL",
    "a SEARCH (ALL",
    "a SEARCH ALL)",
    "a SEARCH ()",
    "a SEARCH SINCE 32-Jan-2024",
    "a SEARCH SINCE 2024-01-01",
    "a SEARCH LARGER x",
    "a SEARCH LARGER -1",
    "a SEARCH HEADER x",
    "a SEARCH KEYWORD \\Seen",
    "a SEARCH 0",
    "a SEARCH 1,,2",
    "a SEARCH CHARSET",
    "a FETCH",
    "a FETCH 1",
    "a FETCH 0 FLAGS",
    "a FETCH 1:2:3 FLAGS",
    "a FETCH 4294967296 FLAGS",
    "a FETCH 1 FOO",
    "a FETCH 1 FLAGS UID",
    "a FETCH 1 (FLAGS",
    "a FETCH 1 (ALL)",
    "a FETCH 1 (FLAGS  UID)",
    "a FETCH 1 BODY[",
    "a FETCH 1 BODY[FOO]",
    "a FETCH 1 BODY[MIME]",
    "a FETCH 1 BODY[0]",
    "a FETCH 1 BODY[1.]",
    "a FETCH 1 BODY[1..2]",
    "a FETCH 1 BODY[HEADER.FIELDS]",
    "a FETCH 1 BODY[HEADER.FIELDS ()]",
    "a FETCH 1 BODY[]<0>",
    "a FETCH 1 BODY[]<0.0>",
    "a FETCH 1 BODY[]<1.2",
    "a FETCH 1 RFC822.PEEK",
    "a STORE 1",
    "a STORE 1 FLAGS",
    "a STORE 1 FLAGS.LOUD (\\Seen)",
    "a STORE 1 *FLAGS (\\Seen)",
    "a STORE 1 FLAGS (\\Seen",
    "a STORE 1 FLAGS (a]b)",
    "a COPY 1",
    "a COPY x INBOX",
    "a COPY 1 INBOX x",
];

/// No command either: by the extension that the row belongs to, or the oracle is laxer than RFC 3501.
const MALFORMED_EXTENSIONS: &[&str] = &[
    "a STATUS INBOX ()",
    "a FETCH 1 ()",
    "a AUTHENTICATE",
    "a AUTHENTICATE PLAIN *",
    "a AUTHENTICATE PLAIN AA=A",
    "a AUTHENTICATE PLAIN = =",
    "a ENABLE",
    "a ENABLE ",
    "a ID",
    "a ID (",
    "a ID (\"x\")",
    "a ID (x \"y\")",
    "a UID EXPUNGE",
    "a UID EXPUNGE x",
    "a SELECT INBOX ()",
    "a SELECT INBOX (FOO)",
    "a SELECT INBOX (QRESYNC)",
    "a SELECT INBOX (QRESYNC (0 1))",
    "a SELECT INBOX (QRESYNC (1 1 1:*))",
    "a SELECT INBOX (QRESYNC (1 1 (1)))",
    "a SELECT INBOX (QRESYNC (1 1) QRESYNC (1 1))",
    "a CREATE x (FOO)",
    "a LIST (RECURSIVEMATCH) \"\" *",
    "a LIST (RECURSIVEMATCH REMOTE) \"\" *",
    "a LIST (FOO) \"\" *",
    "a LIST \"\" ()",
    "a LIST \"\" * RETURN (FOO)",
    "a LIST \"\" * RETURN (STATUS)",
    "a SEARCH RETURN (FOO) ALL",
    "a SEARCH RETURN (MIN)",
    "a SEARCH OLDER 0",
    "a SEARCH MODSEQ \"/flags/x\" 1",
    "a SEARCH MODSEQ \"/other/x\" all 1",
    "a SEARCH MODSEQ 9223372036854775808",
    "a SEARCH EMAILID a.b",
    "a FETCH 1 FLAGS (VANISHED)",
    "a FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)",
    "a UID FETCH 1 FLAGS (VANISHED)",
    "a UID FETCH 1 FLAGS (CHANGEDSINCE)",
    "a STORE 1 (UNCHANGEDSINCE) FLAGS ()",
    "a STORE 1 (FOO 1) FLAGS ()",
    "a STORE 1 FLAGS (\\Recent)",
    "a STORE 1 FLAGS (\\Foo)",
    "a APPEND INBOX (\\Recent) {3}",
    "a APPEND INBOX \"1-Jan-2024\" {3}",
    "a LOGIN {3}\r\na\0b x",
];

#[test]
fn what_is_no_command_is_refused() {
    for row in MALFORMED.iter().chain(MALFORMED_EXTENSIONS) {
        assert!(read(row).is_err(), "{row:?} was read as {:?}", read(row));
    }
}

fn body(text: &str) -> Body {
    match read(text) {
        Ok(command) => command.body,
        Err(error) => panic!("{text}: {error}"),
    }
}

fn key(text: &str) -> SearchKey {
    match body(&format!("a SEARCH {text}")) {
        Body::Search(search) => search.key,
        other => panic!("{other:?}"),
    }
}

fn items(text: &str) -> Vec<FetchItem> {
    match body(&format!("a FETCH 1 {text}")) {
        Body::Fetch(fetch) => fetch.items,
        other => panic!("{other:?}"),
    }
}

fn set(text: &str) -> SequenceSet {
    SequenceSet::parse(text.as_bytes()).unwrap()
}

#[test]
fn login_takes_any_kind_of_string_and_never_shows_the_password() {
    for text in [
        "a001 LOGIN SMITH SESAME",
        "a001 login \"SMITH\" \"SESAME\"",
        "a001 LOGIN {5}\r\nSMITH {6}\r\nSESAME",
        "a001 LOGIN {5+}\r\nSMITH {6+}\r\nSESAME",
    ] {
        let Body::Login(login) = body(text) else { panic!("{text}") };
        assert_eq!((login.user.as_slice(), login.password.as_slice()), (&b"SMITH"[..], &b"SESAME"[..]));
        assert!(!format!("{login:?}").contains("SESAME"));
    }
    let Body::Login(login) = body("a LOGIN \"a\\\"b\" \"\\\\]\"") else { panic!() };
    assert_eq!((login.user.as_slice(), login.password.as_slice()), (&b"a\"b"[..], &b"\\]"[..]));
}

#[test]
fn authenticate_decodes_the_initial_response() {
    // RFC 4959 §4.
    let initial = |text| match body(text) {
        Body::Authenticate(command) => (command.mechanism, command.initial),
        other => panic!("{other:?}"),
    };
    assert_eq!(initial("a AUTHENTICATE plain"), ("PLAIN".to_owned(), None));
    assert_eq!(
        initial("a AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q="),
        ("PLAIN".to_owned(), Some(b"test\0test\0test".to_vec()))
    );
    assert_eq!(initial("a AUTHENTICATE EXTERNAL ="), ("EXTERNAL".to_owned(), Some(Vec::new())));
}

#[test]
fn select_reads_condstore_and_qresync() {
    let parameters = |text| match body(text) {
        Body::Select(select) => select.parameters,
        other => panic!("{other:?}"),
    };
    assert_eq!(parameters("a SELECT INBOX"), SelectParameters::default());
    assert!(parameters("a SELECT INBOX (condstore)").condstore);
    // RFC 7162 §3.2.5.
    let qresync = |text| parameters(text).qresync.unwrap();
    let uid_validity = UidValidity::new(67_890_007).unwrap();
    let plain =
        QresyncParameters { uid_validity, modseq: 20_050_715_194_045_000, known_uids: None, matches: None };
    assert_eq!(qresync("A02 SELECT INBOX (QRESYNC (67890007 20050715194045000))"), plain);
    let known = qresync("A03 SELECT INBOX (QRESYNC (67890007 20050715194045000 41:211,214:541))");
    assert_eq!(known, QresyncParameters { known_uids: Some(set("41:211,214:541")), ..plain.clone() });
    let both =
        qresync("B04 SELECT INBOX (QRESYNC (67890007 20050715194045000 1:29997 (5000,7500 15000,22500)))");
    assert_eq!(both.matches, Some((set("5000,7500"), set("15000,22500"))));
    let only_matches = qresync("B04 SELECT INBOX (QRESYNC (67890007 20050715194045000 (5 7)))");
    assert_eq!(only_matches, QresyncParameters { matches: Some((set("5"), set("7"))), ..plain });
}

#[test]
fn create_reads_special_uses() {
    let uses = |text| match body(text) {
        Body::Create { special_use, .. } => special_use,
        other => panic!("{other:?}"),
    };
    assert_eq!(uses("a CREATE MyDrafts (USE (\\Drafts))"), [SpecialUse::Drafts]);
    assert_eq!(uses("a CREATE All (USE (\\all \\Sent))"), [SpecialUse::All, SpecialUse::Sent]);
    assert_eq!(uses("a CREATE x"), []);
}

#[test]
fn list_reads_its_extensions() {
    let list = |text| match body(text) {
        Body::List(list) => list,
        other => panic!("{other:?}"),
    };
    let plain = list("a LIST ~/Mail/ %");
    assert_eq!((plain.reference.as_bytes(), plain.patterns[0].as_bytes()), (&b"~/Mail/"[..], &b"%"[..]));
    assert!(!plain.extended);
    // RFC 5258 §5, examples 3, 9 and 12; RFC 5819 §2; RFC 6154 §5.
    let two = list("C05 LIST (REMOTE SUBSCRIBED) \"\" (\"INBOX\" \"Drafts\" \"Sent/%\")");
    assert_eq!(two.patterns.len(), 3);
    let expected = ListSelection { remote: true, subscribed: true, ..ListSelection::default() };
    assert_eq!(two.selection, expected);
    let recursive = list("C04 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" \"%\"").selection;
    assert!(recursive.recursive_match && recursive.subscribed);
    let status = list("A01 LIST \"\" % RETURN (SUBSCRIBED CHILDREN STATUS (MESSAGES UNSEEN) SPECIAL-USE)");
    let items = vec![StatusItem::Messages, StatusItem::Unseen];
    let expected = ListReturn { subscribed: true, children: true, special_use: true, status: Some(items) };
    assert_eq!(status.returns, expected);
    assert!(list("a LIST () \"\" \"\"").extended);
    assert!(list("a LIST \"\" \"\" RETURN ()").extended);
    assert!(list("t2 list (special-use) \"\" \"*\"").selection.special_use);
}

#[test]
fn append_reads_up_to_the_message() {
    let append = |text| match body(text) {
        Body::Append(append) => append,
        other => panic!("{other:?}"),
    };
    let AppendCommand { mailbox, flags, date, literal } = append("A003 APPEND saved-messages (\\Seen) {310}");
    assert_eq!(mailbox.as_bytes(), b"saved-messages");
    assert_eq!((flags, date), (vec![Flag::System(SystemFlag::Seen)], None));
    assert_eq!(literal, AppendLiteral { size: 310, non_sync: false });
    let full = append("a APPEND {5+}\r\nINBOX ($Junk \\draft) \" 7-Feb-1994 21:52:25 -0800\" {67108864+}");
    assert_eq!(full.date, Some(DateTime::new(760_686_745, -480)));
    assert_eq!(full.flags.len(), 2);
    assert!(read("a APPEND INBOX () {0}").is_ok());
}

#[test]
fn search_reads_the_examples() {
    // RFC 3501 §6.4.4.
    assert_eq!(
        key("FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\""),
        SearchKey::And(vec![
            SearchKey::Flagged,
            SearchKey::Since(Date::new(1994, 2, 1).unwrap()),
            SearchKey::Not(Box::new(SearchKey::From(b"Smith".to_vec()))),
        ])
    );
    assert_eq!(key("TEXT {6}\r\n\u{43c}\u{430}\u{43c}"), SearchKey::Text("\u{43c}\u{430}\u{43c}".into()));
    assert_eq!(
        key("2,4:* UID 7"),
        SearchKey::And(vec![SearchKey::Sequence(set("2,4:*")), SearchKey::Uid(set("7"))])
    );
    assert_eq!(key("ON \"25-Jul-2026\""), SearchKey::On(Date::new(2026, 7, 25).unwrap()));
    // RFC 7162 §3.1.5, RFC 5032 §3, RFC 8474 §4.3.
    assert_eq!(key("MODSEQ \"/flags/\\\\draft\" all 620162338"), SearchKey::ModSeq(620_162_338));
    assert_eq!(key("YOUNGER 259200"), SearchKey::Younger(259_200));
    assert_eq!(key("EMAILID M6d99ac3275bb4e"), SearchKey::EmailId("M6d99ac3275bb4e".into()));
}

#[test]
fn search_return_and_charset_come_first() {
    let search = |text| match body(text) {
        Body::Search(search) => search,
        other => panic!("{other:?}"),
    };
    // RFC 4731 §3.1.
    let found = search("A282 UID SEARCH RETURN (MIN COUNT) CHARSET utf-8 FLAGGED");
    assert!(found.uid);
    assert_eq!(found.returns, Some(SearchReturn { min: true, count: true, ..SearchReturn::default() }));
    assert_eq!((found.charset.as_deref(), found.key), (Some("utf-8"), SearchKey::Flagged));
    let empty = search("A283 SEARCH RETURN () FLAGGED");
    assert_eq!(empty.returns, Some(SearchReturn { all: true, ..SearchReturn::default() }));
}

#[test]
fn a_long_chain_of_or_is_one_key() {
    let chain = "OR SUBJECT x ".repeat(1000) + "SEEN";
    let SearchKey::Or(keys) = key(&chain) else { panic!() };
    assert_eq!(keys.len(), 1001);
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in [
        "(".repeat(10_000) + "ALL" + &")".repeat(10_000),
        "NOT ".repeat(10_000) + "ALL",
        "OR ".repeat(10_000) + "ALL",
        "OR (".repeat(10_000) + "ALL",
    ] {
        let error = read(&format!("a SEARCH {text}")).unwrap_err();
        assert_eq!(error, "Search is nested too deeply");
    }
    assert_eq!(key(&("(".repeat(99) + "ALL" + &")".repeat(99))), SearchKey::All);
}

#[test]
fn fetch_expands_macros_and_keeps_each_item_once() {
    let fast = [FetchItem::Flags, FetchItem::InternalDate, FetchItem::Rfc822Size];
    assert_eq!(items("FAST"), fast);
    assert_eq!(items("all")[3..], [FetchItem::Envelope]);
    assert_eq!(items("Full")[3..], [FetchItem::Envelope, FetchItem::Body]);
    assert_eq!(items("(UID FLAGS uid FLAGS)"), [FetchItem::Uid, FetchItem::Flags]);
    assert_eq!(items("(MODSEQ EMAILID THREADID)").len(), 3);
    assert!(
        read(&format!(
            "a FETCH 1 ({})",
            (1..400).map(|n| format!("BODY[{n}]")).collect::<Vec<_>>().join(" ")
        ))
        .is_err()
    );
}

#[test]
fn fetch_reads_sections() {
    let section = |peek, part: &[u32], text, partial| FetchItem::Section {
        peek,
        section: Section { part: part.to_vec(), text },
        partial,
    };
    assert_eq!(items("BODY[]"), [section(false, &[], SectionText::Whole, None)]);
    assert_eq!(items("body.peek[4.2.mime]"), [section(true, &[4, 2], SectionText::Mime, None)]);
    assert_eq!(items("BODY[3.HEADER]"), [section(false, &[3], SectionText::Header, None)]);
    let partial = Partial { offset: 5, length: 2048 };
    assert_eq!(items("BODY[1.2]<5.2048>"), [section(false, &[1, 2], SectionText::Whole, Some(partial))]);
    let fields = SectionText::HeaderFields(vec!["DATE".into(), "From".into()]);
    assert_eq!(items("(BODY[HEADER.FIELDS (DATE \"From\")])"), [section(false, &[], fields, None)]);
    let not = SectionText::HeaderFieldsNot(vec!["x".into()]);
    assert_eq!(items("BODY.PEEK[2.HEADER.FIELDS.NOT ({1}\r\nx)]"), [section(true, &[2], not, None)]);
    let deep = vec!["1"; 101].join(".");
    assert!(read(&format!("a FETCH 1 BODY[{deep}]")).is_err());
}

#[test]
fn fetch_and_store_read_their_modifiers() {
    // RFC 7162 §3.1.4.1, §3.2.6 and §3.1.3.
    let Body::Fetch(fetch) = body("s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345 VANISHED)") else {
        panic!()
    };
    assert_eq!((fetch.changed_since, fetch.vanished), (Some(12_345), true));
    let Body::Store(store) = body("d105 STORE 7,5,9 (UNCHANGEDSINCE 0) +FLAGS.SILENT \\Deleted $MDNSent")
    else {
        panic!()
    };
    assert_eq!((store.unchanged_since, store.action, store.silent), (Some(0), StoreAction::Add, true));
    let mdn_sent = Flag::Keyword(Keyword::new("$MDNSent").unwrap());
    assert_eq!(store.flags, [Flag::System(SystemFlag::Deleted), mdn_sent]);
    let Body::Store(none) = body("a STORE 1 FLAGS ()") else { panic!() };
    assert_eq!((none.action, none.flags), (StoreAction::Replace, Vec::new()));
}

#[test]
fn small_commands_are_read_in_any_case() {
    for (text, expected) in [
        ("a capability", Body::Capability),
        ("a Noop", Body::Noop),
        ("a LOGOUT", Body::Logout),
        ("a starttls", Body::StartTls),
        ("a IDLE", Body::Idle),
        ("a NAMESPACE", Body::Namespace),
        ("a UNSELECT", Body::Unselect),
        ("a CLOSE", Body::Close),
        ("a CHECK", Body::Check),
        ("a EXPUNGE", Body::Expunge),
        ("a uid expunge 3000:3002", Body::UidExpunge(set("3000:3002"))),
        ("a ID NIL", Body::Id(None)),
        ("a ID ()", Body::Id(Some(Vec::new()))),
        (
            "a ID (\"name\" \"x\" \"os\" nil)",
            Body::Id(Some(vec![("name".into(), Some("x".into())), ("os".into(), None)])),
        ),
        ("a ENABLE condstore QRESYNC", Body::Enable(vec!["CONDSTORE".into(), "QRESYNC".into()])),
    ] {
        assert_eq!(body(text), expected, "{text}");
    }
}
