//! COPY, MOVE (RFC 6851), EXPUNGE and UID EXPUNGE (RFC 4315).

use account::Request;
use account::door::{Expunge, Reply};
use codec::imap::{Code, SequenceSet, Status, Tag, WireMailbox};
use model::Uid;

use super::selected::{ranks, uids};
use super::sync::Moment;
use super::{Begun, Imap, Then, bad, no, ok};

fn moment(uid: bool) -> Moment {
    if uid { Moment::ByUid } else { Moment::Any }
}

impl Imap {
    pub(super) fn copy(&mut self, uid: bool, set: &SequenceSet, mailbox: &WireMailbox, moves: bool) -> Begun {
        let Some(selected) = self.selected() else { return Err(super::client_bug("Select a mailbox first")) };
        let (from, read_only) = (selected.held.id, selected.read_only);
        let chosen = ranks(set, uid, &selected.held).map_err(|_| bad("No such message"))?;
        let uids = uids(&chosen, &selected.held);
        let to = self.name(mailbox)?;
        if moves && read_only {
            return Err(no(Code::ReadOnly, "Mailbox is read-only"));
        }
        // What was expunged and not told of would be missing in the copy: the client is to look first (RFC 2180 §4.4).
        let latest = self.latest();
        let is_gone = |uid: &Uid| latest.as_ref().is_none_or(|view| view.rank_of(*uid).is_err());
        if !uid && uids.iter().any(is_gone) {
            return Err(no(Code::ExpungeIssued, "Some of the messages no longer exist"));
        }
        if uids.is_empty() {
            return Err(ok(if moves { "No messages to move" } else { "No messages to copy" }));
        }
        if moves {
            self.ask_account(Request::Move { from, uids, to }, Then::Move { uid })
        } else {
            self.ask_account(Request::Copy { from, uids, to }, Then::Copy { uid })
        }
    }

    pub(super) fn copied(&mut self, tag: &Tag, uid: bool, reply: &Reply) {
        self.finish(tag, ok("Copy completed").with(copy_uid(reply)), moment(uid));
    }

    /// COPYUID comes before the EXPUNGEs, so that the client knows where the messages went (RFC 6851 §4.3).
    pub(super) fn moved(&mut self, tag: &Tag, uid: bool, reply: &Reply) {
        let code = copy_uid(reply);
        if code.is_some() {
            self.untagged(Status::Ok, code.as_ref(), "Moved");
        }
        self.sync(moment(uid));
        let highest = if code.is_some() { self.highest_modseq() } else { None };
        self.finish(tag, ok("Move completed").with(highest), Moment::Nothing);
    }

    /// `set`: only messages among these UIDs.
    pub(super) fn expunge(&mut self, set: Option<&SequenceSet>) -> Begun {
        let Some(selected) = self.selected() else { return Err(super::client_bug("Select a mailbox first")) };
        if selected.read_only {
            return Err(no(Code::ReadOnly, "Mailbox is read-only"));
        }
        let which = match set {
            None => Expunge::Deleted,
            Some(set) => {
                let chosen = ranks(set, true, &selected.held).map_err(|_| bad("No such message"))?;
                Expunge::DeletedAmong(uids(&chosen, &selected.held))
            }
        };
        let mailbox = selected.held.id;
        self.ask_account(Request::Expunge { mailbox, which }, Then::Expunge { uid: set.is_some() })
    }

    pub(super) fn expunged(&mut self, tag: &Tag, uid: bool, reply: &Reply) {
        let some = matches!(reply, Reply::Expunged { uids } if !uids.is_empty());
        self.sync(moment(uid));
        let highest = if some { self.highest_modseq() } else { None };
        self.finish(tag, ok("Expunge completed").with(highest), Moment::Nothing);
    }
}

fn copy_uid(reply: &Reply) -> Option<Code> {
    match reply {
        Reply::Copied { uid_validity, uids } if !uids.is_empty() => {
            let (source, copies) = uids.iter().copied().unzip();
            Some(Code::CopyUid { uid_validity: *uid_validity, source, copies })
        }
        Reply::Copied { .. }
        | Reply::Appended { .. }
        | Reply::FlagsEdited { .. }
        | Reply::Expunged { .. }
        | Reply::Created { .. }
        | Reply::Done => None,
    }
}
