//! The running server and its command line: everything that has a socket, a thread or a clock.
//!
//! Blocking rooms (the owners, the stores) run on the threads of [`pool`]; sessions are tasks that join a state machine,
//! a socket and a clock ([`driver`]).

pub mod asking;
pub mod driver;
pub mod listener;
pub mod live;
pub mod metrics;
pub mod pool;
pub mod registry;
pub mod serve;
pub mod stream;
pub mod tenure;
pub mod time;
pub mod tls;
pub mod users;
