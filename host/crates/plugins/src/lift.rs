use bytes::Bytes;
use ingle_types::{DType, Dim, Limits, Shape, Tensor, TensorMap, TensorSpec};

use crate::bindings::exports::ingle::plugin::preprocess;
use crate::bindings::ingle::plugin::types::{
    self as wit, DataType, TensorDataResult, TensorResult, TensorSpecResult,
};
use crate::error::one_line;
use crate::{PluginInfo, Prepared};

/// A name that a guest made up, in an error and in a specification.
const NAME_BYTES: usize = 256;

/// A plugin's description of itself.
const DESCRIPTION_BYTES: usize = 4096;

/// What the host may allocate for one answer of a guest: its tensors, and beside them
/// the names, shapes and tables of pointers. Refused before it is allocated.
pub(crate) fn answer_bytes(limits: &Limits) -> usize {
    let tables = limits.plugin_output_bytes / 4;
    limits.plugin_output_bytes.saturating_add(tables).saturating_add(64 * 1024)
}

/// Turns a guest's answers into tensors, believing nothing. What is wrong is told in
/// words that complete "broke the plugin contract: ".
pub(crate) struct Lift<'a> {
    limits: &'a Limits,
    bytes: usize,
}

impl<'a> Lift<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self { limits, bytes: 0 }
    }

    pub(crate) fn prepared(mut self, prepared: preprocess::Prepared) -> Result<Prepared, String> {
        let most = self.limits.examples_per_request;
        match prepared.examples.len() {
            0 => return Err("it returned no example".into()),
            given if given > most => {
                return Err(format!("it returned {given} examples, above the limit of {most}"));
            }
            _ => {}
        }
        self.count(prepared.carry.len())?;
        let examples: Result<_, _> =
            prepared.examples.into_iter().map(|example| self.tensors(example.inputs)).collect();
        Ok(Prepared { examples: examples?, carry: prepared.carry.into() })
    }

    /// Checks an answer against what the plugin itself announced.
    pub(crate) fn answer(
        mut self,
        tensors: Vec<TensorResult>,
        public_spec: &[TensorSpec],
    ) -> Result<TensorMap, String> {
        let tensors = self.tensors(tensors)?;
        for (name, tensor) in &tensors {
            let spec = public_spec
                .iter()
                .find(|spec| spec.name == *name)
                .ok_or_else(|| format!("tensor \"{name}\" is not in its public-spec"))?;
            spec.check(tensor).map_err(|error| format!("its public-spec says: {error}"))?;
        }
        match public_spec.iter().find(|spec| !spec.optional && !tensors.contains_key(&spec.name)) {
            Some(missing) => {
                Err(format!("tensor \"{}\" of its public-spec is missing", missing.name))
            }
            None => Ok(tensors),
        }
    }

    fn tensors(&mut self, tensors: Vec<TensorResult>) -> Result<TensorMap, String> {
        let most = self.limits.tensors_per_request;
        if tensors.len() > most {
            return Err(format!(
                "it returned {} tensors, above the limit of {most}",
                tensors.len()
            ));
        }
        let mut map = TensorMap::new();
        for tensor in tensors {
            let name = checked_name(&tensor.name)?;
            let lifted = self.tensor(tensor).map_err(|why| format!("tensor \"{name}\": {why}"))?;
            if map.insert(name.clone(), lifted).is_some() {
                return Err(format!("two tensors are named \"{name}\""));
            }
        }
        Ok(map)
    }

    fn tensor(&mut self, tensor: TensorResult) -> Result<Tensor, String> {
        let dims: Result<Vec<usize>, _> =
            tensor.shape.iter().map(|&d| usize::try_from(d)).collect();
        let dims = dims.map_err(|_| "a dimension does not fit the address space".to_owned())?;
        let shape = Shape::new(dims).map_err(|error| error.to_string())?;
        let dtype = dtype(tensor.data_type);
        let lifted = match tensor.data {
            TensorDataResult::Dense(bytes) => {
                self.count(bytes.len())?;
                Tensor::dense(dtype, shape, bytes)
            }
            TensorDataResult::Blobs(_) if dtype != DType::Bytes => {
                return Err(format!("its data is blobs, but its type is {dtype}"));
            }
            TensorDataResult::Blobs(blobs) => {
                self.count(blobs.iter().map(Vec::len).sum())?;
                Tensor::blobs(shape, blobs.into_iter().map(Bytes::from).collect())
            }
        };
        lifted.map_err(|error| error.to_string())
    }

    fn count(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.plugin_output_bytes {
            return Err(too_much(self.limits));
        }
        Ok(())
    }
}

pub(crate) fn too_much(limits: &Limits) -> String {
    format!("it handed over more than {} bytes", limits.plugin_output_bytes)
}

/// Checks what `init` says of the plugin.
pub(crate) fn info(info: wit::PluginInfo, limits: &Limits) -> Result<PluginInfo, String> {
    let most = limits.tensors_per_request;
    match info.public_spec.len() {
        0 => return Err("its public-spec is empty".into()),
        given if given > most => {
            return Err(format!("its public-spec has {given} tensors, above the limit of {most}"));
        }
        _ => {}
    }
    let mut public_spec: Vec<TensorSpec> = Vec::new();
    for given in info.public_spec {
        let spec = spec(given)?;
        if public_spec.iter().any(|earlier| earlier.name == spec.name) {
            return Err(format!("two tensors of its public-spec are named \"{}\"", spec.name));
        }
        public_spec.push(spec);
    }
    Ok(PluginInfo {
        name: one_line(&info.name, NAME_BYTES),
        version: one_line(&info.version, NAME_BYTES),
        description: one_line(&info.description, DESCRIPTION_BYTES),
        public_spec,
    })
}

fn spec(given: TensorSpecResult) -> Result<TensorSpec, String> {
    let name = checked_name(&given.name)?;
    let wrong = |why: String| format!("tensor \"{name}\" of its public-spec: {why}");
    let dims: Result<Vec<Dim>, _> = given.shape.iter().map(|&size| dim(size)).collect();
    let dims = dims.map_err(wrong)?;
    let sizes: Vec<_> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Any => 1,
            Dim::Fixed(size) => *size,
        })
        .collect();
    Shape::new(sizes).map_err(|error| wrong(error.to_string()))?;
    let mut spec = TensorSpec::new(name, dtype(given.data_type), dims);
    spec.optional = given.optional;
    Ok(spec)
}

fn dim(size: i64) -> Result<Dim, String> {
    match usize::try_from(size) {
        Ok(size) => Ok(Dim::Fixed(size)),
        Err(_) if size == -1 => Ok(Dim::Any),
        Err(_) => Err(format!("{size} is not a dimension")),
    }
}

/// A name goes into answers, logs and error texts as it is.
fn checked_name(name: &str) -> Result<String, String> {
    let line = one_line(name, NAME_BYTES);
    if name.is_empty() {
        return Err("a tensor has no name".into());
    }
    if line != name {
        return Err(format!("\"{line}\" is no name for a tensor"));
    }
    Ok(line)
}

fn dtype(data_type: DataType) -> DType {
    match data_type {
        DataType::Boolean => DType::Bool,
        DataType::Uint8 => DType::U8,
        DataType::Uint16 => DType::U16,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Int8 => DType::I8,
        DataType::Int16 => DType::I16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::Float16 => DType::F16,
        DataType::Bfloat16 => DType::BF16,
        DataType::Float32 => DType::F32,
        DataType::Float64 => DType::F64,
        DataType::Bytes => DType::Bytes,
    }
}
