//! Whether the mail volume takes writes: asked every few seconds by writing, syncing and removing a small file.
//!
//! Invariants
//! - One probe at a time: a volume that hangs costs one thread, and is told by the probe that does not come back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store::spool::Spool;
use tokio::sync::watch;

use crate::time;

const EVERY: Duration = Duration::from_secs(5);
/// A probe that takes longer means that the volume hangs (`locking.md` §8).
const HANGS: Duration = Duration::from_secs(5);
const WORD: &[u8] = b"Roost looks whether this volume takes writes.\n";

#[derive(Default)]
struct Seen {
    /// When the probe began that is under way.
    asking_since: Option<Instant>,
    /// Why the last one failed.
    failure: Option<String>,
}

/// What the last probe found.
#[derive(Default)]
pub struct VolumeWatch(Mutex<Seen>);

impl VolumeWatch {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the volume does not take writes, if it does not.
    pub fn failure(&self, now: Instant) -> Option<String> {
        let seen = self.lock();
        let hangs =
            seen.asking_since.map(|since| now.saturating_duration_since(since)).filter(|for_| *for_ > HANGS);
        match hangs {
            Some(hangs) => Some(format!("the mail volume has not answered for {} s", hangs.as_secs())),
            None => seen.failure.as_ref().map(|why| format!("the mail volume takes no writes: {why}")),
        }
    }

    fn begin(&self) {
        self.lock().asking_since = Some(time::now());
    }

    fn finish(&self, found: Result<(), String>) {
        let mut seen = self.lock();
        seen.asking_since = None;
        if found.is_err() != seen.failure.is_some() {
            match &found {
                Ok(()) => tracing::info!("the mail volume takes writes again"),
                Err(why) => tracing::error!("the mail volume takes no writes: {why}"),
            }
        }
        seen.failure = found.err();
    }
}

/// Probes until the node ends.
pub async fn run(watch: Arc<VolumeWatch>, spool: Arc<Spool>, mut ended: watch::Receiver<bool>) {
    loop {
        watch.begin();
        let spool = Arc::clone(&spool);
        let probed = tokio::task::spawn_blocking(move || probe(&spool)).await;
        watch.finish(probed.unwrap_or_else(|error| Err(error.to_string())));
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// Dropping what was spooled removes it.
fn probe(spool: &Spool) -> Result<(), String> {
    let mut incoming = spool.begin();
    incoming.write(WORD).map_err(|error| error.to_string())?;
    incoming.finish().map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_fails_or_does_not_come_back_is_a_reason() {
        let watch = VolumeWatch::default();
        assert_eq!(watch.failure(time::now()), None);
        watch.finish(Err("disk full".into()));
        assert_eq!(watch.failure(time::now()).as_deref(), Some("the mail volume takes no writes: disk full"));
        watch.finish(Ok(()));
        watch.begin();
        assert_eq!(watch.failure(time::now()), None);
        let later = time::now() + HANGS * 2;
        assert!(watch.failure(later).is_some_and(|why| why.contains("has not answered")));
    }
}
