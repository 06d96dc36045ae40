//! What a site's nodes share and what each is told: certificates by `roost cluster pki`, users, configuration.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::node::Node;
use crate::hosts::tool;
use crate::server::{TOKEN, password, roost_binary, unprivileged, user};

pub(super) const IMAP: u16 = 143;
pub(super) const POP3: u16 = 110;
pub(super) const LMTP: u16 = 24;
pub(super) const HTTP: u16 = 8080;
const PEER: u16 = 7001;
/// The tree of nodes that run beside us.
pub(super) const MAIL: &str = "mail";

/// Gives a path to the user that nodes run as.
pub(crate) fn give(path: &Path) -> anyhow::Result<()> {
    let Some(owner) = unprivileged()? else { return Ok(()) };
    nix::unistd::chown(path, Some(owner.uid), Some(owner.gid))
        .with_context(|| format!("chown {}", path.display()))
}

/// Writes everything that nodes read.
pub(super) fn write(site: &Path, nodes: &[&Node], accounts: usize, lease_s: u64) -> anyhow::Result<()> {
    let users: String = (0..accounts)
        .map(|account| format!("{}:{{PLAIN}}{}::::::\n", user(account), password(account)))
        .collect();
    fs::write(site.join("users"), users)?;
    fs::create_dir_all(site.join(MAIL))?;
    certificates(site, nodes)?;
    for path in ["", "users", MAIL].map(|name| site.join(name)) {
        give(&path)?;
    }
    let members: String = nodes
        .iter()
        .map(|node| {
            let (id, address) = (node.number, node.address());
            format!("[[cluster.member]]\nid = {id}\npeer = \"{address}:{PEER}\"\n")
        })
        .collect();
    for node in nodes {
        fs::write(node.config(), config(site, node, &members, lease_s)?)?;
        give(&node.config())?;
    }
    Ok(())
}

fn config(dir: &Path, node: &Node, members: &str, lease_s: u64) -> anyhow::Result<String> {
    let run_as = if unprivileged()?.is_some() { "run_as = \"nobody\"\n" } else { "" };
    let (id, address, site) = (node.number, node.address(), dir.display());
    Ok(format!(
        "[node]\nid = {id}\nname = \"a{id}\"\nstate_dir = \"{state}\"\nadmin_socket = \"{socket}\"\n{run_as}\n\
         [mail]\nroot = \"{mail}\"\nformat = \"maildir\"\n\n\
         [listen]\nimap = [\"{address}:{IMAP}\"]\nimaps = []\npop3 = [\"{address}:{POP3}\"]\n\
         lmtp = [\"{address}:{LMTP}\"]\nadmin_http = [\"{address}:{HTTP}\"]\npeer = \"{address}:{PEER}\"\n\n\
         [auth]\nplaintext_without_tls = \"always\"\n\n[[auth.passdb]]\ndriver = \"passwd-file\"\npath = \"{site}/users\"\n\n\
         [metrics]\ntoken = \"{TOKEN}\"\n\n[cluster]\nsite = \"a\"\nlease = \"{lease_s}s\"\n\n\
         [cluster.tls]\nca = \"{site}/pki/ca.pem\"\ncertificate = \"{site}/pki/a-{id}.pem\"\n\
         key = \"{site}/pki/a-{id}.key\"\n\n{members}",
        mail = node.mail(&dir.join(MAIL)).display(),
        state = node.state().display(),
        socket = node.socket().display(),
    ))
}

fn certificates(site: &Path, nodes: &[&Node]) -> anyhow::Result<()> {
    let (roost, pki) = (roost_binary()?.display().to_string(), site.join("pki"));
    let pki = pki.to_str().context("the path of the site is not UTF-8")?;
    tool(&roost, ["cluster", "pki", "init", pki])?;
    for node in nodes {
        let (id, address) = (node.number.to_string(), node.address().to_string());
        tool(&roost, ["cluster", "pki", "issue", "--site", "a", "--node", &id, "--address", &address, pki])?;
    }
    for entry in fs::read_dir(pki)? {
        give(&entry?.path())?;
    }
    give(Path::new(pki))
}
