//! One property a file, its tag beside it: `replication.md` §8 (I…), `locking.md` §12 (J…).
//!
//! | invariant | files |
//! |---|---|
//! | J1 one session an epoch, epochs rise | `j1_one_session_an_epoch` |
//! | J2 nothing acknowledged is lost | `acked_is_visible`, `promised_is_shown`, `flags_as_asked`, `mailboxes_stay`, `nothing_twice` |
//! | J3 no UID, entry or modseq twice | `uid_names_one`, `uidnext_never_falls`, `uidvalidity_never_falls`, `modseq_rises` |
//! | J4 the deposed influence nothing | `deposed_acknowledges_nothing`, `nothing_from_nowhere`, and all others: deposed owners go on |
//! | J5 never behind the witness | `j5_never_behind_the_witness` |
//! | J6 reads go forward | `reads_go_forward`, `j6_no_read_after_the_lease` |
//! | J7 back soon | `j7_back_soon` |
//! | J8 unlinked after the removal counts | `j8_unlinked_after_removal`, `bytes_equal` |

use crate::oracle::{Oracle, Shown};

mod acked_is_visible;
pub mod bytes_equal;
pub mod deposed_acknowledges_nothing;
mod flags_as_asked;
pub mod j1_one_session_an_epoch;
pub mod j5_never_behind_the_witness;
pub mod j6_no_read_after_the_lease;
pub mod j7_back_soon;
pub mod j8_unlinked_after_removal;
mod mailboxes_stay;
mod modseq_rises;
mod nothing_from_nowhere;
mod nothing_twice;
pub mod promised_is_shown;
mod reads_go_forward;
mod uid_names_one;
mod uidnext_never_falls;
mod uidvalidity_never_falls;

type Check = fn(&Oracle, &Shown<'_>) -> Result<(), String>;

/// Properties of the next snapshot, beside everything that came before it.
pub const OF_SNAPSHOTS: [(&str, Check); 10] = [
    ("acked_is_visible (I1, J2)", acked_is_visible::check),
    ("nothing_twice (I2)", nothing_twice::check),
    ("nothing_from_nowhere (I8, J4)", nothing_from_nowhere::check),
    ("uid_names_one (I3, J3)", uid_names_one::check),
    ("uidnext_never_falls (I4)", uidnext_never_falls::check),
    ("uidvalidity_never_falls (I5)", uidvalidity_never_falls::check),
    ("modseq_rises (I6)", modseq_rises::check),
    ("flags_as_asked (J2)", flags_as_asked::check),
    ("mailboxes_stay (J2)", mailboxes_stay::check),
    ("reads_go_forward (J6)", reads_go_forward::check),
];
