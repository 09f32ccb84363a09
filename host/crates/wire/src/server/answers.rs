use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// The answers of one connection that wait for their peer to take more of them. HTTP/2
/// lets a peer answer pings and take nothing, so the socket does not tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Answers {
    /// Returns once an answer has waited for `limit`, give or take as much.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let Some(since) = self.oldest() else {
                sleep(limit).await;
                continue;
            };
            // Beyond the clock's end there is no limit.
            let Some(until) = since.checked_add(limit) else { return std::future::pending().await };
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.lock().since.values().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer among those of its connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    answers: Answers,
    waiting: Option<u64>,
}

impl Watch {
    pub(super) fn new(answers: Answers) -> Self {
        Self { answers, waiting: None }
    }

    /// A piece was handed over: the peer is to take it.
    pub(super) fn waits(&mut self) {
        let mut all = self.answers.lock();
        let number = *self.waiting.get_or_insert_with(|| {
            all.next += 1;
            all.next
        });
        all.since.insert(number, Instant::now());
    }

    /// There is nothing to take.
    pub(super) fn rests(&mut self) {
        if let Some(number) = self.waiting.take() {
            self.answers.lock().since.remove(&number);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.rests();
    }
}
