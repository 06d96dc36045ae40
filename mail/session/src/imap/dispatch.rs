//! Which command is done where, and when it is allowed (RFC 3501 §3).

use codec::imap::Body;

use super::sync::Moment;
use super::{Begun, Imap, bad, client_bug, ok};

impl Imap {
    pub(super) fn dispatch(&mut self, body: Body) -> Begun {
        if self.user.is_none() {
            return self.dispatch_before_login(body);
        }
        match body {
            Body::StartTls | Body::Authenticate(_) | Body::Login(_) => {
                Err(client_bug("You are logged in already"))
            }
            Body::Capability => self.capability(),
            Body::Id(_) => self.id(),
            Body::Logout => self.logout(),
            Body::Enable(names) => self.enable(&names),
            Body::Namespace => self.namespace(),
            Body::Noop => self.noop(),
            Body::Idle => self.idle(),
            Body::Select(select) => self.select(select, false),
            Body::Examine(select) => self.select(select, true),
            Body::Create { mailbox, special_use } => self.create(&mailbox, &special_use),
            Body::Delete(mailbox) => self.delete(&mailbox),
            Body::Rename { from, to } => self.rename(&from, &to),
            Body::Subscribe(mailbox) => self.subscribe(&mailbox, true),
            Body::Unsubscribe(mailbox) => self.subscribe(&mailbox, false),
            Body::List(list) => self.list(&list),
            Body::Lsub { reference, pattern } => self.lsub(&reference, &pattern),
            Body::Status { mailbox, items } => self.status(&mailbox, items),
            Body::Append(_) => Err(bad("Message is missing")),
            Body::Unselect
            | Body::Close
            | Body::Check
            | Body::Expunge
            | Body::UidExpunge(_)
            | Body::Search(_)
            | Body::Fetch(_)
            | Body::Store(_)
            | Body::Copy { .. }
            | Body::Move { .. } => self.dispatch_selected(body),
        }
    }

    fn dispatch_before_login(&mut self, body: Body) -> Begun {
        match body {
            Body::Capability => self.capability(),
            Body::Id(_) => self.id(),
            Body::Noop => Err(ok("Nothing done")),
            Body::Logout => self.logout(),
            Body::StartTls => self.starttls(),
            Body::Authenticate(authenticate) => self.authenticate(authenticate),
            Body::Login(login) => self.login(login),
            Body::Enable(_)
            | Body::Namespace
            | Body::Idle
            | Body::Select(_)
            | Body::Examine(_)
            | Body::Create { .. }
            | Body::Delete(_)
            | Body::Rename { .. }
            | Body::Subscribe(_)
            | Body::Unsubscribe(_)
            | Body::List(_)
            | Body::Lsub { .. }
            | Body::Status { .. }
            | Body::Append(_)
            | Body::Unselect
            | Body::Close
            | Body::Check
            | Body::Expunge
            | Body::UidExpunge(_)
            | Body::Search(_)
            | Body::Fetch(_)
            | Body::Store(_)
            | Body::Copy { .. }
            | Body::Move { .. } => Err(client_bug("Log in first")),
        }
    }

    fn dispatch_selected(&mut self, body: Body) -> Begun {
        if self.selected().is_none() {
            return Err(client_bug("Select a mailbox first"));
        }
        match body {
            Body::Unselect => self.unselect(),
            Body::Close => self.close(),
            Body::Check => self.noop(),
            Body::Expunge => self.expunge(None),
            Body::UidExpunge(set) => self.expunge(Some(&set)),
            Body::Search(search) => self.search(search),
            Body::Fetch(fetch) => self.fetch(fetch),
            Body::Store(store) => self.store(store),
            Body::Copy { uid, set, mailbox } => self.copy(uid, &set, &mailbox, false),
            Body::Move { uid, set, mailbox } => self.copy(uid, &set, &mailbox, true),
            Body::Capability
            | Body::Noop
            | Body::Logout
            | Body::Id(_)
            | Body::StartTls
            | Body::Authenticate(_)
            | Body::Login(_)
            | Body::Enable(_)
            | Body::Select(_)
            | Body::Examine(_)
            | Body::Create { .. }
            | Body::Delete(_)
            | Body::Rename { .. }
            | Body::Subscribe(_)
            | Body::Unsubscribe(_)
            | Body::List(_)
            | Body::Lsub { .. }
            | Body::Status { .. }
            | Body::Append(_)
            | Body::Idle
            | Body::Namespace => Err(bad("Not a command for a selected mailbox")),
        }
    }
}

/// What `roost who` calls it.
pub(super) fn name_of(body: &Body) -> &'static str {
    match body {
        Body::Capability => "CAPABILITY",
        Body::Noop => "NOOP",
        Body::Logout => "LOGOUT",
        Body::Id(_) => "ID",
        Body::StartTls => "STARTTLS",
        Body::Authenticate(_) => "AUTHENTICATE",
        Body::Login(_) => "LOGIN",
        Body::Enable(_) => "ENABLE",
        Body::Select(_) => "SELECT",
        Body::Examine(_) => "EXAMINE",
        Body::Create { .. } => "CREATE",
        Body::Delete(_) => "DELETE",
        Body::Rename { .. } => "RENAME",
        Body::Subscribe(_) => "SUBSCRIBE",
        Body::Unsubscribe(_) => "UNSUBSCRIBE",
        Body::List(_) => "LIST",
        Body::Lsub { .. } => "LSUB",
        Body::Status { .. } => "STATUS",
        Body::Append(_) => "APPEND",
        Body::Idle => "idle",
        Body::Namespace => "NAMESPACE",
        Body::Unselect => "UNSELECT",
        Body::Close => "CLOSE",
        Body::Check => "CHECK",
        Body::Expunge => "EXPUNGE",
        Body::UidExpunge(_) => "UID EXPUNGE",
        Body::Search(search) if search.uid => "UID SEARCH",
        Body::Search(_) => "SEARCH",
        Body::Fetch(fetch) if fetch.uid => "UID FETCH",
        Body::Fetch(_) => "FETCH",
        Body::Store(store) if store.uid => "UID STORE",
        Body::Store(_) => "STORE",
        Body::Copy { uid: true, .. } => "UID COPY",
        Body::Copy { uid: false, .. } => "COPY",
        Body::Move { uid: true, .. } => "UID MOVE",
        Body::Move { uid: false, .. } => "MOVE",
    }
}

/// What may be told at the end of a command that ends at once.
pub(super) fn moment_of(body: &Body) -> Moment {
    match body {
        Body::Search(search) => Moment::of_message_command(search.uid),
        Body::Fetch(fetch) => Moment::of_message_command(fetch.uid),
        Body::Store(store) => Moment::of_message_command(store.uid),
        Body::Copy { uid: true, .. } | Body::Move { uid: true, .. } | Body::UidExpunge(_) => Moment::ByUid,
        Body::Logout => Moment::Nothing,
        Body::Capability
        | Body::Noop
        | Body::Id(_)
        | Body::StartTls
        | Body::Authenticate(_)
        | Body::Login(_)
        | Body::Enable(_)
        | Body::Select(_)
        | Body::Examine(_)
        | Body::Create { .. }
        | Body::Delete(_)
        | Body::Rename { .. }
        | Body::Subscribe(_)
        | Body::Unsubscribe(_)
        | Body::List(_)
        | Body::Lsub { .. }
        | Body::Status { .. }
        | Body::Append(_)
        | Body::Idle
        | Body::Namespace
        | Body::Unselect
        | Body::Close
        | Body::Check
        | Body::Expunge
        | Body::Copy { uid: false, .. }
        | Body::Move { uid: false, .. } => Moment::Any,
    }
}
