use std::collections::BTreeMap;

use ingle_types::{Code, ModelSpec, ServeError, Stage};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::Wire;
use crate::call::Call;
use crate::proto::tensorflow as pb;
use crate::signature_def::signature_defs;

/// Field by field what protobuf's own JSON prints of the messages.
#[derive(Serialize)]
struct Response {
    model_spec: Spec,
    metadata: Metadata,
}

#[derive(Serialize)]
struct Spec {
    name: String,
    signature_name: &'static str,
    version: String,
}

#[derive(Serialize)]
struct Metadata {
    signature_def: Map,
}

/// A message with one field, of the same name as the one that it is in.
#[derive(Serialize)]
struct Map {
    signature_def: BTreeMap<String, Def>,
}

#[derive(Serialize)]
struct Def {
    inputs: BTreeMap<String, Info>,
    outputs: BTreeMap<String, Info>,
    method_name: String,
    defaults: BTreeMap<String, ()>,
}

#[derive(Serialize)]
struct Info {
    dtype: &'static str,
    tensor_shape: Shape,
    name: String,
}

#[derive(Serialize, Default)]
struct Shape {
    dim: Vec<Dim>,
    unknown_rank: bool,
}

#[derive(Serialize)]
struct Dim {
    size: String,
    name: String,
}

pub(super) fn answer(wire: &Wire, call: &Call, model: &ModelSpec) -> Result<Vec<u8>, ServeError> {
    let servable = wire.serve.resolve(model)?;
    call.found(&*servable);
    let signatures = signature_defs(&*servable).signature_def.into_iter();
    let signature_def = signatures.map(|(name, signature)| (name, def(signature))).collect();
    print(&Response {
        model_spec: Spec {
            name: model.name.clone(),
            signature_name: "",
            version: servable.version().to_string(),
        },
        metadata: Metadata { signature_def: Map { signature_def } },
    })
}

fn def(signature: pb::SignatureDef) -> Def {
    Def {
        inputs: infos(signature.inputs),
        outputs: infos(signature.outputs),
        method_name: signature.method_name,
        defaults: BTreeMap::new(),
    }
}

fn infos(infos: BTreeMap<String, pb::TensorInfo>) -> BTreeMap<String, Info> {
    infos.into_iter().map(|(name, tensor)| (name, info(tensor))).collect()
}

fn info(tensor: pb::TensorInfo) -> Info {
    let dtype = tensor.dtype().as_str_name();
    let name = match tensor.encoding {
        Some(pb::tensor_info::Encoding::Name(name)) => name,
        _ => String::new(),
    };
    let tensor_shape = tensor.tensor_shape.map(shape).unwrap_or_default();
    Info { dtype, tensor_shape, name }
}

fn shape(shape: pb::TensorShapeProto) -> Shape {
    let dims = shape.dim.into_iter();
    Shape {
        dim: dims.map(|dim| Dim { size: dim.size.to_string(), name: dim.name }).collect(),
        unknown_rank: shape.unknown_rank,
    }
}

/// JSON with one space of indent.
pub(crate) fn print(value: &impl Serialize) -> Result<Vec<u8>, ServeError> {
    let mut out = Vec::new();
    let mut printer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b" "));
    value.serialize(&mut printer).map_err(|error| {
        ServeError::new(Code::Internal, Stage::Encode, "internal error").with_source(error)
    })?;
    out.push(b'\n');
    Ok(out)
}
