//! CREATE, DELETE, RENAME, STATUS and their refusals.

use crate::script::{check, check_in};
use crate::world::World;

#[test]
fn mailboxes_are_created_renamed_and_deleted() {
    check(
        "
        C: a CREATE Work/
        S: a OK [MAILBOXID (00000000000000000000000000000002)] Mailbox created
        C: b CREATE Work
        S: b NO [ALREADYEXISTS] Mailbox exists already
        C: c RENAME Work Play
        S: c OK Mailbox renamed
        C: d DELETE Work
        S: d NO [NONEXISTENT] Mailbox does not exist
        C: e DELETE Play
        S: e OK Mailbox deleted
        C: f DELETE INBOX
        S: f NO [CANNOT] INBOX stays
        C: g CREATE a//b
        S: g NO [CANNOT] ...
        C: h CREATE &bad
        S: h NO [CANNOT] ...
        C: i CREATE Spam (USE (\\Junk))
        S: i OK [MAILBOXID ...] Mailbox created
        C: j CREATE Everything (USE (\\All))
        S: j NO [USEATTR] ...
        C: k LIST (SPECIAL-USE) \"\" *
        S: * LIST (\\HasNoChildren \\Junk) \"/\" \"Spam\"
        S: k OK ...
        ",
    );
}

#[test]
fn status_looks_anew_and_counts() {
    check(
        "
        deliver INBOX one
        unobserved INBOX two
        flag INBOX 1 +\\Seen
        C: a STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)
        S: * STATUS \"INBOX\" (MESSAGES 2 RECENT 2 UIDNEXT 3 UIDVALIDITY 42 UNSEEN 1)
        S: a OK Status completed
        C: b STATUS INBOX (SIZE HIGHESTMODSEQ MAILBOXID)
        S: * STATUS \"INBOX\" (SIZE ... HIGHESTMODSEQ ... MAILBOXID (00000000000000000000000000000001))
        S: b OK Status completed
        C: c STATUS nowhere (MESSAGES)
        S: c NO [NONEXISTENT] ...
        ",
    );
}

#[test]
fn a_refusal_speaks_rfc_5530() {
    check(
        "
        refuse deposed
        C: a CREATE x
        S: a NO [UNAVAILABLE] ...
        refuse quota
        C: b CREATE x
        S: b NO [OVERQUOTA] Quota exceeded
        ",
    );
}

/// L-CM2.
#[test]
fn a_change_of_unknown_fate_is_never_denied() {
    let mut world = World::new();
    check_in(
        &mut world,
        "
        refuse unknown
        C: a CREATE x
        S: * BYE [UNAVAILABLE] The last change may or may not be done, look again
        closed UnknownFate
        ",
    );
}
