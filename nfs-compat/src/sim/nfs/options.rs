//! How a host mounts.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NfsVersion {
    V3,
    V4,
}

/// `lookupcache=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupCache {
    All,
    Positive,
    None,
}

/// How a host mounts.
#[derive(Clone, Copy, Debug)]
pub struct NfsOptions {
    pub version: NfsVersion,
    pub lookup_cache: LookupCache,
    /// `acregmin` and `acregmax`; nought is `noac`.
    pub files: (Duration, Duration),
    /// `acdirmin` and `acdirmax`.
    pub directories: (Duration, Duration),
    /// The host booted as another one did, to the same process ids: on NFS 3 their exclusive creates look alike.
    pub boots_alike: bool,
}

impl NfsOptions {
    /// What `mount` does when nothing is said.
    pub fn default_of(version: NfsVersion) -> Self {
        let seconds = Duration::from_secs;
        Self {
            version,
            lookup_cache: LookupCache::All,
            files: (seconds(3), seconds(60)),
            directories: (seconds(30), seconds(60)),
            boots_alike: false,
        }
    }

    /// `actimeo=`
    pub fn timeouts(self, timeout: Duration) -> Self {
        Self { files: (timeout, timeout), directories: (timeout, timeout), ..self }
    }
}
