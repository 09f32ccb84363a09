use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use cap_std::fs::Dir;
use ingle_types::{Limits, Version};
use sha2::{Digest, Sha256};

use crate::manifest::{MANIFEST_FILE, Manifest, Stage, StagePlugin};
use crate::source::MAX_FILES;
use crate::{BundleError, ForeignModel, PluginChoice, SUMS_FILE, directory, sums};

// Where TensorFlow Serving looks for them.
const WARM_UP_FILE: &str = "assets.extra/tf_serving_warmup_requests";
const BATCHING_PARAMETERS_FILE: &str = "batching_params.pbtxt";

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
        let mut files = Files {
            dir,
            digests: BTreeMap::new(),
            verified: None,
            left: limits.bundle_bytes,
            limit: limits.bundle_bytes,
        };
        files.verify_sums(limits)?;
        let manifest = files.manifest(limits)?;
        files.digests = manifest.digests;
        let model = files.read(&manifest.model_file, limits.bundle_bytes).map_err(|e| match e {
            BundleError::Missing { .. } | BundleError::Arriving { .. } => {
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

    /// The file of requests that the version answers before it serves, where there is one.
    ///
    /// # Errors
    /// See [`Bundle::read_file`].
    pub fn warm_up_requests(&self, limits: &Limits) -> Result<Option<Bytes>, BundleError> {
        let limit = self.files.left.min(limits.warm_up_bytes);
        self.optional(WARM_UP_FILE, limit)
    }

    /// The text of the version's own batching parameters, where there are any.
    ///
    /// # Errors
    /// See [`Bundle::read_file`].
    pub fn batching_parameters(&self, limits: &Limits) -> Result<Option<Bytes>, BundleError> {
        let limit = self.files.left.min(limits.manifest_bytes);
        self.optional(BATCHING_PARAMETERS_FILE, limit)
    }

    fn optional(&self, file: &str, limit: u64) -> Result<Option<Bytes>, BundleError> {
        match self.files.read_part(file, limit) {
            Err(BundleError::Missing { .. }) => Ok(None),
            content => content.map(Some),
        }
    }

    /// A further file of the bundle, such as a model's external data; verified and
    /// bounded like all others.
    ///
    /// # Errors
    /// Where the name leads outside of the bundle, or the file is missing, too large
    /// or not what its digest says.
    pub fn read_file(&self, file: &str) -> Result<Bytes, BundleError> {
        self.files.read_part(file, self.files.left)
    }

    /// Lets go of the files' content, which a loaded program does not need.
    pub fn release(&mut self) {
        self.model = Bytes::new();
        if let Some(verified) = &mut self.files.verified {
            verified.clear();
        }
    }
}

/// The files beneath a version directory, within one budget.
#[derive(Debug)]
struct Files {
    dir: Dir,
    digests: BTreeMap<String, String>,
    /// Where there is a [`SUMS_FILE`]: what it names, as it was when its digests were
    /// checked. Nothing else is read then.
    verified: Option<BTreeMap<String, Bytes>>,
    left: u64,
    limit: u64,
}

impl Files {
    /// Reads all that a [`SUMS_FILE`] names, where there is one.
    fn verify_sums(&mut self, limits: &Limits) -> Result<(), BundleError> {
        let content = match directory::read(&self.dir, SUMS_FILE, limits.manifest_bytes) {
            Err(BundleError::Missing { .. }) => return Ok(()),
            content => content?,
        };
        let text = std::str::from_utf8(&content).map_err(|_| BundleError::SumsNotText)?;
        let sums = sums::parse(text)?;
        if sums.len() > MAX_FILES {
            return Err(BundleError::TooManyFiles { limit: MAX_FILES });
        }
        let arriving = |file: &str, reason: String| {
            Err(BundleError::Arriving { file: file.to_owned(), reason })
        };
        // Asking for each is cheap, so that a directory in the making is seldom read.
        if let Some(file) = sums.keys().find(|file| !self.dir.exists(file)) {
            return arriving(file, format!("is named in {SUMS_FILE} and not there"));
        }
        let mut verified = BTreeMap::new();
        for (file, expected) in sums {
            let content = self.read(&file, self.left)?;
            let given = sha256(&content);
            if given != expected {
                let reason = format!("has the sha256 {given}, and {SUMS_FILE} says {expected}");
                return arriving(&file, reason);
            }
            verified.insert(file, content);
        }
        self.verified = Some(verified);
        Ok(())
    }

    fn manifest(&self, limits: &Limits) -> Result<Manifest, BundleError> {
        if self.verified.is_some() && !self.dir.exists(MANIFEST_FILE) {
            return Ok(Manifest::default());
        }
        let content = match self.read_bounded(MANIFEST_FILE, limits.manifest_bytes) {
            Err(BundleError::Missing { .. }) => return Ok(Manifest::default()),
            content => content?,
        };
        let text = std::str::from_utf8(&content)
            .map_err(|e| BundleError::Manifest { message: format!("not UTF-8: {e}") })?;
        Manifest::parse(text)
    }

    /// Reads a file of the bundle; its size goes off the budget, unless it did before.
    fn read(&mut self, file: &str, limit: u64) -> Result<Bytes, BundleError> {
        if self.verified.is_some() {
            return self.read_bounded(file, limit);
        }
        let content = self.read_bounded(file, limit.min(self.left))?;
        self.left -= content.len() as u64;
        Ok(content)
    }

    /// Reads what may be missing.
    fn read_part(&self, file: &str, limit: u64) -> Result<Bytes, BundleError> {
        self.read_bounded(file, limit).map_err(|e| match e {
            // Neither named nor there: it is no part of the bundle.
            BundleError::Arriving { .. } if !self.dir.exists(file) => {
                BundleError::Missing { file: file.to_owned() }
            }
            e => e,
        })
    }

    fn read_bounded(&self, file: &str, limit: u64) -> Result<Bytes, BundleError> {
        let content = match &self.verified {
            Some(verified) => taken(verified, file, limit)?,
            None => self.read_from_disk(file, limit)?,
        };
        if let Some(expected) = self.digests.get(file) {
            verify(file, &content, expected)?;
        }
        Ok(content)
    }

    fn read_from_disk(&self, file: &str, limit: u64) -> Result<Bytes, BundleError> {
        directory::read(&self.dir, file, limit).map_err(|e| match e {
            BundleError::TooLarge { .. } if limit == self.left => {
                BundleError::BundleTooLarge { limit: self.limit }
            }
            e => e,
        })
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

/// A file as it was verified.
fn taken(verified: &BTreeMap<String, Bytes>, file: &str, limit: u64) -> Result<Bytes, BundleError> {
    let Some(content) = verified.get(file) else {
        let reason = format!("is needed and not named in {SUMS_FILE}");
        return Err(BundleError::Arriving { file: file.into(), reason });
    };
    if content.len() as u64 > limit {
        return Err(BundleError::TooLarge { file: file.into(), limit });
    }
    Ok(content.clone())
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |mut hex, byte| {
        // Writing to a `String` does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn verify(file: &str, content: &[u8], expected: &str) -> Result<(), BundleError> {
    let given = sha256(content);
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
