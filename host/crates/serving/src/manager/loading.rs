//! How many versions load at one moment, and how often a failed one is tried again.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// TensorFlow Serving's defaults.
const RETRIES: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(60);

/// When a version that failed to load is tried again though its files are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After the first attempt.
    pub retries: u32,
    pub interval: Duration,
    /// Whatever the failure was; else only where the next attempt may end otherwise.
    pub every_failure: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: RETRIES, interval: INTERVAL, every_failure: false }
    }
}

/// Attempts of one version whose files stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempts {
    pub(crate) fingerprint: u64,
    failed: u32,
}

impl Attempts {
    pub(crate) fn new(fingerprint: u64) -> Self {
        Self { fingerprint, failed: 0 }
    }

    /// Counts one that failed. Returns what to say where another one follows.
    pub(crate) fn failed(&mut self, policy: &RetryPolicy, may_pass: bool) -> Option<String> {
        self.failed = self.failed.saturating_add(1);
        let again = (may_pass || policy.every_failure) && self.failed <= policy.retries;
        let RetryPolicy { retries, interval, .. } = policy;
        again.then(|| format!("retry {} of {retries} follows {interval:?} later", self.failed))
    }
}

/// Lets so many versions load at one moment.
pub(crate) struct LoadPermits {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// `None` = no bound.
    free: Option<usize>,
    closed: bool,
}

/// Held while a version loads.
pub(crate) struct LoadPermit<'a>(&'a LoadPermits);

impl LoadPermits {
    pub(crate) fn new(at_once: Option<NonZeroUsize>) -> Self {
        let state = State { free: at_once.map(NonZeroUsize::get), closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn; `None` where the server is stopping.
    pub(crate) fn take(&self) -> Option<LoadPermit<'_>> {
        let full = |state: &mut State| !state.closed && state.free == Some(0);
        let mut state =
            self.changed.wait_while(self.state(), full).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        state.free = state.free.map(|free| free.saturating_sub(1));
        Some(LoadPermit(self))
    }

    /// Nothing begins to load from now on.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

impl Drop for LoadPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.free = state.free.map(|free| free.saturating_add(1));
        drop(state);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    #[test]
    fn a_failure_is_tried_again_so_often_where_that_may_help() {
        let policy = RetryPolicy { retries: 2, ..RetryPolicy::default() };
        let mut attempts = Attempts::new(1);
        assert_eq!(
            attempts.failed(&policy, true).as_deref(),
            Some("retry 1 of 2 follows 60s later")
        );
        assert!(attempts.failed(&policy, true).is_some());
        assert_eq!(attempts.failed(&policy, true), None);
        assert_eq!(Attempts::new(1).failed(&policy, false), None);
        let every = RetryPolicy { every_failure: true, ..policy };
        assert!(Attempts::new(1).failed(&every, false).is_some());
        let none = RetryPolicy { retries: 0, ..every };
        assert_eq!(Attempts::new(1).failed(&none, true), None);
    }

    #[test]
    fn no_more_than_the_bound_load_at_one_moment() {
        let permits = Arc::new(LoadPermits::new(NonZeroUsize::new(2)));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let load = || {
            let (permits, now, most) = (permits.clone(), now.clone(), most.clone());
            thread::spawn(move || {
                let permit = permits.take();
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(2));
                now.fetch_sub(1, Ordering::SeqCst);
                permit.is_some()
            })
        };
        let threads: Vec<_> = (0..16).map(|_| load()).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[test]
    fn without_a_bound_all_load_at_once() {
        let permits = Arc::new(LoadPermits::new(None));
        let all = Arc::new(Barrier::new(8));
        let load = || {
            let (permits, all) = (permits.clone(), all.clone());
            thread::spawn(move || {
                let _permit = permits.take();
                all.wait();
            })
        };
        let threads: Vec<_> = (0..8).map(|_| load()).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn whoever_waits_when_the_server_stops_does_not_load() {
        let permits = Arc::new(LoadPermits::new(NonZeroUsize::new(1)));
        let held = permits.take();
        let waiting = {
            let permits = permits.clone();
            thread::spawn(move || permits.take().is_none())
        };
        permits.close();
        assert!(waiting.join().unwrap());
        drop(held);
        assert!(permits.take().is_none());
    }
}
