//! Having this host ask the file server again, when what it shows cannot be all (`locking.md` §6.2).
//!
//! An NFS client goes by attributes, names and pages that it got up to a minute ago. Opening the directory has it
//! compare the directory's change attribute, which ends belief in a name that was missing; opening the file compares
//! the file's; a byte-range lock has pages compared that were read before; and pages that are dropped are read anew.
//! On a local disk all of this is cheap and changes nothing.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, PosixFadviseAdvice, fcntl, open, posix_fadvise};
use nix::libc;
use nix::sys::stat::Mode;

use crate::{Error, Result};

pub(crate) fn revalidate(path: &Path) -> Result<()> {
    let failed = |errno: Errno| Error::new("look again at", path, errno.into());
    if let Some(directory) = path.parent() {
        match open_for_reading(directory) {
            // The directory is as far as we see missing, too: then there is nothing to open in it.
            Err(Errno::ENOENT | Errno::ESTALE) => return Ok(()),
            opened => drop(opened.map_err(failed)?),
        }
    }
    match open_for_reading(path) {
        Err(Errno::ENOENT | Errno::ESTALE) => Ok(()),
        Err(errno) => Err(failed(errno)),
        Ok(file) => {
            lock_and_unlock(&file);
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(failed)
        }
    }
}

fn open_for_reading(path: &Path) -> nix::Result<OwnedFd> {
    loop {
        match open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(Errno::EINTR) => {}
            opened => return opened,
        }
    }
}

/// A shared lock of one byte, without waiting. Where there are no locks, what the open compared has to do.
fn lock_and_unlock(file: &OwnedFd) {
    let flock = |kind: libc::c_int| libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    let taken = fcntl(file, FcntlArg::F_OFD_SETLK(&flock(libc::F_RDLCK)));
    match taken.and_then(|_| fcntl(file, FcntlArg::F_OFD_SETLK(&flock(libc::F_UNLCK)))) {
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "no lock to revalidate with"),
    }
}

#[cfg(test)]
mod tests {
    use crate::{DiskFs, Fs};

    #[test]
    fn looking_again_leaves_a_file_as_it_is_and_finds_nothing_wrong_with_one_that_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segment");
        let fs = DiskFs::new();
        fs.create(&path).unwrap().write_at(b"records", 0).unwrap();
        fs.revalidate(&path).unwrap();
        assert_eq!(fs.read(&path, 100).unwrap(), b"records");
        fs.revalidate(&directory.path().join("missing")).unwrap();
        fs.revalidate(&directory.path().join("no/such/directory")).unwrap();
    }
}
