//! placeholder
/// The operating system as an `Fs`.
pub struct DiskFs;
