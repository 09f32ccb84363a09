//! The log of requests, as `logging_config` asks for it: which requests, into which files.
//!
//! Requests are put into a bounded queue and forgotten; a thread writes them. What there is
//! no place for is dropped and counted.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use ingle_telemetry::Metrics;
use ingle_types::{Code, Limits};
use ingle_wire::models_config::{LogDestination, Logging, ModelConfig};
use ingle_wire::{Record, RequestLog};

use files::Files;

/// Between two looks at what has to be flushed.
const FLUSH_PAUSE: Duration = Duration::from_millis(500);

/// The log of requests of all models.
pub(crate) struct RequestLogs {
    models: RwLock<BTreeMap<String, Logging>>,
    /// Where files of configuration let requests be logged. Clients may choose among these.
    allowed: RwLock<BTreeSet<LogDestination>>,
    queue: SyncSender<Job>,
    /// Bytes of the records in the queue.
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
    random: AtomicU64,
    metrics: Metrics,
}

/// What the thread is told.
enum Job {
    Write(Box<Entry>),
    /// Answered once all that came before is in the files.
    Flush(SyncSender<()>),
}

struct Entry {
    model: String,
    destination: LogDestination,
    record: Record,
}

impl RequestLogs {
    /// Starts the thread. Nothing is logged until models are configured.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub(crate) fn start(limits: &Limits, metrics: Metrics) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(limits.request_log_records);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            files: Files::new(limits),
            waiting: waiting.clone(),
            metrics: metrics.clone(),
        };
        thread::Builder::new().name("request-log".into()).spawn(move || writer.run(&jobs))?;
        // Any number will do; it should not be the same in all replicas.
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = seed.map_or(0, |since| since.as_nanos() as u64) ^ u64::from(std::process::id());
        Ok(Self {
            models: RwLock::default(),
            allowed: RwLock::default(),
            queue,
            waiting,
            most_waiting: limits.request_log_bytes,
            random: AtomicU64::new(seed),
            metrics,
        })
    }

    /// What is logged from now on, where a file of configuration says so.
    pub(crate) fn configure(&self, models: &[ModelConfig]) {
        let destinations = models.iter().filter_map(|model| model.logging.as_ref());
        let destinations = destinations.map(|logging| logging.destination.clone()).collect();
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = destinations;
        self.configure_by_client(models);
    }

    /// What is logged from now on, where a client says so.
    pub(crate) fn configure_by_client(&self, models: &[ModelConfig]) {
        let logged =
            models.iter().filter_map(|model| Some((model.name.clone(), model.logging.clone()?)));
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = logged.collect();
    }

    /// The first model whose requests a client wants to have written where no file of
    /// configuration did.
    pub(crate) fn forbidden<'a>(&self, models: &'a [ModelConfig]) -> Option<&'a str> {
        let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
        let forbidden = |model: &&ModelConfig| {
            model.logging.as_ref().is_some_and(|logging| !allowed.contains(&logging.destination))
        };
        models.iter().find(forbidden).map(|model| model.name.as_str())
    }

    /// Waits until what was logged is in the files, or for `most`.
    pub(crate) fn flush(&self, most: Duration) {
        let (done, flushed) = sync_channel(1);
        let until = Instant::now() + most;
        let mut job = Job::Flush(done);
        // The thread makes room, unless the disk is stuck.
        while let Err(TrySendError::Full(again)) = self.queue.try_send(job) {
            if Instant::now() >= until {
                return;
            }
            job = again;
            thread::sleep(Duration::from_millis(10));
        }
        let _ = flushed.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    /// Evenly distributed, from 0 up to but not 1 (splitmix64).
    fn random(&self) -> f64 {
        let mut x = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn destination(&self, model: &str) -> Option<LogDestination> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(model).map(|logging| logging.destination.clone())
    }
}

impl RequestLog for RequestLogs {
    fn choose(&self, model: &str) -> Option<f64> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let rate = models.get(model)?.sampling_rate;
        (self.random() < rate).then_some(rate)
    }

    fn take(&self, model: &str, record: Record) {
        // Configured otherwise since the request was chosen.
        let Some(destination) = self.destination(model) else { return };
        let bytes = record.size_bytes();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let room = before.saturating_add(bytes) <= self.most_waiting;
        let job = Job::Write(Box::new(Entry { model: model.to_owned(), destination, record }));
        if !room || self.queue.try_send(job).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.logged(model, Some(Code::ResourceExhausted));
        }
    }
}

struct Writer {
    files: Files,
    waiting: Arc<AtomicUsize>,
    metrics: Metrics,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut flushed = Instant::now();
        loop {
            match jobs.recv_timeout(FLUSH_PAUSE) {
                Ok(Job::Write(entry)) => {
                    let Entry { model, destination, record } = *entry;
                    let bytes = record.size_bytes();
                    let code = self.files.write(&destination, &record).err();
                    self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                    self.metrics.logged(&model, code);
                }
                Ok(Job::Flush(done)) => {
                    self.files.flush();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.files.flush(),
            }
            if flushed.elapsed() >= FLUSH_PAUSE {
                self.files.flush();
                flushed = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests;
