//! What to do with a model's versions: a state machine without files or threads.

use std::collections::{BTreeMap, BTreeSet};

use ingle_bundle::FoundVersion;
use ingle_types::{Code, Version, VersionState, VersionStatus};

/// Ended versions that stay listed in the status.
const ENDED_KEPT: usize = 16;

/// Which of the versions that are there should be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The highest so many that load.
    Latest(usize),
    All,
    Specific(BTreeSet<Version>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

/// Why a version is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    /// In TensorFlow Serving's words.
    fn cancelled() -> Self {
        Self { code: Code::Cancelled, message: "Loading of servable cancelled".into() }
    }
}

/// What happens to a version.
#[derive(Debug)]
pub(crate) enum Event<T> {
    /// It is this version's turn, as it was found.
    Taken(FoundVersion),
    /// Its files are not complete yet, and why.
    Arriving(String),
    LoadStarted,
    Loaded(T),
    /// It is tried again with the same files; until then it counts as loading.
    LoadPaused(Failure),
    LoadFailed(Failure),
    /// It is not wanted any more, and was not tried again yet.
    Cancelled,
    UnloadStarted,
    Freed,
}

/// What the keeper should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Load(Version, FoundVersion),
    /// Give up what rests between two attempts.
    Cancel(Version),
    Unload(Version),
}

/// Why nothing is done for a version that is neither loaded nor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    /// For the rest of its files.
    Arriving(String),
    /// For its next attempt.
    Paused,
    /// Its next attempt is due.
    Due,
}

#[derive(Debug)]
struct Entry<T> {
    state: VersionState,
    found: FoundVersion,
    failure: Option<Failure>,
    rest: Option<Rest>,
    servable: Option<T>,
}

impl<T> Entry<T> {
    /// It failed or is not complete, and its files are still those that it was tried with.
    fn broken(&self, found: &FoundVersion) -> bool {
        let lasting = |failure: &Failure| failure.code != Code::Cancelled;
        let failed = self.state == VersionState::End && self.failure.as_ref().is_some_and(lasting);
        let rests = matches!(self.rest, Some(Rest::Arriving(_) | Rest::Paused));
        (failed || rests) && self.found == *found
    }

    fn message(&self) -> String {
        match (&self.rest, &self.failure) {
            (Some(Rest::Arriving(message)), _) => format!("arriving: {message}"),
            (_, Some(failure)) => failure.message.clone(),
            _ => String::new(),
        }
    }
}

/// The states only move forward; a version that ended and is wanted again starts anew,
/// and one whose files turn out to be incomplete goes back to where it began.
fn next<T>(state: Option<VersionState>, event: &Event<T>) -> Option<VersionState> {
    use VersionState::{Available, End, Loading, Start, Unloading};
    match (state, event) {
        (None | Some(Start | End), Event::Taken(_)) => Some(Start),
        (Some(Loading), Event::Taken(_)) => Some(Loading),
        (Some(Start | Loading), Event::Arriving(_)) => Some(Start),
        (Some(Start | Loading), Event::LoadStarted) => Some(Loading),
        (Some(Loading), Event::Loaded(_)) => Some(Available),
        (Some(Start | Loading), Event::LoadPaused(_)) => Some(Loading),
        (Some(Start | Loading), Event::LoadFailed(_) | Event::Cancelled) => Some(End),
        (Some(Available), Event::UnloadStarted) => Some(Unloading),
        (Some(Unloading), Event::Freed) => Some(End),
        _ => None,
    }
}

/// What an operator took out of service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The whole model.
    pub(crate) all: bool,
    pub(crate) versions: BTreeSet<Version>,
}

impl Held {
    fn contains(&self, version: Version) -> bool {
        self.all || self.versions.contains(&version)
    }
}

/// The versions of one model, with `T` the loaded servable.
#[derive(Debug)]
pub(crate) struct Versions<T> {
    policy: VersionPolicy,
    held: Held,
    /// As the last listing found them, perhaps still being copied.
    listed: BTreeMap<Version, FoundVersion>,
    /// Those that did not change between two listings.
    settled: BTreeMap<Version, FoundVersion>,
    entries: BTreeMap<Version, Entry<T>>,
}

impl<T> Versions<T> {
    pub(crate) fn new(policy: VersionPolicy) -> Self {
        Self {
            policy,
            held: Held::default(),
            listed: BTreeMap::new(),
            settled: BTreeMap::new(),
            entries: BTreeMap::new(),
        }
    }

    /// What is wanted from now on of the versions that are there.
    pub(crate) fn set_policy(&mut self, policy: VersionPolicy) {
        self.policy = policy;
    }

    /// What is not to be served although it is there.
    pub(crate) fn set_held(&mut self, held: Held) {
        self.held = held;
    }

    /// Those that are there, or were.
    pub(crate) fn known(&self) -> BTreeSet<Version> {
        self.settled.keys().chain(self.entries.keys()).copied().collect()
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }

    /// Takes in a listing. A new or changed version counts once it has been still for
    /// two listings, unless `at_once`. Returns whether rows of the status went away.
    pub(crate) fn observe(
        &mut self,
        listing: BTreeMap<Version, FoundVersion>,
        at_once: bool,
    ) -> bool {
        let mut settled = BTreeMap::new();
        for (version, found) in &listing {
            let still = at_once || self.listed.get(version) == Some(found);
            let known = if still { Some(found) } else { self.settled.get(version) };
            if let Some(known) = known {
                settled.insert(*version, known.clone());
            }
        }
        self.settled = settled;
        self.listed = listing;
        self.prune()
    }

    fn prune(&mut self) -> bool {
        let gone = |(version, entry): &(&Version, &Entry<T>)| {
            entry.state == VersionState::End && !self.settled.contains_key(version)
        };
        let ended: Vec<_> =
            self.entries.iter().filter(gone).map(|(v, _)| *v).rev().skip(ENDED_KEPT).collect();
        for version in &ended {
            self.entries.remove(version);
        }
        !ended.is_empty()
    }

    /// Versions that the policy names and that are not there.
    pub(crate) fn missing(&self) -> Vec<Version> {
        let VersionPolicy::Specific(wanted) = &self.policy else { return Vec::new() };
        wanted.iter().filter(|version| !self.listed.contains_key(version)).copied().collect()
    }

    /// Whether the policy asks for any of the versions that are there, be they broken.
    fn asks_for_any(&self) -> bool {
        match &self.policy {
            VersionPolicy::Latest(_) | VersionPolicy::All => !self.settled.is_empty(),
            VersionPolicy::Specific(wanted) => {
                self.settled.keys().any(|version| wanted.contains(version))
            }
        }
    }

    /// The versions that should be served. Under [`VersionPolicy::Latest`] a broken one
    /// makes room for the next below it, so that a restart beside a broken version
    /// serves what was served before.
    fn aspired(&self) -> BTreeSet<Version> {
        let broken = |version: &Version, found: &FoundVersion| {
            self.entries.get(version).is_some_and(|entry| entry.broken(found))
        };
        let good =
            |(v, found): &(&Version, &FoundVersion)| !broken(v, found) && !self.held.contains(**v);
        let good = self.settled.iter().filter(good).map(|(v, _)| *v);
        match &self.policy {
            VersionPolicy::Latest(count) => good.rev().take(*count).collect(),
            VersionPolicy::All => good.collect(),
            VersionPolicy::Specific(wanted) => good.filter(|v| wanted.contains(v)).collect(),
        }
    }

    fn state(&self, version: Version) -> Option<VersionState> {
        self.entries.get(&version).map(|entry| entry.state)
    }

    /// Versions that rest between two attempts and are not wanted: they are gone or held, the
    /// policy leaves them out, or enough above them can be loaded.
    fn to_cancel(&self, aspired: &BTreeSet<Version>) -> Option<Version> {
        let unwanted = |version: &Version| match &self.policy {
            _ if !self.settled.contains_key(version) || self.held.contains(*version) => true,
            VersionPolicy::Latest(count) => {
                aspired.len() >= *count && aspired.iter().all(|above| above > version)
            }
            VersionPolicy::All => false,
            VersionPolicy::Specific(wanted) => !wanted.contains(version),
        };
        let mut rests = self.entries.iter().filter(|(_, entry)| entry.rest.is_some());
        rests.find(|(version, _)| unwanted(version)).map(|(version, _)| *version)
    }

    /// The next step towards what is aspired; unloads come before loads. What serves
    /// goes only once something else can answer, or nothing that is there is asked for.
    pub(crate) fn next_action(&self) -> Option<Action> {
        let aspired = self.aspired();
        let available = |v: &Version| self.state(*v) == Some(VersionState::Available);
        let replaced = !self.asks_for_any() || aspired.iter().any(available);
        // What an operator unloads goes even where nothing can take its place.
        let goes = |v: Version| replaced || (aspired.is_empty() && self.held.contains(v));
        let unwanted = |v: &&Version| available(v) && !aspired.contains(v) && goes(**v);
        if let Some(version) = self.entries.keys().find(unwanted) {
            return Some(Action::Unload(*version));
        }
        if let Some(version) = self.to_cancel(&aspired) {
            return Some(Action::Cancel(version));
        }
        let startable = |v: &&Version| {
            let entry = self.entries.get(*v);
            entry.is_none_or(|e| e.state == VersionState::End || e.rest.is_some())
        };
        let version = aspired.iter().rev().find(startable)?;
        let found = self.settled.get(version)?;
        Some(Action::Load(*version, found.clone()))
    }

    /// Moves a version on. Returns the servable that an unload takes out of service.
    /// An event that does not fit the state changes nothing.
    pub(crate) fn apply(&mut self, version: Version, event: Event<T>) -> Option<T> {
        let state = next(self.state(version), &event)?;
        if let Event::Taken(found) = event {
            let entry = Entry { state, found, failure: None, rest: None, servable: None };
            self.entries.insert(version, entry);
            return None;
        }
        let entry = self.entries.get_mut(&version)?;
        (entry.state, entry.rest) = (state, None);
        match event {
            Event::Arriving(message) => entry.rest = Some(Rest::Arriving(message)),
            Event::Loaded(servable) => entry.servable = Some(servable),
            Event::LoadPaused(failure) => {
                (entry.failure, entry.rest) = (Some(failure), Some(Rest::Paused));
            }
            Event::LoadFailed(failure) => entry.failure = Some(failure),
            Event::Cancelled => entry.failure = Some(Failure::cancelled()),
            Event::UnloadStarted => return entry.servable.take(),
            Event::Taken(_) | Event::LoadStarted | Event::Freed => {}
        }
        None
    }

    /// Lets a version that failed be tried again: it is time, or something beside its own
    /// files has changed.
    pub(crate) fn retry(&mut self, version: Version) {
        let Some(entry) = self.entries.get_mut(&version) else { return };
        if entry.state == VersionState::End {
            entry.failure = None;
        } else if entry.rest == Some(Rest::Paused) {
            entry.rest = Some(Rest::Due);
        }
    }

    /// Whether the status has a row of a version.
    pub(crate) fn knows(&self, version: Version) -> bool {
        self.entries.contains_key(&version)
    }

    /// Whether a version waits for its next attempt.
    pub(crate) fn is_paused(&self, version: Version) -> bool {
        self.entries.get(&version).is_some_and(|entry| entry.rest == Some(Rest::Paused))
    }

    /// What can answer.
    pub(crate) fn available(&self) -> impl Iterator<Item = (Version, &T)> {
        self.entries.iter().filter_map(|(v, entry)| Some((*v, entry.servable.as_ref()?)))
    }

    /// The status rows, the highest version first. `note` tells what else there is to
    /// say of a version that serves.
    pub(crate) fn status(&self, note: impl Fn(&T) -> String) -> Vec<VersionStatus> {
        let row = |(version, entry): (&Version, &Entry<T>)| VersionStatus {
            version: *version,
            state: entry.state,
            code: entry.failure.as_ref().map(|f| f.code),
            message: entry.servable.as_ref().map_or_else(|| entry.message(), &note),
        };
        self.entries.iter().rev().map(row).collect()
    }
}

#[cfg(test)]
mod tests;
