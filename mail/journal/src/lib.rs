//! One account's operations, own and others', durable, in the order applied here.
//!
//! What is not in the journal has not happened; what is, can be read again by everyone who cares. The journal sees
//! records, never a message's bytes; who may write, and which record counts, is decided by its callers.
//!
//! Layout of an account's `j/`, little-endian: segments named `<epoch>-<segment>.seg`, each a header
//! ([`segment`]) and then records ([`record`]). Every header pins its predecessor and names the newest checkpoint in
//! `c/`, so the whole chain is reachable by name from one [`Mark`] (L-FN2).

pub mod name;
pub mod reader;
pub mod record;
pub mod scan;
pub mod segment;
pub mod show;
pub mod trim;
mod whose;

pub use name::{CheckpointName, SegmentName};
pub use reader::{Garbled, Orphan, ReadError, Replay, Tail, Torn, read_exact, read_tail};
pub use record::RECORD_BYTES_MAX;
pub use scan::Entry;
pub use segment::{
    CheckpointPin, Header, Mark, SEGMENT_BYTES_MAX, SegmentPin, WriteError, Writer, content_hash,
};
pub use show::{Show, Shown};
pub use whose::whose;
