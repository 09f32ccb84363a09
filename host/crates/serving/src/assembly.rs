//! Puts plugins around a program: a bundle's stages become runnable pipelines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use ingle_batching::Admission;
use ingle_bundle::{Bundle, PluginRef, SignatureConfig, StageConfig};
use ingle_engine::Program;
use ingle_plugins::{InitOptions, Plugin, PluginError, PluginInfo};
use ingle_types::{BatchingParameters, Code, Signature, TensorSpec, Version};

use crate::examples::{with_batch, without_batch};
use crate::pace::Pace;
use crate::pipeline::Pipeline;
use crate::plugin_repository::{PluginRepository, RepositoryError, View};

/// All signatures of a version, with the plugins of one instant.
#[derive(Default)]
pub(crate) struct Pipelines {
    pub(crate) by_signature: BTreeMap<String, Pipeline>,
    pub(crate) signatures: BTreeMap<String, Arc<Signature>>,
    /// The repository plugins in use.
    pub(crate) uses: BTreeMap<String, Version>,
}

/// Why a bundle's stages cannot be put around its program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssemblyError {
    #[error("signature {signature}: {source}")]
    Repository { signature: String, source: RepositoryError },
    #[error("signature {signature}: {source}")]
    Plugin { signature: String, source: Arc<PluginError> },
}

impl AssemblyError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Repository { source, .. } => source.code(),
            Self::Plugin { source, .. } => source.code(),
        }
    }
}

/// Assembles pipelines, noting what was refused on the way.
pub(crate) struct Assembly<'a> {
    repository: &'a PluginRepository,
    view: &'a View,
    program: &'a Arc<Program>,
    batching: Option<&'a BatchingParameters>,
    uses: BTreeMap<String, Version>,
    /// A plugin and what is wrong with one of its versions.
    pub(crate) refused: BTreeMap<(String, Version), String>,
}

/// The repository plugins that a bundle names.
pub(crate) fn plugin_names(bundle: &Bundle) -> BTreeSet<String> {
    let stages = bundle.signatures.values().flat_map(|s| [&s.preprocess, &s.postprocess]);
    stages
        .flatten()
        .filter_map(|stage| match &stage.plugin {
            PluginRef::Repository { name, .. } => Some(name.clone()),
            PluginRef::Pinned { .. } => None,
        })
        .collect()
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(
        repository: &'a PluginRepository,
        view: &'a View,
        program: &'a Arc<Program>,
        batching: Option<&'a BatchingParameters>,
    ) -> Self {
        let (uses, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { repository, view, program, batching, uses, refused }
    }

    pub(crate) fn assemble(&mut self, bundle: &Bundle) -> Result<Pipelines, AssemblyError> {
        let mut pipelines = Pipelines::default();
        for (name, config) in &bundle.signatures {
            let pipeline = self.pipeline(name, config)?;
            pipelines.signatures.insert(name.clone(), pipeline.signature.clone());
            pipelines.by_signature.insert(name.clone(), pipeline);
        }
        pipelines.uses = std::mem::take(&mut self.uses);
        Ok(pipelines)
    }

    fn pipeline(
        &mut self,
        name: &str,
        config: &SignatureConfig,
    ) -> Result<Pipeline, AssemblyError> {
        let preprocess = config
            .preprocess
            .as_ref()
            .map(|stage| self.start(name, stage, Plugin::preprocessor))
            .transpose()?;
        let postprocess = config
            .postprocess
            .as_ref()
            .map(|stage| self.start(name, stage, Plugin::postprocessor))
            .transpose()?;
        let model = self.program.signature();
        let public = |info: Option<&PluginInfo>, own: &[TensorSpec]| {
            info.map_or_else(|| own.to_vec(), |i| i.public_spec.iter().map(with_batch).collect())
        };
        let signature = Signature {
            method: model.method,
            inputs: public(preprocess.as_ref().map(|p| p.info()), &model.inputs),
            outputs: public(postprocess.as_ref().map(|p| p.info()), &model.outputs),
        };
        Ok(Pipeline {
            name: name.into(),
            signature: Arc::new(signature),
            program: self.program.clone(),
            admission: self.batching.map(Admission::new),
            preprocess: preprocess.map(Arc::new),
            postprocess: postprocess.map(Arc::new),
            pace: Pace::default(),
            times: OnceLock::new(),
        })
    }

    /// Starts a stage's plugin. Of a followed plugin the highest version that starts
    /// is taken; what is above it is noted.
    fn start<S>(
        &mut self,
        signature: &str,
        stage: &StageConfig,
        start: impl Fn(&Plugin, InitOptions) -> Result<S, PluginError>,
    ) -> Result<S, AssemblyError> {
        let options = || init_options(stage, self.program.signature());
        let plugin_error = |e: PluginError| AssemblyError::Plugin {
            signature: signature.to_owned(),
            source: Arc::new(e),
        };
        match &stage.plugin {
            PluginRef::Pinned { name, component } => {
                let plugin =
                    self.repository.host().compile(name, None, component).map_err(plugin_error)?;
                start(&plugin, options()).map_err(plugin_error)
            }
            PluginRef::Repository { name, choice } => {
                let repository_error =
                    |source| AssemblyError::Repository { signature: signature.to_owned(), source };
                let candidates = self
                    .repository
                    .candidates(self.view, name, *choice)
                    .map_err(repository_error)?;
                let mut first_error = None;
                for (version, found) in candidates {
                    let started =
                        self.repository.plugin(name, version, &found).and_then(|plugin| {
                            start(&plugin, options())
                                .map_err(|e| RepositoryError::Plugin(Arc::new(e)))
                        });
                    match started {
                        Ok(stage) => {
                            self.uses.insert(name.clone(), version);
                            return Ok(stage);
                        }
                        Err(e) => {
                            self.refused.insert((name.clone(), version), e.to_string());
                            first_error.get_or_insert(e);
                        }
                    }
                }
                let none = RepositoryError::NotFound { name: name.clone() };
                Err(repository_error(first_error.unwrap_or(none)))
            }
        }
    }
}

fn init_options(stage: &StageConfig, model: &Signature) -> InitOptions {
    InitOptions {
        config: stage.config.clone(),
        files: stage.files.clone(),
        model_inputs: model.inputs.iter().map(without_batch).collect(),
        model_outputs: model.outputs.iter().map(without_batch).collect(),
    }
}
