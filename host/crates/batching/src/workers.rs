use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use ingle_types::{BoxFuture, Code, Deadline};
use tokio::sync::oneshot;

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    #[error("the server is at its limit: {length} requests are waiting")]
    Full { length: usize },
    #[error("Timed out waiting for notification")]
    Deadline,
    #[error("the execution failed inside the server")]
    Panicked,
    #[error("the server is shutting down")]
    Closed,
}

impl QueueError {
    pub fn code(self) -> Code {
        match self {
            Self::Full { .. } => Code::ResourceExhausted,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Panicked => Code::Internal,
            Self::Closed => Code::Unavailable,
        }
    }
}

#[derive(Debug, Clone)]
pub struct WorkersConfig {
    /// Prefix of the threads' names.
    pub name: &'static str,
    pub threads: usize,
    /// Stack of each thread; `None` = the platform's default.
    pub stack_bytes: Option<usize>,
    /// Jobs that may wait beside those that run.
    pub queue_length: usize,
}

/// Runs the job unless nobody waits for it any more.
type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    waiting: VecDeque<Job>,
    /// Threads that wait for a job.
    idle: usize,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    length: usize,
}

impl Shared {
    // The queue is consistent at every unlock, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), QueueError> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(QueueError::Closed);
        }
        if queue.waiting.len() >= self.length {
            return Err(QueueError::Full { length: self.length });
        }
        queue.waiting.push_back(job);
        // To wake somebody is a system call: not for nobody, and not while the one who
        // wakes would find the queue locked.
        let somebody = queue.idle > 0;
        drop(queue);
        if somebody {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.waiting.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

/// Threads that run blocking jobs in order of arrival. Dropping it finishes the
/// jobs that wait and ends the threads.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start(config: &WorkersConfig) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), idle: 0, closed: false }),
            arrived: Condvar::new(),
            length: config.queue_length,
        });
        let mut workers = Self { shared, threads: Vec::new() };
        for index in 0..config.threads.max(1) {
            let mut builder = thread::Builder::new().name(format!("{}-{index}", config.name));
            if let Some(bytes) = config.stack_bytes {
                builder = builder.stack_size(bytes);
            }
            let shared = workers.shared.clone();
            let work = move || {
                while let Some(job) = shared.next() {
                    // The job tells its own caller of a panic by dropping the sender.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            workers.threads.push(builder.spawn(work)?);
        }
        Ok(workers)
    }

    /// Queues `job` now; the answer is awaited later. Dropping the answer abandons a
    /// job that still waits.
    ///
    /// # Errors
    /// [`QueueError::Full`] and [`QueueError::Closed`] at once, the others when awaited.
    pub fn submit<T: Send + 'static>(
        &self,
        deadline: Deadline,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<BoxFuture<'static, Result<T, QueueError>>, QueueError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.push(Box::new(move || {
            if !sender.is_closed() && !deadline.passed() {
                // The caller may have left meanwhile.
                let _ = sender.send(job());
            }
        }))?;
        Ok(Box::pin(answer(receiver, deadline)))
    }

    /// Runs `job` on a worker.
    ///
    /// # Errors
    /// See [`QueueError`].
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Deadline,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueueError> {
        self.submit(deadline, job)?.await
    }

    pub fn threads(&self) -> usize {
        self.threads.len()
    }
}

async fn answer<T>(receiver: oneshot::Receiver<T>, deadline: Deadline) -> Result<T, QueueError> {
    let answer = match deadline.instant() {
        None => receiver.await,
        Some(at) => {
            tokio::time::timeout_at(at.into(), receiver).await.map_err(|_| QueueError::Deadline)?
        }
    };
    answer.map_err(|_| if deadline.passed() { QueueError::Deadline } else { QueueError::Panicked })
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
        let this = thread::current().id();
        for thread in self.threads.drain(..) {
            // The last owner may be a job itself, which cannot wait for its own thread.
            if thread.thread().id() != this {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn workers(queue_length: usize) -> Workers {
        Workers::start(&WorkersConfig { name: "test", threads: 1, stack_bytes: None, queue_length })
            .unwrap()
    }

    /// Keeps the only thread busy until the sender is dropped.
    fn occupy(workers: &Workers) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let job = move || {
            started.send(()).unwrap();
            let _ = released.recv();
        };
        workers.shared.push(Box::new(job)).unwrap();
        has_started.recv().unwrap();
        release
    }

    #[tokio::test]
    async fn a_job_answers_its_caller() {
        assert_eq!(workers(1).run(Deadline::NONE, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_costs_one_job_and_no_thread() {
        let workers = workers(1);
        let lost: Result<(), _> = workers.run(Deadline::NONE, || panic!("on purpose")).await;
        assert_eq!(lost, Err(QueueError::Panicked));
        assert_eq!(workers.run(Deadline::NONE, || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let workers = workers(1);
        let release = occupy(&workers);
        let waiting = workers.submit(Deadline::NONE, || 7).unwrap();
        assert_eq!(workers.run(Deadline::NONE, || ()).await, Err(QueueError::Full { length: 1 }));
        drop(release);
        assert_eq!(waiting.await, Ok(7));
    }

    #[tokio::test]
    async fn an_expired_job_is_never_run() {
        let workers = workers(8);
        let release = occupy(&workers);
        let (ran, has_run) = mpsc::channel();
        let job = move || ran.send(()).unwrap();
        let late = workers.run(Deadline::after(Duration::from_millis(5)), job).await;
        assert_eq!(late, Err(QueueError::Deadline));
        drop(release);
        assert_eq!(workers.run(Deadline::NONE, || 1).await, Ok(1));
        assert!(has_run.recv().is_err(), "the job was dropped, and its sender with it");
    }
}
