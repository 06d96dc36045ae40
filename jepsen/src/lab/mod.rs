//! A lab: an NFS server and hosts that mount its export, each a Linux kernel of its own with its own caches, in a few seconds
//! and without KVM or images.
//!
//! A guest is a kernel that runs as a program (user-mode Linux). Its root is this machine's, read-only, so that what was
//! built here runs there under the same path. Each has a link to us, and we forward between them: what is forwarded can be
//! cut, each direction by itself, while what is said between us and a guest is not.
//!
//! Invariants
//! - The export is mounted with the kernel's default options: caches are on, and the mount is hard.
//! - Everything lies in namespaces of our own ([`crate::hosts::inside`]), and nothing is left of a lab, however it ends.
//! - What a client sees of the export is at [`MOUNTED`]; a disk of the guest's own is at [`DISK`].

pub mod agent;
mod guest;
mod packages;
mod running;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::hosts::{self, Missing, Number, network::Network};
use crate::strangers::find;
use crate::wait;
use guest::{Common, EXPORT, Role};
pub use guest::{Export, Guest};
pub use running::Running;

pub const MOUNTED: &str = "/mnt/nfs";
pub const DISK: &str = "/srv/disk";
/// The file server among the hosts.
pub const SERVER: Number = 0;
/// A client that was cut off, or whose server stood still, tries again within this: TCP's pauses grow.
const ANSWERS_AGAIN: Duration = Duration::from_secs(180);

/// A version of NFS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Version {
    #[value(name = "3")]
    V3,
    #[value(name = "4.2")]
    V4_2,
}

impl Version {
    pub fn name(self) -> &'static str {
        match self {
            Self::V3 => "3",
            Self::V4_2 => "4.2",
        }
    }

    /// The export's path; NFSv4's begins at the export.
    fn path(self) -> &'static str {
        match self {
            Self::V3 => EXPORT,
            Self::V4_2 => "/",
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Until its last guest has gone it stays, nameless.
        let _gone = hosts::tool("umount", ["-l".as_ref(), self.common.memory().as_os_str()]);
    }
}

/// What is missing to make a lab, if anything.
pub fn missing() -> Option<Missing> {
    const TOOLS: [(&str, &str); 2] = [("apt-get", "apt"), ("dpkg", "dpkg")];
    if std::env::consts::ARCH != "x86_64" {
        return Some(Missing::Privilege("guests are x86_64 programs".to_owned()));
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some(Missing::Privilege("no /dev/net/tun".to_owned()));
    }
    let tool = TOOLS.iter().find(|(tool, _)| find(tool).is_none());
    tool.map(|(tool, package)| Missing::Tool(tool, package)).or_else(hosts::missing)
}

/// Downloads what guests need, if it is not there. Only outside of namespaces of our own.
pub fn fetch() -> anyhow::Result<()> {
    packages::fetch()
}

/// A lab that runs.
#[derive(Debug)]
pub struct Lab {
    common: Common,
    version: Version,
    server: Guest,
    clients: Vec<Guest>,
}

impl Lab {
    /// Boots a server and clients, which mount its export and see these directories under their own paths.
    pub fn make(
        clients: Number,
        version: Version,
        dir: &Path,
        seen: Vec<PathBuf>,
    ) -> anyhow::Result<(Self, Network)> {
        let common = Common { dir: dir.join("lab"), tools: packages::tools()?, seen };
        std::fs::create_dir_all(&common.dir)?;
        common.write()?;
        hosts::words("ip link set lo up")?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot forward between guests")?;
        let server = Guest::make(SERVER, Role::Server, &common)?;
        let clients: anyhow::Result<Vec<Guest>> =
            (1..=clients).map(|number| Guest::make(number, Role::Client, &common)).collect();
        let lab = Self { common, version, server, clients: clients? };
        for guest in lab.guests() {
            guest.boot()?;
        }
        for guest in lab.guests() {
            guest.wait_up()?;
        }
        for client in &lab.clients {
            lab.mount(client)?;
        }
        let last = Number::try_from(lab.clients.len()).context("too many clients")?;
        Ok((lab, Network::forwarded(SERVER..=last)))
    }

    fn guests(&self) -> impl Iterator<Item = &Guest> {
        std::iter::once(&self.server).chain(&self.clients)
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn server(&self) -> &Guest {
        &self.server
    }

    pub fn client(&self, number: Number) -> anyhow::Result<&Guest> {
        let client = self.clients.get(usize::from(number).wrapping_sub(1));
        client.with_context(|| format!("the lab has no client {number}"))
    }

    /// Where we find what guests write to a file of this name in their share.
    pub fn shared(&self, name: &str) -> PathBuf {
        self.common.share().join(name)
    }

    fn mount(&self, client: &Guest) -> anyhow::Result<()> {
        let (version, from) = (self.version.name(), self.server.address());
        let path = self.version.path();
        let line = format!("mount.nfs {from}:{path} {MOUNTED} -o vers={version}");
        let mut last = Ok(String::new());
        let done = wait::until(ANSWERS_AGAIN, || {
            last = client.shell(&line, ANSWERS_AGAIN);
            last.is_ok().then_some(())
        });
        last.and_then(|_| done.context("it does not answer")).context("the export can't be mounted")
    }

    /// Boots a guest that is off, and mounts the export if it is a client.
    pub fn boot(&self, guest: &Guest) -> anyhow::Result<()> {
        guest.boot()?;
        guest.wait_up()?;
        if std::ptr::eq(guest, &self.server) { Ok(()) } else { self.mount(guest) }
    }

    pub fn boot_if_off(&self, guest: &Guest) -> anyhow::Result<()> {
        if guest.is_on() { Ok(()) } else { self.boot(guest) }
    }

    /// From now on, and until the server is booted again.
    pub fn export(&self, how: Export) -> anyhow::Result<()> {
        self.server.export(how)
    }

    /// Waits until the export takes a write of every client.
    pub fn wait_answers(&self) -> anyhow::Result<()> {
        for client in &self.clients {
            let line = format!("echo > {MOUNTED}/answers-{}", client.address());
            let answers = wait::until(ANSWERS_AGAIN, || client.shell(&line, ANSWERS_AGAIN).ok());
            answers.with_context(|| format!("the file server does not answer {}", client.address()))?;
        }
        Ok(())
    }
}
