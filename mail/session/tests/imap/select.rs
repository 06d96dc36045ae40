//! SELECT, EXAMINE, UNSELECT, CLOSE; the mailbox that goes away under a session.

use crate::script::{check, check_in};
use crate::world::World;

#[test]
fn select_describes_the_mailbox() {
    check(
        "
        deliver INBOX one
        deliver INBOX two
        flag INBOX 1 +\\Seen
        flag INBOX 2 +$Work
        C: a SELECT inbox
        S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)
        S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work \\*)] Flags permitted
        S: * 2 EXISTS
        S: * 2 RECENT
        S: * OK [UNSEEN 2] First unseen
        S: * OK [UIDVALIDITY 42] UIDs valid
        S: * OK [UIDNEXT 3] Predicted next UID
        S: * OK [HIGHESTMODSEQ 1005] Highest
        S: * OK [MAILBOXID (00000000000000000000000000000001)] Mailbox id
        S: a OK [READ-WRITE] Select completed
        ",
    );
}

#[test]
fn recent_belongs_to_one_session_and_examine_takes_it_from_none() {
    check(
        "
        deliver INBOX one
        C: a EXAMINE INBOX
        S: * FLAGS ...
        S: * OK [PERMANENTFLAGS ()] Read-only mailbox
        S: * 1 EXISTS
        S: * 1 RECENT
        S: * OK [UNSEEN 1] ...
        S: * OK [UIDVALIDITY ...
        S: * OK [UIDNEXT ...
        S: * OK [HIGHESTMODSEQ ...
        S: * OK [MAILBOXID ...
        S: a OK [READ-ONLY] Examine completed
        C2: a SELECT INBOX
        S2: * FLAGS ...
        S2: * OK [PERMANENTFLAGS ...
        S2: * 1 EXISTS
        S2: * 1 RECENT
        S2: * OK [UNSEEN 1] ...
        S2: * OK [UIDVALIDITY ...
        S2: * OK [UIDNEXT ...
        S2: * OK [HIGHESTMODSEQ ...
        S2: * OK [MAILBOXID ...
        S2: a OK [READ-WRITE] ...
        C2: b FETCH 1 FLAGS
        S2: * 1 FETCH (FLAGS (\\Recent))
        S2: b OK ...
        C3: a SELECT INBOX
        S3: * FLAGS ...
        S3: * OK [PERMANENTFLAGS ...
        S3: * 1 EXISTS
        S3: * 0 RECENT
        S3: * OK [UNSEEN 1] ...
        S3: * OK [UIDVALIDITY ...
        S3: * OK [UIDNEXT ...
        S3: * OK [HIGHESTMODSEQ ...
        S3: * OK [MAILBOXID ...
        S3: a OK [READ-WRITE] ...
        ",
    );
}

#[test]
fn a_failed_select_leaves_nothing_selected() {
    let mut world = selected("");
    check_in(
        &mut world,
        "
        C: b SELECT nowhere
        S: * OK [CLOSED] Previous mailbox closed
        S: b NO [NONEXISTENT] Mailbox does not exist
        C: c FETCH 1 FLAGS
        S: c BAD [CLIENTBUG] Select a mailbox first
        C: d SELECT ../x
        S: d NO [CANNOT] ...
        C: e SELECT INBOX (QRESYNC (42 1))
        S: e BAD QRESYNC is not enabled
        ",
    );
}

#[test]
fn select_finds_what_another_program_made_just_now() {
    let mut world = World::new();
    check_in(
        &mut world,
        "
        unobserved Neu hello
        C: a SELECT Neu
        S: * FLAGS ...
        S: * OK [PERMANENTFLAGS ...
        S: * 1 EXISTS
        S: * 1 RECENT
        S: * OK [UNSEEN 1] ...
        S: * OK [UIDVALIDITY ...
        S: * OK [UIDNEXT ...
        S: * OK [HIGHESTMODSEQ ...
        S: * OK [MAILBOXID ...
        S: a OK [READ-WRITE] ...
        unobserved Neu again
        C: b NOOP
        S: * 2 EXISTS
        S: * 2 RECENT
        S: b OK NOOP completed
        ",
    );
}

#[test]
fn close_expunges_silently_and_unselect_does_not() {
    let mut world = selected("deliver INBOX one\ndeliver INBOX two\nflag INBOX 1 +\\Deleted");
    check_in(&mut world, "C: b UNSELECT\nS: b OK Unselect completed");
    assert_eq!(world.mailbox("INBOX").messages.len(), 2);
    select(&mut world, "SELECT INBOX");
    check_in(&mut world, "C: c CLOSE\nS: c OK Close completed\nC: d CHECK\nS: d BAD [CLIENTBUG] ...");
    assert_eq!(world.mailbox("INBOX").messages.len(), 1);
    world.edit_flags("INBOX", 2, account::door::FlagEdit::Add, &["\\Deleted"]);
    world.publish();
    select(&mut world, "EXAMINE INBOX");
    check_in(&mut world, "C: e CLOSE\nS: e OK Close completed");
    assert_eq!(world.mailbox("INBOX").messages.len(), 1);
}

#[test]
fn a_deleted_or_renumbered_mailbox_says_bye() {
    for event in ["delete Work", "renumber Work"] {
        let mut world = World::new();
        check_in(&mut world, "create Work");
        world.login();
        select(&mut world, "SELECT Work");
        let bye = "S: * BYE [UNAVAILABLE] The selected mailbox was deleted or renumbered\nclosed Kicked";
        check_in(&mut world, &format!("{event}\n{bye}"));
    }
}

#[test]
fn deleting_the_own_selected_mailbox_only_deselects_it() {
    let mut world = World::new();
    check_in(&mut world, "create Work");
    world.login();
    select(&mut world, "SELECT Work");
    check_in(
        &mut world,
        "
        C: b DELETE Work
        S: * OK [CLOSED] Previous mailbox closed
        S: b OK Mailbox deleted
        C: c CHECK
        S: c BAD [CLIENTBUG] ...
        ",
    );
}

#[test]
fn renaming_the_selected_mailbox_keeps_it_selected() {
    let mut world = World::new();
    check_in(&mut world, "create Work");
    world.login();
    select(&mut world, "SELECT Work");
    check_in(
        &mut world,
        "
        C: b RENAME Work Play
        S: b OK Mailbox renamed
        deliver Play one
        C: c NOOP
        S: * 1 EXISTS
        S: * 1 RECENT
        S: c OK ...
        ",
    );
    use session::Session;
    assert_eq!(world.clients[0].session.doing().mailbox.as_deref(), Some("Play"));
}

/// A logged-in client that has INBOX selected, after these events.
pub(crate) fn selected(events: &str) -> World {
    let mut world = World::new();
    world.login();
    check_in(&mut world, events);
    select(&mut world, "SELECT INBOX");
    world
}

pub(crate) fn select(world: &mut World, command: &str) {
    world.send(0, format!("select {command}\r\n").as_bytes());
    let received = String::from_utf8(std::mem::take(&mut world.clients[0].received)).unwrap();
    assert!(received.contains("select OK"), "{received}");
}
