//! What protocols may show of the state (replication.md §3, V1 to V7).
