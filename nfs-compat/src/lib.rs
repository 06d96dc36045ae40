//! The filesystem with the promises that a mail store needs, knowing nothing of mail.
//!
//! Every room that stores something is handed an [`Fs`]. [`disk`] is the operating system's; [`sim`] is one in
//! memory that loses and tears, by seed, whatever was not synced when it crashes, and that hosts can mount over NFS with the
//! caches of a Linux client ([`sim::NfsClient`]). Nothing outside this crate calls
//! `std::fs`; clippy's `disallowed_methods` holds that wall.

pub mod disk;
pub mod error;
mod fresh;
pub mod fs;
pub mod lock;
pub mod probe;
pub mod publish;
mod replay;
pub mod sim;

pub use disk::DiskFs;
pub use error::{Error, ErrorKind, Result};
pub use fs::{DirEntry, EntryKind, File, Fs, Metadata, Space};
pub use lock::{DirectoryLock, LockError};
pub use publish::{publish, publish_new};
pub use sim::{SimClient, SimFs};
