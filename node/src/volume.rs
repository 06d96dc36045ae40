//! The superblock of the mail tree: which site it belongs to, and the incarnation of the coordination service that
//! serves it.
//!
//! A coordination service that was founded anew (its `state_dir` is gone) takes a higher incarnation than any before,
//! so that its epochs name no file that exists (L-FN1).

use std::path::Path;

use account::tenure::Volume;
use anyhow::{Context, Result, bail};
use nfs_compat::{Fs, publish};
use nix::sys::statfs::{self, FsType, statfs};
use serde::{Deserialize, Serialize};

const BYTES_MAX: u64 = 4096;

/// Filesystems that other machines can mount too. FUSE is among them: behind it may be anything.
const SHARED: [FsType; 8] = [
    statfs::NFS_SUPER_MAGIC,
    statfs::SMB_SUPER_MAGIC,
    statfs::CODA_SUPER_MAGIC,
    statfs::AFS_SUPER_MAGIC,
    statfs::FUSE_SUPER_MAGIC,
    FsType(0xff53_4d42), // CIFS
    FsType(0x00c3_6400), // Ceph
    FsType(0x7461_636f), // OCFS2
];

/// Who can mount the tree: this node alone if it is the site's only member and the filesystem is local (decision 2).
pub fn kind(root: &Path, members: usize) -> Result<Volume> {
    let shared = members > 1 || is_on_network(root)?;
    Ok(if shared { Volume::Shared } else { Volume::Private })
}

/// Whether other machines can mount the filesystem that the tree lies on.
pub fn is_on_network(root: &Path) -> Result<bool> {
    let found = statfs(root).with_context(|| format!("cannot look at {}", root.display()))?;
    Ok(SHARED.contains(&found.filesystem_type()))
}

/// Whether a directory lies on NFS.
pub fn is_nfs(directory: &Path) -> Result<bool> {
    let found = statfs(directory).with_context(|| format!("cannot look at {}", directory.display()))?;
    Ok(found.filesystem_type() == statfs::NFS_SUPER_MAGIC)
}

/// What stands in `ROOT/.roost/volume`, as TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    pub version: u32,
    pub site: String,
    pub incarnation: u32,
}

/// Reads the superblock; `None` on a tree that no node has served yet.
pub fn read(fs: &dyn Fs, root: &Path, site: &str) -> Result<Option<Superblock>> {
    let path = store::paths::superblock(root);
    let bytes = match fs.read(&path, BYTES_MAX) {
        Err(error) if error.is_not_found() => return Ok(None),
        bytes => bytes?,
    };
    let text = String::from_utf8(bytes).with_context(|| format!("{} is garbled", path.display()))?;
    let block: Superblock = toml::from_str(&text).with_context(|| {
        format!(
            "{} is garbled: put back the one from a backup; it names the site and its incarnation",
            path.display()
        )
    })?;
    if block.version != 1 {
        bail!("{} was written by a newer version ({}): run that", path.display(), block.version);
    }
    if block.site != site {
        bail!(
            "{} belongs to site {}, and this node is of site {site}: check mail.root and cluster.site",
            root.display(),
            block.site
        );
    }
    Ok(Some(block))
}

/// Writes the superblock, durably, before an epoch of this incarnation is used.
pub fn write(fs: &dyn Fs, root: &Path, block: &Superblock) -> Result<()> {
    let path = store::paths::superblock(root);
    let directory = path.parent().unwrap_or(root);
    fs.create_dir_all(directory)?;
    publish::publish(fs, directory, "volume", toml::to_string(block)?.as_bytes())?;
    Ok(())
}
