//! A model repository and a plugin repository that change while they are served.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub struct Repository {
    root: TempDir,
}

impl Default for Repository {
    fn default() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("models")).unwrap();
        fs::create_dir(root.path().join("plugins")).unwrap();
        Self { root }
    }
}

impl Repository {
    pub fn models(&self) -> PathBuf {
        self.root.path().join("models")
    }

    pub fn plugins(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    /// Publishes a model version as authors should: filled under another name, then renamed.
    pub fn publish_model(&self, name: &str, version: u64, files: &[(&str, &[u8])]) {
        publish(&self.models().join(name), version, files);
    }

    pub fn publish_plugin(&self, name: &str, version: u64, component: &[u8]) {
        publish(&self.plugins().join(name), version, &[("plugin.wasm", component)]);
    }

    pub fn remove_model(&self, name: &str, version: u64) {
        fs::remove_dir_all(self.models().join(name).join(version.to_string())).unwrap();
    }

    pub fn remove_plugin(&self, name: &str, version: u64) {
        fs::remove_dir_all(self.plugins().join(name).join(version.to_string())).unwrap();
    }
}

fn publish(parent: &Path, version: u64, files: &[(&str, &[u8])]) {
    let arriving = parent.join(format!("{version}.arriving"));
    fs::create_dir_all(&arriving).unwrap();
    for (file, content) in files {
        fs::write(arriving.join(file), content).unwrap();
    }
    fs::rename(&arriving, parent.join(version.to_string())).unwrap();
}
