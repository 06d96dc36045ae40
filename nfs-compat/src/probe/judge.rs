//! What a mount's options mean for mail (`locking.md` §1). Pure: a mount in, findings out.
//!
//! Invariants
//! - Refused is what can lose or mix up acknowledged mail without anybody being told. What is only slow, or holds
//!   accounts up, is warned of.

use std::path::Path;
use std::time::Duration;

use super::mount::{Mount, unescaped};
use super::{Finding, Severity};

/// How long an account waits for a view that is old (`account::patience` has 65 s).
const PATIENCE: Duration = Duration::from_secs(60);

/// A rule about one option or kind.
struct Rule {
    applies: fn(&Mount) -> bool,
    severity: Severity,
    code: &'static str,
    what: &'static str,
    change: &'static str,
}

const NFS: [Rule; 16] = [
    Rule {
        applies: |mount| mount.has("soft"),
        severity: Severity::Refuse,
        code: "soft",
        what: "a soft mount gives a write up when the server is silent for a while, and the mail in it is lost",
        change: "mount with `hard` instead of `soft`",
    },
    Rule {
        applies: |mount| mount.has("softerr"),
        severity: Severity::Refuse,
        code: "softerr",
        what: "a softerr mount gives a write up when the server is silent for a while, and the mail in it is lost",
        change: "mount with `hard` instead of `softerr`",
    },
    Rule {
        applies: |mount| mount.has("softreval"),
        severity: Severity::Refuse,
        code: "softreval",
        what: "with softreval this host serves old names and sizes for as long as the server is silent",
        change: "mount without `softreval` (`nosoftreval`)",
    },
    Rule {
        applies: |mount| mount.has("nocto"),
        severity: Severity::Refuse,
        code: "nocto",
        what: "with nocto an opened file is not compared with the server, so a new owner reads an old journal",
        change: "mount without `nocto` (`cto`)",
    },
    Rule {
        applies: |mount| mount.value("proto").is_some_and(|proto| proto.starts_with("udp")),
        severity: Severity::Refuse,
        code: "proto",
        what: "over UDP fragments of two requests can be taken for one another, and wrong bytes are stored",
        change: "mount with `proto=tcp`",
    },
    Rule {
        applies: |mount| mount.value("vers").is_some_and(|vers| vers.starts_with('2')),
        severity: Severity::Refuse,
        code: "vers2",
        what: "NFS 2 has no safe writes and no files above 2 GiB",
        change: "mount with `vers=4.2`",
    },
    Rule {
        applies: |mount| mount.value("vers").is_some_and(|vers| vers.starts_with('3')),
        severity: Severity::Note,
        code: "vers3",
        what: "NFS 3 tells a host of a change by its time only, and a file that another host removed cannot be read \
               to its end",
        change: "mount with `vers=4.2` if the server can",
    },
    Rule {
        applies: |mount| mount.value("vers") == Some("4.0"),
        severity: Severity::Note,
        code: "vers40",
        what: "NFS 4.0 has no sessions, so a request whose answer was lost is carried out twice",
        change: "mount with `vers=4.2` if the server can",
    },
    Rule {
        applies: |mount| mount.has("nolock") || locks_here(mount),
        severity: Severity::Warn,
        code: "nolock",
        what: "locks stay on this host, so taking one does not make it ask the server: an account whose journal was \
               read before may be held up for a minute after a take-over, and locks of other mail programs keep \
               nobody on other hosts out",
        change: "mount with `lock` and `local_lock=none`",
    },
    Rule {
        applies: |mount| {
            mount.has("noac") || mount.files_at_most().is_zero() || mount.names_at_most().is_zero()
        },
        severity: Severity::Warn,
        code: "noac",
        what: "without attribute caching every look costs a question to the server; Roost does not need that",
        change: "mount with `ac` and without `actimeo=0`",
    },
    Rule {
        applies: |mount| mount.value("lookupcache") == Some("none"),
        severity: Severity::Warn,
        code: "lookupcache",
        what: "with lookupcache=none every name is looked up at the server again; Roost does not need that",
        change: "mount with `lookupcache=positive`",
    },
    Rule {
        applies: |mount| {
            !mount.value("lookupcache").is_some_and(|cache| cache.starts_with("pos") || cache == "none")
                && !mount.has("noac")
                && !mount.names_at_most().is_zero()
        },
        severity: Severity::Note,
        code: "negative",
        what: "a name that was missing once may stay missing on this host for a minute, and mail that another \
               program delivers from another host is seen that much later",
        change: "mount with `lookupcache=positive`",
    },
    Rule {
        applies: |mount| mount.files_at_most().max(mount.names_at_most()) > PATIENCE,
        severity: Severity::Warn,
        code: "actimeo",
        what: "this host may go by old attributes for longer than the 65 seconds for which an account waits: after a \
               take-over accounts may be taken for lost, and open only later",
        change: "mount without `actimeo`, `acregmax` and `acdirmax` (at most 60)",
    },
    Rule {
        applies: |mount| mount.has("sync") && !mount.has("noac"),
        severity: Severity::Warn,
        code: "sync",
        what: "a sync mount sends every write by itself; Roost syncs what has to be safe",
        change: "mount without `sync` (the option of the export is another one, and has to stay)",
    },
    Rule {
        applies: |mount| mount.has("fsc"),
        severity: Severity::Note,
        code: "fsc",
        what: "a local disk cache (fsc) holds mail of this volume",
        change: "mount without `fsc` unless that is wanted",
    },
    Rule {
        applies: |mount| mount.has("nosharecache"),
        severity: Severity::Warn,
        code: "nosharecache",
        what: "with nosharecache two mounts of this export on one host do not see each other's changes at once",
        change: "mount without `nosharecache`, or mount the export once only",
    },
];

const ANY: [Rule; 5] = [
    Rule {
        applies: |mount| mount.has("ro"),
        severity: Severity::Refuse,
        code: "ro",
        what: "it is mounted read-only",
        change: "mount with `rw`; if it was, look into the kernel's log for why it is not any more",
    },
    Rule {
        applies: |mount| matches!(mount.kind.as_str(), "tmpfs" | "ramfs"),
        severity: Severity::Warn,
        code: "memory",
        what: "it lies in memory: everything is gone when the machine stops",
        change: "use a disk or a file server for mail that matters",
    },
    Rule {
        applies: |mount| mount.has("nobarrier") || mount.value("barrier") == Some("0"),
        severity: Severity::Refuse,
        code: "barrier",
        what: "without barriers a sync does not reach the disk, and a power cut loses acknowledged mail",
        change: "mount without `nobarrier` and `barrier=0`",
    },
    Rule {
        applies: |mount| matches!(mount.kind.as_str(), "cifs" | "smb3" | "smbfs"),
        severity: Severity::Warn,
        code: "smb",
        what: "SMB promises less about names and caches than NFS, and nothing was measured on it",
        change: "use NFS 4.2 if the server can",
    },
    Rule {
        applies: |mount| mount.kind.starts_with("fuse"),
        severity: Severity::Warn,
        code: "fuse",
        what: "behind FUSE may be anything; it is treated as a volume that other hosts write to",
        change: "run `roost doctor PATH --with TOKEN` on two nodes at the same time to see how old their views get",
    },
];

/// Everything there is to say about these options, in no order.
pub fn judge(mount: &Mount) -> Vec<Finding> {
    let nfs: &[Rule] = if mount.is_nfs() { &NFS } else { &[] };
    let found = nfs.iter().chain(&ANY).filter(|rule| (rule.applies)(mount));
    found.map(|rule| Finding::new(rule.severity, rule.code, rule.what, rule.change)).collect()
}

fn locks_here(mount: &Mount) -> bool {
    mount.value("local_lock").is_some_and(|locks| locks != "none")
}

/// What `/etc/fstab` has mounted between here and the mount that the path lies on, and is not.
pub fn unmounted(fstab: &str, mount: &Mount, path: &Path) -> Option<Finding> {
    let lines = fstab.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let entries = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, unescaped(words.next()?)))
    });
    let mut missing = entries.filter(|(_, point)| {
        point.is_absolute()
            && path.starts_with(point)
            && point.starts_with(&mount.point)
            && *point != mount.point
    });
    let (source, point) = missing.next()?;
    let what = format!(
        "/etc/fstab has {source} at {}, and it is not mounted: mail would go to the {} below, and be hidden by the \
         next mount",
        point.display(),
        mount.kind,
    );
    Some(Finding::new(
        Severity::Refuse,
        "unmounted",
        what,
        format!("`mount {}`, and start again", point.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.1 writes it.
    fn mount(kind: &str, options: &str) -> Mount {
        let line = format!("40 25 0:35 / /srv/mail rw,relatime shared:2 - {kind} nas:/mail rw,{options}");
        Mount::of(&line, Path::new("/srv/mail")).unwrap()
    }

    fn codes(kind: &str, options: &str) -> Vec<(Severity, &'static str)> {
        judge(&mount(kind, options)).into_iter().map(|finding| (finding.severity, finding.code)).collect()
    }

    #[test]
    fn each_option_has_its_verdict() {
        use Severity::{Note, Refuse, Warn};
        const V4: &str = "vers=4.2,rsize=32768,wsize=32768,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,\
                          clientaddr=10.77.2.2,local_lock=none,addr=10.77.1.2";
        const V3: &str = "vers=3,rsize=32768,wsize=32768,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,\
                          mountaddr=10.77.1.2,mountvers=3,mountport=50000,mountproto=udp,local_lock=none";
        let positive = format!("{V4},lookupcache=pos");
        let with = |more: &str| codes("nfs4", &format!("{positive},{more}"));
        assert_eq!(codes("nfs4", &positive), []);
        assert_eq!(codes("nfs4", V4), [(Note, "negative")]);
        // The transport of mountd is not that of files.
        assert_eq!(codes("nfs", V3), [(Note, "vers3"), (Note, "negative")]);
        assert_eq!(codes("nfs4", &positive.replace("hard", "soft")), [(Refuse, "soft")]);
        assert_eq!(codes("nfs4", &positive.replace("hard", "softerr")), [(Refuse, "softerr")]);
        assert_eq!(codes("nfs4", &positive.replace("4.2", "4.0")), [(Note, "vers40")]);
        assert_eq!(codes("nfs4", &positive.replace("tcp", "udp6")), [(Refuse, "proto")]);
        assert_eq!(with("softreval"), [(Refuse, "softreval")]);
        assert_eq!(with("nocto"), [(Refuse, "nocto")]);
        assert_eq!(with("nolock"), [(Warn, "nolock")]);
        assert_eq!(codes("nfs4", &positive.replace("local_lock=none", "local_lock=all")), [(Warn, "nolock")]);
        assert_eq!(with("sync,acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,noac"), [(Warn, "noac")]);
        assert_eq!(with("acregmin=1,acregmax=1,acdirmin=1,acdirmax=1"), []);
        assert_eq!(with("acregmin=600,acregmax=600"), [(Warn, "actimeo")]);
        assert_eq!(codes("nfs4", &format!("{V4},lookupcache=none")), [(Warn, "lookupcache")]);
        assert_eq!(with("sync"), [(Warn, "sync")]);
        assert_eq!(with("nosharecache"), [(Warn, "nosharecache")]);
        assert_eq!(with("fsc"), [(Note, "fsc")]);
        assert_eq!(with("ro"), [(Refuse, "ro")]);
        assert_eq!(codes("nfs", "vers=2,lookupcache=pos,hard,proto=tcp"), [(Refuse, "vers2")]);
    }

    #[test]
    fn what_is_not_nfs_is_judged_by_what_it_is() {
        use Severity::{Refuse, Warn};
        assert_eq!(codes("ext4", "errors=remount-ro"), []);
        assert_eq!(codes("ext4", "soft,nocto"), []);
        assert_eq!(codes("ext4", "barrier=0"), [(Refuse, "barrier")]);
        assert_eq!(codes("xfs", "nobarrier,ro"), [(Refuse, "ro"), (Refuse, "barrier")]);
        assert_eq!(codes("tmpfs", "size=1g"), [(Warn, "memory")]);
        assert_eq!(codes("cifs", "vers=3.1.1,soft"), [(Warn, "smb")]);
        assert_eq!(codes("fuse.glusterfs", "user_id=0"), [(Warn, "fuse")]);
    }

    #[test]
    fn a_mount_point_without_its_mount_is_refused() {
        let root = Mount::of("25 1 8:1 / / rw - ext4 /dev/sda1 rw", Path::new("/")).unwrap();
        let fstab = "# nas:/old /srv/mail nfs\n/dev/sda1 / ext4 defaults 0 1\n\n  nas:/mail\t/srv/ma\\040il nfs4 hard 0 0\n\
                     /dev/sdb none swap sw 0 0";
        let found = unmounted(fstab, &root, Path::new("/srv/ma il/tree")).unwrap();
        assert_eq!((found.severity, found.code), (Severity::Refuse, "unmounted"));
        assert!(found.to_string().contains("nas:/mail at /srv/ma il, and it is not mounted"), "{found}");
        assert_eq!(unmounted(fstab, &root, Path::new("/srv/mail")), None);
        let there = mount("nfs4", "hard");
        assert_eq!(unmounted("nas:/mail /srv/mail nfs4 hard 0 0", &there, Path::new("/srv/mail/x")), None);
    }
}
