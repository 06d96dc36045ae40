//! Whether the server hands out write delegations, as far as one host can tell (`locking.md` §1).
//!
//! A host that holds one opens the file again without asking the server. The kernel counts what it asks.

use std::path::Path;

use super::mount::unescaped;
use super::{Finding, Report, Severity};
use crate::Fs;

/// Others work on the mount, too: they can hide that nothing was asked, and not feign it.
const TRIES: u64 = 4;

/// How many opens this host has sent to a mount's server, by `/proc/self/mountstats`; `None` before NFS 4.
pub(super) fn opens(mountstats: &str, point: &Path) -> Option<u64> {
    let mut lines = mountstats.lines().skip_while(|line| !is_of(line, point)).skip(1);
    let ours = lines.by_ref().take_while(|line| !line.starts_with("device "));
    let counts: Vec<u64> = ours
        .filter_map(|line| {
            let (name, numbers) = line.trim_start().split_once(": ")?;
            let number = numbers.split_whitespace().next()?;
            matches!(name, "OPEN" | "OPEN_NOATTR").then(|| number.parse().ok())?
        })
        .collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

/// `device nas:/mail mounted on /srv/mail with fstype nfs4 statvers=1.1`
fn is_of(line: &str, point: &Path) -> bool {
    let on = line.strip_prefix("device ").and_then(|rest| rest.split_once(" mounted on "));
    let found = on.and_then(|(_, rest)| rest.rsplit_once(" with fstype "));
    found.is_some_and(|(found, _)| unescaped(found) == point)
}

pub(super) fn run(fs: &dyn Fs, directory: &Path, count: &dyn Fn() -> Option<u64>, report: &mut Report) {
    let mut unasked = 0;
    for number in 0..TRIES {
        let path = directory.join(format!("delegated.{number}"));
        let written = fs.create(&path).and_then(|file| file.write_at(b"x", 0).and_then(|()| file.sync()));
        let (Ok(()), Some(before)) = (written, count()) else { return };
        if fs.open_write(&path).is_err() {
            return;
        }
        unasked += u64::from(count() == Some(before));
    }
    if unasked > TRIES / 2 {
        let what = "the server hands out write delegations: when a node that holds one dies, the next owner waits up to \
                    the server's lease (commonly 90 s) to open the file";
        let change = "turn write delegations off at the server (knfsd: `echo 0 > /proc/sys/fs/leases-enable` before it \
                      starts), or mount with `vers=3`";
        report.add(Finding::new(Severity::Warn, "delegation", what, change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimFs;
    use std::cell::Cell;

    const STATS: &str = "\
device proc mounted on /proc with fstype proc
device nas:/mail mounted on /srv/ma\\040il with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2
\tper-op statistics
\t        NULL: 1 1 0 44 24 0 0 0 0
\t        OPEN: 230 230 0 66048 89240 2 511 529 0
\tOPEN_CONFIRM: 0 0 0 0 0 0 0 0 0
\t OPEN_NOATTR: 200 200 0 44912 61696 5 93 101 0
device nas:/mail mounted on /srv/three with fstype nfs statvers=1.1
\tper-op statistics
\t        NULL: 1 1 0 44 24 0 0 0 0
";

    #[test]
    fn the_kernels_count_is_read_for_the_mount_in_question() {
        assert_eq!(opens(STATS, Path::new("/srv/ma il")), Some(430));
        assert_eq!(opens(STATS, Path::new("/srv/three")), None);
        assert_eq!(opens(STATS, Path::new("/srv")), None);
    }

    #[test]
    fn opens_that_the_server_is_not_asked_for_tell_of_write_delegations() {
        for (asks, found) in [(true, 0), (false, 1)] {
            let (count, mut report) = (Cell::new(0), Report::default());
            let counted = || {
                count.set(count.get() + u64::from(asks));
                Some(count.get())
            };
            run(&SimFs::new(1), Path::new("/"), &counted, &mut report);
            assert_eq!(report.findings.len(), found);
        }
    }
}
