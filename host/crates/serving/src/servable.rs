use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use ingle_bundle::Bundle;
use ingle_engine::Program;
use ingle_types::{
    BatchingParameters, BoxFuture, Code, PredictRequest, Servable, ServeError, Signature, Stage,
    TensorMap, Version,
};

use crate::assembly::Pipelines;
use crate::manager::ModelEvent;
use crate::pipeline::Executors;
use crate::plugin_repository::View;

/// One loaded version: the program and the plugins around it, which may be
/// exchanged while it serves.
pub(crate) struct Loaded {
    pub(crate) model: Arc<str>,
    pub(crate) version: Version,
    pub(crate) bundle: Bundle,
    pub(crate) program: Arc<Program>,
    pub(crate) batching: Option<BatchingParameters>,
    pub(crate) pipelines: ArcSwap<Pipelines>,
    pub(crate) executors: Arc<Executors>,
    follow: Mutex<Follow>,
    /// Set once it serves.
    freed: OnceLock<Freed>,
}

/// Tells the manager that the last handle is gone: it may call the version ended.
struct Freed {
    version: Version,
    events: Sender<ModelEvent>,
}

impl Drop for Freed {
    fn drop(&mut self) {
        // The manager may have stopped before.
        let _ = self.events.send(ModelEvent::Freed(self.version));
    }
}

/// What the plugins were chosen from, and what was refused in doing so.
#[derive(Clone, Default)]
pub(crate) struct Follow {
    pub(crate) view: View,
    /// Shown in the version's status; empty = nothing was refused.
    pub(crate) note: String,
}

pub(crate) struct LoadedParts {
    pub(crate) model: Arc<str>,
    pub(crate) version: Version,
    pub(crate) bundle: Bundle,
    pub(crate) program: Arc<Program>,
    pub(crate) batching: Option<BatchingParameters>,
    pub(crate) pipelines: Pipelines,
    pub(crate) follow: Follow,
}

impl Loaded {
    pub(crate) fn new(parts: LoadedParts, executors: Arc<Executors>) -> Self {
        Self {
            model: parts.model,
            version: parts.version,
            bundle: parts.bundle,
            program: parts.program,
            batching: parts.batching,
            pipelines: ArcSwap::from_pointee(parts.pipelines),
            follow: Mutex::new(parts.follow),
            executors,
            freed: OnceLock::new(),
        }
    }

    /// From now on the manager waits for its end.
    pub(crate) fn tell_when_freed(&self, events: Sender<ModelEvent>) {
        self.freed.get_or_init(|| Freed { version: self.version, events });
    }

    pub(crate) fn follow(&self) -> MutexGuard<'_, Follow> {
        self.follow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted reference to a version with the plugins that it had when the request
/// came: a swap meanwhile changes neither.
pub(crate) struct Handle {
    loaded: Arc<Loaded>,
    pipelines: Arc<Pipelines>,
}

impl Handle {
    pub(crate) fn new(loaded: Arc<Loaded>) -> Self {
        let pipelines = loaded.pipelines.load_full();
        Self { loaded, pipelines }
    }
}

/// What a pipeline tells plugins and errors about the request that it runs.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) request_id: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) version: Version,
}

impl Call {
    fn new(loaded: &Loaded) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let request_id = NEXT.fetch_add(1, Ordering::Relaxed).to_string().into();
        Self { request_id, model: loaded.model.clone(), version: loaded.version }
    }
}

impl Servable for Handle {
    fn model(&self) -> &str {
        &self.loaded.model
    }

    fn version(&self) -> Version {
        self.loaded.version
    }

    fn signatures(&self) -> &BTreeMap<String, Arc<Signature>> {
        &self.pipelines.signatures
    }

    fn default_signature(&self) -> &str {
        &self.loaded.bundle.default_signature
    }

    fn predict(&self, request: PredictRequest) -> BoxFuture<'_, Result<TensorMap, ServeError>> {
        Box::pin(async move {
            let pipeline =
                self.pipelines.by_signature.get(&request.signature).ok_or_else(|| {
                    let text =
                        format!("Serving signature key \"{}\" not found.", request.signature);
                    ServeError::new(Code::FailedPrecondition, Stage::Route, text)
                })?;
            pipeline.run(&self.loaded.executors, Call::new(&self.loaded), request).await
        })
    }
}
