//! What is true about an account: names, clocks, operations, and the state that they join to.
//!
//! Pure: values in, values out. No files, sockets, threads or clocks (`now` is an argument). What an operation means,
//! alone or beside another site's, is said here once (R-OP2), and every caller shares it.

pub mod clock;
pub mod epoch;
pub mod flag;
pub mod ids;
pub mod name;
pub mod op;
pub mod state;
pub mod utf7;
pub mod version;
pub mod view;

pub use clock::{Clock, ClockAhead, ModSeq, Stamp};
pub use epoch::Epoch;
pub use flag::{Flag, Keyword, SystemFlag, SystemFlags};
pub use ids::{AccountId, ContentId, DeliveryKey, EntryId, MailboxId, MessageId, SiteId, Uid, UidValidity};
pub use name::{MailboxName, NameError, SpecialUse};
pub use op::{Op, Position, Record};
pub use state::AccountState;
pub use version::{Dot, ReplicaId, VersionVector};
