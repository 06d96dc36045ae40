//! APPEND (RFC 3501 §6.3.11): the message's octets go to the spool as they come, then the account takes it from there.
//!
//! The spool's questions of one message share a ticket; only `SpoolFinish` is waited for. Trouble before that (a full
//! volume) comes unasked: the rest of the message is thrown away, and the client hears NO.

use account::Request;
use account::door::{self, NewMessage, Reply};
use codec::imap::command::AppendCommand;
use codec::imap::{Body, Code, Command, Decision, Frame, Tag};
use model::{Flag, MailboxName};

use super::sync::Moment;
use super::{Closing, Ending, Imap, Then, What, no, ok};
use crate::{Answer, Question, SpoolFailed, Ticket};

/// An APPEND whose message is on its way.
pub(super) struct Append {
    mailbox: MailboxName,
    flags: Vec<Flag>,
    internal_date: Option<i64>,
    spool: Ticket,
}

impl Imap {
    pub(super) fn append_start(&mut self, command: Command) {
        let Command { tag, body } = command;
        let Body::Append(append) = body else {
            return self.fail("a message that no APPEND announced".to_owned());
        };
        self.bad_commands = 0;
        self.tally.begin("APPEND");
        match self.may_append(&append) {
            Ok(mailbox) => {
                self.framer.decide(Decision::Accept);
                if !append.literal.non_sync {
                    self.encoder().continuation("OK");
                }
                let spool = self.out.ask(Question::SpoolBegin);
                let internal_date = append.date.map(codec::imap::date::DateTime::unix_s);
                let append = Append { mailbox, flags: append.flags, internal_date, spool };
                self.keep(tag, "APPEND", What::Append(append));
            }
            Err(ending) => {
                self.framer.decide(Decision::Refuse);
                self.finish(&tag, ending, Moment::Any);
            }
        }
    }

    /// Refuses, before the message is sent, what would be refused after it.
    fn may_append(&self, append: &AppendCommand) -> Result<MailboxName, Ending> {
        if self.user.is_none() {
            return Err(super::client_bug("Log in first"));
        }
        let name = self.name(&append.mailbox)?;
        if self.view_of(&name).is_none() {
            return Err(no(Code::TryCreate, "Mailbox does not exist"));
        }
        if append.literal.size > self.options.append_bytes_max {
            return Err(no(Code::TooBig, format!("At most {} bytes", self.options.append_bytes_max)));
        }
        if append.literal.size == 0 {
            return Err(no(Code::Cannot, "A message has at least one byte"));
        }
        Ok(name)
    }

    /// Passes on what has arrived of the message.
    pub(super) fn append_octets(&mut self, tag: Tag, name: &'static str, append: Append) -> bool {
        match self.framer.next_frame() {
            None if self.hung_up => {
                self.out.ask_on(append.spool, Question::SpoolAbandon);
                self.end(Closing::ClientHungUp);
                return false;
            }
            None => {
                self.keep(tag, name, What::Append(append));
                return false;
            }
            Some(Frame::LiteralChunk(octets)) => {
                self.out.ask_on(append.spool, Question::SpoolWrite(octets));
                self.keep(tag, name, What::Append(append));
            }
            Some(Frame::LiteralEnd(Ok(()))) => {
                self.out.ask_on(append.spool, Question::SpoolFinish);
                self.waiting = Some(append.spool);
                self.keep(tag, name, What::Append(append));
            }
            Some(
                Frame::LiteralEnd(Err(mut error)) | Frame::Command(Err(mut error)) | Frame::Fatal(mut error),
            ) => {
                self.out.ask_on(append.spool, Question::SpoolAbandon);
                error.tag = Some(tag);
                self.bad_command(&error);
            }
            Some(
                Frame::Command(Ok(_)) | Frame::NeedContinuation | Frame::AppendStart(_) | Frame::Line(_),
            ) => {
                self.fail("a command in the middle of a message".to_owned());
            }
        }
        true
    }

    pub(super) fn append_answered(&mut self, tag: Tag, name: &'static str, append: Append, answer: Answer) {
        match answer {
            Answer::Spooled(Ok(body)) => {
                let Append { mailbox, flags, internal_date, spool: _ } = append;
                let request = Request::Append(door::Append {
                    mailbox,
                    create: false,
                    messages: vec![NewMessage { body, flags, internal_date }],
                    delivery: None,
                });
                self.ask(Question::Account(request));
                self.keep(tag, name, What::Account(Then::Append));
            }
            Answer::Spooled(Err(why)) => self.finish(&tag, spool_failed(&why), Moment::Any),
            Answer::Sasl(_)
            | Answer::LoggedIn(_)
            | Answer::Elsewhere(_)
            | Answer::Delivered(_)
            | Answer::LoginFailed(_)
            | Answer::Account(_)
            | Answer::Described(_)
            | Answer::Octets(_)
            | Answer::Found(_)
            | Answer::Locked(_)
            | Answer::Recipient(_) => self.fail("an answer of the wrong kind to APPEND".to_owned()),
        }
    }

    /// An answer that nothing waits for: the spool is in trouble, or a command ended without it.
    pub(super) fn answered_early(&mut self, ticket: Ticket, answer: &Answer) {
        let Answer::Spooled(Err(why)) = answer else { return };
        let Some(running) = self
            .running
            .take_if(|running| matches!(&running.what, What::Append(append) if append.spool == ticket))
        else {
            return;
        };
        self.framer.abandon_message();
        self.finish(&running.tag, spool_failed(why), Moment::Any);
    }

    pub(super) fn appended(&mut self, tag: &Tag, reply: &Reply) {
        let code = match reply {
            Reply::Appended { uid_validity, uids, .. } => {
                uids.first().map(|uid| Code::AppendUid { uid_validity: *uid_validity, uid: *uid })
            }
            Reply::Copied { .. }
            | Reply::FlagsEdited { .. }
            | Reply::Expunged { .. }
            | Reply::Created { .. }
            | Reply::Done => None,
        };
        self.finish(tag, ok("Append completed").with(code), Moment::Any);
    }
}

fn spool_failed(why: &SpoolFailed) -> Ending {
    match why {
        SpoolFailed::NoSpace => no(Code::Unavailable, "No space left for mail, nothing was stored"),
        SpoolFailed::Failed(_) => no(Code::Unavailable, "Storage failed, nothing was stored"),
    }
}
