use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::arrivals::Arrivals;

/// The two moments at which serving ends.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// The server is not ready from now on, though it answers whoever asks.
    pub(crate) asked: CancellationToken,
    /// No connection is taken any more, and those that are open end with what they have
    /// begun. [`ingle_types::Limits::drain_delay`] after the first.
    pub(crate) closing: CancellationToken,
}

impl Stop {
    pub(super) fn new(asked: CancellationToken) -> Self {
        Self { asked, closing: CancellationToken::new() }
    }
}

/// The grace of a drain passed before the requests in flight were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the drain's limit of {grace:?} has passed: {requests} requests, and {connections} connections of this listener, are cut off"
)]
pub struct DrainError {
    /// Of the listener.
    pub connections: usize,
    /// Of all listeners together.
    pub requests: u64,
    pub grace: Duration,
}

/// How many requests there were since the start, of all listeners together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Their heads were read.
    pub begun: u64,
    /// Their whole answers were handed to the connection.
    pub answered: u64,
}

/// Counts requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    begun: AtomicU64,
    answered: AtomicU64,
    ended: AtomicU64,
}

impl Requests {
    pub(super) fn begin(self: &Arc<Self>, arrivals: Arrivals) -> OpenRequest {
        arrivals.request_begins();
        self.begun.fetch_add(1, Ordering::Relaxed);
        OpenRequest { requests: self.clone(), arrivals, answered: false }
    }

    pub(super) fn open(&self) -> u64 {
        // In this order, so that a request that ends meanwhile is not less than none.
        let ended = self.ended.load(Ordering::Acquire);
        self.begun.load(Ordering::Acquire).saturating_sub(ended)
    }

    pub(super) fn tally(&self) -> Tally {
        let answered = self.answered.load(Ordering::Acquire);
        Tally { begun: self.begun.load(Ordering::Acquire), answered }
    }
}

/// A request from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct OpenRequest {
    requests: Arc<Requests>,
    arrivals: Arrivals,
    pub(super) answered: bool,
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.arrivals.request_ended();
        if self.answered {
            self.requests.answered.fetch_add(1, Ordering::Release);
        }
        self.requests.ended.fetch_add(1, Ordering::Release);
    }
}
