//! Between the component's bindings and the types of this crate: moves, no copies.

use std::marker::PhantomData;
use std::sync::Once;
use std::time::Duration;

use bindings::preprocessor::ingle::plugin::{telemetry as wit_telemetry, types as wit};

use crate::telemetry::{Level, log};
use crate::{
    Code, DataType, Error, File, InitOptions, PluginInfo, Postprocess, Preprocess, RequestContext,
    Result, Tensor, TensorData, TensorSpec, Value, failed_precondition,
};

/// One module for each world. They share the types, and a component contains only what the
/// export macro of its own world pulls in.
pub mod bindings {
    pub mod preprocessor {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "preprocessor",
            pub_export_macro: true,
        });
    }
    pub mod postprocessor {
        wit_bindgen::generate!({
            path: "../../wit",
            world: "postprocessor",
            pub_export_macro: true,
            with: {
                "ingle:plugin/types@0.1.0": super::preprocessor::ingle::plugin::types,
                "ingle:plugin/telemetry@0.1.0": super::preprocessor::ingle::plugin::telemetry,
            },
        });
    }
}

use bindings::postprocessor::exports::ingle::plugin::postprocess as wit_post;
use bindings::preprocessor::exports::ingle::plugin::preprocess as wit_pre;

/// Where the export macros keep the plugin of an instance between `init` and `process`.
pub trait Slot: Sized {
    fn with<R>(run: impl FnOnce(&mut Option<Self>) -> R) -> R;
}

/// Answers the calls of `preprocess` with the plugin in `T`'s slot.
pub struct Preprocessor<T>(PhantomData<T>);

/// Answers the calls of `postprocess` with the plugin in `T`'s slot.
pub struct Postprocessor<T>(PhantomData<T>);

impl<T: Preprocess + Slot> wit_pre::Guest for Preprocessor<T> {
    fn init(options: wit::InitOptions) -> Result<wit::PluginInfo, wit::Error> {
        init(options, T::init, T::info)
    }

    fn process(
        context: wit::RequestContext,
        inputs: Vec<wit::Tensor>,
    ) -> Result<wit_pre::Prepared, wit::Error> {
        let prepared = process(|plugin: &mut T| plugin.process(&context.into(), into_all(inputs)))?;
        let examples = prepared.examples.into_iter();
        Ok(wit_pre::Prepared {
            examples: examples
                .map(|inputs| wit_pre::Example { inputs: into_all(inputs) })
                .collect(),
            carry: prepared.carry,
        })
    }
}

impl<T: Postprocess + Slot> wit_post::Guest for Postprocessor<T> {
    fn init(options: wit::InitOptions) -> Result<wit::PluginInfo, wit::Error> {
        init(options, T::init, T::info)
    }

    fn process(
        context: wit::RequestContext,
        results: Vec<wit_post::ModelResult>,
        carry: Vec<u8>,
    ) -> Result<Vec<wit::Tensor>, wit::Error> {
        let results = results.into_iter().map(|result| into_all(result.outputs)).collect();
        process(|plugin: &mut T| plugin.process(&context.into(), results, carry)).map(into_all)
    }
}

fn init<T: Slot>(
    options: wit::InitOptions,
    make: impl FnOnce(InitOptions) -> Result<T>,
    describe: impl FnOnce(&T) -> PluginInfo,
) -> Result<wit::PluginInfo, wit::Error> {
    install_panic_hook();
    let plugin = make(options.into())?;
    let info = describe(&plugin);
    T::with(|slot| *slot = Some(plugin));
    Ok(info.into())
}

fn process<T: Slot, R>(run: impl FnOnce(&mut T) -> Result<R>) -> Result<R, wit::Error> {
    let answer = T::with(|slot| match slot {
        Some(plugin) => run(plugin),
        None => Err(failed_precondition!("process was called before init")),
    });
    Ok(answer?)
}

/// A panic ends in a trap, which carries no message: this is where it is said.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| log(Level::Error, format_args!("{info}"))));
    });
}

pub(crate) fn telemetry_enabled(level: Level) -> bool {
    wit_telemetry::enabled(level.into())
}

pub(crate) fn telemetry_log(level: Level, message: &str) {
    wit_telemetry::log(level.into(), message);
}

fn into_all<A, B: From<A>>(all: Vec<A>) -> Vec<B> {
    all.into_iter().map(B::from).collect()
}

macro_rules! same_variants {
    ($ours:ty, $theirs:ty: $($variant:ident),+ $(,)?) => {
        impl From<$ours> for $theirs {
            fn from(ours: $ours) -> Self {
                match ours { $(<$ours>::$variant => Self::$variant,)+ }
            }
        }
        impl From<$theirs> for $ours {
            fn from(theirs: $theirs) -> Self {
                match theirs { $(<$theirs>::$variant => Self::$variant,)+ }
            }
        }
    };
}

same_variants!(DataType, wit::DataType:
    Boolean, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64,
    Float16, Bfloat16, Float32, Float64, Bytes);
same_variants!(Code, wit::ErrorCode:
    InvalidArgument, NotFound, FailedPrecondition, ResourceExhausted, Unimplemented,
    DeadlineExceeded, Unavailable, Internal);
same_variants!(Level, wit_telemetry::Level: Trace, Debug, Info, Warn, Error);

impl From<Error> for wit::Error {
    fn from(error: Error) -> Self {
        Self { code: error.code.into(), message: error.message }
    }
}

impl From<wit::Tensor> for Tensor {
    fn from(tensor: wit::Tensor) -> Self {
        let data = match tensor.data {
            wit::TensorData::Dense(bytes) => TensorData::Dense(bytes),
            wit::TensorData::Blobs(blobs) => TensorData::Blobs(blobs),
        };
        let data_type = tensor.data_type.into();
        Self { name: tensor.name, data_type, shape: tensor.shape, data }
    }
}

impl From<Tensor> for wit::Tensor {
    fn from(tensor: Tensor) -> Self {
        let data = match tensor.data {
            TensorData::Dense(bytes) => wit::TensorData::Dense(bytes),
            TensorData::Blobs(blobs) => wit::TensorData::Blobs(blobs),
        };
        let data_type = tensor.data_type.into();
        Self { name: tensor.name, data_type, shape: tensor.shape, data }
    }
}

impl From<wit::TensorSpec> for TensorSpec {
    fn from(spec: wit::TensorSpec) -> Self {
        Self {
            name: spec.name,
            data_type: spec.data_type.into(),
            shape: spec.shape,
            optional: spec.optional,
            description: spec.description,
        }
    }
}

impl From<TensorSpec> for wit::TensorSpec {
    fn from(spec: TensorSpec) -> Self {
        Self {
            name: spec.name,
            data_type: spec.data_type.into(),
            shape: spec.shape,
            optional: spec.optional,
            description: spec.description,
        }
    }
}

impl From<PluginInfo> for wit::PluginInfo {
    fn from(info: PluginInfo) -> Self {
        Self {
            name: info.name,
            version: info.version,
            description: info.description,
            public_spec: into_all(info.public_spec),
        }
    }
}

impl From<wit::File> for File {
    fn from(file: wit::File) -> Self {
        Self { name: file.name, content: file.content }
    }
}

impl From<wit::InitOptions> for InitOptions {
    fn from(options: wit::InitOptions) -> Self {
        Self {
            config: options.config,
            files: into_all(options.files),
            model_inputs: into_all(options.model_inputs),
            model_outputs: into_all(options.model_outputs),
        }
    }
}

impl From<wit::Value> for Value {
    fn from(value: wit::Value) -> Self {
        match value {
            wit::Value::Flag(flag) => Self::Flag(flag),
            wit::Value::Int(int) => Self::Int(int),
            wit::Value::Float(float) => Self::Float(float),
            wit::Value::Text(text) => Self::Text(text),
        }
    }
}

impl From<wit::RequestContext> for RequestContext {
    fn from(context: wit::RequestContext) -> Self {
        let parameters = context.parameters.into_iter();
        Self {
            request_id: context.request_id,
            model: context.model,
            version: context.version,
            signature: context.signature,
            parameters: parameters.map(|(name, value)| (name, value.into())).collect(),
            remaining: context.remaining_ns.map(Duration::from_nanos),
        }
    }
}
