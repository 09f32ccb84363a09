//! The architecture, checked: which crate may use which, how large files get, and
//! what the tree may say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The allowed edges. A crate may use only these of ours; `host` and the tests may
/// use all. Adding an edge is a decision: see ARCHITECTURE.md.
const EDGES: &[(&str, &[&str])] = &[
    ("ingle-types", &[]),
    ("ingle-telemetry", &["ingle-types"]),
    ("ingle-wire", &["ingle-types", "ingle-telemetry"]),
    ("ingle-bundle", &["ingle-types", "ingle-telemetry"]),
    ("ingle-engine", &["ingle-types", "ingle-telemetry"]),
    ("ingle-plugins", &["ingle-types", "ingle-telemetry"]),
    ("ingle-batching", &["ingle-types", "ingle-telemetry"]),
    (
        "ingle-serving",
        &[
            "ingle-types",
            "ingle-telemetry",
            "ingle-bundle",
            "ingle-engine",
            "ingle-plugins",
            "ingle-batching",
        ],
    ),
];

/// Heavy or delicate dependencies, and the only crates that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("burn", &["ingle-engine"]),
    ("burn-flex", &["ingle-engine"]),
    ("wasmtime", &["ingle-plugins"]),
    ("cap-std", &["ingle-bundle"]),
    ("prometheus-client", &["ingle-telemetry"]),
    ("tonic", &["ingle-wire"]),
    ("axum", &["ingle-wire"]),
    ("hyper", &["ingle-wire"]),
    ("tokio-rustls", &["ingle-wire"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The direct normal dependencies of each workspace crate.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .unwrap();
    let direct = |package: &cargo_metadata::Package| {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        normal.map(|d| d.name.clone()).collect()
    };
    metadata.packages.iter().map(|p| (p.name.to_string(), direct(p))).collect()
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let dependencies = dependencies();
    for (name, used) in &dependencies {
        let Some((_, allowed)) = EDGES.iter().find(|(n, _)| n == name) else {
            assert!(
                ["ingle", "ingle-tests"].contains(&name.as_str()),
                "{name} has no edges listed"
            );
            continue;
        };
        let ours = used.iter().filter(|d| dependencies.contains_key(*d));
        for edge in ours {
            assert!(allowed.contains(&edge.as_str()), "{name} must not use {edge}");
        }
    }
}

#[test]
fn heavy_dependencies_have_one_owner() {
    for (name, used) in dependencies() {
        for (heavy, owners) in OWNERS {
            let mine = owners.contains(&name.as_str()) || name == "ingle-tests";
            assert!(!used.contains(*heavy) || mine, "{name} must not use {heavy}");
        }
    }
}

fn files(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped =
            ["target", "node_modules", "__pycache__"].contains(&name.to_str().unwrap_or(""));
        if skipped || name.to_string_lossy().starts_with('.') && name != ".ci" {
            continue;
        }
        if path.is_dir() {
            files(&path, extensions, found);
        } else if path.extension().is_some_and(|e| extensions.contains(&e.to_str().unwrap_or(""))) {
            found.push(path);
        }
    }
}

fn all(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root(), extensions, &mut found);
    assert!(!found.is_empty());
    found
}

#[test]
fn no_source_file_is_longer_than_800_lines() {
    for path in all(&["rs", "py", "wit"]) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 800, "{}: {lines} lines", path.display());
    }
}

#[test]
fn no_file_names_a_path_of_the_machine_it_was_written_on() {
    // Put together here, so that this file does not contain what it looks for.
    let forbidden = ["/wo", "rk/"].concat();
    let home = ["/ro", "ot/."].concat();
    for path in all(&["rs", "py", "toml", "md", "wit", "wat", "proto", "sh", "txt", "json"]) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let named = [&forbidden, &home].into_iter().find(|f| text.contains(f.as_str()));
        assert!(named.is_none(), "{} contains {named:?}", path.display());
    }
}
