//! Files that the commands are given.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use ingle_bundle::{Bundle, BundleError, Folder};
use ingle_engine::{Engine, ExternalData, ExternalDataError, LoadError, Program};
use ingle_types::Limits;

use super::failure::Failure;

/// An ONNX file in memory, and where it may keep weights.
#[derive(Debug)]
pub(super) struct ModelFile {
    pub(super) path: PathBuf,
    pub(super) model: Bytes,
    files: Files,
}

#[derive(Debug)]
enum Files {
    /// The folder that the file lies in; and the limit of each file.
    Beside(Folder, u64),
    Bundle(Box<Bundle>),
}

impl ModelFile {
    /// Reads an ONNX file, or the model of a version directory.
    pub(super) fn read(path: &Path, limits: &Limits) -> Result<Self, Failure> {
        if path.is_dir() {
            return Self::of_directory(path, limits);
        }
        let limit = limits.bundle_bytes;
        let model = read(path, limit)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = Folder::open(folder.unwrap_or(Path::new("."))).map_err(Failure::no_input)?;
        Ok(Self { path: path.to_owned(), model, files: Files::Beside(folder, limit) })
    }

    fn of_directory(path: &Path, limits: &Limits) -> Result<Self, Failure> {
        let shown = path.display();
        let bundle = Bundle::open(path, limits).map_err(|error| match error {
            BundleError::SavedModel => Failure::data(anyhow!(
                "{shown} is a TensorFlow SavedModel, which has to be converted first:\n  pip install tf2onnx\n  python -m tf2onnx.convert --saved-model {shown} --output {shown}/model.onnx"
            )),
            BundleError::Missing { .. } => match newest_version(path) {
                Some(version) => Failure::usage(anyhow!(
                    "{shown} holds versions of a model: name one of them, as in {shown}/{version}"
                )),
                None => Failure::no_input(anyhow!("{shown} holds no model.onnx")),
            },
            error => Failure::data(anyhow::Error::new(error).context(shown.to_string())),
        })?;
        let (path, model) = (path.to_owned(), bundle.model.clone());
        Ok(Self { path, model, files: Files::Bundle(Box::new(bundle)) })
    }

    pub(super) fn load(&self, engine: &Engine, limits: &Limits) -> Result<Program, LoadError> {
        engine.load(&self.model, self, limits)
    }

    /// As [`ModelFile::load`], for commands that need a program.
    pub(super) fn program(&self, engine: &Engine, limits: &Limits) -> Result<Program, Failure> {
        self.load(engine, limits).map_err(|error| Failure::load(&self.path, error))
    }
}

fn newest_version(path: &Path) -> Option<u64> {
    let entries = fs::read_dir(path).ok()?.filter_map(Result::ok);
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max()
}

impl ExternalData for ModelFile {
    fn read(&self, location: &str) -> Result<Bytes, ExternalDataError> {
        let content = match &self.files {
            Files::Beside(folder, limit) => folder.read(location, *limit),
            Files::Bundle(bundle) => bundle.read_file(location),
        };
        content.map_err(|e| match e {
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
