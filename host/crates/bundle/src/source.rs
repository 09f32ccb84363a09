use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cap_std::fs::{Dir, MetadataExt};
use ingle_types::{Limits, Version};

use crate::read::read_component;
use crate::{Bundle, BundleError, SUMS_FILE, directory};

/// Files in a version directory that are looked at; more make it an error.
pub(crate) const MAX_FILES: usize = 4096;

/// Directories within a version directory that are looked into.
const MAX_DEPTH: usize = 8;

/// A version directory as a scan saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVersion {
    directory: String,
    /// Changes whenever a file in the directory is added, removed, replaced or written.
    pub fingerprint: u64,
    /// Other directories whose names mean the same number; they are not looked into.
    pub shadowed: Vec<String>,
}

impl FoundVersion {
    pub fn new(directory: impl Into<String>, fingerprint: u64) -> Self {
        Self { directory: directory.into(), fingerprint, shadowed: Vec::new() }
    }

    /// The directory's name in the base path.
    pub fn directory(&self) -> &str {
        &self.directory
    }
}

/// A model's base path, whose numeric sub-directories are its versions.
#[derive(Clone, Debug)]
pub struct ModelSource {
    base_path: PathBuf,
}

impl ModelSource {
    pub fn new(base_path: impl Into<PathBuf>) -> Self {
        Self { base_path: base_path.into() }
    }

    pub fn base_path(&self) -> &Path {
        &self.base_path
    }

    /// Whether the base path is a directory at all.
    pub fn exists(&self) -> bool {
        self.base_path.is_dir()
    }

    /// The versions that are there now. Names that are not numbers are ignored, so
    /// that a directory can be filled under another name and then renamed.
    ///
    /// # Errors
    /// Where the base path cannot be listed.
    pub fn list(&self) -> Result<BTreeMap<Version, FoundVersion>, BundleError> {
        if self.base_path.to_str().is_some_and(|path| path.contains("://")) {
            return Err(BundleError::RemoteStore);
        }
        list_versions(&directory::open_ambient(&self.base_path)?)
    }

    /// Whether a version comes with a [`SUMS_FILE`], which decides when it is complete.
    pub fn has_sums(&self, found: &FoundVersion) -> bool {
        let dir =
            directory::open_ambient(&self.base_path).and_then(|base| open_version(&base, 0, found));
        dir.is_ok_and(|dir| dir.symlink_metadata(SUMS_FILE).is_ok())
    }

    /// Reads one version into memory.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn read(
        &self,
        version: Version,
        found: &FoundVersion,
        limits: &Limits,
    ) -> Result<Bundle, BundleError> {
        let base = directory::open_ambient(&self.base_path)?;
        // A command that a message shows has to work wherever it is read.
        let path = self.base_path.join(&found.directory);
        let path = std::path::absolute(&path).unwrap_or(path);
        Bundle::read(open_version(&base, version, found)?, &path, limits)
    }
}

/// The plugin repository: `<name>/<version>/plugin.wasm`.
#[derive(Clone, Debug)]
pub struct PluginSource {
    path: PathBuf,
}

impl PluginSource {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The versions of one plugin that are there now; empty where there is none of that name.
    ///
    /// # Errors
    /// Where the repository or the plugin's directory cannot be listed.
    pub fn list(&self, name: &str) -> Result<BTreeMap<Version, FoundVersion>, BundleError> {
        let repository = directory::open_ambient(&self.path)?;
        match repository.open_dir(name) {
            Ok(dir) => list_versions(&dir),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(BundleError::OpenDirectory { source }),
        }
    }

    /// Reads one version's component.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn read(
        &self,
        name: &str,
        version: Version,
        found: &FoundVersion,
        limits: &Limits,
    ) -> Result<Bytes, BundleError> {
        let dir = directory::open_ambient(&self.path)?
            .open_dir(name)
            .map_err(|source| BundleError::OpenDirectory { source })?;
        read_component(&open_version(&dir, version, found)?, name, version, limits)
    }
}

/// The sub-directories of a model repository: each is a model of that name.
/// Hidden ones are left out.
///
/// # Errors
/// Where the repository cannot be listed.
pub fn list_models(repository: &Path) -> Result<BTreeMap<String, PathBuf>, BundleError> {
    let dir = directory::open_ambient(repository)?;
    let mut models = BTreeMap::new();
    for entry in dir.entries().map_err(|source| BundleError::OpenDirectory { source })? {
        let Ok(entry) = entry else { continue };
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with('.') && dir.is_dir(&name) {
            let path = repository.join(&name);
            models.insert(name, path);
        }
    }
    Ok(models)
}

fn open_version(base: &Dir, version: Version, found: &FoundVersion) -> Result<Dir, BundleError> {
    base.open_dir(&found.directory).map_err(|_| BundleError::VersionGone { version })
}

fn list_versions(base: &Dir) -> Result<BTreeMap<Version, FoundVersion>, BundleError> {
    let entries = base.entries().map_err(|source| BundleError::OpenDirectory { source })?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    // Of `1` and `01` the same one has to win at every scan: the plain number.
    names.sort_unstable_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    let mut versions: BTreeMap<Version, FoundVersion> = BTreeMap::new();
    for name in names {
        let Some(version) = version_number(&name) else { continue };
        // One that vanishes during the scan is not there.
        let Ok(dir) = base.open_dir(&name) else { continue };
        if let Some(found) = versions.get_mut(&version) {
            found.shadowed.push(name);
            continue;
        }
        let fingerprint = fingerprint(&dir);
        versions.insert(version, FoundVersion::new(name, fingerprint));
    }
    Ok(versions)
}

/// `7`, `007`; not `+7`, `7.tmp` or what an int64 cannot hold.
fn version_number(name: &str) -> Option<Version> {
    let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
    let number: i64 = digits.then(|| name.parse().ok())??;
    Version::try_from(number).ok()
}

fn fingerprint(dir: &Dir) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut budget = MAX_FILES;
    hash_directory(dir, MAX_DEPTH, &mut budget, &mut hasher);
    hasher.finish()
}

fn hash_directory(dir: &Dir, depth: usize, budget: &mut usize, hasher: &mut DefaultHasher) {
    let Ok(entries) = dir.entries() else { return };
    let mut names: Vec<_> =
        entries.filter_map(|e| Some(e.ok()?.file_name())).take(*budget).collect();
    names.sort_unstable();
    for name in names {
        *budget = budget.saturating_sub(1);
        name.hash(hasher);
        // Follows links, as reading does: a switched link is a change.
        let Ok(metadata) = dir.metadata(&name) else { continue };
        (metadata.len(), metadata.ino(), metadata.mode()).hash(hasher);
        (metadata.mtime(), metadata.mtime_nsec()).hash(hasher);
        if metadata.is_dir()
            && depth > 0
            && let Ok(inner) = dir.open_dir(&name)
        {
            hash_directory(&inner, depth - 1, budget, hasher);
        }
    }
}

#[cfg(test)]
mod tests;
