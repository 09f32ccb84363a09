use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Code, Deadline, ServeError, Signature, TensorMap, Version};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the protocols call: the whole server, seen from the wire.
///
/// A protocol first takes a handle with [`Serve::resolve`], then decodes the
/// request by that handle's signature, then calls [`Servable::predict`] on it, so
/// that a swap in between cannot mix two versions.
pub trait Serve: Send + Sync + 'static {
    /// Takes a handle to the servable that answers for `model`. Never waits.
    ///
    /// # Errors
    /// NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an unknown label.
    fn resolve(&self, model: &ModelSpec) -> Result<Arc<dyn Servable>, ServeError>;

    /// The states of a model's versions, the highest version first.
    ///
    /// # Errors
    /// NOT_FOUND for an unknown model or version.
    fn status(
        &self,
        model: &str,
        version: Option<Version>,
    ) -> Result<Vec<VersionStatus>, ServeError>;

    /// Every model that the server was told to serve, in the order of names, whether it
    /// can answer or not. Never waits.
    fn models(&self) -> Vec<ModelReadiness>;

    /// Whether the name is that of a model which the server was ever told to serve. Names
    /// that are not may be made up by clients. Never waits.
    fn knows(&self, model: &str) -> bool {
        self.models().iter().any(|known| known.name == model)
    }
}

/// A model that the server was told to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReadiness {
    pub name: String,
    /// The versions that are available, the highest first.
    pub available: Vec<Version>,
}

impl ModelReadiness {
    /// Whether a request that names no version is answered.
    pub fn ready(&self) -> bool {
        !self.available.is_empty()
    }
}

/// A handle to one loaded version, with the plugins that it had when it was taken.
pub trait Servable: Send + Sync {
    fn model(&self) -> &str;

    fn version(&self) -> Version;

    fn signatures(&self) -> &BTreeMap<String, Arc<Signature>>;

    /// The signature that a request means when it names none.
    fn default_signature(&self) -> &str;

    /// Runs one request. Dropping the future abandons it.
    fn predict(&self, request: PredictRequest) -> BoxFuture<'_, Result<TensorMap, ServeError>>;
}

/// What loading knows of protocols: somebody who reads recorded requests, and sends them to
/// a version that does not serve yet.
pub trait Replay: Send + Sync + 'static {
    /// Sends every request in `file`, a version's file of warm-up requests, one after the
    /// other. Dropping the future abandons the rest.
    fn replay(&self, file: Bytes, servable: Arc<dyn Servable>) -> BoxFuture<'_, Replayed>;
}

/// How a replay ended.
#[derive(Debug)]
pub struct Replayed {
    /// The requests that were answered.
    pub records: usize,
    /// The first failure ends it.
    pub outcome: Result<(), ServeError>,
}

/// Which version of which model a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    pub name: String,
    pub version: VersionChoice,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum VersionChoice {
    /// The highest version that is available.
    #[default]
    Latest,
    Specific(Version),
    Label(String),
}

/// A decoded call on a [`Servable`].
#[derive(Clone, Debug)]
pub struct PredictRequest {
    /// A key of [`Servable::signatures`].
    pub signature: String,
    pub inputs: TensorMap,
    /// The outputs to answer with; empty = all.
    pub output_filter: Vec<String>,
    pub deadline: Deadline,
}

/// Where a version is in its life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionState {
    Start,
    Loading,
    Available,
    Unloading,
    End,
}

impl VersionState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "START",
            Self::Loading => "LOADING",
            Self::Available => "AVAILABLE",
            Self::Unloading => "UNLOADING",
            Self::End => "END",
        }
    }

    /// The number in `ModelVersionStatus.State`.
    pub const fn number(self) -> i32 {
        match self {
            Self::Start => 10,
            Self::Loading => 20,
            Self::Available => 30,
            Self::Unloading => 40,
            Self::End => 50,
        }
    }
}

/// One row of a model's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    pub version: Version,
    pub state: VersionState,
    /// Why the version is not served; `None` = OK.
    pub code: Option<Code>,
    /// The error's text, or for a version that is served what was refused beside
    /// it: a new plugin version that does not start.
    pub message: String,
}
