use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ingle_bundle::{FoundVersion, ModelSource};
use ingle_telemetry::{Load, LoadOutcome};
use ingle_types::Version;

use crate::board::ModelBoard;
use crate::manager::load::{Attempt, VersionError};
use crate::manager::loading::Attempts;
use crate::manager::versions::{Action, Event, Held, Versions};
use crate::manager::{Hold, ModelConfig, ModelEvent, ReadyLatch, Shared};
use crate::plugin_repository::View;
use crate::servable::Loaded;

mod plugins;

/// Longer than any server runs.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// Carries out one model's life on a thread of its own.
pub(crate) struct Keeper {
    name: String,
    source: ModelSource,
    /// Where labels should point.
    labels: BTreeMap<String, Version>,
    /// Where they point: at what they pointed at before, until that can answer.
    assigned: BTreeMap<String, Version>,
    versions: Versions<Arc<Loaded>>,
    /// Plugin listings that differ from what was chosen from, until they are still.
    arriving: BTreeMap<Version, View>,
    /// Versions that failed for their plugins, and what those had to choose from.
    without_plugins: BTreeMap<Version, View>,
    /// How often versions failed, by version.
    attempts: BTreeMap<Version, Attempts>,
    /// When versions that failed are tried again.
    due: BTreeMap<Version, Instant>,
    shared: Arc<Shared>,
    events: Sender<ModelEvent>,
    /// Whether a missing base path means that the model was removed.
    missing_is_gone: bool,
    /// The last listing failed; said once.
    unlisted: bool,
    /// What is odd about the last listing; said once.
    remarks: BTreeSet<String>,
    /// The base path went away, and with it the model.
    removed: bool,
    /// The model is listed no more: nothing of it is loaded.
    retired: bool,
}

/// Why a round of looking and loading begins.
enum Wake {
    Poll,
    /// Versions that failed are to be tried again.
    Retry,
    Configured(ReadyLatch),
    Held(ReadyLatch),
    Stop,
}

impl Keeper {
    pub(crate) fn new(
        config: ModelConfig,
        missing_is_gone: bool,
        shared: Arc<Shared>,
        events: Sender<ModelEvent>,
    ) -> Self {
        Self {
            name: config.name,
            source: ModelSource::new(config.base_path),
            labels: config.labels,
            assigned: BTreeMap::new(),
            versions: Versions::new(config.policy),
            arriving: BTreeMap::new(),
            without_plugins: BTreeMap::new(),
            attempts: BTreeMap::new(),
            due: BTreeMap::new(),
            shared,
            events,
            missing_is_gone,
            unlisted: false,
            remarks: BTreeSet::new(),
            removed: false,
            retired: false,
        }
    }

    /// Polls and acts until told to stop. `ready` is dropped after the first round.
    pub(crate) fn run(&mut self, ready: ReadyLatch, events: &Receiver<ModelEvent>) {
        self.publish();
        self.list(true);
        self.settle();
        drop(ready);
        loop {
            match self.wait(events) {
                Wake::Stop => return,
                Wake::Configured(ready) => {
                    // As at the start: what is there is there on purpose.
                    if !self.retired {
                        self.list(true);
                    }
                    self.settle();
                    self.publish();
                    drop(ready);
                }
                Wake::Held(ready) => {
                    if !self.retired {
                        self.list(false);
                    }
                    self.settle();
                    self.publish();
                    drop(ready);
                }
                Wake::Poll | Wake::Retry if self.retired => {}
                Wake::Retry => {
                    self.retry_due();
                    self.settle();
                }
                Wake::Poll => {
                    if self.shared.poll_interval.is_some() {
                        self.list(false);
                    }
                    self.retry_with_new_plugins();
                    self.retry_due();
                    self.settle();
                    self.follow_plugins();
                }
            }
        }
    }

    /// What the model is to be from now on.
    fn configure(&mut self, config: Option<ModelConfig>) {
        self.versions.set_held(Held::default());
        self.retired = config.is_none();
        let Some(config) = config else {
            self.labels.clear();
            self.versions.observe(BTreeMap::new(), true);
            return;
        };
        if config.base_path != self.source.base_path() {
            self.source = ModelSource::new(config.base_path);
            self.forget_failures();
        }
        self.labels = config.labels;
        self.versions.set_policy(config.policy);
    }

    /// What failed was of another folder.
    fn forget_failures(&mut self) {
        for version in self.versions.known() {
            self.versions.retry(version);
        }
        self.attempts.clear();
        self.due.clear();
        self.without_plugins.clear();
    }

    /// Takes out of service what an operator wants, or lets it be served again; what has
    /// failed is then tried again.
    fn hold(&mut self, hold: Hold) {
        let mut held = self.versions.held().clone();
        match hold {
            Hold { version: None, held: true } => held.all = true,
            Hold { version: None, held: false } => held = Held::default(),
            Hold { version: Some(version), held: true } => {
                held.versions.insert(version);
            }
            Hold { version: Some(version), held: false } => {
                // Of a model that is held as a whole, this version alone is wanted.
                if std::mem::take(&mut held.all) {
                    held.versions = self.versions.known();
                }
                held.versions.remove(&version);
            }
        }
        if !hold.held {
            for version in self.versions.known() {
                if hold.version.is_none_or(|wanted| wanted == version) {
                    self.attempts.remove(&version);
                    self.versions.retry(version);
                }
            }
        }
        self.versions.set_held(held);
    }

    /// Waits for the next poll, or for something else to do.
    fn wait(&mut self, events: &Receiver<ModelEvent>) -> Wake {
        let pause = self.shared.poll_interval.unwrap_or(FOREVER);
        let poll = after(pause);
        let retry = self.due.values().min().copied();
        let until = retry.map_or(poll, |retry| retry.min(poll));
        loop {
            match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(ModelEvent::Freed(version)) => {
                    self.versions.apply(version, Event::Freed);
                    self.shared.metrics.weights_bytes(&self.name, version, None);
                    tracing::info!(model = %self.name, version, "version unloaded");
                    self.publish();
                }
                Ok(ModelEvent::Configure(config, ready)) => {
                    self.configure(config);
                    return Wake::Configured(ready);
                }
                Ok(ModelEvent::Hold(hold, ready)) => {
                    self.hold(hold);
                    return Wake::Held(ready);
                }
                Ok(ModelEvent::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
                Err(RecvTimeoutError::Timeout) if until < poll => return Wake::Retry,
                Err(RecvTimeoutError::Timeout) => return Wake::Poll,
            }
        }
    }

    fn list(&mut self, first: bool) {
        // With a single look there is no second one to compare with.
        let at_once = first || self.shared.poll_interval.is_none();
        match self.source.list() {
            Ok(listing) => {
                if listing.is_empty() && first {
                    tracing::warn!(
                        model = %self.name,
                        base_path = %self.source.base_path().display(),
                        "no versions: version folders are named by a number"
                    );
                }
                self.unlisted = false;
                let shadowed = shadowed(&listing);
                if self.versions.observe(listing, at_once) {
                    self.publish();
                }
                self.remark(shadowed);
                self.set_removed(false);
            }
            Err(error) => {
                if !self.unlisted {
                    tracing::error!(
                        model = %self.name,
                        base_path = %self.source.base_path().display(),
                        error = chain(&error),
                        "cannot list the model's versions"
                    );
                }
                self.unlisted = true;
                if self.missing_is_gone && !self.source.exists() {
                    self.versions.observe(BTreeMap::new(), true);
                    self.set_removed(true);
                }
            }
        }
    }

    /// Says what is odd about a listing, once for as long as it is so.
    fn remark(&mut self, shadowed: BTreeSet<String>) {
        let missing = self.versions.missing().into_iter();
        let missing = missing.map(|v| format!("version {v} is asked for and not there"));
        let remarks: BTreeSet<String> = missing.chain(shadowed).collect();
        for remark in remarks.difference(&self.remarks) {
            let base_path = self.source.base_path().display();
            tracing::warn!(model = %self.name, %base_path, "{remark}");
        }
        self.remarks = remarks;
    }

    fn set_removed(&mut self, removed: bool) {
        if self.removed != removed {
            self.removed = removed;
            self.publish();
        }
    }

    fn settle(&mut self) {
        while let Some(action) = self.versions.next_action() {
            match action {
                Action::Load(version, found) => self.load(version, &found),
                Action::Cancel(version) => self.cancel(version),
                Action::Unload(version) => self.unload(version),
            }
        }
        let Self { attempts, due, versions, .. } = self;
        attempts.retain(|version, _| versions.knows(*version));
        due.retain(|version, _| versions.is_paused(*version));
    }

    fn load(&mut self, version: Version, found: &FoundVersion) {
        self.apply(version, Event::Taken(found.clone()));
        self.without_plugins.remove(&version);
        let shared = self.shared.clone();
        // None where the server stops: nobody waits for this version.
        let Some(_permit) = shared.loads.take() else { return };
        let started = Instant::now();
        match self.attempt(&shared, version, found) {
            Ok(loaded) => {
                let weights_bytes = loaded.program.weights_bytes();
                let plugins = loaded.pipelines.load().uses.clone();
                let note = loaded.follow().note.clone();
                loaded.tell_when_freed(self.events.clone());
                self.attempts.remove(&version);
                self.apply(version, Event::Loaded(loaded));
                let elapsed_ms = started.elapsed().as_millis();
                // The words that scripts wait for.
                tracing::info!(model = %self.name, version, elapsed_ms, weights_bytes, ?plugins, "Successfully loaded servable version {{name: {} version: {version}}}", self.name);
                if !note.is_empty() {
                    tracing::warn!(model = %self.name, version, note, "plugin versions were refused");
                }
                self.shared.metrics.weights_bytes(&self.name, version, Some(weights_bytes));
                self.count_load(found, LoadOutcome::Ok, started);
            }
            Err(error) => self.not_loaded(version, found, &error, started),
        }
    }

    /// Where the version brings digests they are checked before it counts as loading.
    fn attempt(
        &mut self,
        shared: &Shared,
        version: Version,
        found: &FoundVersion,
    ) -> Result<Arc<Loaded>, VersionError> {
        let verified_first = self.source.has_sums(found);
        if !verified_first {
            self.apply(version, Event::LoadStarted);
        }
        let bundle =
            Attempt { shared, model: &self.name, source: &self.source }.read(version, found)?;
        if verified_first {
            self.apply(version, Event::LoadStarted);
        }
        Attempt { shared, model: &self.name, source: &self.source }.prepare(version, found, bundle)
    }

    fn not_loaded(
        &mut self,
        version: Version,
        found: &FoundVersion,
        error: &VersionError,
        started: Instant,
    ) {
        if let Some(missing) = error.arriving() {
            tracing::info!(model = %self.name, version, "arriving: {missing}");
            self.apply(version, Event::Arriving(missing));
            return;
        }
        let mut failure = error.failure();
        let policy = &self.shared.retry;
        let attempts = self.attempts.entry(version).or_insert(Attempts::new(found.fingerprint));
        if attempts.fingerprint != found.fingerprint {
            *attempts = Attempts::new(found.fingerprint);
        }
        let again = attempts.failed(policy, error.may_pass());
        let event = match &again {
            Some(again) => {
                failure.message = format!("{} ({again})", failure.message);
                self.due.insert(version, after(policy.interval));
                Event::LoadPaused(failure)
            }
            None => Event::LoadFailed(failure),
        };
        self.apply(version, event);
        if let VersionError::Panicked { text } = error {
            tracing::error!(model = %self.name, version, text, "loading panicked");
        }
        if let VersionError::Plugins { view, .. } = error {
            self.without_plugins.insert(version, view.clone());
        }
        tracing::error!(model = %self.name, version, error = chain(error), again, "version not loaded");
        self.count_load(found, LoadOutcome::Error, started);
    }

    fn cancel(&mut self, version: Version) {
        self.apply(version, Event::Cancelled);
        tracing::info!(model = %self.name, version, "loading cancelled");
    }

    fn apply(&mut self, version: Version, event: Event<Arc<Loaded>>) {
        self.versions.apply(version, event);
        self.publish();
    }

    fn retry_due(&mut self) {
        let now = Instant::now();
        for (version, _) in self.due.extract_if(.., |_, due| *due <= now) {
            self.versions.retry(version);
        }
    }

    fn count_load(&self, found: &FoundVersion, outcome: LoadOutcome, started: Instant) {
        let path = self.source.base_path().join(found.directory());
        let (model, path) = (self.name.as_str(), path.to_string_lossy());
        let load = Load { model, path: &path, outcome, elapsed: started.elapsed() };
        self.shared.metrics.version_load(load);
    }

    fn unload(&mut self, version: Version) {
        let servable = self.versions.apply(version, Event::UnloadStarted);
        self.arriving.remove(&version);
        self.publish();
        // Requests in flight hold handles; the last one to go sends `Freed`.
        drop(servable);
    }

    /// A label moves once the version that it should point at can answer.
    fn assign_labels(&mut self) {
        let available: BTreeSet<Version> = self.versions.available().map(|(v, _)| v).collect();
        let before = std::mem::take(&mut self.assigned);
        let assign = |(label, wanted): (&String, &Version)| {
            let old = before.get(label).filter(|old| available.contains(old));
            let stays = old.filter(|_| !available.contains(wanted));
            (label.clone(), *stays.unwrap_or(wanted))
        };
        self.assigned = self.labels.iter().map(assign).collect();
    }

    fn publish(&mut self) {
        self.assign_labels();
        let available: BTreeMap<_, _> =
            self.versions.available().map(|(v, loaded)| (v, loaded.clone())).collect();
        self.shared.metrics.available_versions(&self.name, available.len());
        let status = self.versions.status(|loaded| loaded.follow().note.clone());
        let labels = self.assigned.clone();
        let removed = self.removed || self.retired || self.versions.held().all;
        self.shared.board.publish(&self.name, ModelBoard { available, labels, status, removed });
    }
}

fn after(pause: Duration) -> Instant {
    Instant::now() + pause.min(FOREVER)
}

/// Versions that several folders are named for.
fn shadowed(listing: &BTreeMap<Version, FoundVersion>) -> BTreeSet<String> {
    let several = listing.iter().filter(|(_, found)| !found.shadowed.is_empty());
    several
        .map(|(version, found)| {
            let others = found.shadowed.join(", ");
            format!("version {version} is named by several folders; not looked into: {others}")
        })
        .collect()
}

/// An error with its causes, for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
