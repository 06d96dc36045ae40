//! Whether the volume under `mail.root` is fit for mail: asked before a node serves (`locking.md` §1).
//!
//! Invariants
//! - What can lose mail keeps the node from starting, with the sentence that `roost doctor` says; the rest is logged.
//! - A node that has served a tree does not take an empty directory for it: the volume may not be mounted.

use std::path::Path;
use std::time::SystemTime;

use config::Config;
use nfs_compat::probe::{Asked, Finding, Report, Severity, examine};
use nfs_compat::{DiskFs, Fs, publish};

use crate::{time, volume};

/// Where the probe tries things, below the mail tree.
pub const INSIDE: &str = ".roost/probe";

/// In `state_dir`: the tree that this node has served.
const SERVED_FILE: &str = "served-volume";
const SERVED_BYTES_MAX: u64 = 8192;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[error("mail.root or node.state_dir can lose mail: {0}")]
pub struct Unfit(pub String);

/// Examines what this node is about to serve, and logs what is not perfect.
pub fn examine_at_start(config: &Config) -> Result<(), Unfit> {
    let fs = DiskFs::new();
    let name = format!("start-{}-{}", config.node.id, std::process::id());
    let mut report = Report::default();
    report.findings.extend(served_before(&fs, config));
    report.findings.extend(state_on_network(config));
    // Nothing is tried, and so written, in a directory that is not the tree.
    if report.findings.is_empty() {
        report = look(&fs, &config.mail.root, &name, false);
    }
    for finding in &report.findings {
        let (code, root) = (finding.code, config.mail.root.display());
        match finding.severity {
            Severity::Refuse => {}
            Severity::Warn => tracing::warn!(code, %root, "{finding}"),
            Severity::Note => tracing::info!(code, %root, "{finding}"),
        }
    }
    let refused: Vec<String> = report.refused().map(ToString::to_string).collect();
    if refused.is_empty() { Ok(()) } else { Err(Unfit(refused.join("\n"))) }
}

/// The examination that `roost doctor` makes.
pub fn look(fs: &dyn Fs, root: &Path, name: &str, thorough: bool) -> Report {
    let now = || SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(time::unix_us());
    examine(fs, &Asked { root, inside: Path::new(INSIDE), name, thorough, now: &now })
}

/// Remembers, on this host, that the tree has a superblock from now on.
pub fn remember_served(fs: &dyn Fs, state_dir: &Path, root: &Path) -> nfs_compat::Result<()> {
    let root = root.as_os_str().as_encoded_bytes();
    match fs.read(&state_dir.join(SERVED_FILE), SERVED_BYTES_MAX) {
        Ok(known) if known == root => Ok(()),
        Ok(_) => publish(fs, state_dir, SERVED_FILE, root),
        Err(error) if error.is_not_found() => publish(fs, state_dir, SERVED_FILE, root),
        Err(error) => Err(error),
    }
}

fn served_before(fs: &dyn Fs, config: &Config) -> Option<Finding> {
    let (root, state) = (&config.mail.root, config.node.state_dir.join(SERVED_FILE));
    let known = fs.read(&state, SERVED_BYTES_MAX).ok()?;
    if known != root.as_os_str().as_encoded_bytes()
        || !matches!(fs.exists(&store::paths::superblock(root)), Ok(false))
    {
        return None;
    }
    let what = format!(
        "this node has served {}, and there is no {} now: the volume is not mounted, or another one is",
        root.display(),
        store::paths::superblock(root).display(),
    );
    let change = format!(
        "mount it, and start again; if the mail is gone on purpose and the tree is to begin empty, remove {} first",
        state.display()
    );
    Some(Finding::new(Severity::Refuse, "unmounted", what, change))
}

fn state_on_network(config: &Config) -> Option<Finding> {
    let state = &config.node.state_dir;
    if !volume::is_nfs(state).unwrap_or(false) {
        return None;
    }
    let what = format!(
        "node.state_dir, {}, lies on NFS: what nodes agree on must not hang on the server that it is about",
        state.display()
    );
    Some(Finding::new(
        Severity::Refuse,
        "state_dir",
        what,
        "name a directory on a local disk in node.state_dir",
    ))
}
