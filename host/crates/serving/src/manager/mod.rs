//! The life of a version: found → loaded → served → unloaded.
//!
//! Each model has a thread of its own, so that one that is slow, broken or missing
//! delays no other. `versions` decides, `keeper` acts.

mod keeper;
mod load;
mod loading;
mod operate;
mod reload;
mod replay;
mod versions;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ingle_bundle::list_models;
use ingle_engine::Engine;
use ingle_telemetry::Metrics;
use ingle_types::{Limits, Replay, Version};
use tokio::sync::{mpsc as latch, watch};

pub use loading::RetryPolicy;
pub use operate::{ModelReport, Operator, OperatorError, VersionReport};
pub use reload::{ModelList, ReloadError};
pub use versions::VersionPolicy;

use crate::batching::Batching;
use crate::board::{Board, ModelBoard};
use crate::manager::keeper::Keeper;
use crate::manager::loading::LoadPermits;
use crate::pipeline::Executors;
use crate::plugin_repository::PluginRepository;

/// A model to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    pub name: String,
    /// The folder whose numeric sub-folders are versions.
    pub base_path: PathBuf,
    /// As its author calls it. A reload may not change it.
    pub platform: String,
    pub policy: VersionPolicy,
    pub labels: BTreeMap<String, Version>,
}

impl ModelConfig {
    /// Of which only the newest version is served.
    pub fn new(name: String, base_path: PathBuf) -> Self {
        let policy = VersionPolicy::default();
        Self { name, base_path, platform: String::new(), policy, labels: BTreeMap::new() }
    }
}

/// Which models to serve.
#[derive(Clone, Debug)]
pub enum Models {
    /// These, for as long as the server runs.
    Listed(Vec<ModelConfig>),
    /// Every sub-folder of a repository, as it comes and goes.
    Repository(PathBuf),
}

/// What all models share.
pub struct ManagerConfig {
    pub models: Models,
    /// Pause between two looks at the file system; `None` = look once.
    pub poll_interval: Option<Duration>,
    /// Versions, of all models, that load at one moment; `None` = as many as there are.
    pub loads_at_once: Option<NonZeroUsize>,
    pub retry: RetryPolicy,
    pub engine: Engine,
    pub plugins: PluginRepository,
    pub executors: Arc<Executors>,
    /// `None` = requests are not to be joined.
    pub batching: Option<Batching>,
    /// Who reads versions' files of warm-up requests; `None` = nobody.
    pub warm_up: Option<Arc<dyn Replay>>,
    pub limits: Arc<Limits>,
    pub metrics: Metrics,
}

pub(crate) struct Shared {
    poll_interval: Option<Duration>,
    loads: LoadPermits,
    retry: RetryPolicy,
    engine: Engine,
    plugins: PluginRepository,
    executors: Arc<Executors>,
    batching: Option<Batching>,
    warm_up: Option<Arc<dyn Replay>>,
    limits: Arc<Limits>,
    metrics: Metrics,
    board: Arc<Board>,
    /// True, or closed, once the manager goes.
    stopping: watch::Receiver<bool>,
}

/// What wakes a model's thread before its next poll.
#[derive(Debug)]
pub(crate) enum ModelEvent {
    /// The last handle to an unloaded version is gone.
    Freed(Version),
    /// An operator takes the model, or a version of it, out of service, or lets it be served
    /// again. The latch is dropped when that is done or has failed.
    Hold(Hold, ReadyLatch),
    /// The model's configuration from now on; `None` = it is listed no more. The latch
    /// is dropped when what that asks for was loaded or has failed.
    Configure(Option<ModelConfig>, ReadyLatch),
    Stop,
}

/// What an operator wants of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// `None` = all of it.
    pub(crate) version: Option<Version>,
    /// Whether it is taken out of service.
    pub(crate) held: bool,
}

/// What the manager's thread is told.
enum Command {
    /// Of the model of this name.
    Hold(String, Hold, ReadyLatch),
    /// These models from now on, where models are listed at all.
    Reload(Vec<ModelConfig>, ReadyLatch),
    Stop,
}

/// Held by every part that is still starting; all dropped = ready.
pub(crate) type ReadyLatch = latch::Sender<Infallible>;

/// Owns the threads that keep the board up to date.
pub struct Manager {
    board: Arc<Board>,
    starting: latch::Receiver<Infallible>,
    commands: Sender<Command>,
    /// Ends what a load waits for.
    stop: watch::Sender<bool>,
    /// What is listed; `None` where models are those of a repository.
    listed: Option<Vec<ModelConfig>>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// Starts looking for models.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start(config: ManagerConfig) -> io::Result<Self> {
        let board = Arc::new(Board::default());
        let (stop, stopping) = watch::channel(false);
        let shared = Shared {
            poll_interval: config.poll_interval,
            loads: LoadPermits::new(config.loads_at_once),
            retry: config.retry,
            engine: config.engine,
            plugins: config.plugins,
            executors: config.executors,
            batching: config.batching,
            warm_up: config.warm_up,
            limits: config.limits,
            metrics: config.metrics,
            board: board.clone(),
            stopping,
        };
        let (ready, starting) = latch::channel(1);
        let (commands, received) = mpsc::channel();
        let mut roster = Roster { shared: Arc::new(shared), keepers: BTreeMap::new() };
        let models = config.models;
        let listed = match &models {
            Models::Listed(configs) => Some(configs.clone()),
            Models::Repository(_) => None,
        };
        let run = move || roster.run(&models, ready, &received);
        let thread = thread::Builder::new().name("manager".into()).spawn(run)?;
        Ok(Self { board, starting, commands, stop, listed, thread: Some(thread) })
    }

    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// For changing which models are listed; `None` where they are those of a
    /// repository, which is followed as it is.
    pub fn model_list(&self) -> Option<ModelList> {
        let listed = self.listed.clone()?;
        Some(ModelList::new(self.commands.clone(), self.board.clone(), listed))
    }

    /// For taking models out of service, and for seeing them all.
    pub fn operator(&self) -> Operator {
        Operator::new(self.commands.clone(), self.board.clone())
    }

    /// Waits until every model that was there at the start is available or has failed.
    pub async fn ready(&mut self) {
        let never = self.starting.recv().await;
        debug_assert!(never.is_none());
    }
}

/// Ends the threads. Versions live on for as long as requests hold handles.
impl Drop for Manager {
    fn drop(&mut self) {
        // A thread that is gone needs no word.
        let _ = self.commands.send(Command::Stop);
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there was logged where it happened.
            let _ = thread.join();
        }
    }
}

/// One thread for each model that was ever listed.
struct Roster {
    shared: Arc<Shared>,
    keepers: BTreeMap<String, (Sender<ModelEvent>, JoinHandle<()>)>,
}

impl Roster {
    fn run(&mut self, models: &Models, ready: ReadyLatch, commands: &mpsc::Receiver<Command>) {
        match models {
            Models::Listed(configs) => {
                for config in configs {
                    self.keep(config.clone(), false, &ready);
                }
            }
            Models::Repository(path) => self.scan(path, &ready),
        }
        drop(ready);
        let forever = Duration::from_secs(u64::from(u32::MAX));
        let pause = self.shared.poll_interval.unwrap_or(forever);
        loop {
            match commands.recv_timeout(pause) {
                Ok(Command::Reload(configs, ready)) => self.reload(configs, &ready),
                Ok(Command::Hold(model, hold, ready)) => {
                    if let Some((keeper, _)) = self.keepers.get(&model) {
                        // One that is gone needs no word.
                        let _ = keeper.send(ModelEvent::Hold(hold, ready));
                    }
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if let Models::Repository(path) = models {
                        // What is found later is not waited for by anyone.
                        self.scan(path, &latch::channel(1).0);
                    }
                }
            }
        }
        self.stop();
    }

    /// Keeps what is listed now, and unloads what is listed no more.
    fn reload(&mut self, configs: Vec<ModelConfig>, ready: &ReadyLatch) {
        for (name, (sender, _)) in &self.keepers {
            if !configs.iter().any(|config| config.name == *name) {
                let _ = sender.send(ModelEvent::Configure(None, ready.clone()));
            }
        }
        for config in configs {
            match self.keepers.get(&config.name) {
                Some((sender, _)) => {
                    let _ = sender.send(ModelEvent::Configure(Some(config), ready.clone()));
                }
                None => self.keep(config, false, ready),
            }
        }
    }

    fn scan(&mut self, repository: &Path, ready: &ReadyLatch) {
        let found = match list_models(repository) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, repository = %repository.display(), "cannot list the model repository");
                return;
            }
        };
        for (name, base_path) in found {
            if !self.keepers.contains_key(&name) {
                self.keep(ModelConfig::new(name, base_path), true, ready);
            }
        }
    }

    fn keep(&mut self, config: ModelConfig, missing_is_gone: bool, ready: &ReadyLatch) {
        let name = config.name.clone();
        // Configured from here on, even if its thread never starts.
        self.shared.board.publish(&name, ModelBoard::default());
        let (sender, events) = mpsc::channel();
        let mut keeper = Keeper::new(config, missing_is_gone, self.shared.clone(), sender.clone());
        let ready = ready.clone();
        // Loading runs foreign code that recurses.
        let stack = self.shared.engine.worker_stack_bytes();
        let builder = thread::Builder::new().name(thread_name(&name)).stack_size(stack);
        match builder.spawn(move || keeper.run(ready, &events)) {
            Ok(thread) => {
                self.keepers.insert(name, (sender, thread));
            }
            Err(error) => tracing::error!(model = %name, %error, "cannot start the model's thread"),
        }
    }

    fn stop(&mut self) {
        self.shared.loads.close();
        for (sender, _) in self.keepers.values() {
            // A keeper that is gone needs no word.
            let _ = sender.send(ModelEvent::Stop);
        }
        for (_, (_, thread)) in std::mem::take(&mut self.keepers) {
            let _ = thread.join();
        }
    }
}

/// A model may be called anything, a thread may not.
fn thread_name(model: &str) -> String {
    format!("model-{}", model.replace('\0', " "))
}
