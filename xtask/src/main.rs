//! Our own tools, in our own language: `cargo xtask ci | tidy | licences | readme | packages`.
//!
//! `ci` is everything that must pass, here and on the build machine alike.

mod ci;
mod licences;
mod packages;
mod readme;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  ci         Everything that must pass: fmt, tidy, licences, clippy, docs, tests, real clients
  tidy       Sizes of files and functions, headers, words that must not be committed
  licences   Each dependency's licence against the list of permissive ones
  readme     Type what README.md tells a stranger to type
  packages   Install the Debian packages that the tests use (as root)
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let root = root();
    let outcome = match command.as_str() {
        "ci" => ci::run(&root),
        "tidy" => tidy::run(&root),
        "licences" => licences::run(&root),
        "readme" => readme::run(&root),
        "packages" => packages::install(&root),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace, wherever it is called from.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
