//! The log: to standard error, as text or as JSON, each line of a session with the session's id.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use config::{LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

/// Libraries whose `info` is of no use to an operator.
const CHATTY: [&str; 6] = ["sled", "h2", "hyper", "hyper_util", "tonic", "tower"];

const CONSENSUS: &str = "openraft";

static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Starts logging. Once in a process; later calls change nothing.
pub fn start(level: LogLevel, format: LogFormat) {
    let (filter, handle) = reload::Layer::new(targets(level));
    let stderr = std::io::stderr;
    let output = match format {
        LogFormat::Text => {
            tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).boxed()
        }
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(stderr).boxed()
        }
    };
    if tracing_subscriber::registry().with(filter).with(output).try_init().is_ok() {
        // Set once, by whoever was first.
        let _ = LEVEL.set(handle);
    }
}

/// Changes what is logged from now on. False if this process does not log.
pub fn set_level(level: LogLevel) -> bool {
    LEVEL.get().is_some_and(|handle| handle.reload(targets(level)).is_ok())
}

fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // What consensus has to say for an operator, `site_log` says.
    let consensus = match level {
        LogLevel::Trace => LevelFilter::DEBUG,
        LogLevel::Debug => LevelFilter::WARN,
        LogLevel::Info | LogLevel::Warn | LogLevel::Error => LevelFilter::ERROR,
    };
    let theirs = match level {
        LogLevel::Trace => LevelFilter::DEBUG,
        LogLevel::Debug | LogLevel::Info | LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let targets = Targets::new().with_default(ours).with_targets(CHATTY.map(|library| (library, theirs)));
    targets.with_target(CONSENSUS, consensus)
}
