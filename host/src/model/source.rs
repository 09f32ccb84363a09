//! Files that the commands are given.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use ingle_bundle::{BundleError, Folder};
use ingle_engine::{Engine, ExternalData, ExternalDataError, LoadError, Program};
use ingle_types::Limits;

use super::failure::Failure;

/// An ONNX file in memory, and the folder that it may keep weights in.
#[derive(Debug)]
pub(super) struct ModelFile {
    model: Bytes,
    folder: Folder,
    limit: u64,
}

impl ModelFile {
    pub(super) fn read(path: &Path, limits: &Limits) -> Result<Self, Failure> {
        let limit = limits.bundle_bytes;
        let model = read(path, limit)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = Folder::open(folder.unwrap_or(Path::new("."))).map_err(Failure::no_input)?;
        Ok(Self { model, folder, limit })
    }

    pub(super) fn load(&self, engine: &Engine, limits: &Limits) -> Result<Program, LoadError> {
        engine.load(&self.model, self, limits)
    }
}

impl ExternalData for ModelFile {
    fn read(&self, location: &str) -> Result<Bytes, ExternalDataError> {
        self.folder.read(location, self.limit).map_err(|e| match e {
            BundleError::Missing { .. } => ExternalDataError::NotFound,
            BundleError::Read { source, .. } => ExternalDataError::Read(source),
            _ => ExternalDataError::Refused,
        })
    }
}

/// Reads a file that the user named, of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Bytes, Failure> {
    let content = || {
        let file = File::open(path).context("cannot be opened")?;
        let metadata = file.metadata().context("cannot be read")?;
        if metadata.is_dir() {
            return Err(anyhow!("is a folder, not a file"));
        }
        let mut content = Vec::with_capacity(metadata.len().min(limit) as usize);
        file.take(limit.saturating_add(1)).read_to_end(&mut content).context("cannot be read")?;
        if content.len() as u64 > limit {
            return Err(anyhow!("is larger than the limit of {limit} bytes"));
        }
        Ok(content.into())
    };
    content().with_context(|| path.display().to_string()).map_err(Failure::no_input)
}

/// Reads a short text file that the user named.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    const LIMIT: u64 = 16 * 1024 * 1024;
    let text = String::from_utf8(read(path, LIMIT)?.into());
    text.with_context(|| path.display().to_string()).map_err(Failure::data)
}
