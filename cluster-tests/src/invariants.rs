//! One property a file, its tag beside it: `replication.md` §8 (I…), `locking.md` §12 (J…).

use crate::oracle::{Oracle, Shown};

mod acked_is_visible;
pub mod bytes_equal;
pub mod deposed_acknowledges_nothing;
pub mod epochs_rise;
mod flags_as_asked;
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
