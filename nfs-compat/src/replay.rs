//! Whether a change of names happened, when the answer to it was lost and the request was carried out twice (L-FS1).
//!
//! NFS sends a request again that nobody answered, and a server that does not know it again says what it finds then:
//! the new name exists, the old one is missing. What the names stand for decides. On a local disk the same question
//! has the same answer, so nobody needs to know which of the two it is.

use std::io;

use nix::errno::Errno;

/// An error with a number of the system's.
pub(crate) trait Numbered {
    fn is(&self, errno: Errno) -> bool;
}

impl Numbered for Errno {
    fn is(&self, errno: Errno) -> bool {
        *self == errno
    }
}

impl Numbered for io::Error {
    fn is(&self, errno: Errno) -> bool {
        self.raw_os_error() == Some(errno as i32)
    }
}

/// A link is ours when both names stand for one file.
pub(crate) fn linked<E: Numbered>(answer: Result<(), E>, is_one: impl FnOnce() -> bool) -> Result<(), E> {
    match answer {
        Err(error) if error.is(Errno::EEXIST) && is_one() => Ok(()),
        answer => answer,
    }
}

/// A rename is ours when the new name stands for what the old one stood for before.
pub(crate) fn renamed<E: Numbered, I: PartialEq>(
    answer: Result<(), E>,
    before: Option<I>,
    new_name: impl FnOnce() -> Option<I>,
) -> Result<(), E> {
    match answer {
        Err(error) if error.is(Errno::ENOENT) && before.is_some() && before == new_name() => Ok(()),
        answer => answer,
    }
}

/// A removal is ours, or somebody else's with the same end, when the name was there before.
pub(crate) fn removed<E: Numbered>(answer: Result<(), E>, was_there: bool) -> Result<(), E> {
    match answer {
        Err(error) if error.is(Errno::ENOENT) && was_there => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_there_counts_if_it_is_to_our_file() {
        assert_eq!(linked(Err(Errno::EEXIST), || true), Ok(()));
        assert_eq!(linked(Err(Errno::EEXIST), || false), Err(Errno::EEXIST));
        assert_eq!(linked(Err(Errno::ENOSPC), || true), Err(Errno::ENOSPC));
    }

    #[test]
    fn a_rename_counts_if_the_file_has_the_new_name() {
        assert_eq!(renamed(Err(Errno::ENOENT), Some(7), || Some(7)), Ok(()));
        assert_eq!(renamed(Err(Errno::ENOENT), Some(7), || Some(8)), Err(Errno::ENOENT));
        assert_eq!(renamed(Err(Errno::ENOENT), Some(7), || None), Err(Errno::ENOENT));
        // Nothing had the old name: there was nothing to rename, whatever has the new one.
        assert_eq!(renamed(Err(Errno::ENOENT), None::<u64>, || None), Err(Errno::ENOENT));
    }

    #[test]
    fn a_removal_counts_if_there_was_something() {
        assert_eq!(removed(Err(Errno::ENOENT), true), Ok(()));
        assert_eq!(removed(Err(Errno::ENOENT), false), Err(Errno::ENOENT));
        assert_eq!(removed(Err(Errno::EIO), true), Err(Errno::EIO));
    }
}
