//! COPY, MOVE, EXPUNGE, UID EXPUNGE.

use crate::script::check_in;
use crate::select::selected;
use crate::world::World;

fn three() -> World {
    selected("create Work\ndeliver INBOX one\ndeliver INBOX two\ndeliver INBOX three")
}

#[test]
fn copy_names_the_copies() {
    check_in(
        &mut three(),
        "
        C: a COPY 1,3 Work
        S: a OK [COPYUID 42 1,3 1:2] Copy completed
        C: b UID COPY 2 nowhere
        S: b NO [TRYCREATE] Mailbox does not exist
        C: c UID COPY 99 Work
        S: c OK No messages to copy
        C: d COPY 9 Work
        S: d BAD No such message
        C: e COPY 1 INBOX
        S: * 4 EXISTS
        S: * 4 RECENT
        S: e OK [COPYUID 42 1 4] Copy completed
        ",
    );
}

/// RFC 6851 §4.3.
#[test]
fn move_names_the_copies_before_it_tells_of_the_expunges() {
    check_in(
        &mut three(),
        "
        C: a MOVE 1:2 Work
        S: * OK [COPYUID 42 1:2 1:2] Moved
        S: * 1 EXPUNGE
        S: * 1 EXPUNGE
        S: * 1 RECENT
        S: a OK Move completed
        C: b UID MOVE 3 nowhere
        S: b NO [TRYCREATE] ...
        C: c ENABLE CONDSTORE
        S: * ENABLED CONDSTORE
        S: * OK [HIGHESTMODSEQ ...] Highest
        S: c OK ...
        C: d UID MOVE 3 Work
        S: * OK [COPYUID 42 3 3] Moved
        S: * 1 EXPUNGE
        S: * 0 RECENT
        S: d OK [HIGHESTMODSEQ ...] Move completed
        ",
    );
}

#[test]
fn expunge_takes_what_is_deleted_and_uid_expunge_only_what_is_named() {
    check_in(
        &mut three(),
        "
        C: a STORE 1:3 +FLAGS.SILENT (\\Deleted)
        S: a OK Store completed
        C: b UID EXPUNGE 2
        S: * 2 EXPUNGE
        S: * 2 RECENT
        S: b OK Expunge completed
        C: c EXPUNGE
        S: * 1 EXPUNGE
        S: * 1 EXPUNGE
        S: * 0 RECENT
        S: c OK Expunge completed
        C: d EXPUNGE
        S: d OK Expunge completed
        ",
    );
}
