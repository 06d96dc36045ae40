//! A host's own disk, small enough to be filled and slow when it shall be: a file with a filesystem in it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Number, tool};

const BYTES: u64 = 192 << 20;
const FILLER: &str = "filler";
/// Where the kernel lets us say how many writes a second a disk does for a group of processes.
const GROUPS: &str = "/sys/fs/cgroup/blkio";

#[derive(Debug)]
pub struct Disk {
    mounted: PathBuf,
    /// MAJOR:MINOR.
    device: String,
    /// The processes of the host; `None` where the kernel can't slow a disk.
    group: Option<PathBuf>,
}

impl Disk {
    /// Makes it and mounts it at `mounted`.
    pub fn make(host: Number, image: &Path, mounted: &Path, run: &str) -> anyhow::Result<Self> {
        File::create(image)?.set_len(BYTES)?;
        // No blocks kept for root: full is full. What is lost with the power is not at stake here.
        tool(
            "mkfs.ext4",
            ["-q", "-m", "0", "-F"]
                .map(AsRef::<std::ffi::OsStr>::as_ref)
                .into_iter()
                .chain([image.as_os_str()]),
        )?;
        fs::create_dir_all(mounted)?;
        tool("mount", ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), mounted.as_os_str()])?;
        let device = fs::metadata(mounted)?.dev();
        let device = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let group = Path::new(GROUPS).join(format!("{run}-{host}"));
        let slows = Path::new(GROUPS).join("blkio.throttle.write_iops_device").exists();
        let group = (slows && fs::create_dir(&group).is_ok()).then_some(group);
        Ok(Self { mounted: mounted.to_owned(), device, group })
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
