//! Whose journal a directory holds, for who found it without knowing (`locking.md` §10, total loss).

use std::path::Path;

use model::AccountId;
use nfs_compat::Fs;

use crate::reader::{ReadError, segment_names};
use crate::segment::{Header, SEGMENT_BYTES_MAX};

/// The account that the newest readable segment names; `None` where there is none.
pub fn whose(fs: &dyn Fs, directory: &Path) -> Result<Option<AccountId>, ReadError> {
    for name in segment_names(fs, directory)?.iter().rev() {
        let bytes = fs.read(&directory.join(name.to_string()), u64::from(SEGMENT_BYTES_MAX))?;
        if let Ok((header, _)) = Header::decode(&bytes)
            && header.name == *name
        {
            return Ok(Some(header.account));
        }
    }
    Ok(None)
}
