//! SIGTERM and SIGINT.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Both signals, which are noticed from now on.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("cannot handle SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot handle SIGINT")?,
        })
    }

    /// Cancels `stop` at the first signal, and `end` at the second.
    pub(crate) async fn cancel(mut self, stop: CancellationToken, end: CancellationToken) {
        self.next().await;
        tracing::info!("stopping: not ready any more, requests in flight are finished");
        stop.cancel();
        self.next().await;
        tracing::warn!("a second signal: ends at once");
        end.cancel();
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
