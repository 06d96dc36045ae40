//! The account in memory: the state, what readers are shown of it, and what the disk owes to it.
//!
//! The three change together, one record at a time, in [`Image::apply`]: the owner goes through it with a record it
//! makes, and a start with one that it reads (R-OP2).

use std::collections::BTreeMap;

use bincode::Options;
use model::op::digest;
use model::state::Applied;
use model::{AccountId, AccountState, EntryId, MailboxId, Record, SiteId, Stamp};
use serde::{Deserialize, Serialize};

use crate::building::{Building, KeptView};
use crate::dues::{Dues, KeptDues};

/// Of a checkpoint's payload.
const PAYLOAD_VERSION: u16 = 1;

pub(crate) struct Image {
    pub(crate) state: AccountState,
    pub(crate) building: Building,
    pub(crate) dues: Dues,
}

#[derive(Deserialize)]
struct Payload {
    version: u16,
    state: AccountState,
    views: BTreeMap<MailboxId, KeptView>,
    dues: KeptDues,
}

#[derive(Serialize)]
struct PayloadRef<'a> {
    version: u16,
    state: &'a AccountState,
    views: BTreeMap<MailboxId, KeptView>,
    dues: KeptDues,
}

impl Image {
    pub(crate) fn new(account: AccountId, site: SiteId) -> Self {
        let state = AccountState::new(account, site);
        Self { state, building: Building::new(account), dues: Dues::default() }
    }

    /// Takes a record in. False if its operation is in here already, or one before it is missing.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<bool, String> {
        let encoded = options().serialize(&record.op).map_err(|error| error.to_string())?;
        match self.state.apply(record, digest(record.dot, record.stamp, &encoded)) {
            Applied::Known => Ok(false),
            Applied::Gap => Err(format!("operation {} does not follow what came before it", record.dot)),
            Applied::Done(effects) => {
                // What configuration creates has stamp 0 and a modseq of its own (R-ID2): the next change comes after
                // both (I6).
                self.state.clock_mut().observe(Stamp::from_u64(record.modseq.0));
                self.building.join(&self.state, &effects, record.modseq, &mut self.dues);
                Ok(true)
            }
        }
    }

    /// What a checkpoint holds. Nothing may be pending in the views.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        let (views, dues) = (self.building.keep(), self.dues.keep());
        let payload = PayloadRef { version: PAYLOAD_VERSION, state: &self.state, views, dues };
        options().serialize(&payload).map_err(|error| error.to_string())
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, String> {
        let payload: Payload = options().deserialize(payload).map_err(|error| error.to_string())?;
        if payload.version != PAYLOAD_VERSION {
            return Err(format!("checkpoint of version {}", payload.version));
        }
        let building = Building::load(&payload.state, payload.views);
        Ok(Self { building, state: payload.state, dues: Dues::load(payload.dues) })
    }

    /// The message as it is shown, with the mailbox that it is in.
    pub(crate) fn shown(&self, entry: EntryId) -> Option<(MailboxId, &crate::snapshot::MessageView)> {
        self.building.shown(entry)
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
}
