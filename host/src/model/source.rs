//! Files that the commands are given.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use ingle_bundle::{Bundle, BundleError, Folder, ForeignModel};
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
        if let Some(foreign) = ForeignModel::of_file(path).filter(|_| path.is_file()) {
            return Err(refused(path, &foreign));
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
            BundleError::Foreign(foreign) => refused(path, &foreign),
            BundleError::Missing { .. } => without_model(path, limits),
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

/// How to convert what is in place of an ONNX file.
fn refused(path: &Path, foreign: &ForeignModel) -> Failure {
    Failure::data(anyhow!("{}: {foreign}", path.display()))
}

/// Why nothing can be read from a directory without a model: it may be a model's base path.
fn without_model(path: &Path, limits: &Limits) -> Failure {
    let shown = path.display();
    let versions = versions(path);
    let foreign: Vec<String> = versions
        .values()
        .filter(|version| !version.join("model.onnx").exists())
        .filter_map(|version| match Bundle::open(version, limits) {
            Err(BundleError::Foreign(foreign)) => Some(format!("{}: {foreign}", version.display())),
            _ => None,
        })
        .collect();
    match versions.last_key_value() {
        _ if !foreign.is_empty() => Failure::data(anyhow!("{}", foreign.join("\n"))),
        Some((_, newest)) => Failure::usage(anyhow!(
            "{shown} holds versions of a model: name one of them, as in {}",
            newest.display()
        )),
        None => Failure::no_input(anyhow!("{shown} holds no model.onnx")),
    }
}

/// The folders in `path` that a server would take for versions.
fn versions(path: &Path) -> BTreeMap<u64, PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return BTreeMap::new() };
    let folders = entries.filter_map(Result::ok).filter(|entry| entry.path().is_dir());
    let number = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    folders.filter_map(|entry| Some((number(&entry)?, entry.path()))).collect()
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
