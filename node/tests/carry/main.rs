//! Three nodes in one process, each with its own runtime, over mutual TLS on loopback: clients come to node 1, and most
//! accounts are at nodes 2 and 3. In `moves` and `stops` they are a site: one tree, and a coordination service of three.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test is a stranger with files, sockets and clocks of its own, and stops at what it does not expect"
)]

mod deliveries;
mod ends;
mod frozen;
mod moves;
mod sessions;
mod site;
mod stops;
mod world;
