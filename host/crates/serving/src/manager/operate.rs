//! What operators ask for beside the list of models.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use ingle_types::{Code, Version, VersionState, VersionStatus};
use tokio::sync::mpsc as latch;
use tokio::time::timeout;

use super::{Command, Hold};
use crate::board::{Board, ModelBoard};

/// Takes models out of service and lets them be served again; sees them all.
#[derive(Clone)]
pub struct Operator {
    commands: Sender<Command>,
    board: Arc<Board>,
}

/// A model as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReport {
    pub name: String,
    pub ready: bool,
    pub labels: BTreeMap<String, Version>,
    /// The highest first.
    pub versions: Vec<VersionReport>,
}

/// A version as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionReport {
    pub status: VersionStatus,
    /// The plugins of the repository that it uses, with their versions.
    pub plugins: BTreeMap<String, Version>,
}

/// Why a change was not made, or has not led to what was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    #[error("no model {model} is configured")]
    Unknown { model: String },
    #[error("version {version} of model {model} is not there, or not one that is asked for")]
    NoVersion { model: String, version: Version },
    #[error("model {model} has no version that can answer{why}")]
    NotServed {
        model: String,
        /// Empty, or begins with a colon.
        why: String,
    },
    #[error("version {version} of model {model} cannot answer{why}")]
    VersionNotServed { model: String, version: Version, why: String },
    #[error("not done after {waited:?}; it goes on")]
    Late { waited: Duration },
    #[error("the server is stopping")]
    Stopping,
}

impl OperatorError {
    pub fn code(&self) -> Code {
        match self {
            Self::Unknown { .. } | Self::NoVersion { .. } => Code::NotFound,
            Self::NotServed { .. } | Self::VersionNotServed { .. } => Code::FailedPrecondition,
            Self::Late { .. } => Code::DeadlineExceeded,
            Self::Stopping => Code::Unavailable,
        }
    }
}

impl Operator {
    pub(super) fn new(commands: Sender<Command>, board: Arc<Board>) -> Self {
        Self { commands, board }
    }

    /// Every model that is configured, in the order of names.
    pub fn models(&self) -> Vec<ModelReport> {
        let all = self.board.all();
        let told = all.iter().filter(|(_, model)| !model.removed || !model.status.is_empty());
        told.map(|(name, model)| report(name, model)).collect()
    }

    /// Serves a model, or one version of it, no more; waits until no new request reaches it.
    ///
    /// # Errors
    /// Where there is no such model, and after `wait`.
    pub async fn unload(
        &self,
        model: &str,
        version: Option<Version>,
        wait: Duration,
    ) -> Result<(), OperatorError> {
        let known = self.known(model)?;
        if let Some(version) = version
            && !known.status.iter().any(|status| status.version == version)
        {
            return Err(OperatorError::NoVersion { model: model.to_owned(), version });
        }
        self.send(model, Hold { version, held: true }, wait).await
    }

    /// Lets a model, or one version of it, be served again, and tries again what has failed;
    /// waits until it answers or has failed.
    ///
    /// # Errors
    /// Where there is no such model or version, why it cannot answer, and after `wait`.
    pub async fn load(
        &self,
        model: &str,
        version: Option<Version>,
        wait: Duration,
    ) -> Result<(), OperatorError> {
        self.known(model)?;
        self.send(model, Hold { version, held: false }, wait).await?;
        let now = self.known(model)?;
        let model = model.to_owned();
        let Some(version) = version else {
            let why = now.status.iter().find_map(failure).unwrap_or_default();
            let answers = !now.available.is_empty();
            return if answers { Ok(()) } else { Err(OperatorError::NotServed { model, why }) };
        };
        if now.available.contains_key(&version) {
            return Ok(());
        }
        match now.status.iter().find(|status| status.version == version).and_then(failure) {
            Some(why) => Err(OperatorError::VersionNotServed { model, version, why }),
            None => Err(OperatorError::NoVersion { model, version }),
        }
    }

    fn known(&self, model: &str) -> Result<Arc<ModelBoard>, OperatorError> {
        let unknown = || OperatorError::Unknown { model: model.to_owned() };
        self.board.model(model).ok_or_else(unknown)
    }

    async fn send(&self, model: &str, hold: Hold, wait: Duration) -> Result<(), OperatorError> {
        let (ready, mut busy) = latch::channel(1);
        let command = Command::Hold(model.to_owned(), hold, ready);
        self.commands.send(command).map_err(|_| OperatorError::Stopping)?;
        let late = || OperatorError::Late { waited: wait };
        timeout(wait, busy.recv()).await.map(drop).map_err(|_| late())
    }
}

fn failure(status: &VersionStatus) -> Option<String> {
    let failed = status.state != VersionState::Available && status.code.is_some();
    failed.then(|| format!(": version {}: {}", status.version, status.message))
}

fn report(name: &str, model: &ModelBoard) -> ModelReport {
    let version = |status: &VersionStatus| VersionReport {
        status: status.clone(),
        plugins: match model.available.get(&status.version) {
            Some(loaded) => loaded.pipelines.load().uses.clone(),
            None => BTreeMap::new(),
        },
    };
    ModelReport {
        name: name.to_owned(),
        ready: !model.available.is_empty(),
        labels: model.labels.clone(),
        versions: model.status.iter().map(version).collect(),
    }
}
