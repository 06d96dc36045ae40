//! The end of a run: everything by IMAP from every node, with nobody else at work.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clients::Arena;
use crate::client::{Failure, Result};
use crate::history::{MailboxView, Op, Outcome};
use crate::wait;
use crate::workload::kill::reader::all_mailboxes;

const READER: u32 = 0;
const PATIENCE: Duration = Duration::from_secs(30);
/// What a client gave up may still arrive; then all is quiet.
const SETTLING: Duration = Duration::from_secs(30);

/// Reads every account through every node until all see the same, and records that. What differed to the end is returned.
pub(super) fn read_all(arena: &Arena) -> Result<Vec<String>> {
    let mut last = None;
    let agreed = wait::until(SETTLING, || {
        let outcome = once(arena);
        let agreed = outcome.as_ref().is_ok_and(|(_, differ)| differ.is_empty());
        last = Some(outcome);
        agreed.then_some(())
    });
    let (views, differ) = last.unwrap_or_else(|| Err(Failure::Lost("nothing was read".to_owned())))?;
    for (account, begun, mailboxes) in views {
        arena.recorder.told(READER, account, begun, Outcome::Ok, Op::Read { mailboxes });
    }
    Ok(if agreed.is_some() { Vec::new() } else { differ })
}

type Views = Vec<(usize, u64, Vec<MailboxView>)>;

fn once(arena: &Arena) -> Result<(Views, Vec<String>)> {
    let mut views = Vec::new();
    let mut differ = Vec::new();
    for account in 0..arena.accounts {
        let mut seen: BTreeMap<usize, Vec<MailboxView>> = BTreeMap::new();
        for node in 0..arena.doors.len() {
            let begun = arena.recorder.now_us();
            let mailboxes = read(arena, node, account)?;
            seen.insert(node, mailboxes.clone());
            views.push((account, begun, mailboxes));
        }
        let first = seen.first_key_value().map(|(_, first)| first.clone()).unwrap_or_default();
        for (node, view) in seen.iter().filter(|(_, view)| **view != first) {
            let count = |view: &[MailboxView]| view.iter().map(|one| one.messages.len()).sum::<usize>();
            differ.push(format!(
                "account {account}: node {} shows something else than node 1 ({} messages, {}): {:?}",
                node + 1,
                count(view),
                count(&first),
                difference(&first, view),
            ));
        }
    }
    Ok((views, differ))
}

fn difference(first: &[MailboxView], other: &[MailboxView]) -> Option<String> {
    let (one, two) = first.iter().zip(other).find(|(one, two)| one != two)?;
    let messages = one.messages.iter().zip(&two.messages).find(|(one, two)| one != two);
    Some(format!(
        "{}: UIDNEXT {} and {}, HIGHESTMODSEQ {:?} and {:?}, first {messages:?}",
        one.mailbox, one.uidnext, two.uidnext, one.modseq, two.modseq
    ))
}

fn read(arena: &Arena, node: usize, account: usize) -> Result<Vec<MailboxView>> {
    let doors = arena.doors.get(node).ok_or_else(|| Failure::Lost("no such node".to_owned()))?;
    let mut mailboxes = all_mailboxes(doors.imap(account, PATIENCE)?)?;
    // Whoever looks first sees \Recent.
    for seen in mailboxes.iter_mut().flat_map(|mailbox| &mut mailbox.messages) {
        seen.flags.remove("\\Recent");
    }
    Ok(mailboxes)
}
