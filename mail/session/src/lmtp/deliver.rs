//! The end of a transaction: the message goes to each recipient, or each is told why not.
//!
//! Replies are said in the order of recipients, whosever account answers first.

use std::sync::Arc;

use account::door;
use codec::lmtp::{Address, Reply};
use model::{DeliveryKey, MailboxName};
use store::spool::Spooled;

use super::{Lmtp, Mode};
use crate::refused::LmtpReply;
use crate::{Question, RecipientId, Ticket};

/// Deliveries of one message that are asked for at a time.
const DELIVERIES_AT_ONCE: usize = 32;

pub(super) struct Delivering {
    body: Arc<Spooled>,
    queue_id: Option<Vec<u8>>,
    recipients: Vec<(Address, RecipientId)>,
    asked: usize,
    replies: Vec<Option<Reply>>,
    said: usize,
    /// Questions that are out, each with the index of its recipient; at most [`DELIVERIES_AT_ONCE`].
    open: Vec<(Ticket, usize)>,
}

impl Lmtp {
    /// One reply a recipient (RFC 2033 §4.2).
    pub(super) fn refuse_all(&mut self, reply: Reply) {
        let recipients = self.transaction.take().map_or(0, |transaction| transaction.recipients.len());
        self.mode = Mode::Refusing(recipients, reply);
    }

    /// Tells the next recipients, as far as there is room for it.
    pub(super) fn refuse_more(&mut self) -> bool {
        let Mode::Refusing(mut left, reply) = std::mem::replace(&mut self.mode, Mode::Commands) else {
            return false;
        };
        while left > 0 {
            if !self.has_room() {
                self.mode = Mode::Refusing(left, reply);
                return false;
            }
            self.reply(&reply);
            left -= 1;
        }
        true
    }

    pub(super) fn deliver(&mut self, body: Arc<Spooled>) {
        let Some(transaction) = self.transaction.take() else { return };
        let count = transaction.recipients.len();
        tracing::debug!(
            from = transaction.mail.from.as_ref().map(ToString::to_string),
            recipients = count,
            octets = transaction.size,
            "message received"
        );
        self.mode = Mode::Delivering(Box::new(Delivering {
            body,
            queue_id: message::received::queue_id(&transaction.header),
            recipients: transaction.recipients,
            asked: 0,
            replies: vec![None; count],
            said: 0,
            open: Vec::new(),
        }));
    }

    /// Asks for further deliveries, and says what can be said in order.
    pub(super) fn deliver_more(&mut self) {
        let Mode::Delivering(mut delivering) = std::mem::replace(&mut self.mode, Mode::Commands) else {
            return;
        };
        while delivering.open.len() < DELIVERIES_AT_ONCE
            && let Some(question) = delivering.question(delivering.asked)
        {
            let ticket = self.ask(question);
            delivering.open.push((ticket, delivering.asked));
            delivering.asked += 1;
        }
        while self.has_room()
            && let Some(Some(reply)) = delivering.replies.get(delivering.said)
        {
            reply.encode(&mut self.out);
            delivering.said += 1;
        }
        if delivering.said < delivering.recipients.len() {
            self.mode = Mode::Delivering(delivering);
        }
    }

    pub(super) fn delivered(&mut self, ticket: Ticket, outcome: Result<(), LmtpReply>) {
        let Mode::Delivering(delivering) = &mut self.mode else { return };
        let Some(at) = delivering.open.iter().position(|(asked, _)| *asked == ticket) else { return };
        let (_, index) = delivering.open.swap_remove(at);
        let (Some((address, _)), Some(reply)) =
            (delivering.recipients.get(index), delivering.replies.get_mut(index))
        else {
            return;
        };
        *reply = Some(match outcome {
            Ok(()) => Reply::new(250, Some("2.0.0"), format!("<{address}> Saved")),
            Err(said) => Reply::new(said.code, Some(said.enhanced), format!("<{address}> {}", said.text)),
        });
    }
}

impl Delivering {
    /// The delivery to this recipient, if there is one.
    fn question(&self, index: usize) -> Option<Question> {
        let (address, recipient) = self.recipients.get(index)?;
        let key =
            self.queue_id.as_ref().map(|id| DeliveryKey::derive(id, &address.to_string().to_lowercase()));
        let message =
            door::NewMessage { body: Arc::clone(&self.body), flags: Vec::new(), internal_date: None };
        let append = door::Append {
            mailbox: MailboxName::inbox(),
            create: true,
            messages: vec![message],
            delivery: key,
        };
        Some(Question::Deliver { recipient: *recipient, append })
    }
}
