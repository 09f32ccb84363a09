use ingle_types::{DType, Data, Dim, Tensor, TensorMap, TensorSpec};

use crate::InitOptions;
use crate::bindings::exports::ingle::plugin::postprocess::ModelResult;
use crate::bindings::ingle::plugin::types::{
    self as wit, DataType, File, TensorDataParam, TensorParam, TensorSpecParam,
};

/// Lends `tensors` to a guest. The elements are copied once, into the guest's memory;
/// only shapes and tables of pointers are built here.
pub(crate) fn with_tensors<R>(
    tensors: &TensorMap,
    lend: impl FnOnce(&[TensorParam<'_>]) -> R,
) -> R {
    let parts: Vec<_> = tensors.values().map(Parts::of).collect();
    lend(&params(tensors, &parts))
}

/// Lends the model's outputs, one entry for each example.
pub(crate) fn with_results<R>(
    results: &[TensorMap],
    lend: impl FnOnce(&[ModelResult<'_>]) -> R,
) -> R {
    let parts: Vec<Vec<_>> =
        results.iter().map(|tensors| tensors.values().map(Parts::of).collect()).collect();
    let params: Vec<_> =
        results.iter().zip(&parts).map(|(tensors, parts)| params(tensors, parts)).collect();
    let results: Vec<_> = params.iter().map(|outputs| ModelResult { outputs }).collect();
    lend(&results)
}

/// What the canonical ABI wants otherwise than a tensor has it.
struct Parts<'a> {
    shape: Vec<u64>,
    blobs: Vec<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(tensor: &'a Tensor) -> Self {
        let shape = tensor.dims().iter().map(|&size| size as u64).collect();
        let blobs = tensor.strings().unwrap_or_default().iter().map(|blob| &**blob).collect();
        Self { shape, blobs }
    }
}

fn params<'a>(tensors: &'a TensorMap, parts: &'a [Parts<'a>]) -> Vec<TensorParam<'a>> {
    let param = |((name, tensor), parts): ((&'a String, &'a Tensor), &'a Parts<'a>)| TensorParam {
        name,
        data_type: data_type(tensor.dtype()),
        shape: &parts.shape,
        data: match tensor.data() {
            Data::Dense(bytes) => TensorDataParam::Dense(bytes),
            Data::Blobs(_) => TensorDataParam::Blobs(&parts.blobs),
        },
    };
    tensors.iter().zip(parts).map(param).collect()
}

/// What every instance of a configured plugin is initialised with.
#[derive(Debug)]
pub(crate) struct InitArguments {
    options: InitOptions,
    inputs: Vec<SpecArgument>,
    outputs: Vec<SpecArgument>,
}

#[derive(Debug)]
struct SpecArgument {
    shape: Vec<i64>,
    description: &'static str,
}

impl InitArguments {
    pub(crate) fn new(options: InitOptions) -> Self {
        let arguments = |specs: &[TensorSpec]| specs.iter().map(SpecArgument::of).collect();
        Self {
            inputs: arguments(&options.model_inputs),
            outputs: arguments(&options.model_outputs),
            options,
        }
    }

    pub(crate) fn lend<R>(&self, lend: impl FnOnce(wit::InitOptions<'_>) -> R) -> R {
        let file = |(name, content)| File { name, content };
        let files: Vec<_> = self
            .options
            .files
            .iter()
            .map(|(name, content)| file((name.as_str(), content)))
            .collect();
        let model_inputs = spec_params(&self.options.model_inputs, &self.inputs);
        let model_outputs = spec_params(&self.options.model_outputs, &self.outputs);
        lend(wit::InitOptions {
            config: &self.options.config,
            files: &files,
            model_inputs: &model_inputs,
            model_outputs: &model_outputs,
        })
    }
}

impl SpecArgument {
    /// The contract has no word for an unknown rank.
    fn of(spec: &TensorSpec) -> Self {
        match &spec.shape {
            Some(dims) => {
                Self { shape: dims.iter().map(|dim: &Dim| dim.number()).collect(), description: "" }
            }
            None => Self { shape: Vec::new(), description: "unknown rank" },
        }
    }
}

fn spec_params<'a>(
    specs: &'a [TensorSpec],
    arguments: &'a [SpecArgument],
) -> Vec<TensorSpecParam<'a>> {
    let param = |(spec, argument): (&'a TensorSpec, &'a SpecArgument)| TensorSpecParam {
        name: &spec.name,
        data_type: data_type(spec.dtype),
        shape: &argument.shape,
        optional: spec.optional,
        description: argument.description,
    };
    specs.iter().zip(arguments).map(param).collect()
}

fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::Boolean,
        DType::U8 => DataType::Uint8,
        DType::U16 => DataType::Uint16,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::I8 => DataType::Int8,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::F32 => DataType::Float32,
        DType::F64 => DataType::Float64,
        DType::Bytes => DataType::Bytes,
    }
}
