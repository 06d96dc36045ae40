//! Where message bytes lie, and state derived from them.
//!
//! Knows formats and files, no protocol and no journal: which comes first is the owner's decision.

pub mod body;
pub mod format;
pub mod index;
pub mod paths;
pub mod spool;
