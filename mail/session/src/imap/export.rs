//! A session that goes on at another node (L-CN3): out at a command boundary, in as if nothing had been.
//!
//! Carried are the user, what was enabled, the mailbox that is selected with all that the client was told of it, an IDLE
//! with its tag, how long the client has been silent, and what it sent and nobody read. Not carried is a command that
//! runs: a session with one is not at a boundary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codec::imap::Tag;
use model::{MailboxName, ModSeq, Uid};

use super::idle::Idle;
use super::selected::{Recent, Selected};
use super::{Imap, Options, User, What, login};
use crate::blob::{Blob, BlobRefused, Protocol, Reader, UNREAD_BYTES_MAX, Writer};
use crate::{Connection, LoggedIn, picture};

/// As `dispatch` calls the command.
const NAME: &str = "idle";

const CONDSTORE: u8 = 1;
const QRESYNC: u8 = 2;
const IDLING: u8 = 4;
const SELECTED: u8 = 8;
const READ_ONLY: u8 = 16;
const HUNG_UP: u8 = 32;
const KNOWN: u8 = CONDSTORE | QRESYNC | IDLING | SELECTED | READ_ONLY | HUNG_UP;

impl Imap {
    /// Whether the next thing to happen is a command of the client's, or the end of its IDLE.
    pub(super) fn is_at_boundary(&self) -> bool {
        let between = match self.running.as_ref().map(|running| &running.what) {
            None => self.framer.is_between_commands(),
            Some(What::Idle(_)) => self.framer.expects_line(),
            Some(_) => false,
        };
        between && self.user.is_some() && !self.ended && self.waiting.is_none() && self.out.is_said()
    }

    /// The whole session, if it is at a boundary.
    pub(super) fn packed(&self, now: Instant) -> Option<Blob> {
        let user = self.user.as_ref().filter(|_| self.is_at_boundary())?;
        let running = self.running.as_deref();
        let idle = running.and_then(|running| {
            if let What::Idle(idle) = &running.what { Some((&running.tag, idle)) } else { None }
        });
        let mut out = Writer::begin(Protocol::Imap);
        let selected = user.selected.as_deref();
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.byte(
            flag(user.condstore, CONDSTORE)
                | flag(user.qresync, QRESYNC)
                | flag(idle.is_some(), IDLING)
                | flag(selected.is_some(), SELECTED)
                | flag(selected.is_some_and(|selected| selected.read_only), READ_ONLY)
                | flag(self.hung_up, HUNG_UP),
        );
        out.text(&user.name);
        out.number(self.bad_commands);
        out.number(millis(now.saturating_duration_since(self.heard)));
        if let Some((tag, idle)) = idle {
            out.text(tag.as_str());
            out.number(millis(idle.keepalive_at.saturating_duration_since(now)));
        }
        if let Some(selected) = selected {
            out.text(selected.name.as_str());
            let latest = selected.find(&user.snapshot).map(|(_, view)| &**view);
            picture::write(&mut out, &selected.held, latest);
            selected.write(&mut out);
        }
        out.bytes(self.framer.buffered());
        out.finish()
    }

    /// A session that began at another node, which has said all that is in `blob`.
    pub fn resumed(
        connection: Connection,
        options: Options,
        now: Instant,
        now_unix_s: i64,
        logged_in: LoggedIn,
        blob: &Blob,
    ) -> Result<Self, BlobRefused> {
        let mut from = blob.reader(Protocol::Imap)?;
        let mut imap = Self::silent(connection, options, now, now_unix_s);
        imap.framer.set_limits(login::limits(&options));
        let flags = from.byte()?;
        if flags & !KNOWN != 0 {
            return Err(BlobRefused::Garbled("what this node does not know is enabled"));
        }
        let has = |flag: u8| flags & flag != 0;
        let LoggedIn { user: name, snapshot, final_data: _ } = logged_in;
        if from.text()? != name {
            return Err(BlobRefused::Garbled("another user's"));
        }
        imap.bad_commands = from.number_32()?;
        imap.heard = back(now, from.number()?);
        if has(IDLING) {
            let tag = Tag::new(from.text()?.as_bytes()).ok_or(BlobRefused::Garbled("a tag that is none"))?;
            let keepalive_at = now + Duration::from_millis(from.number()?).min(super::KEEPALIVE);
            imap.framer.expect_line();
            imap.tally.begin(NAME);
            imap.keep(tag, NAME, What::Idle(Idle { keepalive_at }));
        }
        let mut user =
            User { name, snapshot, selected: None, condstore: has(CONDSTORE), qresync: has(QRESYNC) };
        if has(SELECTED) {
            let selected = Selected::read(&mut from, &user, has(READ_ONLY), has(IDLING))?;
            user.selected = Some(Box::new(selected));
        }
        imap.user = Some(Box::new(user));
        imap.framer.push(from.bytes(UNREAD_BYTES_MAX)?);
        imap.hung_up = has(HUNG_UP);
        from.finish()?;
        Ok(imap)
    }
}

impl Selected {
    /// What there is beside the picture.
    fn write(&self, out: &mut Writer) {
        let runs: Vec<(u32, u32)> =
            self.recent.runs().map(|(first, last)| (first.get(), last.get())).collect();
        picture::write_runs(out, &runs);
        // What was told before the picture was taken is in it.
        let told: Vec<(Uid, ModSeq)> = self.told_since(self.held.highest_modseq).collect();
        out.count(told.len());
        for (uid, modseq) in told {
            out.number(uid.get());
            out.number(modseq.0);
        }
        out.count(self.keywords().count());
        self.keywords().for_each(|keyword| out.text(keyword.as_str()));
    }

    fn read(from: &mut Reader<'_>, user: &User, read_only: bool, idling: bool) -> Result<Self, BlobRefused> {
        let name = MailboxName::new(from.text()?);
        let name = name.map_err(|_| BlobRefused::Garbled("a mailbox name that is none"))?;
        let find = |id| user.snapshot.by_id(id).and_then(|(_, entry)| entry.view.clone());
        let picture = picture::read(from, find)?;
        // An IDLE client hears of them at once; another could ask for what nobody here knows.
        if picture.unknown > 0 && !idling {
            return Err(BlobRefused::Changed("messages were expunged on the way"));
        }
        let recent = Recent::from_runs(picture::read_runs(from)?);
        let recent = recent.ok_or(BlobRefused::Garbled("more recent messages than there can be"))?;
        let told = from.list(|from| Ok((picture::read_uid(from)?, ModSeq(from.number()?))))?;
        let keywords = from.list(picture::read_keyword)?;
        if !read_only {
            // They were claimed by this session, at another node.
            picture.view.claim_recent();
        }
        let told: BTreeMap<Uid, ModSeq> = told.into_iter().collect();
        Ok(Self::known(
            name,
            Arc::clone(&picture.view),
            read_only,
            recent,
            told,
            keywords.into_iter().collect(),
        ))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// So long before now, as far back as there is time.
pub(crate) fn back(now: Instant, millis: u64) -> Instant {
    now.checked_sub(Duration::from_millis(millis)).unwrap_or(now)
}
