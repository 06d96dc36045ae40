//! SEARCH and UID SEARCH.

use crate::script::check_in;
use crate::select::selected;
use crate::world::{NOW_UNIX_S, World};

fn three() -> World {
    selected(
        "deliver INBOX one\ndeliver INBOX two\ndeliver INBOX three\nflag INBOX 2 +\\Seen\nflag INBOX 3 +$Work",
    )
}

#[test]
fn what_the_snapshot_knows_is_decided_without_reading() {
    let mut world = three();
    world.questions.clear();
    check_in(
        &mut world,
        "
        C: a SEARCH UNSEEN
        S: * SEARCH 1 3
        S: a OK Search completed
        C: b UID SEARCH OR SEEN KEYWORD $work
        S: * SEARCH 2 3
        S: b OK Search completed
        C: c SEARCH 2:* NOT KEYWORD $Work
        S: * SEARCH 2
        S: c OK Search completed
        C: d SEARCH UID 3:9 UNDELETED LARGER 5 SMALLER 5000
        S: * SEARCH 3
        S: d OK Search completed
        C: e SEARCH NEW
        S: * SEARCH 1 3
        S: e OK Search completed
        C: f SEARCH OLD
        S: * SEARCH
        S: f OK Search completed
        C: g SEARCH 7
        S: g BAD No such message
        C: h SEARCH EMAILID 00000000000000000000000000000003
        S: * SEARCH 1
        S: h OK Search completed
        C: i SEARCH THREADID T1
        S: * SEARCH
        S: i OK Search completed
        ",
    );
    assert!(world.questions.is_empty(), "{:?}", world.questions);
}

#[test]
fn texts_and_headers_are_read() {
    check_in(
        &mut three(),
        "
        C: a SEARCH SUBJECT tw
        S: * SEARCH 2
        S: a OK Search completed
        C: b SEARCH CHARSET utf-8 OR BODY \"hello one\" TEXT Subject:
        S: * SEARCH 1 2 3
        S: b OK Search completed
        C: c SEARCH UNSEEN HEADER Message-ID three
        S: * SEARCH 3
        S: c OK Search completed
        C: d SEARCH CHARSET KOI8-R TEXT x
        S: d NO [BADCHARSET (\"US-ASCII\" \"UTF-8\")] ...
        C: e SEARCH SENTON 1-Jan-2026
        S: * SEARCH 1 2 3
        S: e OK Search completed
        C: f SEARCH SENTSINCE 2-Jan-2026
        S: * SEARCH
        S: f OK Search completed
        ",
    );
}

#[test]
fn dates_and_ages() {
    let mut world = World::new();
    for _ in 0..2 {
        world.deliver("INBOX", b"a: b\r\n\r\n");
    }
    world.mailbox("INBOX").messages[0].internal_date = NOW_UNIX_S - 86_400 * 2;
    world.login();
    crate::select::select(&mut world, "SELECT INBOX");
    check_in(
        &mut world,
        "
        C: a SEARCH ON 2-Jan-2026
        S: * SEARCH 2
        S: a OK Search completed
        C: b SEARCH BEFORE 2-Jan-2026
        S: * SEARCH 1
        S: b OK Search completed
        C: c SEARCH SINCE 31-Dec-2025
        S: * SEARCH 1 2
        S: c OK Search completed
        C: d SEARCH YOUNGER 100
        S: * SEARCH 2
        S: d OK Search completed
        wait 101
        C: e SEARCH YOUNGER 100
        S: * SEARCH
        S: e OK Search completed
        C: f SEARCH OLDER 100
        S: * SEARCH 1 2
        S: f OK Search completed
        ",
    );
}

/// RFC 4731 §3.1, RFC 7162 §3.1.10.
#[test]
fn esearch_returns_what_was_asked() {
    check_in(
        &mut three(),
        "
        C: a SEARCH RETURN (MIN MAX COUNT) ALL
        S: * ESEARCH (TAG \"a\") MIN 1 MAX 3 COUNT 3
        S: a OK Search completed
        C: b UID SEARCH RETURN () UNSEEN
        S: * ESEARCH (TAG \"b\") UID ALL 1,3
        S: b OK Search completed
        C: c SEARCH RETURN (MIN COUNT) DELETED
        S: * ESEARCH (TAG \"c\") COUNT 0
        S: c OK Search completed
        C: d SEARCH RETURN (MIN) MODSEQ 1003
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: * ESEARCH (TAG \"d\") MIN 2 MODSEQ 1005
        S: d OK Search completed
        C: e SEARCH MODSEQ 1003
        S: * SEARCH 2 3 (MODSEQ 1006)
        S: e OK Search completed
        ",
    );
}

#[test]
fn unreadable_messages_are_not_found_and_said_to_be_unsearched() {
    let mut world = three();
    world.gone.insert(model::Uid::new(1).unwrap());
    check_in(
        &mut world,
        "
        C: a SEARCH TEXT hello
        S: * SEARCH 2 3
        S: a OK Search completed
        ",
    );
}
