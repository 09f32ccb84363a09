use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ingle_bundle::{BundleError, FoundVersion, PluginChoice, PluginSource};
use ingle_plugins::{Plugin, PluginError, PluginHost};
use ingle_types::{Code, Limits, Version};

/// The versions of each plugin that a servable follows, as one poll found them.
pub(crate) type View = BTreeMap<String, BTreeMap<Version, FoundVersion>>;

/// Why a plugin version cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("no plugin repository is configured, but plugin {name} is to come from it")]
    NoRepository { name: String },
    #[error("plugin {name} is not in the plugin repository")]
    NotFound { name: String },
    #[error("plugin {name} has no version {version} in the plugin repository")]
    NoVersion { name: String, version: Version },
    #[error("{0}")]
    Read(Arc<BundleError>),
    #[error("{0}")]
    Plugin(Arc<PluginError>),
}

impl RepositoryError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NoRepository { .. } => Code::FailedPrecondition,
            Self::NotFound { .. } | Self::NoVersion { .. } => Code::NotFound,
            Self::Read(e) => e.code(),
            Self::Plugin(e) => e.code(),
        }
    }
}

type Compiled = Arc<OnceLock<Result<Plugin, RepositoryError>>>;

/// Compiles each plugin version once, for all servables that follow it.
pub struct PluginRepository {
    source: Option<PluginSource>,
    host: PluginHost,
    limits: Arc<Limits>,
    compiled: Mutex<BTreeMap<(String, Version), (FoundVersion, Compiled)>>,
}

impl PluginRepository {
    pub fn new(source: Option<PluginSource>, host: PluginHost, limits: Arc<Limits>) -> Self {
        Self { source, host, limits, compiled: Mutex::default() }
    }

    pub(crate) fn host(&self) -> &PluginHost {
        &self.host
    }

    /// What is there now of the plugins in `names`. A repository that cannot be
    /// listed at the moment keeps the answer of `before`.
    pub(crate) fn view(&self, names: &BTreeSet<String>, before: &View) -> View {
        let Some(source) = &self.source else { return View::new() };
        names
            .iter()
            .map(|name| {
                let versions = source.list(name).unwrap_or_else(|error| {
                    tracing::warn!(plugin = %name, %error, "cannot list the plugin's versions");
                    before.get(name).cloned().unwrap_or_default()
                });
                (name.clone(), versions)
            })
            .collect()
    }

    /// The versions to try for a stage, the best first.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn candidates(
        &self,
        view: &View,
        name: &str,
        choice: PluginChoice,
    ) -> Result<Vec<(Version, FoundVersion)>, RepositoryError> {
        if self.source.is_none() {
            return Err(RepositoryError::NoRepository { name: name.into() });
        }
        let versions = view.get(name).filter(|versions| !versions.is_empty());
        let versions = versions.ok_or_else(|| RepositoryError::NotFound { name: name.into() })?;
        match choice {
            PluginChoice::Latest => {
                Ok(versions.iter().rev().map(|(v, found)| (*v, found.clone())).collect())
            }
            PluginChoice::Exact(version) => {
                let none = || RepositoryError::NoVersion { name: name.into(), version };
                let found = versions.get(&version).ok_or_else(none)?;
                Ok(vec![(version, found.clone())])
            }
        }
    }

    /// The compiled plugin; a failure is remembered until the files change.
    pub(crate) fn plugin(
        &self,
        name: &str,
        version: Version,
        found: &FoundVersion,
    ) -> Result<Plugin, RepositoryError> {
        let cell = {
            let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = compiled.entry((name.to_owned(), version));
            let fresh = || (found.clone(), Compiled::default());
            let entry = entry.or_insert_with(fresh);
            if entry.0 != *found {
                *entry = fresh();
            }
            entry.1.clone()
        };
        // Compiling takes a while: only those who want this very version wait for it.
        cell.get_or_init(|| self.compile(name, version, found)).clone()
    }

    fn compile(
        &self,
        name: &str,
        version: Version,
        found: &FoundVersion,
    ) -> Result<Plugin, RepositoryError> {
        let source = self
            .source
            .as_ref()
            .ok_or_else(|| RepositoryError::NoRepository { name: name.into() })?;
        let read = source.read(name, version, found, &self.limits);
        let component = read.map_err(|e| RepositoryError::Read(Arc::new(e)))?;
        let plugin = self.host.compile(name, Some(version), &component);
        plugin.map_err(|e| RepositoryError::Plugin(Arc::new(e)))
    }

    /// Forgets compiled versions that are no longer in the repository. Those in use
    /// live on with the servables that hold them.
    pub(crate) fn forget_missing(&self, view: &View) {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.retain(|(name, version), _| {
            view.get(name).is_none_or(|versions| versions.contains_key(version))
        });
    }
}
