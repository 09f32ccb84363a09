//! A model's signature, read from its graph's declarations.

use std::collections::HashSet;

use ingle_types::{Dim, Method, Signature, TensorSpec};

use crate::LoadError;
use crate::literal::dtype_of;
use crate::proto::type_proto::Value;
use crate::proto::{GraphProto, ValueInfoProto, tensor_shape_proto::dimension};

/// Inputs that are initializers too may be left out of a request.
pub(crate) fn signature_of(graph: &GraphProto) -> Result<Signature, LoadError> {
    let defaults: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = graph
        .input
        .iter()
        .map(|info| {
            let spec = spec_of(info)?;
            Ok(TensorSpec { optional: defaults.contains(spec.name.as_str()), ..spec })
        })
        .collect::<Result<_, LoadError>>()?;
    let outputs = graph.output.iter().map(spec_of).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = outputs.iter().find(|spec| !seen.insert(spec.name.as_str())) {
        return Err(LoadError::Duplicate { name: twice.name.clone() });
    }
    Ok(Signature { method: Method::Predict, inputs, outputs })
}

fn spec_of(info: &ValueInfoProto) -> Result<TensorSpec, LoadError> {
    let name = info.name.clone();
    let given = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(Value::TensorType(tensor)) => {
            let element = tensor.elem_type;
            let shape = tensor.shape.as_ref().map(|shape| {
                let dim = |d: &crate::proto::tensor_shape_proto::Dimension| match d.value {
                    Some(dimension::Value::DimValue(size)) => {
                        usize::try_from(size).map_or(Dim::Any, Dim::Fixed)
                    }
                    _ => Dim::Any,
                };
                shape.dim.iter().map(dim).collect()
            });
            return match dtype_of(element) {
                Some(dtype) => Ok(TensorSpec { name, dtype, shape, optional: false }),
                None => Err(LoadError::Element { name, element }),
            };
        }
        Some(Value::SequenceType(_)) => "a sequence",
        Some(Value::MapType(_)) => "a map",
        Some(Value::SparseTensorType(_)) => "a sparse tensor",
        Some(Value::OptionalType(_)) => "an optional value",
        None => "of no declared type",
    };
    Err(LoadError::ValueKind { name, given })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::tensor_shape_proto::Dimension;
    use crate::proto::{TensorProto, TensorShapeProto, TypeProto, type_proto};

    fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
        let dim = |&size: &i64| Dimension { value: Some(dimension::Value::DimValue(size)) };
        let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
        let tensor = type_proto::Tensor { elem_type: 1, shape: Some(shape) };
        let value = Some(Value::TensorType(tensor));
        ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value }) }
    }

    #[test]
    fn unknown_dims_are_any_and_initializers_make_inputs_optional() {
        let graph = GraphProto {
            input: vec![info("x", &[-1, 3]), info("w", &[3])],
            output: vec![info("y", &[])],
            initializer: vec![TensorProto { name: "w".into(), ..TensorProto::default() }],
            ..GraphProto::default()
        };
        let signature = signature_of(&graph).unwrap();
        assert_eq!(signature.inputs[0].shape_text(), "[-1,3]");
        assert!(!signature.inputs[0].optional);
        assert!(signature.inputs[1].optional);
        assert_eq!(signature.outputs[0].shape_text(), "[]");
    }

    #[test]
    fn what_is_no_tensor_is_named() {
        let sequence = Some(Value::SequenceType(type_proto::Other {}));
        let info = ValueInfoProto { name: "s".into(), r#type: Some(TypeProto { value: sequence }) };
        let graph = GraphProto { input: vec![info], ..GraphProto::default() };
        let error = signature_of(&graph).unwrap_err().to_string();
        assert!(error.contains("\"s\" is a sequence"), "{error}");
    }
}
