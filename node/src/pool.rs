//! Threads on which blocking rooms run: one account on one thread at a time.
//!
//! Invariants
//! - A job is in the queue at most once; while it runs it is not in the queue. So whatever a job owns needs no lock
//!   against itself.
//! - The pool never waits for the async side.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::time;

/// What a worker does once for an account that has something to do.
pub trait Job: Send + Sync {
    /// Runs on a worker. When it returns, the job may be queued again. It does not panic.
    fn run(self: Arc<Self>);
}

/// A fixed number of threads and a queue.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Arc<dyn Job>>,
    /// Jobs whose time has not come, in no order: they are few.
    later: Vec<(Instant, Arc<dyn Job>)>,
    closed: bool,
}

impl Pool {
    /// Starts `threads` workers.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("account-{number}")).spawn(move || work(&shared))
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// Queues a job. After [`stop`](Self::stop) nothing is queued any more.
    pub fn queue(&self, job: Arc<dyn Job>) {
        let mut queue = lock(&self.shared.queue);
        if !queue.closed {
            queue.jobs.push_back(job);
            self.shared.filled.notify_one();
        }
    }

    /// Queues a job when this time is over. What is still to come when the pool stops is forgotten.
    pub fn queue_after(&self, wait: Duration, job: Arc<dyn Job>) {
        lock(&self.shared.queue).later.push((time::now() + wait, job));
        // Whoever waits, waits until then at most.
        self.shared.filled.notify_one();
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.queue).jobs.len()
    }

    /// Lets the workers finish what is queued, and waits for them.
    pub fn stop(&self) {
        lock(&self.shared.queue).closed = true;
        self.shared.filled.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread died; what it was doing is recovered at the next start");
            }
        }
    }
}

impl Queue {
    /// Jobs whose time has come join those that wait for a thread. Returns when the next one does.
    fn take_due(&mut self, now: Instant) -> Option<Duration> {
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let mut due: Vec<(Instant, Arc<dyn Job>)> = due;
        due.sort_by_key(|(at, _)| *at);
        self.jobs.extend(due.into_iter().map(|(_, job)| job));
        self.later.iter().map(|(at, _)| at.saturating_duration_since(now)).min()
    }
}

fn work(shared: &Shared) {
    loop {
        let mut queue = lock(&shared.queue);
        let job = loop {
            let wait = queue.take_due(time::now());
            match (queue.jobs.pop_front(), wait) {
                (Some(job), _) => break job,
                (None, _) if queue.closed => return,
                (None, None) => queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
                (None, Some(wait)) => {
                    let woken = shared.filled.wait_timeout(queue, wait);
                    queue = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        };
        if !queue.jobs.is_empty() {
            shared.filled.notify_one();
        }
        drop(queue);
        job.run();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Tell(&'static str, mpsc::Sender<&'static str>);

    impl Job for Tell {
        fn run(self: Arc<Self>) {
            self.1.send(self.0).unwrap();
        }
    }

    #[test]
    fn a_job_for_later_runs_in_its_time_and_keeps_no_thread_from_others() {
        let pool = Pool::start(1).unwrap();
        let (told, ran) = mpsc::channel();
        let job = |name| Arc::new(Tell(name, told.clone()));
        pool.queue_after(Duration::from_millis(60), job("second"));
        pool.queue_after(Duration::from_millis(30), job("first"));
        pool.queue_after(Duration::from_secs(3600), job("never"));
        pool.queue(job("at once"));
        let next = || ran.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!([next(), next(), next()], ["at once", "first", "second"]);
        pool.stop();
        assert!(ran.try_recv().is_err());
    }
}
