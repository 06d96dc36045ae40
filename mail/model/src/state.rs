//! What operations join to (replication.md §3): placeholder until the room is built.
