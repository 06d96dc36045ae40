//! The running server and its command line: everything that has a socket, a thread or a clock.
//!
//! Blocking rooms (the owners, the stores) run on the threads of [`pool`]; sessions are tasks that join a state machine,
//! a socket and a clock ([`driver`]).

pub mod admin;
pub mod asking;
pub mod balancer;
pub mod bind;
pub mod carried;
pub mod cli;
pub mod condition;
pub mod demo;
pub mod driver;
pub mod emptying;
pub mod forward;
pub mod handover;
pub mod http;
pub mod listener;
pub mod live;
pub mod mail_volume;
pub mod measured;
pub mod metrics;
pub mod options;
pub mod owners;
pub mod patience;
pub mod peer;
pub mod pool;
pub mod privileges;
pub mod protocols;
pub mod rebuild;
pub mod receive;
pub mod registry;
pub mod relaxed;
pub mod reload;
pub mod resume;
pub mod router;
#[cfg(feature = "seeded-bugs")]
pub mod seeded;
pub mod serve;
pub mod site_log;
pub mod site_metrics;
pub mod standing;
pub mod stream;
pub mod takeovers;
pub mod tenure;
pub mod time;
pub mod tls;
pub mod users;
pub mod volume;
pub mod volume_watch;
