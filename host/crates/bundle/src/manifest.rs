//! `bundle.toml` as it is written, and the checks that need no other file.

use std::collections::BTreeMap;

use ingle_types::{DEFAULT_SIGNATURE, Version};
use serde::Deserialize;

use crate::BundleError;

/// The manifest's file name; a version directory without one holds a plain model.
pub const MANIFEST_FILE: &str = "bundle.toml";

const DEFAULT_MODEL_FILE: &str = "model.onnx";

/// Which version of a repository plugin a stage uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginChoice {
    /// The highest that starts; followed while serving.
    Latest,
    Exact(Version),
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(default)]
    model: RawModel,
    #[serde(default)]
    signatures: BTreeMap<String, RawSignature>,
    #[serde(default)]
    digests: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawModel {
    file: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawSignature {
    #[serde(default)]
    default: bool,
    preprocess: Option<RawStage>,
    postprocess: Option<RawStage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStage {
    plugin: Option<String>,
    version: Option<RawVersion>,
    file: Option<String>,
    #[serde(default)]
    config: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    files: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawVersion {
    Number(Version),
    Text(String),
}

/// A manifest whose every value has been checked.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) model_file: String,
    pub(crate) default_signature: String,
    pub(crate) signatures: BTreeMap<String, (Option<Stage>, Option<Stage>)>,
    /// SHA-256 in lower-case hex by file.
    pub(crate) digests: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) plugin: StagePlugin,
    /// A JSON object.
    pub(crate) config: String,
    pub(crate) files: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum StagePlugin {
    File(String),
    Repository { name: String, choice: PluginChoice },
}

impl Manifest {
    pub(crate) fn parse(text: &str) -> Result<Self, BundleError> {
        let raw: RawManifest = toml::from_str(text)
            .map_err(|e| BundleError::Manifest { message: e.to_string().trim_end().to_owned() })?;
        raw.validate()
    }
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            model_file: DEFAULT_MODEL_FILE.into(),
            default_signature: DEFAULT_SIGNATURE.into(),
            signatures: BTreeMap::from([(DEFAULT_SIGNATURE.into(), (None, None))]),
            digests: BTreeMap::new(),
        }
    }
}

impl RawManifest {
    fn validate(self) -> Result<Manifest, BundleError> {
        let mut manifest = Manifest::default();
        if let Some(file) = self.model.file {
            manifest.model_file = file_name("model.file", file)?;
        }
        let mut defaults = self.signatures.iter().filter(|(_, s)| s.default).map(|(n, _)| n);
        if let Some(name) = defaults.next() {
            manifest.default_signature.clone_from(name);
        }
        if let Some(second) = defaults.next() {
            return Err(key_error(
                &format!("signatures.{second}.default"),
                format!("{} is the default already", manifest.default_signature),
            ));
        }
        for (name, raw) in self.signatures {
            let key = format!("signatures.{name}");
            check_name(&key, &name)?;
            let stage = |raw: Option<RawStage>, which: &str| {
                raw.map(|raw| raw.validate(&format!("{key}.{which}"))).transpose()
            };
            let stages =
                (stage(raw.preprocess, "preprocess")?, stage(raw.postprocess, "postprocess")?);
            manifest.signatures.insert(name, stages);
        }
        for (file, digest) in self.digests {
            let key = format!("digests.{file}");
            let file = file_name(&key, file)?;
            manifest.digests.insert(file, sha256_hex(&key, &digest)?);
        }
        Ok(manifest)
    }
}

impl RawStage {
    fn validate(self, key: &str) -> Result<Stage, BundleError> {
        let plugin = match (self.file, self.plugin) {
            (Some(file), None) if self.version.is_none() => {
                StagePlugin::File(file_name(&format!("{key}.file"), file)?)
            }
            (Some(_), None) => {
                return Err(key_error(key, "`version` goes with `plugin`, not with `file`".into()));
            }
            (None, Some(name)) => {
                check_name(&format!("{key}.plugin"), &name)?;
                StagePlugin::Repository { name, choice: choice(key, self.version)? }
            }
            (None, None) => {
                let message = "names neither `plugin` (from the plugin repository) nor `file` (in the bundle)";
                return Err(key_error(key, message.into()));
            }
            (Some(_), Some(_)) => {
                let message = "names both `plugin` and `file`; a stage has one plugin";
                return Err(key_error(key, message.into()));
            }
        };
        let files = self
            .files
            .into_iter()
            .map(|file| file_name(&format!("{key}.files"), file))
            .collect::<Result<_, _>>()?;
        let config = serde_json::Value::Object(self.config).to_string();
        Ok(Stage { plugin, config, files })
    }
}

fn choice(key: &str, version: Option<RawVersion>) -> Result<PluginChoice, BundleError> {
    match version {
        None => Ok(PluginChoice::Latest),
        Some(RawVersion::Number(version)) => Ok(PluginChoice::Exact(version)),
        Some(RawVersion::Text(text)) if text == "latest" => Ok(PluginChoice::Latest),
        Some(RawVersion::Text(text)) => text.parse().map(PluginChoice::Exact).map_err(|_| {
            key_error(
                &format!("{key}.version"),
                format!("{text:?} is neither \"latest\" nor a number"),
            )
        }),
    }
}

fn key_error(key: &str, message: String) -> BundleError {
    BundleError::ManifestKey { key: key.into(), message }
}

fn check_name(key: &str, name: &str) -> Result<(), BundleError> {
    if is_name(name) {
        return Ok(());
    }
    let message = format!("{name:?} is not a name: letters, digits, `_`, `.` and `-`, at most 128");
    Err(key_error(key, message))
}

/// Whether a signature or a plugin may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(good) && !name.starts_with('.')
}

/// The directory handle keeps a name inside the bundle; this only says early, and
/// in the manifest's terms, what would not work.
fn file_name(key: &str, file: String) -> Result<String, BundleError> {
    let parts_good = file.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if parts_good && file.len() <= 512 && !file.contains('\0') {
        return Ok(file);
    }
    Err(key_error(key, format!("{file:?} is not the name of a file inside the bundle")))
}

fn sha256_hex(key: &str, digest: &str) -> Result<String, BundleError> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default().to_ascii_lowercase();
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(hex);
    }
    Err(key_error(key, format!("{digest:?} is not `sha256:` and 64 hexadecimal digits")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Manifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_manifest_serves_the_model_as_it_is() {
        let manifest = Manifest::parse("").unwrap();
        assert_eq!(manifest.model_file, "model.onnx");
        assert_eq!(manifest.default_signature, "serving_default");
        assert!(manifest.signatures.contains_key("serving_default"));
    }

    #[test]
    fn a_stage_follows_latest_unless_it_says_otherwise() {
        let text = |version: &str| {
            format!("[signatures.s]\ndefault = true\npreprocess = {{ plugin = \"p\"{version} }}")
        };
        let chosen = |version| {
            let manifest = Manifest::parse(&text(version)).unwrap();
            assert_eq!(manifest.default_signature, "s");
            match manifest.signatures["s"].0.as_ref().unwrap().plugin {
                StagePlugin::Repository { choice, .. } => choice,
                StagePlugin::File(_) => panic!("a repository plugin was named"),
            }
        };
        assert_eq!(chosen(""), PluginChoice::Latest);
        assert_eq!(chosen(", version = \"latest\""), PluginChoice::Latest);
        assert_eq!(chosen(", version = 3"), PluginChoice::Exact(3));
        assert_eq!(chosen(", version = \"3\""), PluginChoice::Exact(3));
        assert!(error(&text(", version = \"new\"")).contains("\"new\" is neither"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let message = error("[signatures.s]\npreproces = { plugin = \"p\" }");
        assert!(message.contains("preproces") && message.contains("`preprocess`"), "{message}");
    }

    #[test]
    fn contradictions_name_their_key() {
        let stage = |body: &str| error(&format!("[signatures.s]\npreprocess = {{ {body} }}"));
        assert!(stage("config = {}").contains("signatures.s.preprocess: names neither"));
        assert!(stage("plugin = \"a\", file = \"b\"").contains("names both"));
        assert!(stage("file = \"b\", version = 1").contains("goes with `plugin`"));
        assert!(stage("file = \"../b\"").contains("not the name of a file inside"));
        assert!(stage("plugin = \"../b\"").contains("is not a name"));
        let twice = "[signatures.a]\ndefault = true\n[signatures.b]\ndefault = true";
        assert!(error(twice).contains("signatures.b.default: a is the default already"));
        assert!(error("[digests]\n\"f\" = \"md5:00\"").contains("digests.f"));
    }

    #[test]
    fn configuration_reaches_the_plugin_as_json() {
        let text = "[signatures.s]\npostprocess = { plugin = \"p\", config = { top_k = 5, mean = [0.5, 1] } }";
        let manifest = Manifest::parse(text).unwrap();
        let config = &manifest.signatures["s"].1.as_ref().unwrap().config;
        let value: serde_json::Value = serde_json::from_str(config).unwrap();
        assert_eq!(value, serde_json::json!({"top_k": 5, "mean": [0.5, 1]}));
    }
}
