use std::sync::{Condvar, Mutex, PoisonError};

use ingle_types::Deadline;

/// Bounds the calls that run at once, so that the pool of instances is never empty:
/// what is over the bound waits instead of failing.
#[derive(Debug)]
pub(crate) struct Permits {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Permits {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), returned: Condvar::new() }
    }

    /// Waits for a permit; `None` where the deadline came first.
    pub(crate) fn acquire(&self, deadline: Deadline) -> Option<Permit<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = match deadline.remaining() {
                None => self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return None,
                Some(left) => {
                    let waited = self.returned.wait_timeout(free, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        *free -= 1;
        Some(Permit(self))
    }
}

/// The right to run one call; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_run_at_once_than_there_are_permits() {
        let permits = Permits::new(2);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _permit = permits.acquire(Deadline::NONE).unwrap();
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(permits.free.into_inner().unwrap(), 2);
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let permits = Permits::new(1);
        let held = permits.acquire(Deadline::NONE).unwrap();
        assert!(permits.acquire(Deadline::after(Duration::from_millis(1))).is_none());
        drop(held);
        assert!(permits.acquire(Deadline::after(Duration::ZERO)).is_some());
    }
}
