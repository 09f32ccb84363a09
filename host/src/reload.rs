//! Changes of the list of models while the server runs: from its file, and from clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ingle_serving::{ModelList, ReloadError};
use ingle_types::{BoxFuture, Code, ServeError, Stage};
use ingle_wire::{Reload, models_config};
use tokio::time::sleep;

use crate::config::{self, FollowedFile};
use crate::request_log::RequestLogs;

/// Takes lists from clients.
pub(crate) struct ClientReload {
    pub(crate) list: ModelList,
    pub(crate) logs: Arc<RequestLogs>,
    /// How long models may take to load; then the client is told, and they go on.
    pub(crate) wait: Duration,
}

impl Reload for ClientReload {
    fn reload(
        &self,
        models: Vec<models_config::ModelConfig>,
    ) -> BoxFuture<'_, Result<(), ServeError>> {
        let (list, logs, wait) = (self.list.clone(), self.logs.clone(), self.wait);
        if let Some(name) = logs.forbidden(&models) {
            let message = format!(
                "the requests of model {name} are logged only where a file of configuration says: its logging_config names another file"
            );
            let refused = ServeError::new(Code::PermissionDenied, Stage::Route, message);
            return Box::pin(async move { Err(refused) });
        }
        // A task of its own: a client that goes away leaves no list half taken.
        let work = tokio::spawn(async move {
            let configs = models.iter().cloned().map(config::model).collect();
            let done = list.replace_or_restore(configs, wait).await;
            // A list that was taken back changes nothing.
            if !matches!(done, Err(ReloadError::Unavailable { .. } | ReloadError::Platform { .. }))
            {
                logs.configure_by_client(&models);
            }
            done
        });
        Box::pin(async move {
            let done = work.await.map_err(|error| {
                ServeError::new(Code::Internal, Stage::Route, "the reload failed")
                    .with_source(error)
            })?;
            done.map_err(|error| ServeError::new(code(&error), Stage::Route, error.to_string()))
        })
    }
}

pub(crate) fn code(error: &ReloadError) -> Code {
    match error {
        ReloadError::Unavailable { .. } => Code::Unknown,
        ReloadError::Platform { .. } => Code::InvalidArgument,
        ReloadError::Late { .. } => Code::DeadlineExceeded,
        ReloadError::Stopping => Code::Unavailable,
    }
}

/// Looks at the file again and again, and takes its list when the text has changed. One
/// that is wrong, or gone, changes nothing.
pub(crate) async fn follow(
    followed: FollowedFile,
    list: ModelList,
    logs: Arc<RequestLogs>,
    wait: Duration,
) {
    let FollowedFile { file, text: mut known, pause } = followed;
    let mut unread = false;
    loop {
        sleep(pause).await;
        let text = match read(&file).await {
            Ok(text) => text,
            Err(error) => {
                if !unread {
                    tracing::error!(file = %file.display(), "the list of models: {error:#}");
                }
                unread = true;
                continue;
            }
        };
        unread = false;
        if text == known {
            continue;
        }
        known.clone_from(&text);
        match models_config::parse_change(&text) {
            Ok(None) => {
                tracing::info!(file = %file.display(), "it sets no list of models, which stays as it was");
            }
            Ok(Some(models)) => {
                tracing::info!(file = %file.display(), models = models.len(), "the list of models has changed");
                let configs = models.iter().cloned().map(config::model).collect();
                match list.replace(configs, wait).await {
                    Err(error @ ReloadError::Platform { .. }) => {
                        refused(&file, &error);
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(file = %file.display(), %error, "not all models are served");
                    }
                    Ok(()) => {}
                }
                logs.configure(&models);
            }
            Err(error) => refused(&file, &error),
        }
    }
}

fn refused(file: &Path, error: &dyn std::fmt::Display) {
    tracing::error!(file = %file.display(), %error, "the list of models stays as it was");
}

/// On a thread that may wait: the file may lie far away.
pub(crate) async fn read(file: &Path) -> anyhow::Result<String> {
    let file = file.to_owned();
    tokio::task::spawn_blocking(move || config::config_text(&file)).await?
}
