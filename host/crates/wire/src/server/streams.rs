//! The streams of an HTTP/2 connection, in the connection's own task.
//!
//! A task for each stream costs a hand-over to another thread and back for each request,
//! more than a small request itself. What is long does not run here: models and plugins
//! have threads, and large messages are decoded elsewhere ([`crate::call::offload`]).

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the streams that a connection accepts.
#[derive(Clone, Default)]
pub(super) struct Accepted(Arc<Mutex<Vec<Work>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Accepted {
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
    }
}

impl Accepted {
    fn take(&self) -> Vec<Work> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers the streams. Never ends; must be polled after the connection, by the same task,
/// which is what tells it of new ones.
pub(super) struct Streams {
    accepted: Accepted,
    open: FuturesUnordered<Work>,
}

impl Streams {
    pub(super) fn of(accepted: Accepted) -> Self {
        Self { accepted, open: FuturesUnordered::new() }
    }
}

impl Future for Streams {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let accepted = self.accepted.take();
        self.open.extend(accepted);
        while let Poll::Ready(Some(())) = Pin::new(&mut self.open).poll_next(context) {}
        Poll::Pending
    }
}
