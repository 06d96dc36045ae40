//! Threads on which blocking rooms run: one account on one thread at a time.
//!
//! Invariants
//! - A job is in the queue at most once; while it runs it is not in the queue. So whatever a job owns needs no lock
//!   against itself.
//! - The pool never waits for the async side.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

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

fn work(shared: &Shared) {
    loop {
        let mut queue = lock(&shared.queue);
        let job = loop {
            match queue.jobs.pop_front() {
                Some(job) => break job,
                None if queue.closed => return,
                None => queue = shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        job.run();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
