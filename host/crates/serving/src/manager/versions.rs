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

/// What happens to a version.
#[derive(Debug)]
pub(crate) enum Event<T> {
    LoadStarted(FoundVersion),
    Loaded(T),
    LoadFailed(Failure),
    UnloadStarted,
    Freed,
}

/// What the keeper should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Load(Version, FoundVersion),
    Unload(Version),
}

#[derive(Debug)]
struct Entry<T> {
    state: VersionState,
    found: FoundVersion,
    failure: Option<Failure>,
    servable: Option<T>,
}

impl<T> Entry<T> {
    /// It failed, and its files are still those that failed.
    fn broken(&self, found: &FoundVersion) -> bool {
        self.state == VersionState::End && self.failure.is_some() && self.found == *found
    }
}

/// The states only move forward; a version that ended and is wanted again starts anew.
fn next<T>(state: Option<VersionState>, event: &Event<T>) -> Option<VersionState> {
    use VersionState::{Available, End, Loading, Unloading};
    match (state, event) {
        (None | Some(End), Event::LoadStarted(_)) => Some(Loading),
        (Some(Loading), Event::Loaded(_)) => Some(Available),
        (Some(Loading), Event::LoadFailed(_)) => Some(End),
        (Some(Available), Event::UnloadStarted) => Some(Unloading),
        (Some(Unloading), Event::Freed) => Some(End),
        _ => None,
    }
}

/// The versions of one model, with `T` the loaded servable.
#[derive(Debug)]
pub(crate) struct Versions<T> {
    policy: VersionPolicy,
    /// As the last listing found them, perhaps still being copied.
    listed: BTreeMap<Version, FoundVersion>,
    /// Those that did not change between two listings.
    settled: BTreeMap<Version, FoundVersion>,
    entries: BTreeMap<Version, Entry<T>>,
}

impl<T> Versions<T> {
    pub(crate) fn new(policy: VersionPolicy) -> Self {
        Self { policy, listed: BTreeMap::new(), settled: BTreeMap::new(), entries: BTreeMap::new() }
    }

    /// What is wanted from now on of the versions that are there.
    pub(crate) fn set_policy(&mut self, policy: VersionPolicy) {
        self.policy = policy;
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
        let good = self.settled.iter().filter(|(v, found)| !broken(v, found)).map(|(v, _)| *v);
        match &self.policy {
            VersionPolicy::Latest(count) => good.rev().take(*count).collect(),
            VersionPolicy::All => good.collect(),
            VersionPolicy::Specific(wanted) => good.filter(|v| wanted.contains(v)).collect(),
        }
    }

    fn state(&self, version: Version) -> Option<VersionState> {
        self.entries.get(&version).map(|entry| entry.state)
    }

    /// The next step towards what is aspired; unloads come before loads. What serves
    /// goes only once something else can answer, or nothing that is there is asked for.
    pub(crate) fn next_action(&self) -> Option<Action> {
        let aspired = self.aspired();
        let available = |v: &Version| self.state(*v) == Some(VersionState::Available);
        if !self.asks_for_any() || aspired.iter().any(available) {
            let unwanted = |v: &&Version| available(v) && !aspired.contains(v);
            if let Some(version) = self.entries.keys().find(unwanted) {
                return Some(Action::Unload(*version));
            }
        }
        let startable = |v: &&Version| matches!(self.state(**v), None | Some(VersionState::End));
        let version = aspired.iter().rev().find(startable)?;
        let found = self.settled.get(version)?;
        Some(Action::Load(*version, found.clone()))
    }

    /// Moves a version on. Returns the servable that an unload takes out of service.
    /// An event that does not fit the state changes nothing.
    pub(crate) fn apply(&mut self, version: Version, event: Event<T>) -> Option<T> {
        let state = next(self.state(version), &event)?;
        if let Event::LoadStarted(found) = event {
            self.entries.insert(version, Entry { state, found, failure: None, servable: None });
            return None;
        }
        let entry = self.entries.get_mut(&version)?;
        entry.state = state;
        match event {
            Event::Loaded(servable) => entry.servable = Some(servable),
            Event::LoadFailed(failure) => entry.failure = Some(failure),
            Event::UnloadStarted => return entry.servable.take(),
            Event::LoadStarted(_) | Event::Freed => {}
        }
        None
    }

    /// Lets a version that failed be tried again, for something beside its own files
    /// has changed.
    pub(crate) fn retry(&mut self, version: Version) {
        if let Some(entry) = self.entries.get_mut(&version)
            && entry.state == VersionState::End
        {
            entry.failure = None;
        }
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
            message: match (&entry.failure, &entry.servable) {
                (Some(failure), _) => failure.message.clone(),
                (None, Some(servable)) => note(servable),
                (None, None) => String::new(),
            },
        };
        self.entries.iter().rev().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(versions: &[Version]) -> BTreeMap<Version, FoundVersion> {
        versions.iter().map(|v| (*v, FoundVersion::new(v.to_string(), *v))).collect()
    }

    fn versions(found: &[Version]) -> Versions<()> {
        let mut versions = Versions::new(VersionPolicy::default());
        versions.observe(listing(found), true);
        versions
    }

    fn failure() -> Failure {
        Failure { code: Code::InvalidArgument, message: "bad".into() }
    }

    /// Carries out all actions; versions in `broken` fail.
    fn settle(versions: &mut Versions<()>, broken: &[Version]) -> Vec<Action> {
        let mut done = Vec::new();
        while let Some(action) = versions.next_action() {
            match &action {
                Action::Load(v, found) => {
                    versions.apply(*v, Event::LoadStarted(found.clone()));
                    let failed = broken.contains(v);
                    let end = if failed { Event::LoadFailed(failure()) } else { Event::Loaded(()) };
                    versions.apply(*v, end);
                }
                Action::Unload(v) => {
                    versions.apply(*v, Event::UnloadStarted);
                    versions.apply(*v, Event::Freed);
                }
            }
            done.push(action);
            assert!(done.len() < 100, "does not settle: {done:?}");
        }
        done
    }

    fn serving(versions: &Versions<()>) -> Vec<Version> {
        versions.available().map(|(v, ())| v).collect()
    }

    #[test]
    fn the_highest_version_is_served() {
        let mut v = versions(&[1, 3, 2]);
        settle(&mut v, &[]);
        assert_eq!(serving(&v), [3]);
    }

    #[test]
    fn a_new_version_is_loaded_before_the_old_one_goes() {
        let mut v = versions(&[1]);
        settle(&mut v, &[]);
        v.observe(listing(&[1, 2]), true);
        assert!(matches!(v.next_action(), Some(Action::Load(2, _))));
        v.apply(2, Event::LoadStarted(FoundVersion::new("2", 2)));
        assert_eq!((serving(&v), v.next_action()), (vec![1], None));
        v.apply(2, Event::Loaded(()));
        assert_eq!(serving(&v), [1, 2]);
        assert_eq!(v.next_action(), Some(Action::Unload(1)));
    }

    #[test]
    fn a_broken_new_version_leaves_the_old_one_and_is_not_retried() {
        let mut v = versions(&[1]);
        settle(&mut v, &[]);
        v.observe(listing(&[1, 2]), true);
        assert_eq!(settle(&mut v, &[2]).len(), 1);
        assert_eq!(serving(&v), [1]);
        let status = v.status(|()| String::new());
        assert_eq!((status[0].version, status[0].state), (2, VersionState::End));
        assert_eq!(
            (status[0].code, status[0].message.as_str()),
            (Some(Code::InvalidArgument), "bad")
        );
        v.observe(listing(&[1, 2]), true);
        assert_eq!(v.next_action(), None);
    }

    #[test]
    fn a_broken_version_is_retried_when_its_files_change() {
        let mut v = versions(&[1, 2]);
        settle(&mut v, &[2]);
        assert_eq!(serving(&v), [1], "a restart beside a broken version serves the one below");
        let mut mended = listing(&[1, 2]);
        mended.insert(2, FoundVersion::new("2", 99));
        v.observe(mended, true);
        settle(&mut v, &[]);
        assert_eq!(serving(&v), [2]);
    }

    #[test]
    fn a_broken_version_is_retried_when_it_is_asked_for() {
        let mut v = versions(&[1]);
        settle(&mut v, &[1]);
        assert_eq!(v.next_action(), None);
        v.retry(1);
        settle(&mut v, &[]);
        assert_eq!(serving(&v), [1]);
        v.retry(1);
        assert_eq!((serving(&v), v.next_action()), (vec![1], None), "what serves is left alone");
    }

    #[test]
    fn deleting_a_version_rolls_back() {
        let mut v = versions(&[1, 2]);
        settle(&mut v, &[]);
        v.observe(listing(&[1]), true);
        let done = settle(&mut v, &[]);
        assert!(matches!(done[..], [Action::Load(1, _), Action::Unload(2)]), "{done:?}");
        assert_eq!(serving(&v), [1]);
    }

    #[test]
    fn deleting_all_but_a_broken_version_keeps_the_one_that_serves() {
        let mut v = versions(&[1]);
        settle(&mut v, &[]);
        v.observe(listing(&[2]), true);
        settle(&mut v, &[2]);
        assert_eq!(serving(&v), [1]);
        v.observe(listing(&[]), true);
        settle(&mut v, &[]);
        assert_eq!(serving(&v), [] as [Version; 0]);
    }

    #[test]
    fn what_serves_goes_where_nothing_that_is_there_is_asked_for() {
        let mut v = Versions::new(VersionPolicy::Specific([1, 5].into()));
        v.observe(listing(&[1, 2]), true);
        settle(&mut v, &[]);
        assert_eq!((serving(&v), v.missing()), (vec![1], vec![5]));
        v.observe(listing(&[2]), true);
        settle(&mut v, &[]);
        assert_eq!(serving(&v), [] as [Version; 0]);
        v.observe(listing(&[1, 2]), true);
        settle(&mut v, &[]);
        // One that is there and broken is asked for still.
        v.set_policy(VersionPolicy::Specific([2].into()));
        settle(&mut v, &[2]);
        assert_eq!(serving(&v), [1]);
    }

    #[test]
    fn a_version_counts_once_it_is_still() {
        let mut v = versions(&[1]);
        settle(&mut v, &[]);
        for size in 0..3 {
            let mut copying = listing(&[1]);
            copying.insert(2, FoundVersion::new("2", 100 + size));
            v.observe(copying, false);
            assert_eq!(v.next_action(), None);
        }
        let mut still = listing(&[1]);
        still.insert(2, FoundVersion::new("2", 102));
        v.observe(still, false);
        assert!(matches!(v.next_action(), Some(Action::Load(2, _))));
    }

    #[test]
    fn policies_choose() {
        let chosen = |policy| {
            let mut v = Versions::new(policy);
            v.observe(listing(&[1, 2, 3]), true);
            settle(&mut v, &[]);
            serving(&v)
        };
        assert_eq!(chosen(VersionPolicy::Latest(2)), [2, 3]);
        assert_eq!(chosen(VersionPolicy::All), [1, 2, 3]);
        assert_eq!(chosen(VersionPolicy::Specific([1, 3, 9].into())), [1, 3]);
    }

    #[test]
    fn no_event_moves_a_version_backwards() {
        use VersionState::{Available, End, Loading, Start, Unloading};
        let found = || FoundVersion::new("1", 1);
        let events: [fn(FoundVersion) -> Event<()>; 5] = [
            Event::LoadStarted,
            |_| Event::Loaded(()),
            |_| Event::LoadFailed(failure()),
            |_| Event::UnloadStarted,
            |_| Event::Freed,
        ];
        for state in [Start, Loading, Available, Unloading, End] {
            for event in events {
                let event = event(found());
                if let Some(after) = next(Some(state), &event) {
                    assert!(
                        after > state || (state, after) == (End, Loading),
                        "{state:?} {event:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn ended_versions_do_not_pile_up() {
        let mut v = versions(&[]);
        for version in 1..100 {
            v.observe(listing(&[version]), true);
            settle(&mut v, &[]);
        }
        assert!(v.observe(listing(&[99]), true));
        assert!(!v.observe(listing(&[99]), true));
        assert_eq!(v.status(|()| String::new()).len(), ENDED_KEPT + 1);
    }
}
