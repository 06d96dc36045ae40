//! A disk that is ours, small enough to be filled, slow when it shall be, and without power when it shall be: a file with a
//! filesystem in it.
//!
//! Without power: all that the filesystem had not handed to the disk is gone, its own journal's tail too. What it had, stays:
//! the disk has no cache of its own that could be lost.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::tool;

const FILLER: &str = "filler";
/// Where the kernel lets us say how many writes a second a disk does for a group of processes.
const GROUPS: &str = "/sys/fs/cgroup/blkio";

/// Ends a filesystem as it stands (`EXT4_IOC_SHUTDOWN`, without its log being written out). There is no tool for that which
/// every machine has.
const POWER_CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
    /// MAJOR:MINOR.
    device: String,
    /// The processes of the host; `None` where the kernel can't slow a disk.
    group: Option<PathBuf>,
}

impl Disk {
    /// Makes it and mounts it at `mounted`.
    pub fn make(image: &Path, mounted: &Path, bytes: u64) -> anyhow::Result<Self> {
        File::create(image)?.set_len(bytes)?;
        // No blocks kept for root: full is full.
        tool(
            "mkfs.ext4",
            ["-q", "-m", "0", "-F"]
                .map(AsRef::<std::ffi::OsStr>::as_ref)
                .into_iter()
                .chain([image.as_os_str()]),
        )?;
        fs::create_dir_all(mounted)?;
        let (image, mounted) = (image.to_owned(), mounted.to_owned());
        let mut disk = Self { image, mounted, device: String::new(), group: None };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        tool("mount", ["-o".as_ref(), "loop".as_ref(), self.image.as_os_str(), self.mounted.as_os_str()])?;
        let device = fs::metadata(&self.mounted)?.dev();
        self.device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        Ok(())
    }

    /// Lets it be slow for a group of processes of this name, where the kernel can do that.
    pub fn grouped(mut self, name: &str) -> Self {
        let group = Path::new(GROUPS).join(name);
        let slows = Path::new(GROUPS).join("blkio.throttle.write_iops_device").exists();
        self.group = (slows && fs::create_dir(&group).is_ok()).then_some(group);
        self
    }

    /// From now on nothing reaches it, and all that only the filesystem knew of is lost.
    pub fn cut_power(&self) -> anyhow::Result<()> {
        tool("python3", ["-c".as_ref(), POWER_CUT.as_ref(), self.mounted.as_os_str()])?;
        Ok(())
    }

    /// Power is back. Nobody may have anything open on it any more.
    pub fn boot(&mut self) -> anyhow::Result<()> {
        tool("umount", [&self.mounted])?;
        self.mount()
    }

    /// Counts a process among those of the host.
    pub fn takes(&self, process: u32) -> anyhow::Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        fs::write(group.join("cgroup.procs"), process.to_string())
            .context("cannot join the group of processes")
    }

    pub fn can_be_slow(&self) -> bool {
        self.group.is_some()
    }

    /// So many writes and reads a second and no more; `None` = as many as it can.
    pub fn slow(&self, operations_a_second: Option<u32>) -> anyhow::Result<()> {
        let group = self.group.as_ref().context("this kernel can't slow a disk")?;
        let line = format!("{} {}", self.device, operations_a_second.unwrap_or(0));
        for file in ["blkio.throttle.write_iops_device", "blkio.throttle.read_iops_device"] {
            fs::write(group.join(file), &line).with_context(|| format!("cannot write {line} to {file}"))?;
        }
        Ok(())
    }

    /// Fills it to the last byte. What others free meanwhile stays free.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.mounted.join(FILLER))?;
        for chunk in [1 << 20, 64 << 10, 4 << 10, 1] {
            let zeros = vec![0; chunk];
            while filler.write_all(&zeros).is_ok() {}
        }
        let _full = filler.sync_all();
        Ok(())
    }

    /// Takes away what filled it.
    pub fn free(&self) -> anyhow::Result<()> {
        let filler = self.mounted.join(FILLER);
        if filler.exists() { fs::remove_file(filler).context("cannot free the disk") } else { Ok(()) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _kept_while_mounted = tool("umount", ["-l".as_ref(), self.mounted.as_os_str()]);
        // Its processes are gone by now.
        let _gone = self.group.as_ref().map(fs::remove_dir);
    }
}
