//! What every store format can do with message bytes.
//!
//! A mailbox is known by its id; on disk it carries the id in a small file of its own, so that a crash between a
//! rename's record and the directory's rename heals at the next open. A message is known by its `base`: the format's
//! own name for its bytes, unique in the account, fixed for life.
//!
//! The life of a message's bytes:
//!
//! 1. [`stage`](Format::stage): under a name that no reader of the store looks at (Maildir's `tmp`), and
//!    [`sync_staged`](Format::sync_staged): that name is durable. Nothing refers to it yet.
//! 2. The owner journals the append. From here the message exists.
//! 3. [`place`](Format::place): under its public name. A crash before it is healed by calling it again at open: it
//!    looks for the base in every place it can have got to.
//! 4. [`write_flags`](Format::write_flags), lazily: what neighbours read of the flags follows the journal.
//! 5. [`retire`](Format::retire): out of the mailbox into the hold, where snapshots still read it; unlinked by
//!    [`sweep`](Format::sweep) five minutes later at the earliest (L-UN).
//!
//! Methods take `&self`: one owner writes, many readers open.

use std::collections::HashSet;
use std::sync::Arc;

use model::{EntryId, Epoch, Keyword, MailboxId, MailboxName, NameError, SystemFlags};
use nfs_compat::Result;

use crate::body::Body;

pub mod maildir;

/// How an account's message bytes lie on disk.
pub trait Format: Send + Sync {
    /// Mailboxes on disk, whoever made them.
    fn mailboxes(&self) -> Result<Vec<FoundMailbox>>;

    /// Whether the format can hold this name.
    fn check_name(&self, name: &MailboxName) -> Result<(), NameError>;

    /// Makes the directories agree with these mailboxes: creates, renames, and moves into the hold those that carry
    /// the id of a mailbox which is known to be gone. Directories without an id, or with one that the owner has never
    /// heard of, are left alone: somebody who came later may have made them.
    fn arrange(
        &self,
        wanted: &[(MailboxId, MailboxName)],
        is_gone: &dyn Fn(MailboxId) -> bool,
        now_unix_s: i64,
    ) -> Result<()>;

    /// Writes the id into a mailbox directory that had none ([`FoundMailbox::id`]).
    fn adopt(&self, found: &MailboxName, id: MailboxId) -> Result<()>;

    /// The base name of a new message. `unix_us` only makes it readable and ordered; `entry` makes it unique.
    fn base(&self, entry: EntryId, epoch: Epoch, unix_us: u64, size: u64, wire_size: u64) -> Arc<str>;

    /// Puts bytes on stage for `mailbox` under `base`, with the internal date that they will show.
    fn stage(&self, mailbox: MailboxId, base: &str, source: Source<'_>, internal_date: i64) -> Result<()>;

    /// Makes the staged names of these mailboxes durable.
    fn sync_staged(&self, mailboxes: &[MailboxId]) -> Result<()>;

    /// Takes back what was staged and not journaled.
    fn unstage(&self, mailbox: MailboxId, base: &str);

    /// Moves bytes from wherever they are (one of `from`, stage, the hold) to where readers look. No sync: see above.
    fn place(&self, mailbox: MailboxId, base: &str, from: &[MailboxId], flags: Flags<'_>) -> Result<()>;

    /// Makes the public names that `place` gave in these mailboxes durable. Until then a crash can put bytes back to
    /// where they were before.
    fn sync_placed(&self, mailboxes: &[MailboxId]) -> Result<()>;

    /// Makes the public name show these flags.
    fn write_flags(&self, mailbox: MailboxId, base: &str, flags: Flags<'_>) -> Result<()>;

    /// Takes the bytes out of the mailbox into the hold.
    fn retire(&self, mailbox: MailboxId, base: &str, now_unix_s: i64) -> Result<()>;

    /// Unlinks what is no message (`is_live`) and has been in the hold since before `before_unix_s`, or on stage, where
    /// other programs' files have 36 hours longer. Bytes of an epoch later than `own` are left alone: whether they are a
    /// message only their owner knows.
    fn sweep(&self, before_unix_s: i64, own: Epoch, is_live: &dyn Fn(&str) -> bool) -> Result<u64>;

    /// Opens a message's bytes, wherever they are now.
    fn open(&self, mailbox: MailboxId, base: &str) -> Result<Body>;

    /// Looks at a mailbox as other programs may have left it. `None`: nothing can have changed since the last look.
    /// `thorough` looks even if the directories' times say that only our own changes happened.
    fn observe(&self, mailbox: MailboxId, now_unix_us: u64, thorough: bool) -> Result<Option<Observed>>;

    /// Bases of all messages on disk, without taking note of them.
    fn list(&self, mailbox: MailboxId) -> Result<Vec<Arc<str>>>;

    /// Whether the mailbox has bytes under this base, on stage or where readers look.
    fn has(&self, mailbox: MailboxId, base: &str) -> Result<bool>;

    /// Those of these bases under which bytes lie in the hold.
    fn held(&self, bases: &HashSet<Arc<str>>) -> Result<HashSet<Arc<str>>>;

    /// Every keyword that the journal has named, in its order. From here on letters are given out in that order, so that
    /// owners of one account, however late, never give one letter two meanings.
    fn know_keywords(&self, keywords: Vec<Keyword>);

    /// Reads a file that appeared without us: its size, wire size, content and date.
    fn examine(&self, mailbox: MailboxId, base: &str) -> Result<Examined>;

    /// Writes what neighbours read beside the messages: `dovecot-uidlist`, `dovecot-keywords`.
    fn write_lists(&self, mailbox: MailboxId, lists: &Lists) -> Result<()>;

    /// Writes the subscription list.
    fn write_subscriptions(&self, names: &[MailboxName]) -> Result<()>;

    /// What a former server knew: UIDVALIDITY, UIDs, keywords. Damage is skipped and told.
    fn former_lists(&self, mailbox: &MailboxName) -> Result<FormerLists>;

    fn former_subscriptions(&self) -> Result<Vec<MailboxName>>;
}

/// Flags as a public name shows them.
#[derive(Clone, Copy, Debug)]
pub struct Flags<'a> {
    pub system: SystemFlags,
    pub keywords: &'a [Keyword],
    /// A message that no client has been shown lies in Maildir's `new`.
    pub fresh: bool,
}

/// Where staged bytes come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A file on the same volume: linked.
    Spooled(&'a std::path::Path),
    /// Another message of the account: linked.
    Message { mailbox: MailboxId, base: &'a str },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundMailbox {
    /// The name that its directory has.
    pub name: MailboxName,
    /// The id that it carries; `None` if another program made it.
    pub id: Option<MailboxId>,
}

/// All messages of one mailbox, as they lie on disk.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub files: Vec<ObservedFile>,
    /// Two names for one message, files with broken names: what was found and what was done.
    pub healed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedFile {
    pub base: Arc<str>,
    pub flags: SystemFlags,
    pub keywords: Vec<Keyword>,
    /// What we last wrote or saw of the same file, if that differs: somebody else changed it. `None` if it is as known, or was never seen.
    pub changed_from: Option<(SystemFlags, Vec<Keyword>)>,
    /// Whether it lies where no reader has looked yet (`new`).
    pub fresh: bool,
}

/// A file read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    pub size: u64,
    pub wire_size: u64,
    pub content: model::ContentId,
    pub internal_date: i64,
}

/// What stands in `dovecot-uidlist` and `dovecot-keywords`.
#[derive(Clone, Debug)]
pub struct Lists {
    pub uid_validity: u32,
    pub uid_next: u32,
    /// UID, base, stored POP3 UIDL.
    pub uids: Vec<(u32, Arc<str>, Option<Arc<str>>)>,
}

/// What a former server left about a mailbox.
#[derive(Clone, Debug, Default)]
pub struct FormerLists {
    pub uid_validity: Option<u32>,
    pub uid_next: Option<u32>,
    pub guid: Option<[u8; 16]>,
    /// UID, base, stored POP3 UIDL; ascending by UID.
    pub uids: Vec<(u32, Arc<str>, Option<Arc<str>>)>,
    /// Lines that could not be read: `file:line: what`.
    pub damage: Vec<String>,
}
