//! STORE and UID STORE, and the moments at which an EXPUNGE may be told.

use crate::script::check_in;
use crate::select::{select, selected};
use crate::world::World;

fn three() -> World {
    selected("deliver INBOX one\ndeliver INBOX two\ndeliver INBOX three")
}

#[test]
fn store_tells_the_new_flags_unless_silent() {
    check_in(
        &mut three(),
        "
        C: a STORE 1:2 +FLAGS (\\Flagged $Work)
        S: * FLAGS (... $Work)
        S: * OK [PERMANENTFLAGS (... $Work \\*)] Flags permitted
        S: * 1 FETCH (FLAGS (\\Flagged $Work \\Recent))
        S: * 2 FETCH (FLAGS (\\Flagged $Work \\Recent))
        S: a OK Store completed
        C: b UID STORE 2 -FLAGS.SILENT (\\Flagged)
        S: b OK Store completed
        C: c STORE 2 FLAGS (\\Seen)
        S: * 2 FETCH (FLAGS (\\Seen \\Recent))
        S: c OK Store completed
        C: d NOOP
        S: d OK ...
        C: e UID STORE 99 FLAGS (\\Seen)
        S: e OK No messages to store
        C: f STORE 9 FLAGS (\\Seen)
        S: f BAD No such message
        C: g STORE 1 +FLAGS (\\Recent)
        S: g BAD ...
        ",
    );
}

#[test]
fn silent_keeps_quiet_only_about_what_the_client_can_foresee() {
    let mut world = three();
    world.edit_flags("INBOX", 1, account::door::FlagEdit::Add, &["\\Answered"]);
    check_in(
        &mut world,
        "
        C: a STORE 1 +FLAGS.SILENT (\\Seen)
        S: * 1 FETCH (FLAGS (\\Answered \\Seen \\Recent))
        S: a OK Store completed
        ",
    );
}

#[test]
fn store_in_an_examined_mailbox_is_refused() {
    let mut world = three();
    select(&mut world, "EXAMINE INBOX");
    check_in(
        &mut world,
        "
        C: a STORE 1 +FLAGS (\\Seen)
        S: a NO [READ-ONLY] Mailbox is read-only
        C: b EXPUNGE
        S: b NO [READ-ONLY] ...
        C: c MOVE 1 INBOX
        S: c NO [READ-ONLY] ...
        ",
    );
}

/// RFC 3501 §7.4.1, §5.5.
#[test]
fn expunges_wait_while_sequence_numbers_are_in_use() {
    check_in(
        &mut three(),
        "
        expunge INBOX 1
        C: a FETCH 2 UID
        S: * 2 FETCH (UID 2)
        S: a OK Fetch completed
        C: b STORE 2 +FLAGS (\\Seen)
        S: * 2 FETCH (FLAGS (\\Seen \\Recent))
        S: b OK Store completed
        deliver INBOX four
        C: c SEARCH ALL
        S: * SEARCH 2 3
        S: c OK Search completed
        C: d STORE 1:2 +FLAGS (\\Answered)
        S: * 2 FETCH (FLAGS (\\Answered \\Seen \\Recent))
        S: d NO [EXPUNGEISSUED] Some of the messages no longer exist
        C: e COPY 1:2 INBOX
        S: * 1 EXPUNGE
        S: * 3 EXISTS
        S: * 3 RECENT
        S: e NO [EXPUNGEISSUED] ...
        C: f NOOP
        S: f OK ...
        C: g FETCH 1 UID
        S: * 1 FETCH (UID 2)
        S: g OK ...
        ",
    );
}

#[test]
fn uid_commands_may_tell_expunges() {
    check_in(
        &mut three(),
        "
        expunge INBOX 2
        C: a UID FETCH 3 FLAGS
        S: * 3 FETCH (UID 3 FLAGS (\\Recent))
        S: * 2 EXPUNGE
        S: * 2 RECENT
        S: a OK Fetch completed
        expunge INBOX 1
        C: b UID SEARCH ALL
        S: * SEARCH 3
        S: * 1 EXPUNGE
        S: * 1 RECENT
        S: b OK Search completed
        ",
    );
}

#[test]
fn sessions_hear_of_each_other() {
    let mut world = three();
    check_in(
        &mut world,
        "
        C2: a SELECT INBOX
        S2: * FLAGS ...
        S2: * OK ...
        S2: * 3 EXISTS
        S2: * 0 RECENT
        S2: * OK [UNSEEN 1] ...
        S2: * OK ...
        S2: * OK ...
        S2: * OK ...
        S2: * OK ...
        S2: a OK ...
        C2: b STORE 3 +FLAGS.SILENT (\\Deleted)
        S2: b OK Store completed
        C: a NOOP
        S: * 3 FETCH (FLAGS (\\Deleted \\Recent))
        S: a OK ...
        C2: c EXPUNGE
        S2: * 3 EXPUNGE
        S2: c OK Expunge completed
        C: b FETCH 3 FLAGS
        S: * 3 FETCH (FLAGS (\\Deleted \\Recent))
        S: b OK Fetch completed
        C: c NOOP
        S: * 3 EXPUNGE
        S: * 2 RECENT
        S: c OK ...
        ",
    );
}

/// RFC 7162 §3.1.3.
#[test]
fn conditional_store_leaves_changed_messages_alone() {
    check_in(
        &mut three(),
        "
        C: a FETCH 1:3 MODSEQ
        S: * OK [HIGHESTMODSEQ 1004] Highest
        S: * 1 FETCH (MODSEQ (1002))
        S: * 2 FETCH (MODSEQ (1003))
        S: * 3 FETCH (MODSEQ (1004))
        S: a OK Fetch completed
        flag INBOX 2 +\\Flagged
        C: b STORE 1:3 (UNCHANGEDSINCE 1004) +FLAGS (\\Seen)
        S: * 1 FETCH (FLAGS (\\Seen \\Recent) MODSEQ (...))
        S: * 3 FETCH (FLAGS (\\Seen \\Recent) MODSEQ (...))
        S: * 2 FETCH (FLAGS (\\Flagged \\Recent) MODSEQ (1005))
        S: b OK [MODIFIED 2] ...
        C: c UID STORE 3 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\\Seen)
        S: c OK [MODIFIED 3] ...
        C: d UID STORE 3 +FLAGS.SILENT (\\Draft)
        S: * 3 FETCH (UID 3 MODSEQ (...))
        S: d OK Store completed
        C: e FETCH 1:3 (FLAGS) (CHANGEDSINCE 1006)
        S: * 3 FETCH (FLAGS (\\Seen \\Draft \\Recent) MODSEQ (...))
        S: e OK Fetch completed
        ",
    );
}
