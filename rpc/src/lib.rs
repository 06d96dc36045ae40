//! What crosses a socket between our own processes, as gRPC. One file in `proto/` for each room that serves.
//!
//! Generated types stay inside: each module offers plain ones.

pub mod admin;
