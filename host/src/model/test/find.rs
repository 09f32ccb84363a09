//! Where the tests are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::Failure;

/// The model of a test.
pub(super) const MODEL: &str = "model.onnx";

/// Folders below the one that is named, in which tests are looked for.
const DEPTH: usize = 2;

/// In the order in which they run.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) folder: PathBuf,
}

/// The tests in or below `dirs` whose name contains `filter`, sorted by name.
pub(super) fn tests(dirs: &[PathBuf], filter: Option<&str>) -> Result<BTreeSet<Test>, Failure> {
    let mut found = BTreeSet::new();
    for dir in dirs {
        let before = found.len();
        look(dir, DEPTH, &mut found)
            .with_context(|| dir.display().to_string())
            .map_err(Failure::no_input)?;
        if found.len() == before {
            let error = anyhow!(
                "{}: there is no test: a test is a folder with {MODEL} and test_data_set_0/",
                dir.display()
            );
            return Err(Failure::no_input(error));
        }
    }
    if let Some(filter) = filter {
        found.retain(|test| test.name.contains(filter));
        if found.is_empty() {
            return Err(Failure::usage(anyhow!("--filter {filter}: no test's name contains it")));
        }
    }
    Ok(found)
}

fn look(dir: &Path, depth: usize, found: &mut BTreeSet<Test>) -> anyhow::Result<()> {
    if dir.join(MODEL).is_file() {
        // `.` has a name only once it is resolved.
        let named = dir
            .file_name()
            .map(Into::into)
            .or_else(|| Some(dir.canonicalize().ok()?.file_name()?.to_owned()));
        let name = named.unwrap_or_default().to_string_lossy().into_owned();
        found.insert(Test { name, folder: dir.to_owned() });
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if depth > 0 && path.is_dir() {
            look(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

/// The `test_data_set_K` of a test, by K.
pub(super) fn data_sets(folder: &Path) -> Vec<PathBuf> {
    let number = |path: &PathBuf| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix("test_data_set_")?.parse().ok()
    };
    let entries = fs::read_dir(folder).into_iter().flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut sets: Vec<_> =
        paths.filter_map(|path| Some((number(&path)?, path))).filter(|(_, p)| p.is_dir()).collect();
    sets.sort_unstable();
    sets.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dirs: &[&Path], filter: Option<&str>) -> Vec<String> {
        let dirs: Vec<_> = dirs.iter().map(|&d| d.to_owned()).collect();
        tests(&dirs, filter).unwrap().into_iter().map(|test| test.name).collect()
    }

    #[test]
    fn tests_are_found_two_levels_down_and_sorted() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["b", "a", "group/c", "group/deep/too_deep"] {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(MODEL), "").unwrap();
        }
        assert_eq!(names(&[root.path()], None), ["a", "b", "c"]);
        assert_eq!(names(&[&root.path().join("a"), root.path()], Some("a")), ["a"]);
        assert!(tests(&[root.path().to_owned()], Some("none")).is_err());
        assert!(tests(&[root.path().join("group/deep/too_deep/none")], None).is_err());
    }

    #[test]
    fn data_sets_are_in_the_order_of_their_numbers() {
        let root = tempfile::tempdir().unwrap();
        for set in ["test_data_set_10", "test_data_set_2", "test_data_set_x", "other"] {
            fs::create_dir(root.path().join(set)).unwrap();
        }
        fs::write(root.path().join("test_data_set_0"), "no folder").unwrap();
        let sets = data_sets(root.path());
        let names: Vec<_> = sets.iter().map(|set| set.file_name().unwrap()).collect();
        assert_eq!(names, ["test_data_set_2", "test_data_set_10"]);
    }
}
