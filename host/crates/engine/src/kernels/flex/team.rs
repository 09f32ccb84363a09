//! Sharing a loop among the cores. The thread that asks works too, and waits for
//! nobody who has not begun: a helper that is asleep, or busy for somebody else,
//! costs nothing but its help.
//!
//! Rayon's pool, by contrast, makes a thread from outside sleep until a worker
//! has woken, once for each operator. That alone takes as long as many of them.
#![expect(unsafe_code, reason = "lends work that borrows to threads that outlive it")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How long a helper looks for work before it sleeps. Most operators of a model
/// that is being run follow sooner, and to wake a thread takes about as long.
const PATIENCE: Duration = Duration::from_micros(100);

/// Calls `work` with each item, on this thread and those that are free to help.
/// Each thread begins with a share of its own, the same one in every loop, as its
/// cache may hold what the last loop left there, and then takes from the others'.
pub(super) fn for_each<T: Send>(items: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
    let items: Vec<Mutex<Option<T>>> = items.map(|item| Mutex::new(Some(item))).collect();
    let others = items.len().saturating_sub(1);
    let shares = Shares::of(items.len(), threads());
    let take = |index: usize| items.get(index)?.lock().ok()?.take();
    team().run(others, &|member| {
        while let Some(index) = shares.next(member) {
            take(index).into_iter().for_each(&work);
        }
    });
}

/// As [`for_each`], on this thread alone where there are fewer `elements` than are
/// worth a thread of their own.
pub(super) fn for_each_of<T: Send>(
    elements: usize,
    items: impl Iterator<Item = T>,
    work: impl Fn(T) + Sync,
) {
    if elements < SHARE { items.for_each(work) } else { for_each(items, work) }
}

/// Elements that take as long to copy as a thread to hear of it.
pub(super) const SHARE: usize = 1 << 14;

/// The indices of items, as many for each member of a team.
struct Shares {
    next: Vec<AtomicUsize>,
    count: usize,
}

impl Shares {
    fn of(count: usize, members: usize) -> Self {
        let next = (0..members).map(|member| AtomicUsize::new(count * member / members));
        Self { next: next.collect(), count }
    }

    /// The next one of a member's share, or of another's.
    fn next(&self, member: usize) -> Option<usize> {
        let members = self.next.len();
        (member..member + members).map(|member| member % members).find_map(|member| {
            let index = self.next.get(member)?.fetch_add(1, Ordering::Relaxed);
            (index < self.count * (member + 1) / members).then_some(index)
        })
    }
}

/// How many threads may share a loop.
pub(super) fn threads() -> usize {
    team().helpers.len() + 1
}

/// As many threads as Burn's own kernels share, so that one variable of the
/// environment, `RAYON_NUM_THREADS`, sets both.
fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    TEAM.get_or_init(|| Team::of(rayon::current_num_threads()))
}

struct Team {
    helpers: Vec<&'static Helper>,
    /// The loops that are being run. Each has a thread of its own.
    running: AtomicUsize,
}

/// A loop's work, on the stack of the thread that asks for it.
struct Task<'w> {
    /// Called with the number of each member that takes part.
    work: &'w (dyn Fn(usize) + Sync),
    /// The helpers that have ended it.
    ended: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Team {
    /// Where the system refuses a thread, the team is smaller.
    fn of(threads: usize) -> Self {
        let helpers = (1..threads).map_while(|i| Helper::start(i).ok()).collect();
        Self { helpers, running: AtomicUsize::new(0) }
    }

    /// With so many helpers at most.
    fn run(&self, most: usize, work: &(dyn Fn(usize) + Sync)) {
        let task = Task { work, ended: AtomicUsize::new(0), panic: Mutex::new(None) };
        let busy = self.running.fetch_add(1, Ordering::Relaxed);
        // Threads that run loops of their own are not to be outnumbered.
        let free = self.helpers.len().saturating_sub(busy);
        let asked = Asked::of(self, free.min(most), &task);
        work(0);
        drop(asked);
        let panic = task.panic.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

/// Helpers that were asked to take part in a task. To drop this ends it for all
/// of them, also when the asking thread panics.
struct Asked<'a, 'w> {
    team: &'a Team,
    task: &'a Task<'w>,
    helpers: Vec<&'static Helper>,
}

impl<'a, 'w> Asked<'a, 'w> {
    fn of(team: &'a Team, most: usize, task: &'a Task<'w>) -> Self {
        let place = ptr::from_ref(task).cast_mut().cast();
        let asked = team.helpers.iter().filter(|helper| helper.ask(place)).take(most);
        Self { team, task, helpers: asked.copied().collect() }
    }
}

impl Drop for Asked<'_, '_> {
    fn drop(&mut self) {
        let place = ptr::from_ref(self.task).cast_mut().cast();
        let begun = self.helpers.iter().filter(|helper| !helper.withdraw(place)).count();
        let mut turns = 0_u32;
        while self.task.ended.load(Ordering::Acquire) < begun {
            wait_a_little(&mut turns);
        }
        self.team.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Spins at first; a thread whose core somebody else uses must get it back.
fn wait_a_little(turns: &mut u32) {
    // A panic here would leave a helper with a task that is gone.
    *turns = turns.saturating_add(1);
    if *turns < 1 << 12 { std::hint::spin_loop() } else { thread::yield_now() }
}

struct Helper {
    /// Its number; the thread that asks is number zero.
    member: usize,
    /// Null where it is free, the task where it was asked, [`Helper::busy`] from
    /// when it has begun.
    task: AtomicPtr<Task<'static>>,
    thread: OnceLock<Thread>,
}

impl Helper {
    fn start(member: usize) -> std::io::Result<&'static Self> {
        let (task, thread) = (AtomicPtr::new(ptr::null_mut()), OnceLock::new());
        let helper: &'static Self = Box::leak(Box::new(Self { member, task, thread }));
        let name = format!("kernels-{member}");
        let thread = thread::Builder::new().name(name).spawn(|| helper.help())?;
        let _ = helper.thread.set(thread.thread().clone());
        Ok(helper)
    }

    fn busy() -> *mut Task<'static> {
        ptr::without_provenance_mut(align_of::<Task<'_>>())
    }

    fn exchange(&self, from: *mut Task<'static>, to: *mut Task<'static>) -> bool {
        self.task.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether it was free.
    fn ask(&self, task: *mut Task<'static>) -> bool {
        let free = self.exchange(ptr::null_mut(), task);
        if free && let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        free
    }

    /// Whether it had not begun, and now never will.
    fn withdraw(&self, task: *mut Task<'static>) -> bool {
        self.exchange(task, ptr::null_mut())
    }

    fn help(&self) -> ! {
        loop {
            let task = self.wait();
            if !self.exchange(task, Self::busy()) {
                continue;
            }
            // SAFETY: the exchange says that the task was not withdrawn, and the thread
            // that owns it stays in `Asked::drop` until `ended` counts this helper,
            // which is the last access.
            let task = unsafe { &*task };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (task.work)(self.member))) {
                *task.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            task.ended.fetch_add(1, Ordering::Release);
            self.task.store(ptr::null_mut(), Ordering::Release);
        }
    }

    fn wait(&self) -> *mut Task<'static> {
        loop {
            let since = Instant::now();
            while since.elapsed() < PATIENCE {
                for _ in 0..64 {
                    let task = self.task.load(Ordering::Acquire);
                    if !task.is_null() {
                        return task;
                    }
                    std::hint::spin_loop();
                }
            }
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn each_item_is_worked_on_once() {
        for count in [0_u64, 1, 2, 1000] {
            let sum = AtomicU64::new(0);
            for_each(0..count, |i| {
                sum.fetch_add(1 << (i % 2 * 32), Ordering::Relaxed);
            });
            let (even, odd) = (count.div_ceil(2), count / 2);
            assert_eq!(sum.into_inner(), even | odd << 32);
        }
    }

    #[test]
    fn parts_of_a_borrowed_slice_are_written() {
        let mut values = vec![0_usize; 10_000];
        for round in 1..50 {
            for_each(values.chunks_mut(7).enumerate(), |(i, part)| part.fill(i * round));
            assert!(values.iter().enumerate().all(|(i, value)| *value == i / 7 * round));
        }
    }

    #[test]
    fn loops_in_loops_and_beside_loops_end() {
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for_each(0..20, |_| {
                        for_each(0..5, |_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
            }
        });
        assert_eq!(count.into_inner(), 8 * 20 * 5);
    }

    #[test]
    fn a_panic_reaches_the_thread_that_asked_and_the_team_lives_on() {
        for bad in [0, 37, 99] {
            let work = |i| assert_ne!(i, bad, "bad");
            assert!(catch_unwind(|| for_each(0..100, work)).is_err());
        }
        each_item_is_worked_on_once();
    }
}
