//! Changing which models are listed while the server runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use ingle_types::{Serve as _, VersionState, VersionStatus};
use tokio::sync::{Mutex, mpsc as latch};
use tokio::time::timeout;

use super::{Command, ModelConfig};
use crate::board::{Board, Server};

/// Replaces the list of models as a whole; one reload after the other.
#[derive(Clone)]
pub struct ModelList {
    commands: Sender<Command>,
    board: Arc<Board>,
    /// What was accepted last.
    listed: Arc<Mutex<Vec<ModelConfig>>>,
}

/// Why a list of models was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// In TensorFlow Serving's words.
    #[error("{} model(s) did not become available: {}", failures.len(), listed(failures))]
    Unavailable {
        /// Why, by model.
        failures: BTreeMap<String, String>,
    },
    #[error(
        "Illegal to change a model's platform. For model {model} platform was {old} and new platform requested is {new}"
    )]
    Platform { model: String, old: String, new: String },
    #[error("models are still loading {waited:?} after the reload; they go on loading")]
    Late { waited: Duration },
    #[error("the server is stopping")]
    Stopping,
}

fn listed(failures: &BTreeMap<String, String>) -> String {
    let each = failures.iter().map(|(name, why)| format!("{{name: {name} due to error: {why}}}"));
    each.collect::<Vec<_>>().join(", ")
}

/// What a model is called stays, for as long as it is listed.
fn same_platforms(before: &[ModelConfig], models: &[ModelConfig]) -> Result<(), ReloadError> {
    for model in models {
        let old = before.iter().find(|old| old.name == model.name);
        if let Some(old) = old.filter(|old| old.platform != model.platform) {
            let (old, new) = (old.platform.clone(), model.platform.clone());
            return Err(ReloadError::Platform { model: model.name.clone(), old, new });
        }
    }
    Ok(())
}

impl ModelList {
    pub(super) fn new(
        commands: Sender<Command>,
        board: Arc<Board>,
        list: Vec<ModelConfig>,
    ) -> Self {
        Self { commands, board, listed: Arc::new(Mutex::new(list)) }
    }

    /// Takes a new list, and waits until all that it asks for was loaded or has failed.
    /// Models fail alone: what can be served is.
    ///
    /// # Errors
    /// Names the models of which no version can answer; [`ReloadError::Late`] after `wait`;
    /// [`ReloadError::Platform`], and nothing changes.
    pub async fn replace(
        &self,
        models: Vec<ModelConfig>,
        wait: Duration,
    ) -> Result<(), ReloadError> {
        let mut listed = self.listed.lock().await;
        same_platforms(&listed, &models)?;
        let before = std::mem::replace(&mut *listed, models.clone());
        self.send(models, &before, wait).await
    }

    /// As [`ModelList::replace`], but where a model fails that answered before, or that is
    /// new, the list from before is taken again.
    ///
    /// # Errors
    /// As [`ModelList::replace`].
    pub async fn replace_or_restore(
        &self,
        models: Vec<ModelConfig>,
        wait: Duration,
    ) -> Result<(), ReloadError> {
        let mut listed = self.listed.lock().await;
        same_platforms(&listed, &models)?;
        let answer = self.send(models.clone(), &listed, wait).await;
        match &answer {
            Err(ReloadError::Unavailable { .. }) => {
                tracing::warn!("the list of models from before the reload is taken again");
                // It was served until now; what of it fails was told before.
                let _ = self.send(listed.clone(), &listed, wait).await;
            }
            _ => *listed = models,
        }
        answer
    }

    async fn send(
        &self,
        models: Vec<ModelConfig>,
        before: &[ModelConfig],
        wait: Duration,
    ) -> Result<(), ReloadError> {
        let answered = self.board.models();
        let answers = |models: &BTreeMap<String, usize>, name: &str| {
            models.get(name).is_some_and(|&versions| versions > 0)
        };
        // Of a model that did not answer before, the reload takes nothing away.
        let expected = |name: &String| {
            answers(&answered, name) || !before.iter().any(|model| model.name == *name)
        };
        let names: Vec<String> =
            models.iter().map(|model| model.name.clone()).filter(expected).collect();
        let (ready, mut loading) = latch::channel(1);
        let command = Command::Reload(models, ready);
        self.commands.send(command).map_err(|_| ReloadError::Stopping)?;
        if timeout(wait, loading.recv()).await.is_err() {
            return Err(ReloadError::Late { waited: wait });
        }
        let answering = self.board.models();
        let silent = names.into_iter().filter(|name| !answers(&answering, name));
        let failures: BTreeMap<String, String> =
            silent.map(|name| (name.clone(), self.reason(&name))).collect();
        if failures.is_empty() { Ok(()) } else { Err(ReloadError::Unavailable { failures }) }
    }

    /// Why no version of a model answers.
    fn reason(&self, name: &str) -> String {
        let failed = |status: VersionStatus| {
            let arriving = status.state == VersionState::Start && !status.message.is_empty();
            let known = status.code.is_some() || arriving;
            known.then(|| format!("version {}: {}", status.version, status.message))
        };
        let versions = Server::new(self.board.clone()).status(name, None).unwrap_or_default();
        let first = versions.into_iter().find_map(failed);
        first.unwrap_or_else(|| "it has no version that the configuration asks for".to_owned())
    }
}
