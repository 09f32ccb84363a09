//! The models that run, and how they are left.

use std::time::Duration;

use ingle_serving::Manager;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Unloading takes longer only where a model is being loaded, or where a run was cut off.
const UNLOAD: Duration = Duration::from_secs(1);

/// A manager that nobody waits for: one that is dropped waits for what its threads do,
/// and neither a load nor a run can be interrupted.
pub(crate) struct Running(Option<Manager>);

impl Running {
    pub(crate) fn new(manager: Manager) -> Self {
        Self(Some(manager))
    }

    /// Waits at most so long until every model that was there at the start is available
    /// or has failed.
    pub(crate) async fn loaded(&mut self, at_most: Duration) {
        let Some(manager) = &mut self.0 else { return };
        if timeout(at_most, manager.ready()).await.is_err() {
            tracing::warn!("models are still loading; those that are available are served");
        }
    }

    /// Unloads the models, or leaves that to the end of the process.
    pub(crate) async fn unload(mut self) {
        let Some(manager) = self.0.take() else { return };
        let unloaded = spawn_blocking(move || drop(manager));
        if timeout(UNLOAD, unloaded).await.is_err() {
            tracing::warn!("a model was still being loaded or run");
        }
    }
}

/// Where the process ends at once, nothing is waited for.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(manager) = self.0.take() {
            spawn_blocking(move || drop(manager));
        }
    }
}
