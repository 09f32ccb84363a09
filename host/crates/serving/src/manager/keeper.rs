use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ingle_bundle::{FoundVersion, ModelSource};
use ingle_telemetry::LoadOutcome;
use ingle_types::Version;

use crate::board::ModelBoard;
use crate::manager::load::{Attempt, VersionError, assemble};
use crate::manager::versions::{Action, Event, Versions};
use crate::manager::{ModelConfig, ModelEvent, ReadyLatch, Shared};
use crate::plugin_repository::View;
use crate::servable::Loaded;

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
    Configured(ReadyLatch),
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
                Wake::Poll if self.retired => {}
                Wake::Poll => {
                    if self.shared.poll_interval.is_some() {
                        self.list(false);
                    }
                    self.retry_with_new_plugins();
                    self.settle();
                    self.follow_plugins();
                }
            }
        }
    }

    /// What the model is to be from now on.
    fn configure(&mut self, config: Option<ModelConfig>) {
        self.retired = config.is_none();
        let Some(config) = config else {
            self.labels.clear();
            self.versions.observe(BTreeMap::new(), true);
            return;
        };
        if config.base_path != self.source.base_path() {
            self.source = ModelSource::new(config.base_path);
        }
        self.labels = config.labels;
        self.versions.set_policy(config.policy);
    }

    /// Waits for the next poll, or for something else to do.
    fn wait(&mut self, events: &Receiver<ModelEvent>) -> Wake {
        let forever = Duration::from_secs(u64::from(u32::MAX));
        let pause = self.shared.poll_interval.unwrap_or(forever);
        let until = Instant::now() + pause;
        loop {
            match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(ModelEvent::Freed(version)) => {
                    self.versions.apply(version, Event::Freed);
                    tracing::info!(model = %self.name, version, "version unloaded");
                    self.publish();
                }
                Ok(ModelEvent::Configure(config, ready)) => {
                    self.configure(config);
                    return Wake::Configured(ready);
                }
                Ok(ModelEvent::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
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
                Action::Unload(version) => self.unload(version),
            }
        }
    }

    fn load(&mut self, version: Version, found: &FoundVersion) {
        self.versions.apply(version, Event::LoadStarted(found.clone()));
        self.without_plugins.remove(&version);
        self.publish();
        let started = Instant::now();
        let attempt = Attempt { shared: &self.shared, model: &self.name, source: &self.source };
        match attempt.load(version, found) {
            Ok(parts) => {
                let weights_bytes = parts.program.weights_bytes();
                let (plugins, note) = (parts.pipelines.uses.clone(), parts.follow.note.clone());
                let executors = self.shared.executors.clone();
                let loaded = Loaded::new(parts, executors, self.events.clone());
                self.versions.apply(version, Event::Loaded(Arc::new(loaded)));
                self.publish();
                let elapsed_ms = started.elapsed().as_millis();
                // The words that scripts wait for.
                tracing::info!(model = %self.name, version, elapsed_ms, weights_bytes, ?plugins, "Successfully loaded servable version {{name: {} version: {version}}}", self.name);
                if !note.is_empty() {
                    tracing::warn!(model = %self.name, version, note, "plugin versions were refused");
                }
                self.shared.metrics.version_load(&self.name, LoadOutcome::Ok);
            }
            Err(error) => {
                self.versions.apply(version, Event::LoadFailed(error.failure()));
                self.publish();
                if let VersionError::Panicked { text } = &error {
                    tracing::error!(model = %self.name, version, text, "loading panicked");
                }
                if let VersionError::Plugins { view, .. } = &error {
                    self.without_plugins.insert(version, view.clone());
                }
                tracing::error!(model = %self.name, version, error = chain(&error), "version not loaded");
                self.shared.metrics.version_load(&self.name, LoadOutcome::Error);
            }
        }
    }

    fn unload(&mut self, version: Version) {
        let servable = self.versions.apply(version, Event::UnloadStarted);
        self.arriving.remove(&version);
        self.publish();
        // Requests in flight hold handles; the last one to go sends `Freed`.
        drop(servable);
    }

    /// The plugins of `current` as they are now, if that differs and has been still for
    /// two looks.
    fn changed_plugins(&mut self, version: Version, current: &View) -> Option<View> {
        let names = current.keys().cloned().collect();
        let view = self.shared.plugins.view(&names, current);
        if view == *current {
            self.arriving.remove(&version);
        } else if self.arriving.get(&version) == Some(&view) {
            self.arriving.remove(&version);
            return Some(view);
        } else {
            self.arriving.insert(version, view);
        }
        None
    }

    /// A version may have failed only because its plugins came after it.
    fn retry_with_new_plugins(&mut self) {
        for (version, view) in self.without_plugins.clone() {
            if self.changed_plugins(version, &view).is_some() {
                self.without_plugins.remove(&version);
                self.versions.retry(version);
            }
        }
    }

    /// Puts plugins to use that were published, or removed, since the last round.
    fn follow_plugins(&mut self) {
        let serving: Vec<_> =
            self.versions.available().map(|(v, loaded)| (v, loaded.clone())).collect();
        let mut changed = false;
        for (version, loaded) in serving {
            let current = loaded.follow().view.clone();
            if let Some(view) = self.changed_plugins(version, &current) {
                self.shared.plugins.forget_missing(&view);
                self.swap_plugins(&loaded, view);
                changed = true;
            }
        }
        if changed {
            self.publish();
        }
    }

    fn swap_plugins(&self, loaded: &Loaded, view: View) {
        let (model, version) = (&self.name, loaded.version);
        match assemble(&self.shared, view.clone(), &loaded.program, &loaded.bundle) {
            Ok((pipelines, follow)) => {
                let before = loaded.pipelines.load_full();
                for (plugin, now) in &pipelines.uses {
                    if before.uses.get(plugin) != Some(now) {
                        tracing::info!(%model, version, %plugin, plugin_version = now, "plugin swapped");
                        self.shared.metrics.plugin_swap(plugin, LoadOutcome::Ok);
                    }
                }
                if !follow.note.is_empty() {
                    self.refused(version, &view, &follow.note);
                }
                loaded.pipelines.store(Arc::new(pipelines));
                *loaded.follow() = follow;
            }
            Err(error) => {
                let note = format!("plugins not swapped: {}", chain(&error));
                self.refused(version, &view, &note);
                let mut follow = loaded.follow();
                follow.view = view;
                follow.note = note;
            }
        }
    }

    fn refused(&self, version: Version, view: &View, note: &str) {
        tracing::error!(model = %self.name, version, note, "plugin versions were refused");
        for plugin in view.keys() {
            if note.contains(plugin.as_str()) {
                self.shared.metrics.plugin_swap(plugin, LoadOutcome::Error);
            }
        }
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
        let removed = self.removed || self.retired;
        self.shared.board.publish(&self.name, ModelBoard { available, labels, status, removed });
    }
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
