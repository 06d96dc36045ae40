//! The batcher: merges the witnesses of all accounts into few log entries.
//!
//! One task owns the queue. While nothing is under way a witness leaves at once; while something is, those that come
//! gather for a window, and leave as one request. A few requests may be under way. The window follows the answers: a
//! busy service is slow, and asked less often for more at a time.
//!
//! Invariants
//! - Requests are begun in the order of submission, and settled in that order.
//! - A request without an answer is sent again under its id, before anything newer is begun (L-CM3).
//! - Every ticket gets an answer, be it that there is none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::counters::Counters;
use super::lock;
use crate::clock::boottime;
use crate::command::{Answer, Command, RECORDS_MAX, Record, Refusal, Request, RequestId};
use crate::server::{Failure, NoAnswer, Pending, Voter};

/// How long witnesses gather while a request is under way: half of what an answer takes, within these.
const WINDOW_MIN: Duration = Duration::from_millis(2);
const WINDOW_MAX: Duration = Duration::from_millis(10);
/// Requests under way at once; far below the answers that the service remembers.
const DEPTH: usize = 4;
const _: () = assert!(DEPTH < crate::state::ANSWERS_MAX);

/// Why a change does not count, or is not known to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// Our tenure is over. The change does not count and never will.
    #[error("the epoch is over")]
    StaleEpoch,
    /// A newer state of this account is witnessed already: the caller's own order is broken.
    #[error("the counter would go backwards")]
    Backwards,
    /// Nobody answered. Only the next owner can tell (L-CM2).
    #[error("the result is unknown")]
    Unknown,
}

/// The answer to a witness that was handed in.
#[must_use = "a change counts only when its witness is answered"]
pub struct Ticket(oneshot::Receiver<Result<(), WitnessError>>);

impl Ticket {
    pub async fn answer(self) -> Result<(), WitnessError> {
        self.0.await.unwrap_or(Err(WitnessError::Unknown))
    }

    /// Waits on this thread. Panics on a thread that drives async tasks.
    pub fn wait(self) -> Result<(), WitnessError> {
        self.0.blocking_recv().unwrap_or(Err(WitnessError::Unknown))
    }
}

struct Waiting {
    record: Record,
    done: oneshot::Sender<Result<(), WitnessError>>,
}

/// Where requests go: the voter, or in tests one that loses them.
pub(super) trait Proposals: Send + Sync + 'static {
    /// `after`: the request before it, which has no answer yet.
    fn begin(&self, request: &Arc<Request>, after: Option<u64>) -> impl Future<Output = Pending> + Send;
    fn propose(&self, request: &Arc<Request>) -> impl Future<Output = Result<Answer, NoAnswer>> + Send;
    /// Whether an answer may still come to somebody: not when the voter has stopped.
    fn goes_on(&self) -> bool;
}

impl Proposals for Voter {
    async fn begin(&self, request: &Arc<Request>, after: Option<u64>) -> Pending {
        Self::begin(self, request, after).await
    }

    async fn propose(&self, request: &Arc<Request>) -> Result<Answer, NoAnswer> {
        Self::propose(self, request).await
    }

    fn goes_on(&self) -> bool {
        !self.is_stopped()
    }
}

/// Whether the session that witnesses are handed in under is not lost yet (L-CM3).
pub(super) type Hope = Box<dyn Fn() -> bool + Send + Sync>;

/// The door to the task.
pub(super) struct Batcher {
    queue: Mutex<Option<mpsc::UnboundedSender<Waiting>>>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Batcher {
    pub(super) fn start(voter: Arc<impl Proposals>, counters: Arc<Counters>, hope: Hope) -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        let work = Work {
            voter,
            counters,
            hope,
            queue,
            client: rand::random(),
            seq: 0,
            gathered: Vec::new(),
            leave_at: None,
            window: WINDOW_MIN,
            under_way: VecDeque::new(),
        };
        Self { queue: Mutex::new(Some(sender)), task: Mutex::new(Some(tokio::spawn(work.run()))) }
    }

    pub(super) fn submit(&self, record: Record) -> Ticket {
        let (done, answer) = oneshot::channel();
        if let Some(queue) = self.queue.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // If the task is gone, so is `done`, and the ticket says that nobody answered.
            let _ = queue.send(Waiting { record, done });
        }
        Ticket(answer)
    }

    /// Returns when everything that was handed in has its answer. Nothing is taken afterwards.
    pub(super) async fn finish(&self) {
        drop(lock(&self.queue).take());
        let task = lock(&self.task).take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the witness batcher had panicked");
        }
    }
}

struct UnderWay {
    request: Arc<Request>,
    done: Vec<oneshot::Sender<Result<(), WitnessError>>>,
    begun: Duration,
    pending: Pending,
}

struct Work<P> {
    voter: Arc<P>,
    counters: Arc<Counters>,
    hope: Hope,
    queue: mpsc::UnboundedReceiver<Waiting>,
    client: u64,
    seq: u64,
    gathered: Vec<Waiting>,
    /// When what is gathered leaves, full or not.
    leave_at: Option<Instant>,
    window: Duration,
    under_way: VecDeque<UnderWay>,
}

/// What the task woke up for.
enum Event {
    Settled(Result<Answer, Failure>),
    Gathered(usize),
    WindowOver,
}

impl<P: Proposals> Work<P> {
    async fn run(mut self) {
        let mut open = true;
        while open || !self.gathered.is_empty() || !self.under_way.is_empty() {
            if self.should_leave(open) {
                self.leave().await;
                continue;
            }
            match self.next_event(open).await {
                Event::Settled(result) => self.settle_front(result).await,
                Event::Gathered(0) => open = false,
                Event::Gathered(_) => {
                    self.leave_at.get_or_insert_with(|| Instant::now() + self.window);
                }
                Event::WindowOver => self.leave_at = Some(Instant::now()),
            }
        }
    }

    fn should_leave(&self, open: bool) -> bool {
        let due = self.under_way.is_empty()
            || self.gathered.len() >= RECORDS_MAX
            || !open
            || self.leave_at.is_some_and(|at| at <= Instant::now());
        !self.gathered.is_empty() && self.under_way.len() < DEPTH && due
    }

    async fn next_event(&mut self, open: bool) -> Event {
        let room = RECORDS_MAX - self.gathered.len().min(RECORDS_MAX);
        let may_leave = self.under_way.len() < DEPTH && !self.gathered.is_empty();
        let window = self.leave_at.unwrap_or_else(Instant::now);
        let front = self.under_way.front_mut();
        let has_front = front.is_some();
        tokio::select! {
            biased;
            result = answer_of(front), if has_front => Event::Settled(result),
            count = self.queue.recv_many(&mut self.gathered, room), if open && room > 0 => Event::Gathered(count),
            () = tokio::time::sleep_until(window), if may_leave => Event::WindowOver,
            // Unreachable while `run` goes on: something is open, gathered or under way.
            else => Event::WindowOver,
        }
    }

    async fn leave(&mut self) {
        self.leave_at = None;
        let (records, done) = std::mem::take(&mut self.gathered)
            .into_iter()
            .map(|waiting| (waiting.record, waiting.done))
            .unzip();
        self.seq += 1;
        let id = RequestId { client: self.client, seq: self.seq };
        let request = Arc::new(Request { id, command: Command::Witness { records } });
        let begun = boottime();
        let after = self.under_way.back().map(|before| before.request.id.seq);
        let pending = self.voter.begin(&request, after).await;
        self.under_way.push_back(UnderWay { request, done, begun, pending });
    }

    async fn settle_front(&mut self, result: Result<Answer, Failure>) {
        let Some(front) = self.under_way.pop_front() else { return };
        match result {
            Ok(answer) => {
                self.window = next_window(self.window, boottime().saturating_sub(front.begun));
                self.settle(front, &answer);
            }
            Err(Failure::Stopped) => self.give_up(front),
            Err(Failure::Again(error)) => {
                tracing::warn!(%error, "a witness batch has no answer; sending it again");
                self.recover(front).await;
            }
        }
    }

    /// Everything under way is brought to an end, in order, before anything newer is begun.
    async fn recover(&mut self, front: UnderWay) {
        let mut ended = vec![(front, None)];
        for mut request in std::mem::take(&mut self.under_way) {
            let answer = (&mut request.pending).await.ok();
            ended.push((request, answer));
        }
        for (request, answer) in ended {
            let answer = match answer {
                Some(answer) => Some(answer),
                None => insist(&*self.voter, &self.hope, &request.request).await,
            };
            match answer {
                Some(answer) => self.settle(request, &answer),
                None => self.give_up(request),
            }
        }
    }

    fn settle(&self, under_way: UnderWay, answer: &Answer) {
        let UnderWay { done, begun, .. } = under_way;
        self.counters.batch(done.len(), boottime().saturating_sub(begun));
        let Answer::Witnessed { refused } = answer else {
            tracing::error!(?answer, "unexpected answer to a witness batch");
            self.counters.unknown(done.len());
            return;
        };
        let mut refused = refused.iter().peekable();
        for (place, done) in (0u32..).zip(done) {
            let refusal = refused.next_if(|(refused, _)| *refused == place).map(|(_, refusal)| *refusal);
            // Whoever asked may have hung up; what is witnessed is witnessed.
            let _ = done.send(refusal.map_or(Ok(()), |refusal| Err(self.refused(refusal))));
        }
    }

    fn refused(&self, refusal: Refusal) -> WitnessError {
        match refusal {
            Refusal::StaleEpoch
            | Refusal::NoSession
            | Refusal::NotFounded
            | Refusal::FoundedOtherwise
            | Refusal::TooMany
            | Refusal::NotDraining
            | Refusal::NodeDraining
            | Refusal::OtherGroup => {
                self.counters.stale_epoch();
                WitnessError::StaleEpoch
            }
            Refusal::Backwards => {
                self.counters.backwards();
                WitnessError::Backwards
            }
            Refusal::TooOld | Refusal::OtherLife => WitnessError::Unknown,
        }
    }

    fn give_up(&self, under_way: UnderWay) {
        self.counters.unknown(under_way.done.len());
        for done in under_way.done {
            let _ = done.send(Err(WitnessError::Unknown));
        }
    }
}

/// One slow answer does not make a busy service.
fn next_window(window: Duration, answered_after: Duration) -> Duration {
    ((3 * window + answered_after / 2) / 4).clamp(WINDOW_MIN, WINDOW_MAX)
}

/// L-CM3: asks again until the result is known, or the session is lost and nobody may be told any more.
async fn insist(voter: &impl Proposals, hope: &Hope, request: &Arc<Request>) -> Option<Answer> {
    loop {
        match voter.propose(request).await {
            Ok(answer) => return Some(answer),
            Err(error) if hope() && voter.goes_on() => {
                tracing::warn!(%error, "a witness batch has no answer yet; sending it again");
            }
            Err(_) => return None,
        }
    }
}

/// The answer to the oldest request. It stays where it is until it has one, so the wait can be dropped.
async fn answer_of(front: Option<&mut UnderWay>) -> Result<Answer, Failure> {
    match front {
        Some(UnderWay { pending, .. }) => pending.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use model::Epoch;

    use super::*;
    use crate::command::{NodeId, SessionId, Value, Wanted};
    use crate::state::{State, Touched};

    /// What becomes of a request that is begun.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Carried,
        /// The leader was another.
        NotTaken,
        /// It was carried out, but the answer went astray.
        AnswerLost,
    }

    /// The state machine behind a leader that comes and goes.
    struct Moody {
        service: Mutex<(u64, State)>,
        fates: Mutex<VecDeque<Fate>>,
    }

    impl Moody {
        /// A service whose session 2 holds every bucket under the first epoch.
        fn new(fates: &[Fate]) -> Self {
            let fates = Mutex::new(fates.iter().copied().collect());
            let moody = Self { service: Mutex::new((0, State::default())), fates };
            let commands = [
                Command::Found { site: 1, incarnation: 1 },
                Command::SessionOpen { node: NodeId(1), replaces_older: true },
                Command::Grant { session: SessionId(2), wanted: Wanted::AllFree },
            ];
            for (seq, command) in (1..).zip(commands) {
                moody.apply(&Request { id: RequestId { client: 0, seq }, command });
            }
            moody
        }

        fn apply(&self, request: &Request) -> Answer {
            let (index, state) = &mut *lock(&self.service);
            *index += 1;
            state.apply(*index, request, &mut Touched::default())
        }
    }

    impl Proposals for Moody {
        async fn begin(&self, request: &Arc<Request>, _after: Option<u64>) -> Pending {
            let fate = lock(&self.fates).pop_front().unwrap_or(Fate::Carried);
            let lost = || Err(Failure::Again("lost".to_owned()));
            let result = match fate {
                Fate::Carried => Ok(self.apply(request)),
                Fate::NotTaken => lost(),
                Fate::AnswerLost => {
                    self.apply(request);
                    lost()
                }
            };
            Box::pin(std::future::ready(result))
        }

        fn goes_on(&self) -> bool {
            true
        }

        async fn propose(&self, request: &Arc<Request>) -> Result<Answer, NoAnswer> {
            Ok(self.apply(request))
        }
    }

    fn record(account: u16, counter: u64) -> Record {
        let value = Value::new(&counter.to_le_bytes()).expect("short");
        Record { bucket: account, epoch: Epoch::new(1, 1), subkey: [1; 16], value, counter }
    }

    #[test]
    fn a_busy_service_is_asked_less_often() {
        let after = |answer_ms: u64| {
            let answer = Duration::from_millis(answer_ms);
            (0..20).fold(WINDOW_MIN, |window, _| next_window(window, answer))
        };
        assert_eq!(after(1), WINDOW_MIN);
        assert!((Duration::from_millis(5)..=Duration::from_millis(6)).contains(&after(12)));
        assert_eq!(after(5000), WINDOW_MAX);
    }

    #[tokio::test]
    async fn a_witness_whose_answer_is_lost_is_asked_for_again_and_counts_once() {
        // (L-CM3)
        let fates = [Fate::AnswerLost, Fate::NotTaken, Fate::Carried, Fate::AnswerLost, Fate::AnswerLost];
        let (moody, counters) = (Arc::new(Moody::new(&fates)), Arc::new(Counters::default()));
        let batcher = Batcher::start(Arc::clone(&moody), Arc::clone(&counters), Box::new(|| true));
        for counter in 1..=20 {
            let tickets: Vec<Ticket> =
                (0..50).map(|account| batcher.submit(record(account, counter))).collect();
            for ticket in tickets {
                assert_eq!(ticket.answer().await, Ok(()), "round {counter}");
            }
        }
        batcher.finish().await;
        assert!(lock(&moody.fates).is_empty(), "all moods were lived through");
        let state = lock(&moody.service).1.clone();
        assert!(
            (0..50).all(|account| state.witness(account, &[1; 16]).is_some_and(|found| found.counter == 20))
        );
        assert_eq!(counters.read().records, 1000);
        assert_eq!(counters.read().backwards + counters.read().unknown, 0);
        assert_eq!(batcher.submit(record(1, 99)).answer().await, Err(WitnessError::Unknown), "after the end");
    }

    #[tokio::test]
    async fn refusals_reach_those_whose_records_they_are() {
        let (moody, counters) = (Arc::new(Moody::new(&[])), Arc::new(Counters::default()));
        let batcher = Batcher::start(moody, Arc::clone(&counters), Box::new(|| true));
        let stale = Record { epoch: Epoch::new(1, 2), ..record(3, 1) };
        let tickets = [record(1, 5), stale, record(2, 5), record(1, 4), record(1, 5)]
            .map(|record| batcher.submit(record));
        let mut answers = Vec::new();
        for ticket in tickets {
            answers.push(ticket.answer().await);
        }
        let expected = [Ok(()), Err(WitnessError::StaleEpoch), Ok(()), Err(WitnessError::Backwards), Ok(())];
        assert_eq!(answers, expected);
        assert_eq!((counters.read().stale_epoch, counters.read().backwards), (1, 1));
    }
}
