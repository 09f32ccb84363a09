//! Signatures as TensorFlow Serving publishes them, for both protocols.

use std::collections::BTreeMap;

use ingle_types::{Servable, Signature, TensorSpec};

use crate::proto::tensorflow::serving::SignatureDefMap;
use crate::proto::tensorflow::tensor_info::Encoding;
use crate::proto::tensorflow::{SignatureDef, TensorInfo, TensorShapeProto};
use crate::tensor_proto::{data_type, dim};

pub(crate) fn signature_defs(servable: &dyn Servable) -> SignatureDefMap {
    let defs = servable.signatures().iter();
    SignatureDefMap { signature_def: defs.map(|(name, s)| (name.clone(), def(s))).collect() }
}

fn def(signature: &Signature) -> SignatureDef {
    SignatureDef {
        inputs: infos(&signature.inputs),
        outputs: infos(&signature.outputs),
        method_name: signature.method.name().into(),
        defaults: BTreeMap::new(),
    }
}

fn infos(specs: &[TensorSpec]) -> BTreeMap<String, TensorInfo> {
    specs.iter().map(|spec| (spec.name.clone(), info(spec))).collect()
}

fn info(spec: &TensorSpec) -> TensorInfo {
    let shape = TensorShapeProto {
        dim: spec.shape.iter().flatten().map(|d| dim(d.number())).collect(),
        unknown_rank: spec.shape.is_none(),
    };
    TensorInfo {
        encoding: Some(Encoding::Name(spec.name.clone())),
        dtype: data_type(spec.dtype).into(),
        tensor_shape: Some(shape),
    }
}
