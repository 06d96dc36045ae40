//! The built binary, as an operator uses it.
#![allow(
    clippy::disallowed_methods,
    reason = "a test is a stranger: it has files, sockets and a clock of its own"
)]

mod accounts;
mod configuration;
mod demo;
mod help;
mod messages;
mod node;
mod sessions;
