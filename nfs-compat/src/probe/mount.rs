//! A mount, as the kernel describes it: one line of `/proc/self/mountinfo`.
//!
//! Invariants
//! - What a path lies on is the last mount of the longest mount point above it: a later one hides an earlier one.
//! - Nothing here asks the system: the tables come in as text.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a path lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    /// The filesystem's type, such as `nfs4`.
    pub kind: String,
    /// A device, or `SERVER:/export`.
    pub source: String,
    /// Of this mount and of the filesystem, in the kernel's words.
    pub options: Vec<String>,
}

impl Mount {
    /// Finds what `path` lies on. The path is absolute, and no part of it is a symbolic link.
    pub fn of(mountinfo: &str, path: &Path) -> Option<Self> {
        let above = mountinfo.lines().filter_map(Self::parse).filter(|mount| path.starts_with(&mount.point));
        // Of equals `max_by_key` takes the last.
        above.max_by_key(|mount| mount.point.components().count())
    }

    /// `36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
    fn parse(line: &str) -> Option<Self> {
        let (ours, filesystem) = line.split_once(" - ")?;
        let mut ours = ours.split(' ').skip(4);
        let (point, options) = (ours.next()?, ours.next()?);
        let mut filesystem = filesystem.split(' ');
        let (kind, source) = (filesystem.next()?, filesystem.next()?);
        let all = options.split(',').chain(filesystem.next().unwrap_or_default().split(','));
        Some(Self {
            point: unescaped(point),
            kind: kind.to_owned(),
            source: unescaped(source).to_string_lossy().into_owned(),
            options: all.filter(|option| !option.is_empty()).map(str::to_owned).collect(),
        })
    }

    pub fn is_nfs(&self) -> bool {
        matches!(self.kind.as_str(), "nfs" | "nfs4")
    }

    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|found| found == option)
    }

    pub fn value(&self, option: &str) -> Option<&str> {
        self.options.iter().find_map(|found| found.strip_prefix(option)?.strip_prefix('='))
    }

    pub fn seconds(&self, option: &str) -> Option<Duration> {
        self.value(option)?.parse().ok().map(Duration::from_secs)
    }

    /// How long files may go by old attributes; the kernel names what is not its default.
    pub fn files_at_most(&self) -> Duration {
        self.seconds("acregmax").unwrap_or(Duration::from_secs(60))
    }

    /// The same for names.
    pub fn names_at_most(&self) -> Duration {
        self.seconds("acdirmax").unwrap_or(Duration::from_secs(60))
    }
}

/// The tables write blanks and backslashes as three octal digits.
pub(super) fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(u8::is_ascii_digit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
40 25 0:35 / /srv/mail rw,relatime shared:2 - nfs4 10.77.1.2:/ rw,vers=4.2,rsize=32768,wsize=32768,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.77.2.2,local_lock=none,addr=10.77.1.2
41 25 0:36 / /srv/ma\\040il\\134 rw - nfs server:/an\\040export ro,vers=3,soft,acregmax=7
42 25 0:37 / /srv/over rw - tmpfs tmpfs rw
43 42 0:38 / /srv/over rw - xfs /dev/sdb rw
garbled";

    fn of(path: &str) -> Mount {
        Mount::of(TABLE, Path::new(path)).unwrap()
    }

    #[test]
    fn a_path_lies_on_the_longest_mount_point_above_it() {
        assert_eq!(of("/srv/mail/example.org").source, "10.77.1.2:/");
        assert_eq!(of("/srv/mail").kind, "nfs4");
        assert_eq!(of("/srv/mailbox").kind, "ext4");
        assert_eq!(of("/").point, Path::new("/"));
        assert_eq!(Mount::of("", Path::new("/")), None);
    }

    #[test]
    fn a_later_mount_hides_an_earlier_one() {
        assert_eq!(of("/srv/over/x").kind, "xfs");
    }

    #[test]
    fn options_are_those_of_the_mount_and_of_the_filesystem() {
        let mount = of("/srv/mail");
        assert!(mount.is_nfs() && mount.has("relatime") && mount.has("hard") && !mount.has("soft"));
        assert_eq!((mount.value("vers"), mount.value("hard"), mount.value("ver")), (Some("4.2"), None, None));
        assert_eq!(mount.files_at_most(), Duration::from_secs(60));
    }

    #[test]
    fn blanks_and_backslashes_are_read() {
        let mount = of("/srv/ma il\\/x");
        assert_eq!(
            (mount.source.as_str(), mount.point.as_path()),
            ("server:/an export", Path::new("/srv/ma il\\"))
        );
        assert!(mount.has("ro"));
        assert_eq!(mount.files_at_most(), Duration::from_secs(7));
        assert_eq!(unescaped("a\\04"), Path::new("a\\04"));
    }
}
