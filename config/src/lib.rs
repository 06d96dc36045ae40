//! Typed configuration: every key declared once, with its type, its default and its sentence.
//!
//! Invariants
//! - A [`Config`] that exists has passed every check; what is wrong is told with file, line and what to write instead.
//! - A key nobody knows is refused, and so is one that this version cannot serve yet: nothing is ignored.
//! - Relative paths are relative to the directory of the file they stand in.
//!
//! Rooms have `Options` of their own and read no configuration: [`Auth::options`] makes those of `auth`, `node` the others.

mod check;
mod file;
mod keys;
mod nearest;
mod options;
mod reference;
mod section;
mod value;

pub use file::{Mistake, load};
pub use keys::{
    Acl, Auth, Cluster, ClusterTls, Config, Limits, Listen, Log, Mail, Member, Metrics, Node, PassdbEntry,
    Quirks, Quota, Replication, ReplicationSite, Search, Sieve, Sni, Tls,
};
pub use reference::show;
pub use section::Tables;
pub use value::{
    Driver, Durability, Endpoint, LogFormat, LogLevel, MailFormat, Mechanism, Plaintext, ReplicationMode,
    Size, TlsVersion,
};
