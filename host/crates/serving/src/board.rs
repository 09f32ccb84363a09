//! What is served now: one immutable table, replaced as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ingle_types::{
    Code, ModelReadiness, ModelSpec, Servable, Serve, ServeError, Stage, Version, VersionChoice,
    VersionStatus,
};

use crate::servable::{Handle, Loaded};

/// One model's versions, as of one instant: what answers and what is told of it
/// can't disagree.
#[derive(Clone, Default)]
pub(crate) struct ModelBoard {
    pub(crate) available: BTreeMap<Version, Arc<Loaded>>,
    /// Labels, the movable names of versions.
    pub(crate) labels: BTreeMap<String, Version>,
    /// The highest version first.
    pub(crate) status: Vec<VersionStatus>,
    /// The model was taken out of its repository: its last status is still told, but
    /// nobody waits for it to answer.
    pub(crate) removed: bool,
}

/// The routing table. Reading it never waits.
#[derive(Default)]
pub struct Board {
    models: ArcSwap<BTreeMap<String, Arc<ModelBoard>>>,
}

impl Board {
    pub(crate) fn publish(&self, model: &str, board: ModelBoard) {
        let board = Arc::new(board);
        self.models.rcu(|models| {
            let mut models = BTreeMap::clone(models);
            models.insert(model.to_owned(), board.clone());
            models
        });
    }

    /// The names of all models that were ever seen, with the number of versions that answer.
    pub fn models(&self) -> BTreeMap<String, usize> {
        self.models.load().iter().map(|(name, m)| (name.clone(), m.available.len())).collect()
    }

    /// A model's versions and labels as they are now; `None` for one never listed.
    pub(crate) fn model(&self, name: &str) -> Option<Arc<ModelBoard>> {
        self.models.load().get(name).cloned()
    }

    /// All models that were ever seen.
    pub(crate) fn all(&self) -> Arc<BTreeMap<String, Arc<ModelBoard>>> {
        self.models.load_full()
    }
}

/// The board as the protocols see it.
pub struct Server {
    board: Arc<Board>,
}

impl Server {
    pub fn new(board: Arc<Board>) -> Self {
        Self { board }
    }
}

fn not_found(message: String) -> ServeError {
    ServeError::new(Code::NotFound, Stage::Route, message)
}

impl Serve for Server {
    fn resolve(&self, spec: &ModelSpec) -> Result<Arc<dyn Servable>, ServeError> {
        let models = self.board.models.load();
        // An unknown model has neither versions nor labels: it is told as TensorFlow
        // Serving tells it, by what was asked for.
        let model = models.get(&spec.name);
        let absent = |request| not_found(format!("Servable not found for request: {request}"));
        let specific = |version: Version| {
            let found = model.and_then(|model| model.available.get(&version));
            found.ok_or_else(|| absent(format!("Specific({}, {version})", spec.name)))
        };
        let loaded = match &spec.version {
            VersionChoice::Latest => model
                .and_then(|model| model.available.values().next_back())
                .ok_or_else(|| absent(format!("Latest({})", spec.name)))?,
            VersionChoice::Specific(version) => specific(*version)?,
            VersionChoice::Label(label) => {
                let version = model.and_then(|model| model.labels.get(label)).ok_or_else(|| {
                    let message = format!("Unrecognized servable version label: {label}");
                    ServeError::invalid(Stage::Route, message)
                })?;
                specific(*version)?
            }
        };
        Ok(Arc::new(Handle::new(loaded.clone())))
    }

    fn status(
        &self,
        model: &str,
        version: Option<Version>,
    ) -> Result<Vec<VersionStatus>, ServeError> {
        let models = self.board.models.load();
        let all = models.get(model).map(|m| m.status.as_slice()).unwrap_or_default();
        let wanted: Vec<_> =
            all.iter().filter(|s| version.is_none_or(|v| v == s.version)).cloned().collect();
        match version {
            _ if !wanted.is_empty() => Ok(wanted),
            Some(version) => {
                Err(not_found(format!("Could not find version {version} of model {model}")))
            }
            None => Err(not_found(format!("Could not find any versions of model {model}"))),
        }
    }

    fn models(&self) -> Vec<ModelReadiness> {
        let models = self.board.models.load();
        let configured = models.iter().filter(|(_, model)| !model.removed);
        let readiness = |(name, model): (&String, &Arc<ModelBoard>)| ModelReadiness {
            name: name.clone(),
            available: model.available.keys().rev().copied().collect(),
        };
        configured.map(readiness).collect()
    }

    fn knows(&self, model: &str) -> bool {
        self.board.models.load().contains_key(model)
    }
}
