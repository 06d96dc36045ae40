//! The applied state of a service with many accounts, and what it takes.

use locking::command::{
    Answer, BUCKETS, Command, NodeId, RECORDS_MAX, Record, Request, RequestId, SessionId, Value, Wanted,
};
use locking::state::{State, Touched};
use model::Epoch;

/// As long as those of mail accounts.
const VALUE_BYTES: usize = 31;

/// Resident memory of this process.
pub(crate) fn resident_bytes() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the kernel's own file, of this process")]
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib =
        line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Spreads numbers as a hash does, and never two of them to the same.
fn spread(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub(crate) struct Filled {
    pub(crate) state: State,
    epoch: Epoch,
    index: u64,
}

impl Filled {
    /// A service that was founded, and a session that owns all buckets.
    pub(crate) fn founded() -> Self {
        let mut filled = Self { state: State::default(), epoch: Epoch::new(1, 1), index: 0 };
        filled.ask(Command::Found { site: 1, incarnation: 1 });
        let opened = filled.ask(Command::SessionOpen { node: NodeId(1), replaces_older: true });
        let session = if let Answer::Opened(session) = opened { session } else { SessionId(0) };
        filled.ask(Command::Grant { session, wanted: Wanted::AllFree });
        filled
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.index += 1;
        let id = RequestId { client: 1, seq: self.index };
        // What is touched is for the copy, which takes it once a second.
        self.state.apply(self.index, &Request { id, command }, &mut Touched::default())
    }

    fn record(&self, account: u64, counter: u64) -> Option<Record> {
        let (high, low) = (spread(account), spread(account ^ 0x5555_0000_0000_0000));
        let mut subkey = [0; 16];
        subkey[..8].copy_from_slice(&high.to_le_bytes());
        subkey[8..].copy_from_slice(&low.to_le_bytes());
        let bucket = (low % BUCKETS as u64) as u16;
        let value = Value::new(&[counter as u8; VALUE_BYTES])?;
        Some(Record { bucket, epoch: self.epoch, subkey, value, counter })
    }

    /// Witnesses these accounts, in full batches. Returns how many were accepted.
    pub(crate) fn witness(&mut self, accounts: std::ops::Range<u64>, counter: u64) -> u64 {
        let mut accepted = 0;
        let mut next = accounts.start;
        while next < accounts.end {
            let until = accounts.end.min(next + RECORDS_MAX as u64);
            let records: Vec<Record> =
                (next..until).filter_map(|account| self.record(account, counter)).collect();
            let asked = records.len() as u64;
            if let Answer::Witnessed { refused } = self.ask(Command::Witness { records }) {
                accepted += asked - refused.len() as u64;
            }
            next = until;
        }
        accepted
    }
}
