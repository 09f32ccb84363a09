//! A model's signature, read from its graph's declarations.

use std::collections::{HashMap, HashSet};

use ingle_types::{DType, Dim, Method, Signature, TensorSpec};

use crate::LoadError;
use crate::literal::dtype_of;
use crate::ops::ML_DOMAIN;
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
    let maps = map_outputs(graph);
    let output_spec = |info: &ValueInfoProto| match maps.get(info.name.as_str()) {
        Some(&classes) => Ok(probabilities(info.name.clone(), classes)),
        None => spec_of(info),
    };
    let outputs = graph.output.iter().map(output_spec).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = outputs.iter().find(|spec| !seen.insert(spec.name.as_str())) {
        return Err(LoadError::Duplicate { name: twice.name.clone() });
    }
    Ok(Signature { method: Method::Predict, inputs, outputs })
}

/// The outputs that ZipMap makes, as they are or by Identity, and how many classes
/// each has.
fn map_outputs(graph: &GraphProto) -> HashMap<&str, usize> {
    let mut maps = HashMap::new();
    for node in &graph.node {
        let ([input, ..], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
            continue;
        };
        let classes = match (node.domain.as_str(), node.op_type.as_str()) {
            (ML_DOMAIN, "ZipMap") => {
                let lists = node.attribute.iter().map(|a| a.ints.len().max(a.strings.len()));
                lists.max().unwrap_or_default()
            }
            ("" | "ai.onnx", "Identity") => match maps.get(input.as_str()) {
                Some(&classes) => classes,
                None => continue,
            },
            _ => continue,
        };
        maps.insert(output.as_str(), classes);
    }
    maps
}

/// What stands for a list of maps from class to probability.
fn probabilities(name: String, classes: usize) -> TensorSpec {
    let shape = Some(vec![Dim::Any, Dim::Fixed(classes)]);
    TensorSpec { name, dtype: DType::F32, shape, optional: false }
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
    use crate::proto::{
        AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, type_proto,
    };
    use crate::testing;

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
    fn a_list_of_maps_is_answered_as_probabilities() {
        let maps = Some(Value::SequenceType(type_proto::Other {}));
        let info = |name: &str| ValueInfoProto {
            name: name.into(),
            r#type: Some(TypeProto { value: maps.clone() }),
        };
        let node = |operator: &str, domain: &str, input: &str, output: &str| NodeProto {
            domain: domain.into(),
            attribute: vec![AttributeProto {
                strings: vec!["a".into(), "b".into()],
                ..AttributeProto::default()
            }],
            ..testing::node(operator, &[input], &[output])
        };
        let zip = node("ZipMap", "ai.onnx.ml", "p", "z");
        let graph = GraphProto {
            node: vec![zip, node("Identity", "", "z", "y")],
            output: vec![info("y"), info("z")],
            ..GraphProto::default()
        };
        for spec in signature_of(&graph).unwrap().outputs {
            assert_eq!((spec.dtype, spec.shape_text().as_str()), (DType::F32, "[-1,2]"));
        }
        let other = GraphProto { output: vec![info("y")], ..GraphProto::default() };
        assert!(signature_of(&other).is_err());
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
