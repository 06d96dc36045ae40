//! One step after the other, each with its time; the first that fails ends the run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{licences, packages, readme, tidy};

/// Tests that want a tool fail without it if this is set to `require`, and skip loudly otherwise.
pub(crate) const REQUIRE: &str = "ROOST_TESTS";

pub(crate) fn run(root: &Path) -> Result<()> {
    let mut steps = Steps { root, done: Vec::new() };
    steps.step("packages", || packages::install_if_possible(root))?;
    steps.cargo("fmt", &["fmt", "--all", "--check"])?;
    steps.step("tidy", || tidy::run(root))?;
    steps.step("licences", || licences::run(root))?;
    steps.cargo("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let planted = ["clippy", "--workspace", "--features", "roost/seeded-bugs", "--", "-D", "warnings"];
    steps.cargo("clippy with planted bugs", &planted)?;
    steps.docs()?;
    steps.cargo("build the server", &["build", "--release", "--package", "roost"])?;
    steps.cargo("build the tests", &["test", "--workspace", "--no-run"])?;
    steps.tests()?;
    steps.step("readme", || readme::run(root))?;
    steps.summary();
    Ok(())
}

struct Steps<'a> {
    root: &'a Path,
    done: Vec<(String, f64)>,
}

impl Steps<'_> {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n=== {name}");
        let start = now();
        work().with_context(|| format!("step `{name}`"))?;
        self.done.push((name.to_owned(), start.elapsed().as_secs_f64()));
        Ok(())
    }

    fn cargo(&mut self, name: &str, arguments: &[&str]) -> Result<()> {
        let root = self.root;
        self.step(name, || cargo(root, arguments, &[]))
    }

    fn docs(&mut self) -> Result<()> {
        let root = self.root;
        let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        // Private items are documented too, so a link to one leads somewhere.
        let flags = "-D warnings -A rustdoc::private_intra_doc_links";
        self.step("docs", || cargo(root, &arguments, &[("RUSTDOCFLAGS", flags)]))
    }

    /// All tests, with the release server for those that run it as a black box.
    fn tests(&mut self) -> Result<()> {
        let root = self.root;
        let server = release_directory(root).join("roost");
        let server = server.to_str().context("the path of the workspace is not UTF-8")?.to_owned();
        self.step("tests", || cargo(root, &["test", "--workspace"], &[("ROOST_BIN", &server)]))
    }

    fn summary(&self) {
        println!("\n=== all steps passed");
        for (name, seconds) in &self.done {
            println!("{seconds:8.1} s  {name}");
        }
    }
}

/// Where cargo puts what it builds with `--release`.
fn release_directory(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root.join(target).join("release")
}

fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let status = Command::new(cargo)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo {} failed ({status})", arguments.join(" "));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "steps are timed for people")]
fn now() -> Instant {
    Instant::now()
}
