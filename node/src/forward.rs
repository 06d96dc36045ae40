//! Messages for accounts of other nodes: one transfer a message and owner, one true reply a recipient (L-CN2).
//!
//! Invariants
//! - Recipients that a session names together travel together, as far as one node owns their accounts.
//! - A recipient is asked for again, at whoever owns the account by then, only if the message cannot have been stored for
//!   it, or if a delivery key lets the owner recognise it (L-CM2). Else its fate is told as unknown.
//! - The message stays in the spool of this node until every recipient was answered; its owner links it from there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use account::door::Append;
use account::{Refused, Request};
use auth::UserRecord;
use futures::future::join_all;
use rpc::relay::{self, DeliverError, Envelope, Message, Outcome, RECIPIENTS_MAX, Recipient};
use session::refused::{self, LmtpReply};
use store::spool::Spooled;
use tokio::sync::oneshot;

use crate::asking::Services;
use crate::metrics::ByResult;
use crate::router::{NOT_OWNER_MAX, OWNER_WAIT, Owner, unknown_node};
use crate::time;
use crate::users::account_id;

/// A message is stored and answered within. MTAs wait ten minutes (RFC 5321 §4.5.3.2.6).
const TRANSFER_WAIT: Duration = Duration::from_secs(300);

/// What a recipient is told.
pub type Delivered = Result<(), LmtpReply>;

/// One recipient of a message.
pub struct Delivery {
    record: UserRecord,
    append: Append,
    not_owners: u32,
    answer: oneshot::Sender<Delivered>,
}

impl Delivery {
    pub fn new(record: UserRecord, append: Append) -> (Self, oneshot::Receiver<Delivered>) {
        let (answer, answered) = oneshot::channel();
        (Self { record, append, not_owners: 0, answer }, answered)
    }

    fn tell(self, delivered: Delivered) {
        // A session that is gone does not want its answer.
        let _ = self.answer.send(delivered);
    }

    fn recipient(&self) -> Recipient {
        Recipient {
            user: self.record.user.as_str().to_owned(),
            mailbox: self.append.mailbox.as_str().to_owned(),
            delivery: self.append.delivery.map(|key| key.0),
        }
    }
}

/// Recipients of one message that gather until the first of them is waited for.
pub struct Gathering {
    body: Arc<Spooled>,
    waiting: Mutex<Option<Vec<Delivery>>>,
}

impl Gathering {
    pub fn new(body: Arc<Spooled>, first: Delivery) -> Self {
        Self { body, waiting: Mutex::new(Some(vec![first])) }
    }

    /// Joins, if it is the same message and it has not left. Else hands the delivery back.
    pub fn join(&self, body: &Arc<Spooled>, delivery: Delivery) -> Option<Delivery> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let takes =
            |waiting: &&mut Vec<Delivery>| waiting.len() < RECIPIENTS_MAX && Arc::ptr_eq(&self.body, body);
        let Some(waiting) = waiting.as_mut().filter(takes) else { return Some(delivery) };
        waiting.push(delivery);
        None
    }

    /// Delivers to all that have gathered.
    pub async fn leave(&self, services: &Services, session: &str) {
        let gathered = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gathered) = gathered {
            services.forward(session, &self.body, gathered).await;
        }
    }
}

impl Services {
    /// Delivers a message where its recipients' accounts are by then, and tells each what became of it.
    async fn forward(&self, session: &str, body: &Arc<Spooled>, mut pending: Vec<Delivery>) {
        let until = time::now() + OWNER_WAIT;
        loop {
            let mut here = Vec::new();
            let mut nobody = Vec::new();
            let mut at: BTreeMap<u8, Vec<Delivery>> = BTreeMap::new();
            for delivery in pending {
                match self.router.owner(account_id(&delivery.record.user)) {
                    Owner::Here => here.push(delivery),
                    Owner::Node(node) => at.entry(node).or_default().push(delivery),
                    Owner::Nobody => nobody.push(delivery),
                }
            }
            for delivery in &nobody {
                self.router.want(account_id(&delivery.record.user));
            }
            let here = join_all(here.into_iter().map(|delivery| self.deliver_here(delivery, until)));
            let there =
                join_all(at.into_iter().map(|(node, group)| self.transfer(session, body, node, group)));
            let (stayed, left) = tokio::join!(here, there);
            let left = left.into_iter().flatten().chain(stayed.into_iter().flatten());
            pending = left.chain(nobody).collect();
            if pending.is_empty() {
                return;
            }
            if !self.router.look_again(until).await {
                break;
            }
        }
        for delivery in pending {
            let why = "no node owned the account for so long";
            tracing::warn!(user = delivery.record.user.as_str(), why, "a delivery is put off");
            self.count_delivery("refused");
            delivery.tell(Err(refused::lmtp(&Refused::Unavailable(why.into()))));
        }
    }

    /// Delivers to an account that this node owns; gives the delivery back if the account has left before it was begun.
    async fn deliver_here(&self, delivery: Delivery, until: Instant) -> Option<Delivery> {
        let stored = match self.store(&delivery.record, delivery.append.clone()).await {
            Err(Refused::Deposed) if time::now() < until => return Some(delivery),
            stored => stored,
        };
        self.count_delivery(if stored.is_ok() { "stored" } else { "refused" });
        delivery.tell(stored.map_err(|why| refused::lmtp(&why)));
        None
    }

    /// Delivers one message to one recipient, wherever the account is.
    pub async fn deliver(&self, session: &str, record: UserRecord, append: Append) -> Delivered {
        let Some(body) = append.messages.first().map(|message| Arc::clone(&message.body)) else {
            return Ok(());
        };
        let (delivery, answered) = Delivery::new(record, append);
        self.forward(session, &body, vec![delivery]).await;
        // It was told before that returned.
        answered.await.unwrap_or_else(|_| Err(refused::lmtp(&Refused::Unknown)))
    }

    /// Stores in an account that this node owns. [`Refused::Deposed`]: it does not any more, and nothing was done.
    pub async fn store(&self, record: &UserRecord, append: Append) -> Result<(), Refused> {
        let id = account_id(&record.user);
        self.settled(id).await;
        if self.router.owner(id) != Owner::Here {
            return Err(Refused::Deposed);
        }
        let opened = self.open(record).await;
        let account = opened.map_err(|why| match self.is_on_its_way(id) {
            true => Refused::Deposed,
            false => Refused::Unavailable(why),
        })?;
        account.ask(Request::Append(append)).await.map(drop)
    }

    fn count_delivery(&self, result: &'static str) {
        self.metrics.deliveries.get_or_create(&ByResult { protocol: "lmtp", result }).inc();
    }

    /// One transfer. Returns those for whom it has to be tried again.
    async fn transfer(
        &self,
        session: &str,
        body: &Arc<Spooled>,
        node: u8,
        group: Vec<Delivery>,
    ) -> Vec<Delivery> {
        let recipients = group.iter().map(Delivery::recipient).collect();
        let message = Message {
            name: body.name().to_owned(),
            size: body.size,
            wire_size: body.wire_size,
            content: *body.content.as_bytes(),
        };
        let envelope =
            Envelope { session: session.to_owned(), recipients, message, known: self.router.known() };
        let Some(channel) = self.router.channel(node) else {
            tracing::warn!(node, "a delivery waits: {}", unknown_node(node));
            return group;
        };
        let outcomes = match relay::deliver(channel, &envelope, TRANSFER_WAIT).await {
            Ok(outcomes) => outcomes,
            Err(DeliverError::NotStored(why)) => {
                tracing::warn!(node, "a delivery waits: its owner did not take it: {why}");
                self.router.count_retry("unreachable");
                return group;
            }
            Err(DeliverError::Unknown(why)) => {
                tracing::warn!(node, "what became of a delivery is not known: {why}");
                vec![Outcome::Unknown; group.len()]
            }
        };
        let mut again = Vec::new();
        let mut newest = None;
        for (mut delivery, outcome) in group.into_iter().zip(outcomes) {
            if let Outcome::NotOwner(version) = outcome {
                newest = newest.max(Some(version));
                delivery.not_owners += 1;
            }
            again.extend(self.settle_forwarded(delivery, outcome));
        }
        if let Some(version) = newest {
            self.router.count_retry("not_owner");
            self.router.learn(version).await;
        }
        again
    }

    /// Tells a recipient, or gives back one for whom it has to be tried again.
    fn settle_forwarded(&self, delivery: Delivery, outcome: Outcome) -> Option<Delivery> {
        let (result, told) = match outcome {
            Outcome::Stored => ("forwarded", Ok(())),
            Outcome::Refused(reply) => {
                ("refused", Err(LmtpReply::of(reply.code, &reply.enhanced, reply.text)))
            }
            Outcome::NotOwner(_) if delivery.not_owners <= NOT_OWNER_MAX => return Some(delivery),
            Outcome::NotOwner(_) => {
                let why = "the nodes do not agree yet on who owns the account";
                ("refused", Err(refused::lmtp(&Refused::Unavailable(why.into()))))
            }
            // The owner, whoever it is, recognises the message by its key.
            Outcome::Unknown if delivery.append.delivery.is_some() => return Some(delivery),
            Outcome::Unknown => ("unknown", Err(refused::lmtp(&Refused::Unknown))),
        };
        self.count_delivery(result);
        delivery.tell(told);
        None
    }
}
