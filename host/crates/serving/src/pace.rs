//! Whether a program is quick enough to run on the thread where its request is.
//!
//! To hand a run to a worker and its answer back costs two changes of threads: more than a
//! small model's run, and most of what a small request costs (decision 006).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// A run that takes no longer is not worth a change of threads.
const QUICK: Duration = Duration::from_micros(50);
/// Quick runs in a row, on workers, that are believed.
const PROOF: u32 = 64;
/// A run where the request is that took longer has to be proved quick again.
const SLOW: Duration = Duration::from_micros(500);
/// After such a run the program stays with the workers: what its inputs say, and not their
/// size alone, decides how long it takes.
const TOO_SLOW: Duration = Duration::from_millis(100);

/// What is known of the runs of one program.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Quick runs since the last other one, at most [`PROOF`].
    quick: AtomicU32,
    /// The largest inputs of those.
    bytes: AtomicUsize,
    never: AtomicBool,
}

impl Pace {
    /// Whether a run with inputs of `bytes` bytes may be expected to be quick.
    pub(crate) fn is_quick(&self, bytes: usize) -> bool {
        self.quick.load(Ordering::Relaxed) >= PROOF
            && bytes <= self.bytes.load(Ordering::Relaxed)
            && !self.never.load(Ordering::Relaxed)
    }

    /// Takes in a run on a worker.
    pub(crate) fn ran_on_worker(&self, bytes: usize, elapsed: Duration) {
        if elapsed <= QUICK {
            self.bytes.fetch_max(bytes, Ordering::Relaxed);
            if self.quick.load(Ordering::Relaxed) < PROOF {
                self.quick.fetch_add(1, Ordering::Relaxed);
            }
        } else if bytes <= self.bytes.load(Ordering::Relaxed) {
            self.prove_again();
        }
    }

    /// Takes in a run on its request's own thread.
    pub(crate) fn ran_here(&self, elapsed: Duration) {
        if elapsed > SLOW {
            self.prove_again();
        }
        if elapsed > TOO_SLOW {
            self.never.store(true, Ordering::Relaxed);
        }
    }

    fn prove_again(&self) {
        self.quick.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    fn proved(bytes: usize) -> Pace {
        let pace = Pace::default();
        for _ in 0..PROOF {
            assert!(!pace.is_quick(bytes));
            pace.ran_on_worker(bytes, MICRO);
        }
        pace
    }

    #[test]
    fn what_was_quick_many_times_is_quick_up_to_that_size() {
        let pace = proved(8);
        assert!(pace.is_quick(8) && pace.is_quick(0) && !pace.is_quick(9));
        // A larger one is slow, as was to be expected.
        pace.ran_on_worker(1 << 20, SLOW);
        assert!(pace.is_quick(8));
    }

    #[test]
    fn a_slow_run_takes_the_proof_away() {
        let pace = proved(8);
        pace.ran_on_worker(8, QUICK * 2);
        assert!(!pace.is_quick(8));
        let pace = proved(8);
        pace.ran_here(QUICK * 2);
        assert!(pace.is_quick(8), "somebody else's turn on this core");
        pace.ran_here(SLOW * 2);
        assert!(!pace.is_quick(8));
        for _ in 0..PROOF {
            pace.ran_on_worker(8, MICRO);
        }
        assert!(pace.is_quick(8));
    }

    #[test]
    fn what_was_very_slow_once_stays_with_the_workers() {
        let pace = proved(8);
        pace.ran_here(TOO_SLOW * 2);
        for _ in 0..2 * PROOF {
            pace.ran_on_worker(8, MICRO);
        }
        assert!(!pace.is_quick(8));
    }
}
