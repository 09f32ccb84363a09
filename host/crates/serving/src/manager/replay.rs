//! The requests that a version's own files say it is to answer before it serves.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ingle_types::{Code, Replay, Replayed, ServeError, Stage};
use tokio::runtime;
use tokio::sync::watch;

use crate::manager::Shared;
use crate::manager::load::VersionError;
use crate::servable::{Handle, Loaded};

/// Answers those of `file`, in the version folder `path`; a failure is the version's.
pub(super) fn replay(
    shared: &Shared,
    loaded: &Arc<Loaded>,
    file: Bytes,
    path: &str,
) -> Result<(), VersionError> {
    let Some(reader) = &shared.warm_up else { return Ok(()) };
    let (model, version) = (&*loaded.model, loaded.version);
    tracing::info!(model, version, bytes = file.len(), "reading warmup data");
    let started = Instant::now();
    let Replayed { records, outcome } =
        run(&**reader, file, loaded, shared.stopping.clone()).map_err(VersionError::Replay)?;
    let (elapsed, code) = (started.elapsed(), outcome.as_ref().err().map(ServeError::code));
    shared.metrics.warm_up(path, code, elapsed);
    shared.metrics.warm_up_records(path, code, records as u64);
    outcome.map_err(VersionError::Replay)?;
    let elapsed_ms = elapsed.as_millis();
    tracing::info!(model, version, records, elapsed_ms, "finished reading warmup data");
    Ok(())
}

/// Waits on this thread, the model's own. What is sent runs where all requests do.
fn run(
    reader: &dyn Replay,
    file: Bytes,
    loaded: &Arc<Loaded>,
    mut stopping: watch::Receiver<bool>,
) -> Result<Replayed, ServeError> {
    let runtime =
        runtime::Builder::new_current_thread().enable_time().build().map_err(|error| {
            let text = "no thread could wait for the warmup requests";
            ServeError::new(Code::Internal, Stage::Run, text).with_source(error)
        })?;
    let servable = Arc::new(Handle::new(loaded.clone()));
    runtime.block_on(async {
        tokio::select! {
            replayed = reader.replay(file, servable) => Ok(replayed),
            // An error says that the manager is gone.
            _ = stopping.wait_for(|stopping| *stopping) => {
                Err(ServeError::new(Code::Cancelled, Stage::Run, "Loading of servable cancelled"))
            }
        }
    })
}
