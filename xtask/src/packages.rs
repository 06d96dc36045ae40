//! Debian packages with the real clients that the tests use.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::ci::REQUIRE;

const LIST: &str = "xtask/debian-packages.txt";

/// Installs what is missing, when this is a Debian and we are root; else says what will be skipped.
pub(crate) fn install_if_possible(root: &Path) -> Result<()> {
    let missing = missing(&wanted(root)?)?;
    if missing.is_empty() {
        println!("all packages of {LIST} are installed");
        return Ok(());
    }
    if is_root() && Path::new("/etc/debian_version").exists() {
        return apt(&missing);
    }
    let required = std::env::var(REQUIRE).is_ok_and(|value| value == "require");
    if required {
        bail!("not installed, and this is not root on a Debian: {}", missing.join(" "));
    }
    println!("NOT INSTALLED, tests that need them will say SKIPPED: {}", missing.join(" "));
    Ok(())
}

/// `cargo xtask packages`.
pub(crate) fn install(root: &Path) -> Result<()> {
    let missing = missing(&wanted(root)?)?;
    if missing.is_empty() { Ok(()) } else { apt(&missing) }
}

#[expect(clippy::disallowed_methods, reason = "a tool of the build, not of the product")]
fn wanted(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join(LIST)).with_context(|| format!("cannot read {LIST}"))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn missing(packages: &[String]) -> Result<Vec<String>> {
    let installed = |package: &String| {
        let query = Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).output();
        query.is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
    };
    Ok(packages.iter().filter(|package| !installed(package)).cloned().collect())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn apt(packages: &[String]) -> Result<()> {
    println!("installing {}", packages.join(" "));
    apt_get(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages.iter().map(String::as_str));
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    // Packages that start a server of their own must not: the tests start what they need, as they need it.
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .status()
        .context("cannot run apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed ({status})", arguments.join(" "));
    }
    Ok(())
}
