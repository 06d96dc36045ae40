//! The way into namespaces of our own: this program starts itself again in them, as the first process of a tree that
//! dies with it.

use std::process::{Command, ExitStatus};

use anyhow::Context as _;

use crate::strangers::find;

/// Set for the program inside.
const INSIDE: &str = "JEPSEN_INSIDE";
const TOOLS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("tc", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
];
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Why hosts can't be made here.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("hosts are network namespaces, and making them is not permitted here: {0}")]
    Privilege(String),
    #[error("no {0} here: install {1}")]
    Tool(&'static str, &'static str),
}

/// What is missing to make hosts, if anything.
pub fn missing() -> Option<Missing> {
    if let Some((tool, package)) = TOOLS.iter().find(|(tool, _)| find(tool).is_none()) {
        return Some(Missing::Tool(tool, package));
    }
    // Also the time namespace that each host is given.
    let tried = Command::new("unshare").args(NAMESPACES).args(["unshare", "--time", "--", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(Missing::Privilege(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Err(error) => Some(Missing::Privilege(error.to_string())),
    }
}

pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// `None` when we are inside already. Otherwise the same command has run inside, and this is how it ended.
pub fn inside() -> anyhow::Result<Option<ExitStatus>> {
    if is_inside() {
        return Ok(None);
    }
    // unshare takes the tree with it when it goes, and goes when we do.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]).args(NAMESPACES).arg("--");
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    command.status().map(Some).context("cannot start inside of namespaces")
}
