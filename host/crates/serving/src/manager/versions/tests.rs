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
                versions.apply(*v, Event::Taken(found.clone()));
                versions.apply(*v, Event::LoadStarted);
                let failed = broken.contains(v);
                let end = if failed { Event::LoadFailed(failure()) } else { Event::Loaded(()) };
                versions.apply(*v, end);
            }
            Action::Cancel(v) => {
                versions.apply(*v, Event::Cancelled);
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
    v.apply(2, Event::Taken(FoundVersion::new("2", 2)));
    assert_eq!((serving(&v), v.next_action()), (vec![1], None));
    v.apply(2, Event::LoadStarted);
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
    assert_eq!((status[0].code, status[0].message.as_str()), (Some(Code::InvalidArgument), "bad"));
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
    let events: [fn(FoundVersion) -> Event<()>; 8] = [
        Event::Taken,
        |_| Event::LoadStarted,
        |_| Event::Loaded(()),
        |_| Event::LoadPaused(failure()),
        |_| Event::Cancelled,
        |_| Event::LoadFailed(failure()),
        |_| Event::UnloadStarted,
        |_| Event::Freed,
    ];
    for state in [Start, Loading, Available, Unloading, End] {
        for event in events {
            let event = event(found());
            if let Some(after) = next(Some(state), &event) {
                assert!(after >= state || (state, after) == (End, Start), "{state:?} {event:?}");
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

/// What the status says of a version.
fn row(versions: &Versions<()>, version: Version) -> (VersionState, Option<Code>, String) {
    let rows = versions.status(|()| String::new());
    let row = rows.into_iter().find(|row| row.version == version).unwrap();
    (row.state, row.code, row.message)
}

/// Begins an action that must be a load of this version.
fn take(versions: &mut Versions<()>, version: Version) {
    let Some(Action::Load(next, found)) = versions.next_action() else {
        panic!("a load of version {version}")
    };
    assert_eq!(next, version);
    versions.apply(version, Event::Taken(found));
}

#[test]
fn a_version_that_arrives_says_so_and_the_one_below_is_served() {
    let mut v = versions(&[1, 2]);
    take(&mut v, 2);
    v.apply(2, Event::Arriving("a is not there".into()));
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [1]);
    let expected = (VersionState::Start, None, "arriving: a is not there".to_owned());
    assert_eq!(row(&v, 2), expected);
    v.observe(listing(&[1, 2]), false);
    assert_eq!(v.next_action(), None, "its files are the same");
    let mut more = listing(&[1, 2]);
    more.insert(2, FoundVersion::new("2", 99));
    v.observe(more.clone(), false);
    assert_eq!(v.next_action(), None, "its files are not still");
    v.observe(more, false);
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [2]);
}

#[test]
fn what_arrives_and_goes_away_is_cancelled() {
    let mut v = versions(&[1, 2]);
    take(&mut v, 2);
    v.apply(2, Event::Arriving("a is not there".into()));
    settle(&mut v, &[]);
    v.observe(listing(&[1]), true);
    assert_eq!(v.next_action(), Some(Action::Cancel(2)));
    settle(&mut v, &[]);
    assert_eq!((row(&v, 2).0, row(&v, 2).1), (VersionState::End, Some(Code::Cancelled)));
    assert_eq!(serving(&v), [1]);
    v.observe(listing(&[1, 2]), true);
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [2], "it was given up, not found to be bad");
}

#[test]
fn a_paused_version_loads_still_and_is_tried_when_it_is_time() {
    let mut v = versions(&[1, 2]);
    take(&mut v, 2);
    v.apply(2, Event::LoadStarted);
    v.apply(2, Event::LoadPaused(failure()));
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [1], "the one below is served meanwhile");
    let expected = (VersionState::Loading, Some(Code::InvalidArgument), "bad".to_owned());
    assert_eq!(row(&v, 2), expected);
    assert!(v.is_paused(2));
    v.retry(2);
    take(&mut v, 2);
    assert_eq!(row(&v, 2).0, VersionState::Loading);
    v.apply(2, Event::LoadStarted);
    v.apply(2, Event::Loaded(()));
    settle(&mut v, &[]);
    assert_eq!((serving(&v), row(&v, 2).1), (vec![2], None));
}

#[test]
fn a_paused_version_is_tried_at_once_when_its_files_change() {
    let mut v = versions(&[1]);
    take(&mut v, 1);
    v.apply(1, Event::LoadPaused(failure()));
    assert_eq!(v.next_action(), None);
    let changed = BTreeMap::from([(1, FoundVersion::new("1", 99))]);
    v.observe(changed, true);
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [1]);
}

#[test]
fn a_paused_version_is_given_up_where_it_is_not_wanted() {
    let paused = |policy: VersionPolicy| {
        let mut v = Versions::new(policy);
        v.observe(listing(&[2]), true);
        take(&mut v, 2);
        v.apply(2, Event::LoadStarted);
        v.apply(2, Event::LoadPaused(failure()));
        v
    };
    let given_up = |mut v: Versions<()>| {
        settle(&mut v, &[]);
        row(&v, 2).1 == Some(Code::Cancelled)
    };
    let mut gone = paused(VersionPolicy::All);
    gone.observe(listing(&[1]), true);
    assert!(given_up(gone));
    let mut above = paused(VersionPolicy::Latest(1));
    above.observe(listing(&[2, 3]), true);
    assert!(given_up(above));
    let mut room = paused(VersionPolicy::Latest(2));
    room.observe(listing(&[2, 3]), true);
    assert!(!given_up(room));
    let mut below = paused(VersionPolicy::Latest(1));
    below.observe(listing(&[1, 2]), true);
    assert!(!given_up(below));
    let mut left_out = paused(VersionPolicy::All);
    left_out.set_policy(VersionPolicy::Specific([1].into()));
    assert!(given_up(left_out));
    let mut held = paused(VersionPolicy::All);
    held.set_held(Held { all: true, ..Held::default() });
    assert!(given_up(held));
}

fn hold(v: &mut Versions<()>, all: bool, versions: &[Version]) {
    v.set_held(Held { all, versions: versions.iter().copied().collect() });
}

#[test]
fn a_version_that_is_held_makes_room_for_the_next() {
    let mut v = versions(&[1, 2]);
    settle(&mut v, &[]);
    hold(&mut v, false, &[2]);
    let first = v.next_action();
    assert_eq!(first, Some(Action::Load(1, FoundVersion::new("1", 1))), "2 serves meanwhile");
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [1]);
    hold(&mut v, false, &[]);
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [2]);
}

#[test]
fn what_is_held_goes_where_nothing_can_take_its_place() {
    let mut v = versions(&[1, 2]);
    settle(&mut v, &[]);
    hold(&mut v, false, &[1, 2]);
    assert_eq!(settle(&mut v, &[]), [Action::Unload(2)]);
    let mut v = versions(&[1, 2]);
    settle(&mut v, &[]);
    hold(&mut v, true, &[]);
    assert_eq!(settle(&mut v, &[]), [Action::Unload(2)]);
    hold(&mut v, false, &[]);
    settle(&mut v, &[]);
    assert_eq!(serving(&v), [2]);
    // The one below is broken: the one that is held goes all the same.
    let mut v = versions(&[1, 2]);
    settle(&mut v, &[]);
    hold(&mut v, false, &[2]);
    settle(&mut v, &[1]);
    assert!(serving(&v).is_empty());
}
