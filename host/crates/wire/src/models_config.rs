//! TensorFlow Serving's `models.config`: a text protobuf of `ModelServerConfig`.

use std::collections::{BTreeMap, BTreeSet};

use ingle_types::{Code, Version};
use prost_reflect::DescriptorError;
use prost_reflect::text_format::ParseError;

mod logging;

pub use logging::{LogDestination, LogForm, Logging};

use crate::proto::tensorflow::serving as pb;
use crate::text_proto::{self, TextError};
use pb::file_system_storage_path_source_config::servable_version_policy::PolicyChoice;
use pb::model_server_config::Config;

const MESSAGE: &str = "tensorflow.serving.ModelServerConfig";

/// A model that the file lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub name: String,
    /// An absolute path or a URI.
    pub base_path: String,
    pub policy: VersionPolicy,
    pub labels: BTreeMap<String, Version>,
    /// `None` = requests are not logged.
    pub logging: Option<Logging>,
    /// One of [`PLATFORMS`].
    pub platform: String,
}

/// Which of the versions that are there are to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// So many of the highest, at least one.
    Latest(u32),
    All,
    Specific(Vec<Version>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

/// What a file may call the platform; every file written for TensorFlow Serving says
/// the first.
pub const PLATFORMS: [&str; 3] = ["tensorflow", "onnx", "onnxruntime_onnx"];

/// The ways in which a file can be wrong, in TensorFlow Serving's words where it has
/// any.
#[derive(Debug, thiserror::Error)]
pub enum ModelsConfigError {
    #[error("Error parsing text-format tensorflow.serving.ModelServerConfig: {0}")]
    Syntax(ParseError),
    #[error("the built-in descriptors are damaged")]
    Descriptors(#[from] DescriptorError),
    #[error("custom_model_config is not supported: use model_config_list")]
    Custom,
    #[error(
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )]
    NotAList,
    #[error("a model in the config list has no name")]
    NoName,
    #[error("Illegal to list model {name} multiple times in config list")]
    Duplicate { name: String },
    #[error("Expected model {name} to have an absolute path or URI; got base_path()={base_path}")]
    RelativePath { name: String, base_path: String },
    #[error(
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, model name is {name}"
    )]
    NoPlatform { name: String },
    #[error(
        "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, model name is {name}"
    )]
    TwoPlatforms { name: String },
    #[error("Model {name} requests unsupported platform {platform}")]
    Platform { name: String, platform: String },
    #[error("model {name} lists version {version}, which is negative")]
    Version { name: String, version: i64 },
    #[error("Model {name} sets custom_logging_config, which is not supported")]
    CustomLogging { name: String },
    #[error(
        "Model {name} requests unsupported log collector type {kind}: there are jsonl and tfrecord"
    )]
    LogCollector { name: String, kind: String },
    #[error(
        "Expected model {name} to have an absolute path for its request log; got filename_prefix={prefix}"
    )]
    LogPrefix { name: String, prefix: String },
    #[error("Expected model {name} to have a sampling_rate from 0 to 1; got {rate}")]
    SamplingRate { name: String, rate: f64 },
}

impl ModelsConfigError {
    pub fn code(&self) -> Code {
        match self {
            Self::Descriptors(_) => Code::Internal,
            Self::Custom | Self::CustomLogging { .. } => Code::Unimplemented,
            _ => Code::InvalidArgument,
        }
    }
}

/// Reads a file's text; one that lists nothing is an empty list.
///
/// # Errors
/// For the first thing that is wrong with it.
pub fn parse(text: &str) -> Result<Vec<ModelConfig>, ModelsConfigError> {
    Ok(parse_change(text)?.unwrap_or_default())
}

/// Reads the text of a file that is followed; `None` where it sets no list, not even an
/// empty one, as a file that is being written does at first: TensorFlow Serving takes no
/// action then.
///
/// # Errors
/// As [`parse`].
pub fn parse_change(text: &str) -> Result<Option<Vec<ModelConfig>>, ModelsConfigError> {
    match read(text)?.config {
        None => Ok(None),
        Some(Config::ModelConfigList(list)) => of_list(list).map(Some),
        Some(Config::CustomModelConfig(_)) => Err(ModelsConfigError::Custom),
    }
}

/// Reads what a call of HandleReloadConfigRequest gives.
pub(crate) fn of_call(
    config: Option<pb::ModelServerConfig>,
) -> Result<Vec<ModelConfig>, ModelsConfigError> {
    match config.and_then(|config| config.config) {
        Some(Config::ModelConfigList(list)) => of_list(list),
        None | Some(Config::CustomModelConfig(_)) => Err(ModelsConfigError::NotAList),
    }
}

fn of_list(list: pb::ModelConfigList) -> Result<Vec<ModelConfig>, ModelsConfigError> {
    let models = list.config;
    let mut names = BTreeSet::new();
    if let Some(twice) = models.iter().find(|model| !names.insert(&model.name)) {
        return Err(ModelsConfigError::Duplicate { name: twice.name.clone() });
    }
    models.into_iter().map(model).collect()
}

fn read(text: &str) -> Result<pb::ModelServerConfig, ModelsConfigError> {
    text_proto::read(MESSAGE, text).map_err(|error| match error {
        TextError::Syntax(error) => ModelsConfigError::Syntax(error),
        TextError::Descriptors(error) => error.into(),
    })
}

fn model(config: pb::ModelConfig) -> Result<ModelConfig, ModelsConfigError> {
    let platform = platform(&config)?;
    let name = config.name;
    if name.is_empty() {
        return Err(ModelsConfigError::NoName);
    }
    if !is_absolute(&config.base_path) {
        return Err(ModelsConfigError::RelativePath { name, base_path: config.base_path });
    }
    let logging = logging::read(&name, config.logging_config)?;
    let policy = policy(&name, config.model_version_policy)?;
    let labels = config.version_labels.into_iter();
    let labels: Result<_, _> = labels
        .map(|(label, number)| version(&name, number).map(|version| (label, version)))
        .collect();
    Ok(ModelConfig {
        labels: labels?,
        logging,
        base_path: config.base_path,
        policy,
        platform,
        name,
    })
}

fn platform(config: &pb::ModelConfig) -> Result<String, ModelsConfigError> {
    let name = || config.name.clone();
    #[expect(deprecated, reason = "files in use still set it")]
    let model_type = config.model_type;
    let platform = match (model_type, config.model_platform.as_str()) {
        (0, "") => return Err(ModelsConfigError::NoPlatform { name: name() }),
        (0, platform) => platform,
        (1, "") => "tensorflow",
        (_, "") => "other",
        _ => return Err(ModelsConfigError::TwoPlatforms { name: name() }),
    };
    let platform = platform.to_owned();
    if PLATFORMS.contains(&platform.as_str()) {
        return Ok(platform);
    }
    Err(ModelsConfigError::Platform { name: name(), platform })
}

fn is_absolute(path: &str) -> bool {
    let scheme = path.split_once("://").map(|(scheme, _)| scheme);
    path.starts_with('/')
        || scheme.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn policy(
    name: &str,
    policy: Option<pb::file_system_storage_path_source_config::ServableVersionPolicy>,
) -> Result<VersionPolicy, ModelsConfigError> {
    Ok(match policy.and_then(|policy| policy.policy_choice) {
        None => VersionPolicy::default(),
        Some(PolicyChoice::Latest(latest)) => VersionPolicy::Latest(latest.num_versions.max(1)),
        Some(PolicyChoice::All(_)) => VersionPolicy::All,
        Some(PolicyChoice::Specific(specific)) => {
            let versions = specific.versions.into_iter().map(|number| version(name, number));
            VersionPolicy::Specific(versions.collect::<Result<_, _>>()?)
        }
    })
}

fn version(name: &str, number: i64) -> Result<Version, ModelsConfigError> {
    let name = name.to_owned();
    Version::try_from(number).map_err(|_| ModelsConfigError::Version { name, version: number })
}

#[cfg(test)]
mod tests;
