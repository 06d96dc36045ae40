//! Derived state on disk: checkpoints of what the journal says, and what was parsed out of messages. All of it can be
//! made again.

pub mod cache;
pub mod checkpoint;

#[cfg(test)]
mod tests;
