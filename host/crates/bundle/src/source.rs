use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cap_std::fs::{Dir, MetadataExt};
use ingle_types::{Limits, Version};

use crate::read::read_component;
use crate::{Bundle, BundleError, directory};

/// Files in a version directory that are looked at; more make it an error.
const MAX_FILES: usize = 4096;

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
        (metadata.len(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()).hash(hasher);
        if metadata.is_dir()
            && depth > 0
            && let Ok(inner) = dir.open_dir(&name)
        {
            hash_directory(&inner, depth - 1, budget, hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::PluginRef;

    fn write(root: &Path, file: &str, content: impl AsRef<[u8]>) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(root: &Path) -> Result<Bundle, BundleError> {
        let source = ModelSource::new(root);
        let found = source.list().unwrap();
        source.read(1, &found[&1], &Limits::default())
    }

    #[test]
    fn versions_are_numeric_directories() {
        let root = tempfile::tempdir().unwrap();
        for name in ["1", "007", "8.tmp", "x", "+9", "99999999999999999999"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        write(root.path(), "5", "a file is no version");
        let found = ModelSource::new(root.path()).list().unwrap();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn of_several_names_of_a_number_the_plain_one_counts() {
        let root = tempfile::tempdir().unwrap();
        for name in ["1", "01", "001", "02", "002"] {
            write(root.path(), &format!("{name}/model.onnx"), name);
        }
        let source = ModelSource::new(root.path());
        let found = source.list().unwrap();
        let read = |version| source.read(version, &found[&version], &Limits::default()).unwrap();
        assert_eq!((&read(1).model[..], &read(2).model[..]), (&b"1"[..], &b"02"[..]));
        assert_eq!(
            (&found[&1].shadowed[..], &found[&2].shadowed[..]),
            (&["01".to_owned(), "001".into()][..], &["002".to_owned()][..])
        );
    }

    #[test]
    fn a_uri_of_a_remote_store_is_refused_as_that() {
        let refused = ModelSource::new("gs://bucket/model").list().unwrap_err();
        assert!(matches!(refused, BundleError::RemoteStore), "{refused}");
    }

    #[test]
    fn a_written_file_changes_the_fingerprint_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "1/model.onnx", "a");
        let source = ModelSource::new(root.path());
        let before = source.list().unwrap();
        assert_eq!(source.list().unwrap(), before);
        write(root.path(), "1/model.onnx", "ab");
        let after = source.list().unwrap();
        assert_ne!(after, before);
        write(root.path(), "1/assets/deep.txt", "x");
        assert_ne!(source.list().unwrap(), after);
    }

    #[test]
    fn a_directory_with_only_a_model_is_a_bundle() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "1/model.onnx", "onnx");
        let bundle = read(root.path()).unwrap();
        assert_eq!((&bundle.model[..], bundle.signatures.len()), (&b"onnx"[..], 1));
    }

    #[test]
    fn stages_bring_their_files_and_components() {
        let root = tempfile::tempdir().unwrap();
        let manifest = "[signatures.s]\npreprocess = { file = \"pre.wasm\" }\npostprocess = { plugin = \"p\", files = [\"labels.txt\"] }";
        write(root.path(), "1/bundle.toml", manifest);
        for (file, content) in [("model.onnx", "m"), ("pre.wasm", "w"), ("labels.txt", "l")] {
            write(root.path(), &format!("1/{file}"), content);
        }
        let bundle = read(root.path()).unwrap();
        let s = &bundle.signatures["s"];
        let pre = s.preprocess.as_ref().unwrap();
        assert!(
            matches!(&pre.plugin, PluginRef::Pinned { name, component } if name == "pre" && component == "w")
        );
        assert_eq!(
            s.postprocess.as_ref().unwrap().files,
            [("labels.txt".into(), Bytes::from("l"))]
        );
    }

    #[test]
    fn what_a_manifest_names_has_to_be_there_and_to_match_its_digest() {
        let root = tempfile::tempdir().unwrap();
        assert!(fs::create_dir(root.path().join("1")).is_ok());
        assert!(matches!(read(root.path()), Err(BundleError::Missing { .. })));
        write(root.path(), "1/saved_model.pb", "");
        let error = read(root.path()).unwrap_err();
        let command = format!("--saved-model {}/1 ", root.path().display());
        assert!(matches!(error, BundleError::Foreign(_)) && error.to_string().contains(&command));
        write(root.path(), "1/model.onnx", "abc");
        // sha256 of "abc", the first example of FIPS 180-4.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        write(
            root.path(),
            "1/bundle.toml",
            format!("[digests]\n\"model.onnx\" = \"sha256:{abc}\""),
        );
        assert!(read(root.path()).is_ok());
        write(root.path(), "1/model.onnx", "abd");
        assert!(matches!(read(root.path()), Err(BundleError::Digest { .. })));
    }

    #[test]
    fn no_name_or_link_leads_outside() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret", "s");
        write(root.path(), "1/model.onnx", "m");
        let secret = outside.path().join("secret");
        std::os::unix::fs::symlink(&secret, root.path().join("1/link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("1/dir")).unwrap();
        std::os::unix::fs::symlink("model.onnx", root.path().join("1/inside")).unwrap();
        let bundle = read(root.path()).unwrap();
        let absolute = secret.to_str().unwrap();
        for name in ["link", "dir/secret", "../1/../../secret", absolute] {
            assert!(bundle.read_file(name).is_err(), "{name}");
        }
        assert_eq!(bundle.read_file("inside").unwrap(), "m");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("1")).unwrap();
        let pipe = root.path().join("1/model.onnx");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(matches!(read(root.path()), Err(BundleError::NotAFile { .. })));
    }

    #[test]
    fn a_bundle_over_its_budget_is_refused() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "1/model.onnx", [0; 100]);
        let source = ModelSource::new(root.path());
        let found = source.list().unwrap();
        let limits = |bundle_bytes| Limits { bundle_bytes, ..Limits::default() };
        assert!(source.read(1, &found[&1], &limits(100)).is_ok());
        let over = source.read(1, &found[&1], &limits(99)).unwrap_err();
        assert!(matches!(over, BundleError::BundleTooLarge { limit: 99 }), "{over}");
    }

    #[test]
    fn a_repository_lists_its_folders_and_plugins_their_versions() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a/1/plugin.wasm", "w");
        write(root.path(), "a/src/lib.rs", "");
        write(root.path(), ".hidden/1/plugin.wasm", "w");
        write(root.path(), "README.md", "");
        let models = list_models(root.path()).unwrap();
        assert_eq!(models.keys().collect::<Vec<_>>(), ["a"]);
        let plugins = PluginSource::new(root.path());
        let found = plugins.list("a").unwrap();
        assert_eq!(plugins.read("a", 1, &found[&1], &Limits::default()).unwrap(), "w");
        assert!(plugins.list("b").unwrap().is_empty());
    }
}
