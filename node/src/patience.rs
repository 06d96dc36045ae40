//! Opening an account on a volume that this host may have an old view of (`locking.md` §6.2, §6.3).
//!
//! Invariants
//! - No thread waits: between two looks the account is refused at once, and the pool looks again when it is time.
//! - An account that shows less than what counts is told of once when that begins, and once when it is offline.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use account::patience::{FOR, Patience, Verdict};
use account::{Now, OpenError, Owner, Setup, Shortfall};

use crate::metrics::Metrics;
use crate::time;

/// Looks that one turn takes: after the first the host is made to ask the server, which mends most old views.
const LOOKS: usize = 2;

/// The patience with one account, and where its time begins.
pub struct Opening {
    patience: Mutex<Patience>,
    start: Instant,
}

impl Default for Opening {
    fn default() -> Self {
        Self { patience: Mutex::default(), start: time::now() }
    }
}

/// Why an account is not open.
#[derive(Debug)]
pub struct Closed {
    pub reason: String,
    /// The log has it already.
    pub is_told: bool,
}

impl From<String> for Closed {
    fn from(reason: String) -> Self {
        Self { reason, is_told: false }
    }
}

impl Opening {
    /// Opens the account, or says why not. `again` has it tried again after some time.
    pub fn open(
        &self,
        setup: &Setup,
        metrics: &Metrics,
        again: impl FnOnce(Duration),
    ) -> Result<Owner, Closed> {
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        let now = || time::now().duration_since(self.start);
        if !patience.may_look(now()) {
            return Err(waiting(&patience));
        }
        let mut found = None;
        for _ in 0..LOOKS {
            match Owner::open(setup.clone(), Now { unix_us: time::unix_us() }) {
                Ok(owner) => {
                    shown(&setup.user, &mut patience, now(), metrics);
                    return Ok(owner);
                }
                Err(OpenError::Behind(shortfall)) => {
                    if found.is_none() && !patience.is_waiting() {
                        behind(&setup.user, &shortfall, metrics);
                    }
                    if let Err(error) = shortfall.revalidate(&*setup.fs) {
                        tracing::debug!(user = setup.user, %error, "the file server is not asked again");
                    }
                    found = Some(shortfall);
                }
                Err(error) => return Err(error.to_string().into()),
            }
        }
        if let Some(shortfall) = found {
            let was_lost = patience.is_lost();
            match patience.fell_short(shortfall.witness, now()) {
                Verdict::Again(wait) => again(wait),
                Verdict::Lost if was_lost => {}
                Verdict::Lost => lost(setup, &shortfall, metrics),
            }
        }
        Err(waiting(&patience))
    }
}

fn waiting(patience: &Patience) -> Closed {
    let reason = if patience.is_lost() {
        "offline (durability): acknowledged changes are missing on the volume; the node's log says what to do"
    } else {
        "the volume does not show the account's last changes yet; this node looks again"
    };
    Closed { reason: reason.to_owned(), is_told: true }
}

fn behind(user: &str, shortfall: &Shortfall, metrics: &Metrics) {
    metrics.stale_views.inc();
    tracing::warn!(%user, "old view of the volume, looked at again for up to {} s: {shortfall}", FOR.as_secs());
}

fn shown(user: &str, patience: &mut Patience, now: Duration, metrics: &Metrics) {
    if patience.is_lost() {
        metrics.durability_offline.dec();
    }
    if let Some(since) = patience.satisfied() {
        let seconds = now.saturating_sub(since).as_secs_f64();
        tracing::warn!(%user, seconds, "the volume shows the account's last changes again: it is open");
    }
}

fn lost(setup: &Setup, shortfall: &Shortfall, metrics: &Metrics) {
    metrics.durability_offline.inc();
    tracing::error!(
        user = setup.user,
        account = %setup.account,
        epoch = %shortfall.witness.epoch,
        segment = shortfall.witness.segment,
        length = shortfall.witness.length,
        hash = format!("{:016x}", shortfall.witness.hash),
        lsn = shortfall.witness.lsn,
        file = %shortfall.file.display(),
        "ALARM: account offline (durability): the file server lost acknowledged changes: {shortfall}. Nothing goes \
         on with less. What to do: compare the file with what another node reads (`ls -l`); check that the export is \
         `sync` and which server or disk failed or was set back; bring the account's .roost directory back from the \
         newest backup or snapshot that has it. The account opens by itself as soon as the volume shows it all"
    );
}
