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
    /// The version directory is not complete yet, by its [`crate::SUMS_FILE`].
    #[error("{file} {reason}")]
    Arriving { file: String, reason: String },
    #[error("MANIFEST.sha256: line {line} {message}")]
    Sums { line: usize, message: &'static str },
    #[error("MANIFEST.sha256: not UTF-8")]
    SumsNotText,
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
    /// Whether the next attempt may find it otherwise though no file has changed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Read { .. } => true,
            Self::OpenDirectory { source } | Self::Open { source, .. } => !is_of_the_files(source),
            _ => false,
        }
    }

    pub fn code(&self) -> Code {
        match self {
            Self::OpenDirectory { .. }
            | Self::VersionGone { .. }
            | Self::Missing { .. }
            | Self::PluginMissing { .. } => Code::NotFound,
            Self::TooLarge { .. } | Self::BundleTooLarge { .. } | Self::TooManyFiles { .. } => {
                Code::ResourceExhausted
            }
            Self::Read { .. } | Self::Arriving { .. } => Code::Unavailable,
            Self::Foreign(_) | Self::RemoteStore => Code::Unimplemented,
            Self::Open { .. }
            | Self::NotAFile { .. }
            | Self::Sums { .. }
            | Self::SumsNotText
            | Self::Manifest { .. }
            | Self::ManifestKey { .. }
            | Self::Digest { .. } => Code::InvalidArgument,
        }
    }
}

/// Whether an error lies in what is on the disk, and not in the machine of this moment.
fn is_of_the_files(error: &io::Error) -> bool {
    use io::ErrorKind::{
        InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
    };
    let kinds =
        [InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied];
    kinds.contains(&error.kind())
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_lacks_may_pass_and_what_the_files_say_does_not() {
        let open = |error: i32| BundleError::Open {
            file: "f".into(),
            source: io::Error::from_raw_os_error(error),
        };
        // EIO, EMFILE, ESTALE.
        for passing in [5, 24, 116] {
            assert!(open(passing).may_pass(), "{passing}");
        }
        // ENOENT, EACCES, ENOTDIR, ELOOP.
        for lasting in [2, 13, 20, 40] {
            assert!(!open(lasting).may_pass(), "{lasting}");
        }
        assert!(!BundleError::Missing { file: "f".into() }.may_pass());
        let source = io::Error::other("the disk");
        assert!(BundleError::Read { file: "f".into(), source }.may_pass());
    }
}
