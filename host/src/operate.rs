//! What operators ask for on the admin port.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ingle_serving::{ModelList, ModelReport, Operator, OperatorError, ReloadError};
use ingle_telemetry::LogFilter;
use ingle_types::{BoxFuture, Code, ServeError, Stage, Version};
use ingle_wire::{Model, ModelVersion, Operate, models_config};
use tokio_util::sync::CancellationToken;

use crate::request_log::RequestLogs;
use crate::{config, reload};

/// Everything that an operator can reach.
pub(crate) struct Controls {
    pub(crate) operator: Operator,
    /// Where models are listed by a file: the list, and the file.
    pub(crate) listed: Option<(ModelList, PathBuf)>,
    pub(crate) logs: LogFilter,
    pub(crate) request_logs: Arc<RequestLogs>,
    pub(crate) stop: CancellationToken,
    /// How long models may take to load; then the caller is told, and they go on.
    pub(crate) wait: Duration,
}

impl Operate for Controls {
    fn models(&self) -> Vec<Model> {
        self.operator.models().into_iter().map(model).collect()
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), ServeError>> {
        Box::pin(async move {
            let Some((list, file)) = self.listed.clone() else {
                let message = "only a server with --model_config_file can be told to read its list of models again; others follow their folder by themselves";
                return Err(failed(Code::FailedPrecondition, message));
            };
            let text = reload::read(&file).await.context("the list of models");
            let text =
                text.map_err(|error| failed(Code::FailedPrecondition, format!("{error:#}")))?;
            let models = models_config::parse(&text)
                .map_err(|error| failed(error.code(), error.to_string()))?;
            let (logs, wait) = (self.request_logs.clone(), self.wait);
            // A task of its own: a caller that goes away leaves no list half taken.
            let work = tokio::spawn(async move {
                let configs = models.iter().cloned().map(config::model).collect();
                let done = list.replace(configs, wait).await;
                if !matches!(done, Err(ReloadError::Platform { .. })) {
                    logs.configure(&models);
                }
                done
            });
            finished(work).await?.map_err(|error| {
                ServeError::new(reload::code(&error), Stage::Route, error.to_string())
            })
        })
    }

    fn load(
        &self,
        model: String,
        version: Option<Version>,
    ) -> BoxFuture<'_, Result<(), ServeError>> {
        Box::pin(async move {
            self.operator.load(&model, version, self.wait).await.map_err(|error| refused(&error))
        })
    }

    fn unload(
        &self,
        model: String,
        version: Option<Version>,
    ) -> BoxFuture<'_, Result<(), ServeError>> {
        Box::pin(async move {
            self.operator.unload(&model, version, self.wait).await.map_err(|error| refused(&error))
        })
    }

    fn log_filter(&self) -> String {
        self.logs.get()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), ServeError> {
        let set = self.logs.set(filter, &config::log_filter(filter));
        set.map_err(|error| failed(Code::InvalidArgument, format!("{filter:?}: {error}")))
    }

    fn drain(&self) {
        self.stop.cancel();
    }
}

fn model(report: ModelReport) -> Model {
    let version = |version: ingle_serving::VersionReport| ModelVersion {
        version: version.status.version.to_string(),
        state: version.status.state.name(),
        error_code: version.status.code.map_or("OK", Code::name),
        error_message: version.status.message,
        plugins: version.plugins.into_iter().map(|(name, v)| (name, v.to_string())).collect(),
    };
    Model {
        name: report.name,
        ready: report.ready,
        labels: report.labels.into_iter().map(|(label, v)| (label, v.to_string())).collect(),
        versions: report.versions.into_iter().map(version).collect(),
    }
}

async fn finished<T>(task: tokio::task::JoinHandle<T>) -> Result<T, ServeError> {
    task.await.map_err(|error| failed(Code::Internal, "the reload failed").with_source(error))
}

fn refused(error: &OperatorError) -> ServeError {
    failed(error.code(), error.to_string())
}

fn failed(code: Code, message: impl Into<String>) -> ServeError {
    ServeError::new(code, Stage::Route, message)
}
