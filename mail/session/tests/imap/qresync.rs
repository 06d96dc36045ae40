//! QRESYNC (RFC 7162 §3.2), after its examples.

use crate::script::check_in;
use crate::world::World;

/// UIDs 1 to 6, of which 2 and 4 are expunged and 5 is changed. Modseqs: 1002 to 1007, 1008 and 1009, 1010.
fn world() -> World {
    let mut world = World::new();
    world.login();
    for subject in ["one", "two", "three", "four", "five", "six"] {
        check_in(&mut world, &format!("deliver INBOX {subject}"));
    }
    check_in(
        &mut world,
        "
        expunge INBOX 2
        expunge INBOX 4
        flag INBOX 5 +\\Flagged
        C: e ENABLE QRESYNC
        S: * ENABLED QRESYNC
        S: e OK Enabled
        ",
    );
    world
}

fn resync(world: &mut World, parameters: &str, expected: &str) {
    check_in(
        world,
        &format!(
            "
            C: a SELECT INBOX (QRESYNC ({parameters}))
            S: * FLAGS ...
            S: * OK [PERMANENTFLAGS ...
            S: * 4 EXISTS
            S: * ... RECENT
            S: * OK [UNSEEN 1] ...
            S: * OK [UIDVALIDITY 42] ...
            S: * OK [UIDNEXT 7] ...
            S: * OK [HIGHESTMODSEQ 1010] Highest
            S: * OK [MAILBOXID ...
            {expected}
            S: a OK [READ-WRITE] Select completed
            "
        ),
    );
}

#[test]
fn select_tells_what_vanished_and_what_changed() {
    resync(
        &mut world(),
        "42 1007",
        "S: * VANISHED (EARLIER) 2,4\nS: * 3 FETCH (UID 5 FLAGS (\\Flagged \\Recent) MODSEQ (1010))",
    );
}

#[test]
fn only_known_uids_are_spoken_of() {
    resync(&mut world(), "42 1007 1:3", "S: * VANISHED (EARLIER) 2");
}

#[test]
fn another_uidvalidity_makes_it_a_plain_select() {
    resync(&mut world(), "41 1007", "");
}

#[test]
fn forgotten_expunges_are_told_from_what_is_absent() {
    let mut forgetful = world();
    check_in(&mut forgetful, "forget INBOX");
    resync(
        &mut forgetful,
        "42 1008",
        "S: * VANISHED (EARLIER) 2,4\nS: * 3 FETCH (UID 5 FLAGS (\\Flagged \\Recent) MODSEQ (1010))",
    );
}

/// RFC 7162 §3.2.5.2: the pairs say up to where nothing can be missing.
#[test]
fn sequence_match_data_shortens_what_is_told() {
    let mut forgetful = world();
    check_in(&mut forgetful, "forget INBOX");
    let changed = "S: * 3 FETCH (UID 5 FLAGS (\\Flagged \\Recent) MODSEQ (1010))";
    resync(&mut forgetful, "42 1009 1:6 (2,3 3,6)", &format!("S: * VANISHED (EARLIER) 4\n{changed}"));
}

#[test]
fn expunges_are_told_as_vanished_and_the_tagged_ok_has_the_modseq() {
    let mut world = world();
    resync(&mut world, "42 1010", "");
    check_in(
        &mut world,
        "
        C: b UID STORE 1,3 +FLAGS.SILENT (\\Deleted)
        S: * 1 FETCH (UID 1 MODSEQ (...))
        S: * 2 FETCH (UID 3 MODSEQ (...))
        S: b OK Store completed
        C: c EXPUNGE
        S: * VANISHED 1,3
        S: * 2 RECENT
        S: c OK [HIGHESTMODSEQ 1012] Expunge completed
        flag INBOX 6 +\\Seen
        C: d NOOP
        S: * 2 FETCH (UID 6 FLAGS (\\Seen \\Recent) MODSEQ (1013))
        S: d OK ...
        C: f UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1009 VANISHED)
        S: * VANISHED (EARLIER) 1,3
        S: * 1 FETCH (UID 5 FLAGS (\\Flagged \\Recent) MODSEQ (1010))
        S: * 2 FETCH (UID 6 FLAGS (\\Seen \\Recent) MODSEQ (1013))
        S: f OK Fetch completed
        C: g STORE 2 +FLAGS.SILENT (\\Deleted)
        S: * 2 FETCH (UID 6 MODSEQ (1014))
        S: g OK Store completed
        C: h CLOSE
        S: h OK [HIGHESTMODSEQ 1015] Close completed
        ",
    );
}

#[test]
fn vanished_needs_qresync() {
    check_in(
        &mut crate::select::selected("deliver INBOX one"),
        "
        C: a UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)
        S: a BAD QRESYNC is not enabled
        ",
    );
}
