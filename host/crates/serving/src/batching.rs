//! Which batching parameters a version has: those of all, or its own.

use ingle_bundle::{Bundle, BundleError};
use ingle_types::{BatchingParameters, Code, Limits};

/// Reads a version's own parameters; the error says what is wrong with the text.
pub type ReadParameters = fn(&str) -> Result<BatchingParameters, String>;

/// How requests are to be joined.
#[derive(Clone, Debug)]
pub struct Batching {
    /// Those of all versions.
    pub common: BatchingParameters,
    /// Where versions bring their own; one that brings none is not batched then.
    pub per_version: Option<ReadParameters>,
}

/// Why a version's own parameters cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchingError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("batching_params.pbtxt: {message}")]
    Parameters { message: String },
}

impl BatchingError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Bundle(e) => e.code(),
            Self::Parameters { .. } => Code::InvalidArgument,
        }
    }
}

impl Batching {
    /// The parameters of a version; `None` = its requests are not to be joined.
    pub(crate) fn of(
        &self,
        bundle: &Bundle,
        limits: &Limits,
    ) -> Result<Option<BatchingParameters>, BatchingError> {
        let Some(read) = self.per_version else { return Ok(Some(self.common.clone())) };
        let Some(content) = bundle.batching_parameters(limits)? else { return Ok(None) };
        let text = std::str::from_utf8(&content).map_err(|e| format!("not UTF-8: {e}"));
        let parameters = text.and_then(read);
        parameters.map(Some).map_err(|message| BatchingError::Parameters { message })
    }
}
