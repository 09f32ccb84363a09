//! One attempt to make a version servable.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use ingle_bundle::{Bundle, BundleError, FoundVersion, ModelSource};
use ingle_engine::{Engine, ExternalData, ExternalDataError, LoadError, Program, RunError};
use ingle_types::{
    BatchingParameters, Code, DType, Dim, ServeError, Shape, Tensor, TensorMap, TensorSpec, Version,
};

use crate::assembly::{Assembly, AssemblyError, Pipelines, plugin_names};
use crate::batching::BatchingError;
use crate::manager::Shared;
use crate::manager::replay::replay;
use crate::manager::versions::Failure;
use crate::plugin_repository::View;
use crate::servable::{Follow, Loaded, LoadedParts};

/// A warm-up request larger than this would cost more than it helps.
const WARM_UP_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum VersionError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Model(#[from] LoadError),
    #[error("{source}")]
    Plugins {
        source: AssemblyError,
        /// What there was to choose from.
        view: View,
    },
    #[error(transparent)]
    Batching(#[from] BatchingError),
    #[error("the model cannot answer a warm-up request: {0}")]
    WarmUp(RunError),
    /// In the words of the request that failed.
    #[error("{}", .0.message())]
    Replay(#[source] ServeError),
    #[error("loading failed inside the server")]
    Panicked { text: String },
}

impl VersionError {
    /// What is not there yet of a version whose digests are not met.
    pub(crate) fn arriving(&self) -> Option<String> {
        match self {
            Self::Bundle(error @ BundleError::Arriving { .. }) => Some(error.to_string()),
            _ => None,
        }
    }

    /// Whether the next attempt may end otherwise with the same files. Plugins are
    /// followed by themselves.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Bundle(error) => error.may_pass(),
            Self::Model(error) => error.code() == Code::Internal,
            Self::Plugins { .. } | Self::Batching(_) => false,
            Self::Replay(error) => matches!(error.code(), Code::Internal | Code::Unavailable),
            Self::WarmUp(_) | Self::Panicked { .. } => true,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Bundle(e) => e.code(),
            Self::Model(e) => e.code(),
            Self::Plugins { source, .. } => source.code(),
            Self::Batching(e) => e.code(),
            Self::WarmUp(e) => e.code(),
            Self::Replay(e) => e.code(),
            Self::Panicked { .. } => Code::Internal,
        }
    }

    pub(crate) fn failure(&self) -> Failure {
        Failure { code: self.code(), message: self.to_string() }
    }
}

pub(crate) struct Attempt<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) model: &'a str,
    pub(crate) source: &'a ModelSource,
}

impl Attempt<'_> {
    /// Reads what the version holds, and checks its digests.
    pub(crate) fn read(
        &self,
        version: Version,
        found: &FoundVersion,
    ) -> Result<Bundle, VersionError> {
        guarded(|| Ok(self.source.read(version, found, &self.shared.limits)?))
    }

    /// Prepares, starts the plugins and answers a warm-up.
    pub(crate) fn prepare(
        &self,
        version: Version,
        found: &FoundVersion,
        bundle: Bundle,
    ) -> Result<Arc<Loaded>, VersionError> {
        guarded(|| self.prepare_unguarded(version, found, bundle))
    }

    fn prepare_unguarded(
        &self,
        version: Version,
        found: &FoundVersion,
        mut bundle: Bundle,
    ) -> Result<Arc<Loaded>, VersionError> {
        let Shared { engine, limits, plugins, executors, .. } = self.shared;
        let batching = self.shared.batching.as_ref().map(|batching| batching.of(&bundle, limits));
        let batching = batching.transpose()?.flatten();
        let program = Arc::new(load_program(engine, &bundle, self.shared)?);
        let view = plugins.view(&plugin_names(&bundle), &View::new());
        let (pipelines, follow) =
            assemble(self.shared, view.clone(), &program, &bundle, batching.as_ref())
                .map_err(|source| VersionError::Plugins { source, view })?;
        warm_up(&program)?;
        let recorded = match &self.shared.warm_up {
            Some(_) => bundle.warm_up_requests(limits)?,
            None => None,
        };
        bundle.release();
        let model = self.model.into();
        let parts = LoadedParts { model, version, bundle, program, batching, pipelines, follow };
        let loaded = Arc::new(Loaded::new(parts, executors.clone()));
        if let Some(file) = recorded {
            let path = self.source.base_path().join(found.directory());
            replay(self.shared, &loaded, file, &path.to_string_lossy())?;
        }
        Ok(loaded)
    }
}

/// Foreign code that panics costs the version that it was run for, and no other.
fn guarded<T>(work: impl FnOnce() -> Result<T, VersionError>) -> Result<T, VersionError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(VersionError::Panicked { text: panic_text(&*panic) }))
}

/// Starts a bundle's plugins as `view` has them.
pub(crate) fn assemble(
    shared: &Shared,
    view: View,
    program: &Arc<Program>,
    bundle: &Bundle,
    batching: Option<&BatchingParameters>,
) -> Result<(Pipelines, Follow), AssemblyError> {
    let mut assembly = Assembly::new(&shared.plugins, &view, program, batching);
    let pipelines = assembly.assemble(bundle)?;
    let refused: BTreeMap<_, _> = std::mem::take(&mut assembly.refused);
    let note = refused.values().cloned().collect::<Vec<_>>().join("; ");
    Ok((pipelines, Follow { view, note }))
}

fn load_program(engine: &Engine, bundle: &Bundle, shared: &Shared) -> Result<Program, LoadError> {
    struct Files<'a>(&'a Bundle);
    impl ExternalData for Files<'_> {
        fn read(&self, location: &str) -> Result<Bytes, ExternalDataError> {
            self.0.read_file(location).map_err(|e| match e {
                BundleError::Missing { .. } => ExternalDataError::NotFound,
                BundleError::Read { source, .. } => ExternalDataError::Read(source),
                _ => ExternalDataError::Refused,
            })
        }
    }
    engine.load(&bundle.model, &Files(bundle), &shared.limits)
}

/// The first run on a device allocates and may compile kernels; traffic should not
/// wait for that. A model that refuses zeros may still answer real requests.
fn warm_up(program: &Program) -> Result<(), VersionError> {
    let signature = program.signature();
    let required = signature.inputs.iter().filter(|spec| !spec.optional);
    let Some(inputs) = required.map(zeros).collect::<Option<TensorMap>>() else { return Ok(()) };
    match program.run(&inputs, &[]) {
        Err(e) if e.code() == Code::Internal => Err(VersionError::WarmUp(e)),
        Err(error) => {
            tracing::debug!(%error, "the warm-up request was refused");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// A batch of one; `None` where a size is not known.
fn zeros(spec: &TensorSpec) -> Option<(String, Tensor)> {
    let shape = spec.shape.as_ref()?;
    let size = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Any => (axis == 0).then_some(1),
    };
    let shape = Shape::new(shape.iter().enumerate().map(size).collect::<Option<Vec<_>>>()?).ok()?;
    let bytes = shape.elements().checked_mul(spec.dtype.size_bytes()?)?;
    let fits = bytes <= WARM_UP_BYTES && spec.dtype != DType::Bytes;
    let tensor = fits.then(|| Tensor::dense(spec.dtype, shape, vec![0; bytes]).ok())??;
    Some((spec.name.clone(), tensor))
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
        .to_owned()
}
