//! A session in its TRANSACTION state that goes on at another node (L-CN3): the maildrop as it was at login, what is
//! marked as deleted, and what the client sent and nobody read. The exclusive lock is taken anew there.

use std::time::{Duration, Instant};

use model::MailboxName;

use super::maildrop::Maildrop;
use super::{Options, Pop3, State};
use crate::blob::{Blob, BlobRefused, Protocol, UNREAD_BYTES_MAX, Writer};
use crate::{Connection, LoggedIn, picture};

const HUNG_UP: u8 = 1;
const MAILDROP: u8 = 2;

impl Pop3 {
    /// Whether the next thing to happen is a command of the client's.
    pub(super) fn is_at_boundary(&self) -> bool {
        let said = self.queue.is_empty() && self.out.is_empty();
        let between = matches!(self.state, State::Commands) && !self.lines.is_discarding();
        between && said && self.user.is_some() && !self.closed
    }

    /// The whole session, if it is at a boundary.
    pub(super) fn packed(&self, now: Instant) -> Option<Blob> {
        let user = self.user.as_ref().filter(|_| self.is_at_boundary())?;
        let mut out = Writer::begin(Protocol::Pop3);
        let view = self.maildrop.view();
        out.byte(if self.hung_up { HUNG_UP } else { 0 } | if view.is_some() { MAILDROP } else { 0 });
        out.text(user);
        out.number(self.mistakes);
        let silent = now.saturating_duration_since(self.heard).as_millis();
        out.number(u64::try_from(silent).unwrap_or(u64::MAX));
        if let Some(view) = view {
            let latest = self.latest.as_ref().and_then(|snapshot| snapshot.by_id(view.id));
            // Without its INBOX there is no maildrop to go on with.
            let latest = latest.and_then(|(_, entry)| entry.view.as_deref())?;
            picture::write(&mut out, view, Some(latest));
            picture::write_runs(&mut out, &self.maildrop.deleted_runs());
        }
        out.bytes(self.lines.unread());
        out.finish()
    }

    /// A session that began at another node, and has the lock here.
    pub fn resumed(
        now: Instant,
        connection: Connection,
        options: Options,
        logged_in: LoggedIn,
        blob: &Blob,
    ) -> Result<Self, BlobRefused> {
        let mut from = blob.reader(Protocol::Pop3)?;
        let mut session = Self::silent(now, connection, options);
        let flags = from.byte()?;
        if flags & !(HUNG_UP | MAILDROP) != 0 {
            return Err(BlobRefused::Garbled("what this node does not know is enabled"));
        }
        if from.text()? != logged_in.user {
            return Err(BlobRefused::Garbled("another user's"));
        }
        session.user = Some(logged_in.user);
        session.mistakes = from.number_32()?;
        let silent = Duration::from_millis(from.number()?);
        session.heard = now.checked_sub(silent).unwrap_or(now);
        if flags & MAILDROP != 0 {
            let inbox =
                logged_in.snapshot.by_name(&MailboxName::inbox()).and_then(|entry| entry.view.clone());
            let known = inbox.as_ref().map(|view| view.id);
            let picture = picture::read(&mut from, |id| inbox.filter(|view| view.id == id))?;
            if Some(picture.view.id) != known || picture.unknown > 0 {
                return Err(BlobRefused::Changed("the maildrop has changed"));
            }
            let mut maildrop = Maildrop::new(Some(picture.view));
            for (first, last) in picture::read_runs(&mut from)? {
                for number in first..=last {
                    maildrop.delete(number).map_err(|_| BlobRefused::Garbled("a message that is none"))?;
                }
            }
            session.maildrop = maildrop;
        }
        session.lines.feed(from.bytes(UNREAD_BYTES_MAX)?);
        session.hung_up = flags & HUNG_UP != 0;
        from.finish()?;
        Ok(session)
    }
}
