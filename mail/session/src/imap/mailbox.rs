//! Mailboxes as such: CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, NAMESPACE; and NOOP and CHECK.

use account::door::Reply;
use account::{MailboxView, Request};
use codec::imap::command::StatusItem;
use codec::imap::response::{Namespace, StatusValue};
use codec::imap::{Code, Status, Tag, WireMailbox};
use model::name::SEPARATOR;
use model::{MailboxName, SpecialUse, SystemFlag};

use super::selected::rank_above;
use super::sync::Moment;
use super::{Begun, Imap, Then, no, ok};

/// A STATUS that waits for a fresh look.
pub(super) struct StatusOf {
    name: MailboxName,
    items: Vec<StatusItem>,
}

impl Imap {
    /// NOOP and CHECK look for what other programs did in the selected mailbox.
    pub(super) fn noop(&mut self) -> Begun {
        match self.selected().map(|selected| selected.held.id) {
            Some(id) => self.ask_account(Request::Observe { mailbox: Some(id) }, Then::Look),
            None => Err(ok("Nothing new")),
        }
    }

    pub(super) fn namespace(&mut self) -> Begun {
        let personal = [Namespace { prefix: String::new(), separator: SEPARATOR }];
        self.encoder().namespace(&personal, &[], &[]);
        Err(ok("Namespace completed"))
    }

    pub(super) fn create(&mut self, mailbox: &WireMailbox, special_use: &[SpecialUse]) -> Begun {
        let name = self.name(mailbox)?;
        // RFC 6154 §3: "If the server cannot support the designated special-use attribute, it MUST reject". The first
        // two are no mailboxes but views of all others, which we do not make.
        let special_use = match special_use {
            [] => None,
            [SpecialUse::All | SpecialUse::Flagged] => {
                return Err(no(Code::UseAttr, "No such special use here"));
            }
            [purpose] => Some(*purpose),
            [_, ..] => return Err(no(Code::UseAttr, "A mailbox has one special use at most")),
        };
        self.ask_account(Request::Create { name, special_use }, Then::Create)
    }

    pub(super) fn created(&mut self, tag: &Tag, reply: &Reply) {
        // RFC 8474 §4.1: "A server MUST return the MAILBOXID response code [...] for a successful CREATE".
        let code = match reply {
            Reply::Created { mailbox } => Some(Code::MailboxId(*mailbox)),
            Reply::Appended { .. }
            | Reply::Copied { .. }
            | Reply::FlagsEdited { .. }
            | Reply::Expunged { .. }
            | Reply::Done => None,
        };
        self.finish(tag, ok("Mailbox created").with(code), Moment::Any);
    }

    pub(super) fn delete(&mut self, mailbox: &WireMailbox) -> Begun {
        let name = self.name(mailbox)?;
        self.ask_account(Request::Delete { name: name.clone() }, Then::Delete(name))
    }

    /// A session that deletes what it has selected has nothing selected afterwards, and goes on.
    pub(super) fn deleted(&mut self, tag: &Tag, name: &MailboxName) {
        if self.latest().is_none() && self.selected().is_some_and(|selected| selected.name == *name) {
            self.deselect();
        }
        self.finish(tag, ok("Mailbox deleted"), Moment::Any);
    }

    pub(super) fn rename(&mut self, from: &WireMailbox, to: &WireMailbox) -> Begun {
        let (from, to) = (self.name(from)?, self.name(to)?);
        self.ask_account(Request::Rename { from, to }, Then::Say("Mailbox renamed"))
    }

    pub(super) fn subscribe(&mut self, mailbox: &WireMailbox, on: bool) -> Begun {
        let name = self.name(mailbox)?;
        let text = if on { "Subscribed" } else { "Unsubscribed" };
        self.ask_account(Request::Subscribe { name, on }, Then::Say(text))
    }

    pub(super) fn status(&mut self, mailbox: &WireMailbox, items: Vec<StatusItem>) -> Begun {
        let name = self.name(mailbox)?;
        if items.contains(&StatusItem::HighestModSeq) {
            self.enable_condstore();
        }
        // A name that is not known yet may have been made by another program.
        let mailbox = self.view_of(&name).map(|view| view.id);
        self.ask_account(Request::Observe { mailbox }, Then::Status(StatusOf { name, items }))
    }

    pub(super) fn status_answered(&mut self, tag: &Tag, status: &StatusOf) {
        let Some(view) = self.view_of(&status.name) else {
            return self.finish(tag, no(Code::Nonexistent, "Mailbox does not exist"), Moment::Any);
        };
        self.encoder().status(&status.name, &status_values(&view, &status.items));
        self.finish(tag, ok("Status completed"), Moment::Any);
    }

    /// The mailbox of this name as it is now.
    pub(super) fn view_of(&self, name: &MailboxName) -> Option<std::sync::Arc<MailboxView>> {
        self.user.as_ref()?.snapshot.by_name(name)?.view.clone()
    }

    /// Closes the selected mailbox and says so: what follows is about another (RFC 7162 §3.2.11).
    pub(super) fn deselect(&mut self) {
        let Some(user) = &mut self.user else { return };
        if user.selected.take().is_some() {
            self.untagged(Status::Ok, Some(&Code::Closed), "Previous mailbox closed");
        }
    }
}

pub(super) fn status_values(view: &MailboxView, items: &[StatusItem]) -> Vec<StatusValue> {
    let number = |item: StatusItem| match item {
        StatusItem::Messages => Some(u64::from(view.len())),
        StatusItem::Recent => {
            let told = view.recent.load(std::sync::atomic::Ordering::Acquire);
            Some(u64::from(view.len() - rank_above(view, told)))
        }
        StatusItem::UidNext => Some(u64::from(view.uid_next.get())),
        StatusItem::UidValidity => Some(u64::from(view.uid_validity.get())),
        StatusItem::Unseen => Some(u64::from(view.unseen)),
        StatusItem::Deleted => {
            Some(view.iter().filter(|message| message.flags.contains(SystemFlag::Deleted)).count() as u64)
        }
        StatusItem::Size => Some(view.size_bytes),
        StatusItem::HighestModSeq => Some(view.highest_modseq.0),
        StatusItem::MailboxId => None,
    };
    let value = |item: &StatusItem| match number(*item) {
        Some(value) => StatusValue::Number(*item, value),
        None => StatusValue::MailboxId(view.id),
    };
    items.iter().map(value).collect()
}
