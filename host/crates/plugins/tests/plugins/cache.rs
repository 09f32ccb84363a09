use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ingle_plugins::{InitOptions, PluginHost};
use ingle_types::Limits;

use crate::fixture::{context, host_with, limits, x};
use crate::guests;

fn host(dir: &Path) -> PluginHost {
    host_with(limits(), Some(dir), 1)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Whether the component behaves as `echo` does, which carries "seen".
fn echoes(host: &PluginHost, guest: &str) -> bool {
    let plugin = host.compile("p", None, &guests::preprocessor(guest)).unwrap();
    let guest = plugin.preprocessor(InitOptions::default()).unwrap();
    guest.process(&context(), &x(&[1., 2.])).unwrap().carry == "seen"
}

#[test]
fn what_was_compiled_once_is_not_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep").join("cache");
    assert!(echoes(&host(&dir), "echo"));
    let echo = entries(&dir);
    assert_eq!(echo.len(), 1);
    assert!(!echoes(&host(&dir), "ready"));
    let ready = entries(&dir).into_iter().find(|path| *path != echo[0]).unwrap();
    // Were it compiled, it would be "ready" again.
    fs::copy(&echo[0], &ready).unwrap();
    assert!(echoes(&host(&dir), "ready"));
}

#[test]
fn the_directory_and_its_files_are_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    assert!(echoes(&host(&dir), "echo"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(entries(&dir).iter().map(|path| mode(path)).collect::<Vec<_>>(), [0o600]);
}

#[test]
fn a_directory_that_others_can_write_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(echoes(&host(dir.path()), "echo"));
    assert!(entries(dir.path()).is_empty());
}

#[test]
fn a_link_is_not_used_as_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert!(echoes(&host(&link), "echo"));
    assert!(entries(&real).is_empty());
}

#[test]
fn a_damaged_entry_is_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    assert!(echoes(&host(&dir), "echo"));
    let entry = entries(&dir).remove(0);
    let whole = fs::read(&entry).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut torn = whole.clone();
    torn.truncate(whole.len() / 2);
    for damaged in [flipped, torn, whole[..30].to_vec(), Vec::new(), b"\x7fELF".to_vec()] {
        fs::write(&entry, damaged).unwrap();
        assert!(echoes(&host(&dir), "echo"));
        assert_eq!(fs::read(&entry).unwrap().len(), whole.len());
    }
}

#[test]
fn an_entry_that_cannot_be_read_or_written_costs_nothing_but_time() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    assert!(echoes(&host(&dir), "echo"));
    let entry = entries(&dir).remove(0);
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    assert!(echoes(&host(&dir), "echo"));
    let host = host(&dir);
    fs::remove_dir_all(&dir).unwrap();
    assert!(echoes(&host, "echo"));
}

#[test]
fn the_least_recently_used_entries_go_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cache");
    assert!(echoes(&host(&dir), "echo"));
    let echo = entries(&dir).remove(0);
    let bytes = fs::metadata(&echo).unwrap().len();
    let limits = Limits { plugin_cache_bytes: bytes * 5 / 2, ..limits() };
    let host = host_with(limits, Some(&dir), 1);
    let foreign = dir.join("notes.txt");
    fs::write(&foreign, vec![b'n'; 1 << 20]).unwrap();
    for guest in ["ready", "context", "files"] {
        // Used again before each new one, so it is never the oldest.
        assert!(echoes(&host, "echo"));
        assert!(!echoes(&host, guest));
    }
    let kept = entries(&dir);
    assert_eq!(kept.len(), 3);
    assert!(kept.contains(&echo) && kept.contains(&foreign));
}
