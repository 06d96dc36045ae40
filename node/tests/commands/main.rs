//! The built binary, as an operator uses it.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test is a stranger with files and sockets of its own, and stops at what it does not expect"
)]

mod accounts;
mod cluster;
mod configuration;
mod demo;
mod doctor;
mod help;
mod messages;
mod moving;
mod node;
mod nodes;
mod rebuild;
mod sessions;
mod site;
mod strangers;
