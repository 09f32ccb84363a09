use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use cap_std::fs::Dir;
use ingle_types::{Limits, Version};
use sha2::{Digest, Sha256};

use crate::manifest::{MANIFEST_FILE, Manifest, Stage, StagePlugin};
use crate::{BundleError, ForeignModel, PluginChoice, directory};

/// A version directory's content, read once and verified.
#[derive(Debug)]
pub struct Bundle {
    pub model: Bytes,
    pub default_signature: String,
    pub signatures: BTreeMap<String, SignatureConfig>,
    files: Files,
}

/// The plugins around a signature; none = the model as it is.
#[derive(Clone, Debug, Default)]
pub struct SignatureConfig {
    pub preprocess: Option<StageConfig>,
    pub postprocess: Option<StageConfig>,
}

/// A plugin and what it is given at its start.
#[derive(Clone, Debug)]
pub struct StageConfig {
    pub plugin: PluginRef,
    /// A JSON object.
    pub config: String,
    /// Name and content of the files that the manifest lists for this stage.
    pub files: Vec<(String, Bytes)>,
}

/// Where a plugin's component comes from.
#[derive(Clone, Debug)]
pub enum PluginRef {
    /// A file of the bundle; it never changes.
    Pinned { name: String, component: Bytes },
    /// A name in the plugin repository.
    Repository { name: String, choice: PluginChoice },
}

impl Bundle {
    /// Reads the version directory at `path` into memory.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn open(path: &Path, limits: &Limits) -> Result<Self, BundleError> {
        Self::read(directory::open_ambient(path)?, path, limits)
    }

    /// `path` is what messages call the directory.
    pub(crate) fn read(dir: Dir, path: &Path, limits: &Limits) -> Result<Self, BundleError> {
        let manifest = read_manifest(&dir, limits)?;
        let mut files = Files {
            dir,
            digests: manifest.digests,
            left: limits.bundle_bytes,
            limit: limits.bundle_bytes,
        };
        let model = files.read(&manifest.model_file, limits.bundle_bytes).map_err(|e| match e {
            BundleError::Missing { .. } => {
                let declared = |name: &str| manifest.signatures.contains_key(name);
                let model_file = &manifest.model_file;
                ForeignModel::find(&files.dir, path, model_file, declared)
                    .map_or(e, |foreign| BundleError::Foreign(Box::new(foreign)))
            }
            e => e,
        })?;
        let mut signatures = BTreeMap::new();
        for (name, (preprocess, postprocess)) in manifest.signatures {
            let mut stage =
                |stage: Option<Stage>| stage.map(|s| files.stage(s, limits)).transpose();
            let config = SignatureConfig {
                preprocess: stage(preprocess)?,
                postprocess: stage(postprocess)?,
            };
            signatures.insert(name, config);
        }
        files.verify_rest(&manifest.model_file)?;
        Ok(Self { model, default_signature: manifest.default_signature, signatures, files })
    }

    /// A further file of the bundle, such as a model's external data; verified and
    /// bounded like all others.
    ///
    /// # Errors
    /// Where the name leads outside of the bundle, or the file is missing, too large
    /// or not what its digest says.
    pub fn read_file(&self, file: &str) -> Result<Bytes, BundleError> {
        self.files.read_bounded(file, self.files.left)
    }
}

fn read_manifest(dir: &Dir, limits: &Limits) -> Result<Manifest, BundleError> {
    let content = match directory::read(dir, MANIFEST_FILE, limits.manifest_bytes) {
        Err(BundleError::Missing { .. }) => return Ok(Manifest::default()),
        content => content?,
    };
    let text = std::str::from_utf8(&content)
        .map_err(|e| BundleError::Manifest { message: format!("not UTF-8: {e}") })?;
    Manifest::parse(text)
}

/// The files beneath a version directory, within one budget.
#[derive(Debug)]
struct Files {
    dir: Dir,
    digests: BTreeMap<String, String>,
    left: u64,
    limit: u64,
}

impl Files {
    fn read(&mut self, file: &str, limit: u64) -> Result<Bytes, BundleError> {
        let content = self.read_bounded(file, limit.min(self.left))?;
        self.left -= content.len() as u64;
        Ok(content)
    }

    fn read_bounded(&self, file: &str, limit: u64) -> Result<Bytes, BundleError> {
        let content = directory::read(&self.dir, file, limit).map_err(|e| match e {
            BundleError::TooLarge { .. } if limit == self.left => {
                BundleError::BundleTooLarge { limit: self.limit }
            }
            e => e,
        })?;
        if let Some(expected) = self.digests.get(file) {
            verify(file, &content, expected)?;
        }
        Ok(content)
    }

    fn stage(&mut self, stage: Stage, limits: &Limits) -> Result<StageConfig, BundleError> {
        let plugin = match stage.plugin {
            StagePlugin::Repository { name, choice } => PluginRef::Repository { name, choice },
            StagePlugin::File(file) => {
                let component = self.read(&file, limits.component_bytes)?;
                PluginRef::Pinned { name: file.trim_end_matches(".wasm").to_owned(), component }
            }
        };
        let mut files = Vec::with_capacity(stage.files.len());
        for file in stage.files {
            let content = self.read(&file, limits.plugin_file_bytes)?;
            files.push((file, content));
        }
        Ok(StageConfig { plugin, config: stage.config, files })
    }

    /// Checks the digests of files that nothing asked for; the model was read already.
    fn verify_rest(&mut self, model_file: &str) -> Result<(), BundleError> {
        let listed: Vec<_> =
            self.digests.keys().filter(|file| *file != model_file).cloned().collect();
        for file in listed {
            self.read_bounded(&file, self.left)?;
        }
        Ok(())
    }
}

fn verify(file: &str, content: &[u8], expected: &str) -> Result<(), BundleError> {
    let given = Sha256::digest(content).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    if given == expected {
        return Ok(());
    }
    Err(BundleError::Digest { file: file.into(), expected: expected.into(), given })
}

/// Reads one plugin version's component.
pub(crate) fn read_component(
    dir: &Dir,
    name: &str,
    version: Version,
    limits: &Limits,
) -> Result<Bytes, BundleError> {
    directory::read(dir, "plugin.wasm", limits.component_bytes).map_err(|e| match e {
        BundleError::Missing { .. } => BundleError::PluginMissing { name: name.into(), version },
        e => e,
    })
}
