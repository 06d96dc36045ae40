//! The whole of an account by IMAP and by POP3, with nobody else at work.

use super::clients::Arena;
use super::message::{compose, token_of};
use crate::client::imap::Imap;
use crate::client::{Failure, Result};
use crate::history::{MailboxView, Op, Outcome, Seen};
use crate::strangers::is_below_trace;

const READER: u32 = 0;

pub(super) fn read_account(arena: &Arena, account: usize) -> Result<()> {
    let begun = arena.recorder.now_us();
    let mailboxes = all_mailboxes(arena.ports.imap(account)?)?;
    arena.place_all(account, &mailboxes);
    arena.recorder.told(READER, account, begun, Outcome::Ok, Op::Read { mailboxes });
    pop_account(arena, account)
}

/// Every mailbox with every message, compared with what was sent.
pub(crate) fn all_mailboxes(mut imap: Imap) -> Result<Vec<MailboxView>> {
    let mut mailboxes = Vec::new();
    for mailbox in imap.list()? {
        let selected = imap.select(&mailbox)?;
        let mut messages = Vec::new();
        if selected.exists > 0 {
            for fetched in imap.uid_fetch("1:*", "(UID FLAGS BODY.PEEK[])")? {
                let broken = || Failure::Broken(format!("FETCH without UID, FLAGS or BODY[]: {fetched:?}"));
                let (intact, token) = seen(fetched.body().ok_or_else(broken)?)?;
                let (uid, flags) = (fetched.uid().ok_or_else(broken)?, fetched.flags().ok_or_else(broken)?);
                messages.push(Seen { uid, token, flags, intact });
            }
        }
        if messages.len() != usize::try_from(selected.exists).unwrap_or(usize::MAX) {
            let (exists, found) = (selected.exists, messages.len());
            return Err(Failure::Broken(format!("{mailbox} has {exists} EXISTS, and FETCH shows {found}")));
        }
        let (uidvalidity, uidnext, modseq) = (selected.uidvalidity, selected.uidnext, selected.modseq);
        mailboxes.push(MailboxView { mailbox, uidvalidity, uidnext, modseq, messages });
    }
    imap.logout()?;
    Ok(mailboxes)
}

/// Whether it is as it was sent, and which it is.
fn seen(message: &[u8]) -> Result<(bool, String)> {
    let token = token_of(message).ok_or_else(|| Failure::Broken("a message without token".to_owned()))?;
    Ok((is_below_trace(message, &compose(&token)), token))
}

fn pop_account(arena: &Arena, account: usize) -> Result<()> {
    let begun = arena.recorder.now_us();
    let mut pop3 = arena.ports.pop3(account)?;
    let mut messages = Vec::new();
    for (number, id) in pop3.uidl()? {
        let (intact, token) = seen(&pop3.retr(number)?)?;
        if !intact {
            return Err(Failure::Broken(format!("POP3 shows {token} changed")));
        }
        messages.push((id, token));
    }
    pop3.quit()?;
    arena.recorder.told(READER, account, begun, Outcome::Ok, Op::Popped { messages });
    Ok(())
}
