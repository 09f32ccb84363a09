use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

use crate::BundleError;

/// A folder whose files are read, and nothing outside of it.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
}

impl Folder {
    /// # Errors
    /// Where there is no such folder.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        Ok(Self { dir: open_ambient(path)? })
    }

    /// Reads a regular file of the folder, of at most `limit` bytes.
    ///
    /// # Errors
    /// Where the name leads outside of the folder, or the file is missing or too large.
    pub fn read(&self, file: &str, limit: u64) -> Result<Bytes, BundleError> {
        read(&self.dir, file, limit)
    }
}

pub(crate) fn open_ambient(path: &Path) -> Result<Dir, BundleError> {
    Dir::open_ambient_dir(path, ambient_authority())
        .map_err(|source| BundleError::OpenDirectory { source })
}

/// Reads a regular file beneath `dir`, at most `limit` bytes of it.
pub(crate) fn read(dir: &Dir, file: &str, limit: u64) -> Result<Bytes, BundleError> {
    let name = || file.to_owned();
    let mut options = OpenOptions::new();
    // Opening a FIFO would otherwise wait for a writer.
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let handle = dir.open_with(file, &options).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => BundleError::Missing { file: name() },
        _ => BundleError::Open { file: name(), source },
    })?;
    let failed = |source| BundleError::Read { file: name(), source };
    let metadata = handle.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(BundleError::NotAFile { file: name() });
    }
    let too_large = || BundleError::TooLarge { file: name(), limit };
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    let mut bounded = handle.take(limit.saturating_add(1));
    bounded.read_to_end(&mut content).map_err(failed)?;
    // The file may have grown since its size was asked.
    if content.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(content.into())
}
