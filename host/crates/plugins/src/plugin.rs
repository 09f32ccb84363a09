use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingle_types::{Deadline, TensorMap, TensorSpec, Version};
use wasmtime::component::InstancePre;

use crate::PluginError;
use crate::bindings::exports::ingle::plugin::{postprocess, preprocess};
use crate::bindings::ingle::plugin::types as wit;
use crate::host::Host;
use crate::instance::{Guest, Live, State};
use crate::lift::{self, Lift};
use crate::lower::{self, InitArguments};

/// A compiled component that keeps the contract. Cheap to clone; the machine code goes
/// with the last clone.
#[derive(Clone)]
pub struct Plugin(Arc<Loaded>);

pub(crate) struct Loaded {
    pub(crate) host: Arc<Host>,
    pub(crate) name: Arc<str>,
    pub(crate) version: Option<Version>,
    pub(crate) digest: String,
    pub(crate) pre: InstancePre<State>,
    pub(crate) preprocess: Option<preprocess::GuestIndices>,
    pub(crate) postprocess: Option<postprocess::GuestIndices>,
}

/// What a bundle configures a plugin with. Every instance gets the same.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// A JSON object.
    pub config: String,
    /// The files that the bundle lists for this plugin, by name.
    pub files: Vec<(String, Bytes)>,
    /// The model's signature, without the batch dimension.
    pub model_inputs: Vec<TensorSpec>,
    pub model_outputs: Vec<TensorSpec>,
}

/// What a configured plugin says of itself; checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    pub name: String,
    pub version: String,
    pub description: String,
    /// The side that clients see, without the batch dimension; names are unique.
    pub public_spec: Vec<TensorSpec>,
}

/// The request that a call is made for.
#[derive(Clone, Debug)]
pub struct CallContext {
    pub request_id: Arc<str>,
    pub model: Arc<str>,
    pub version: Version,
    pub signature: Arc<str>,
    pub deadline: Deadline,
}

/// What a preprocessor makes of one example of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Inputs of the model, at least one set, without the batch dimension.
    pub examples: Vec<TensorMap>,
    /// For the postprocessor alone.
    pub carry: Bytes,
}

impl Plugin {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self(Arc::new(loaded))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn version(&self) -> Option<Version> {
        self.0.version
    }

    /// SHA-256 of the component's file, in lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    pub fn has_preprocess(&self) -> bool {
        self.0.preprocess.is_some()
    }

    pub fn has_postprocess(&self) -> bool {
        self.0.postprocess.is_some()
    }

    /// Configures the plugin as a preprocessor: calls `init` once, on an instance that
    /// is thrown away.
    ///
    /// # Errors
    /// [`PluginError::MissingExport`] where it is none; else what `init` ended with, or
    /// what is wrong with the `public-spec` that it returned.
    pub fn preprocessor(&self, options: InitOptions) -> Result<Preprocessor, PluginError> {
        let exports = self.exports(self.0.preprocess.clone(), "preprocess")?;
        Ok(Preprocessor(Configured::new(&self.0, exports, options)?))
    }

    /// Configures the plugin as a postprocessor.
    ///
    /// # Errors
    /// As [`Plugin::preprocessor`].
    pub fn postprocessor(&self, options: InitOptions) -> Result<Postprocessor, PluginError> {
        let exports = self.exports(self.0.postprocess.clone(), "postprocess")?;
        Ok(Postprocessor(Configured::new(&self.0, exports, options)?))
    }

    fn exports<E>(&self, exports: Option<E>, stage: &str) -> Result<E, PluginError> {
        exports.ok_or_else(|| PluginError::MissingExport {
            plugin: self.0.name.clone(),
            export: format!("ingle:plugin/{stage}"),
        })
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loaded { name, version, digest, .. } = &*self.0;
        f.debug_struct("Plugin")
            .field("name", name)
            .field("version", version)
            .field("digest", digest)
            .finish_non_exhaustive()
    }
}

/// A plugin with its configuration.
struct Configured<G: Guest> {
    plugin: Arc<Loaded>,
    exports: G::Exports,
    arguments: InitArguments,
    info: PluginInfo,
}

impl<G: Guest> Configured<G> {
    fn new(
        plugin: &Arc<Loaded>,
        exports: G::Exports,
        options: InitOptions,
    ) -> Result<Arc<Self>, PluginError> {
        let arguments = InitArguments::new(options);
        let context = CallContext {
            request_id: "".into(),
            model: "".into(),
            version: 0,
            signature: "".into(),
            deadline: Deadline::NONE,
        };
        let (live, said) = Live::<G>::start(plugin, &exports, &arguments, &context)?;
        let info = lift::info(said, &plugin.host.limits).map_err(|what| live.at_init(what))?;
        drop(live);
        Ok(Arc::new(Self { plugin: plugin.clone(), exports, arguments, info }))
    }

    /// Runs `call` on a fresh instance, and counts it.
    fn on_fresh_instance<R>(
        &self,
        context: &CallContext,
        call: impl FnOnce(&mut Live<'_, G>) -> Result<R, PluginError>,
    ) -> Result<R, PluginError> {
        let start = Instant::now();
        let ended = Live::<G>::start(&self.plugin, &self.exports, &self.arguments, context)
            .and_then(|(mut live, _)| call(&mut live));
        let code = ended.as_ref().err().map(PluginError::code);
        self.plugin.host.metrics.plugin_call(&self.plugin.name, G::STAGE, code, start.elapsed());
        ended
    }
}

/// A plugin that makes a model's inputs of a request's.
#[derive(Clone)]
pub struct Preprocessor(Arc<Configured<preprocess::Guest>>);

impl Preprocessor {
    pub fn info(&self) -> &PluginInfo {
        &self.0.info
    }

    pub fn plugin(&self) -> Plugin {
        Plugin(self.0.plugin.clone())
    }

    /// Processes one example, without the batch dimension, on a fresh instance.
    ///
    /// # Errors
    /// The guest's own error, or how it failed to give an answer that can be believed.
    /// Whether the answer fits the model is the caller's to check.
    pub fn process(
        &self,
        context: &CallContext,
        inputs: &TensorMap,
    ) -> Result<Prepared, PluginError> {
        self.0.on_fresh_instance(context, |live| {
            let prepared = live.call(|guest, store, budget| {
                lower::with_tensors(inputs, |inputs| {
                    guest.call_process(store, request_context(context, budget), inputs)
                })
            })?;
            let limits = &self.0.plugin.host.limits;
            Lift::new(limits).prepared(prepared).map_err(|what| live.contract(what))
        })
    }
}

/// A plugin that makes the client's answer of a model's outputs.
#[derive(Clone)]
pub struct Postprocessor(Arc<Configured<postprocess::Guest>>);

impl Postprocessor {
    pub fn info(&self) -> &PluginInfo {
        &self.0.info
    }

    pub fn plugin(&self) -> Plugin {
        Plugin(self.0.plugin.clone())
    }

    /// Processes the model's outputs for one example of the request: `results` has one
    /// entry for each example that the preprocessor made of it, or just one.
    ///
    /// # Errors
    /// As [`Preprocessor::process`]; an answer that is not as `public-spec` says is
    /// [`PluginError::Contract`].
    pub fn process(
        &self,
        context: &CallContext,
        results: &[TensorMap],
        carry: &[u8],
    ) -> Result<TensorMap, PluginError> {
        self.0.on_fresh_instance(context, |live| {
            let tensors = live.call(|guest, store, budget| {
                lower::with_results(results, |results| {
                    guest.call_process(store, request_context(context, budget), results, carry)
                })
            })?;
            let limits = &self.0.plugin.host.limits;
            Lift::new(limits)
                .answer(tensors, &self.0.info.public_spec)
                .map_err(|what| live.contract(what))
        })
    }
}

fn request_context(context: &CallContext, budget: Duration) -> wit::RequestContext<'_> {
    wit::RequestContext {
        request_id: &context.request_id,
        model: &context.model,
        version: context.version,
        signature: &context.signature,
        parameters: &[],
        remaining_ns: Some(u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX)),
    }
}

impl fmt::Debug for Preprocessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Preprocessor").field(&self.plugin()).finish()
    }
}

impl fmt::Debug for Postprocessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postprocessor").field(&self.plugin()).finish()
    }
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync + Clone>() {}
    shared_by_threads::<Plugin>();
    shared_by_threads::<Preprocessor>();
    shared_by_threads::<Postprocessor>();
};
