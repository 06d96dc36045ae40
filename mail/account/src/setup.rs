//! What an owner is given when it begins, and the limits it keeps.

use std::sync::Arc;

use model::{AccountId, MailboxName, SiteId, SpecialUse};
use nfs_compat::Fs;
use store::format::Format;
use store::index::cache::Cache;
use store::paths::Home;

use crate::tenure::Tenure;

/// Mailboxes an account can have, if nothing else is configured.
pub const MAILBOXES_DEFAULT: u32 = 10_000;
/// Messages one mailbox can have. A view counts them in 32 bits, and clients give up long before.
pub const MAILBOX_MESSAGES_DEFAULT: u32 = 10_000_000;
/// Keywords all messages of an account use together. Each is remembered for ever.
pub const KEYWORDS_DEFAULT: u32 = 5_000;
/// Keywords on one message.
pub const MESSAGE_KEYWORDS_DEFAULT: u32 = 200;
/// Space that is left for journals and flags when a volume is full of mail: users can then still delete.
pub const SPACE_RESERVE_BYTES: u64 = 1 << 20;

/// The time, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    pub unix_us: u64,
}

impl Now {
    pub fn unix_ms(self) -> u64 {
        self.unix_us / 1000
    }

    pub fn unix_s(self) -> i64 {
        i64::try_from(self.unix_us / 1_000_000).unwrap_or(i64::MAX)
    }
}

/// How large an account may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub mailboxes: u32,
    pub mailbox_messages: u32,
    pub keywords: u32,
    pub message_keywords: u32,
    /// Octets of all messages together, as clients see them.
    pub quota_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            mailboxes: MAILBOXES_DEFAULT,
            mailbox_messages: MAILBOX_MESSAGES_DEFAULT,
            keywords: KEYWORDS_DEFAULT,
            message_keywords: MESSAGE_KEYWORDS_DEFAULT,
            quota_bytes: None,
        }
    }
}

/// Everything that an owner needs.
#[derive(Clone)]
pub struct Setup {
    pub account: AccountId,
    /// Canonical user name, for the log.
    pub user: String,
    pub site: SiteId,
    /// This node's number.
    pub node: u8,
    pub home: Home,
    pub fs: Arc<dyn Fs>,
    pub format: Arc<dyn Format>,
    pub tenure: Tenure,
    pub limits: Limits,
    /// Mailboxes that every account begins with. Not made again when a user deleted them.
    pub autocreate: Vec<(MailboxName, Option<SpecialUse>)>,
    /// What was parsed out of messages, kept on this node. Without it everything is parsed again.
    pub cache: Option<Arc<Cache>>,
}
