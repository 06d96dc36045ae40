//! The socket's name in the filesystem.
//!
//! Invariants
//! - The name appears with its mode already set.
//! - A name that somebody answers on is never replaced, nor is anything that is not a socket.
//! - At the end our name is removed, and only ours.
#![expect(clippy::disallowed_methods, reason = "a socket's name is this room's; it is no stored file")]

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Longest path: the system allows 107 bytes, and the name is made with a suffix first.
pub const PATH_BYTES_MAX: usize = 107 - SUFFIX.len();
const SUFFIX: &str = ".new";

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("the admin socket's path is longer than {PATH_BYTES_MAX} bytes: {}", .0.display())]
    TooLong(PathBuf),
    #[error("another server answers on the admin socket {}", .0.display())]
    InUse(PathBuf),
    #[error("{} is not a socket; remove it, or configure another path for the admin socket", .0.display())]
    NotASocket(PathBuf),
    #[error("cannot make the admin socket {}: {source}", path.display())]
    Failed {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A bound admin socket, ready to be served.
#[derive(Debug)]
pub struct AdminSocket {
    listener: Option<UnixListener>,
    name: Name,
}

/// Removes the socket's name when dropped, if it is still ours.
#[derive(Debug)]
pub(super) struct Name {
    path: PathBuf,
    identity: (u64, u64),
}

impl AdminSocket {
    /// Makes the socket under this path, with these permission bits. A stale one is replaced.
    pub async fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        if path.as_os_str().as_bytes().len() > PATH_BYTES_MAX {
            return Err(BindError::TooLong(path.to_owned()));
        }
        refuse_if_taken(path).await?;
        let failed = |source| BindError::Failed { path: path.to_owned(), source };
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(SUFFIX);
        let unfinished = PathBuf::from(unfinished);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&unfinished).map_err(failed)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(mode)).map_err(failed)?;
        let identity = identity(&unfinished).map_err(failed)?;
        fs::rename(&unfinished, path).map_err(failed)?;
        Ok(Self { listener: Some(listener), name: Name { path: path.to_owned(), identity } })
    }

    /// Takes a socket that was bound before, by a process that has given up root since. To be called on the runtime.
    pub fn bound(listener: std::os::unix::net::UnixListener, mode: u32) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let path =
            address.as_pathname().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_owned();
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        let identity = identity(&path)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener: Some(listener), name: Name { path, identity } })
    }

    pub fn path(&self) -> &Path {
        &self.name.path
    }

    pub(super) fn into_parts(mut self) -> (Option<UnixListener>, Name) {
        (self.listener.take(), self.name)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the admin socket was not removed");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

async fn refuse_if_taken(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Failed { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        // Nobody listens: whoever made it is gone.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path).await
}
