use std::io;

use ingle_types::{Code, Version};

use crate::ForeignModel;

/// The ways in which a directory can fail to be a bundle. Messages name files
/// relative to the version directory, never a path of the host; but for the command
/// that converts another framework's model, which is of no use without it.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot open the directory")]
    OpenDirectory { source: io::Error },
    #[error("a URI of a remote store: it has to be mounted, or copied, to a folder")]
    RemoteStore,
    #[error("version {version} is gone")]
    VersionGone { version: Version },
    #[error("{file}: not found in the version directory")]
    Missing { file: String },
    #[error("{file}: leads outside of the version directory, or cannot be opened")]
    Open { file: String, source: io::Error },
    #[error("{file}: cannot be read")]
    Read { file: String, source: io::Error },
    #[error("{file}: is not a regular file")]
    NotAFile { file: String },
    #[error("{file}: is larger than the limit of {limit} bytes")]
    TooLarge { file: String, limit: u64 },
    #[error("the bundle's files are larger together than the limit of {limit} bytes")]
    BundleTooLarge { limit: u64 },
    #[error("more than {limit} files in the version directory")]
    TooManyFiles { limit: usize },
    #[error("bundle.toml: {message}")]
    Manifest { message: String },
    #[error("bundle.toml: {key}: {message}")]
    ManifestKey { key: String, message: String },
    #[error("{file}: sha256 is {given} but bundle.toml says {expected}")]
    Digest { file: String, expected: String, given: String },
    #[error("{0}")]
    Foreign(Box<ForeignModel>),
    #[error("plugin {name} version {version} has no plugin.wasm")]
    PluginMissing { name: String, version: Version },
}

impl BundleError {
    pub fn code(&self) -> Code {
        match self {
            Self::OpenDirectory { .. }
            | Self::VersionGone { .. }
            | Self::Missing { .. }
            | Self::PluginMissing { .. } => Code::NotFound,
            Self::TooLarge { .. } | Self::BundleTooLarge { .. } | Self::TooManyFiles { .. } => {
                Code::ResourceExhausted
            }
            Self::Read { .. } => Code::Unavailable,
            Self::Foreign(_) | Self::RemoteStore => Code::Unimplemented,
            Self::Open { .. }
            | Self::NotAFile { .. }
            | Self::Manifest { .. }
            | Self::ManifestKey { .. }
            | Self::Digest { .. } => Code::InvalidArgument,
        }
    }
}
