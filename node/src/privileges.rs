//! Giving up root: the network-facing code never runs as it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nfs_compat::{DiskFs, Fs};
use nix::unistd::{Gid, Group, Uid, User, chown, geteuid, setgid, setgroups, setuid};

/// The user whom the mail belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    uid: Uid,
    gid: Gid,
}

/// Whether there is something to give up.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Looks `node.run_as` up: `user` or `user:group`.
pub fn run_as(setting: Option<&str>) -> Result<Option<RunAs>> {
    if !is_root() {
        return Ok(None);
    }
    let Some(setting) = setting else {
        bail!(
            "started as root without node.run_as: write the user whom the mail belongs to, such as run_as = \"vmail\""
        );
    };
    let (user, group) = setting.split_once(':').map_or((setting, None), |(user, group)| (user, Some(group)));
    let user = User::from_name(user)?.with_context(|| format!("node.run_as: there is no user {user}"))?;
    let gid = match group {
        None => user.gid,
        Some(name) => {
            Group::from_name(name)?.with_context(|| format!("node.run_as: there is no group {name}"))?.gid
        }
    };
    if user.uid.is_root() {
        bail!("node.run_as must not be root");
    }
    Ok(Some(RunAs { uid: user.uid, gid }))
}

impl RunAs {
    /// Hands a directory over that is root's and holds nothing yet: one that was just made for us.
    pub fn own(self, directory: &Path) -> Result<()> {
        let fs = DiskFs::new();
        if fs.read_dir(directory)?.is_empty() && owner(directory)? == 0 {
            chown(directory, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give {} to node.run_as", directory.display()))?;
        }
        Ok(())
    }

    /// Hands over a file or directory that root has just made for us.
    pub fn give(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to node.run_as", path.display()))
    }

    /// Hands over a socket that was bound as root.
    pub fn own_socket(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to node.run_as", path.display()))
    }

    /// Becomes that user, for good, on all threads.
    pub fn become_it(self) -> Result<()> {
        setgroups(&[self.gid]).context("cannot give up root's groups")?;
        setgid(self.gid).context("cannot give up root's group")?;
        setuid(self.uid).context("cannot give up root")?;
        if setuid(Uid::from_raw(0)).is_ok() {
            bail!("root could be taken back: not starting");
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "asks for the owner, which no mail store needs to know")]
fn owner(path: &Path) -> Result<u32> {
    Ok(std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.uid())
}
