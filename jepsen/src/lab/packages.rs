//! What guests need and machines seldom have: a kernel that runs as a program, the NFS server and the NFS client's helpers.
//!
//! Invariants
//! - Packages are downloaded by the system's own apt and unpacked beside our binary; nothing is installed.
//! - What is there is whole: it was unpacked elsewhere and got its name when it was complete.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::hosts::tool;

const PACKAGES: [&str; 20] = [
    "user-mode-linux",
    "nfs-common",
    "nfs-kernel-server",
    "rpcbind",
    "busybox-static",
    "keyutils",
    "libnfsidmap1",
    "libtirpc3",
    "libtirpc-common",
    "libwrap0",
    "libnsl2",
    "libevent-core-2.1-7",
    "libsqlite3-0",
    "libkeyutils1",
    "libgssapi-krb5-2",
    "libkrb5-3",
    "libk5crypto3",
    "libkrb5support0",
    "libcap2",
    // A neighbour of ours on the same mount.
    "procmail",
];
/// Names the directory for what was downloaded.
const CACHE: &str = "ROOST_LAB_CACHE";
const UNPACKED: &str = "root";
/// In it: of which packages.
const STAMP: &str = ".packages";

/// Programs, libraries and kernel modules for guests.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) root: PathBuf,
    pub(super) modules: PathBuf,
}

impl Tools {
    pub(super) fn kernel(&self) -> PathBuf {
        self.root.join("usr/bin/linux.uml")
    }

    /// Modules with what they need before them, as paths below `modules`.
    pub(super) fn loading(&self, wanted: &[&str]) -> anyhow::Result<Vec<String>> {
        let needs = fs::read_to_string(self.modules.join("modules.dep"))?;
        let mut order: Vec<String> = Vec::new();
        for name in wanted {
            let file = format!("/{name}.ko");
            let mut lines = needs.lines().filter_map(|line| line.split_once(':'));
            let (module, needs) = lines
                .find(|(module, _)| module.ends_with(&file))
                .with_context(|| format!("the guests' kernel has no module {name}"))?;
            for one in needs.split_whitespace().rev().chain([module]) {
                if !order.iter().any(|known| known == one) {
                    order.push(one.to_owned());
                }
            }
        }
        Ok(order)
    }
}

fn cache() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os(CACHE) {
        return std::path::absolute(named).context("the cache's path");
    }
    let ours = std::env::current_exe()?;
    // target/debug/jepsen: downloads lie in target, whatever the profile.
    Ok(ours.ancestors().nth(2).context("no directory above our binary's")?.join("nfs-lab"))
}

/// Downloads and unpacks what is not there yet. Only where the network is, so not inside of namespaces of our own.
pub(super) fn fetch() -> anyhow::Result<()> {
    let cache = cache()?;
    if is_complete(&cache) {
        return Ok(());
    }
    let making = cache.join(format!("making.{}", std::process::id()));
    let made = fetch_into(&making).and_then(|()| {
        let (root, old) = (cache.join(UNPACKED), making.join("old"));
        if root.exists() {
            fs::rename(&root, old)?;
        }
        fs::rename(making.join(UNPACKED), root).context("another run has just done the same: try again")
    });
    let _gone = fs::remove_dir_all(&making);
    made
}

fn is_complete(cache: &Path) -> bool {
    let stamp = fs::read_to_string(cache.join(UNPACKED).join(STAMP)).unwrap_or_default();
    stamp == PACKAGES.join(" ")
}

fn fetch_into(making: &Path) -> anyhow::Result<()> {
    let (archives, root) = (making.join("archives"), making.join(UNPACKED));
    fs::create_dir_all(&archives)?;
    let mut download = Command::new("apt-get");
    download.args(["-qq", "-o", "APT::Sandbox::User=root", "download"]).args(PACKAGES).current_dir(&archives);
    if !download.output()?.status.success() {
        // Perhaps its lists are old.
        tool("apt-get", ["-qq", "update"])?;
        let output = download.output()?;
        if !output.status.success() {
            bail!(
                "apt-get can't download what guests need: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }
    for archive in fs::read_dir(archives)? {
        tool("dpkg", ["-x".as_ref(), archive?.path().as_os_str(), root.as_os_str()])?;
    }
    fs::write(root.join(STAMP), PACKAGES.join(" "))?;
    Ok(())
}

/// What [`fetch`] has left.
pub(super) fn tools() -> anyhow::Result<Tools> {
    let cache = cache()?;
    if !is_complete(&cache) {
        bail!("{} lacks what guests need", cache.display());
    }
    let root = cache.join(UNPACKED);
    let kernels = fs::read_dir(root.join("usr/lib/uml/modules"))?;
    let modules = kernels.filter_map(|kernel| Some(kernel.ok()?.path())).max();
    Ok(Tools { root, modules: modules.context("the guests' kernel has no modules")? })
}
