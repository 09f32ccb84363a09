//! What a model says of itself, supported or not.

use std::collections::{BTreeMap, HashSet};

use ingle_types::Limits;

use crate::LoadError;
use crate::graph::domain_of;
use crate::literal::dtype_of;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::type_proto::Value;
use crate::proto::{self, GraphProto, NodeProto, TensorProto, TensorShapeProto, ValueInfoProto};

/// A model file read, but not prepared: none of its nodes has been looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub ir_version: i64,
    /// The name and the version of what wrote the file.
    pub producer: String,
    /// The version of each operator domain; ONNX's own is called `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    pub inputs: Vec<DeclaredValue>,
    pub outputs: Vec<DeclaredValue>,
    /// How many nodes there are of each domain and operator, with those of subgraphs
    /// and of the model's own functions.
    pub operators: BTreeMap<(String, String), usize>,
    /// Elements of all initializers.
    pub parameters: u64,
    /// What the initializers take, in bytes.
    pub parameter_bytes: u64,
}

/// An input or an output as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredValue {
    pub name: String,
    /// `float`, `int64`, `FLOAT8E5M2`, `sequence`...
    pub kind: String,
    /// As `[N,3,224,224]`, with the names of dimensions; `None` = the rank is not known.
    pub shape: Option<String>,
    /// It has a default.
    pub optional: bool,
}

/// Reads what a model file says of itself.
///
/// # Errors
/// Where the file is not a model, or too large a one.
pub fn describe(model: &[u8], limits: &Limits) -> Result<Description, LoadError> {
    let model = proto::decode(model, limits.tensor_bytes)?;
    let graph = model.graph.ok_or(LoadError::NoGraph)?;
    let domain = |name: &str| if name.is_empty() { "ai.onnx".into() } else { name.to_owned() };
    let mut description = Description {
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        ..Description::default()
    };
    for import in model.opset_import {
        description.opsets.insert(domain(domain_of(&import.domain)), import.version);
    }
    let defaults: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let declared = |info: &ValueInfoProto| declared(info, &defaults);
    description.inputs = graph.input.iter().map(declared).collect();
    description.outputs = graph.output.iter().map(declared).collect();
    description.graph(&graph);
    for function in &model.functions {
        description.nodes(&function.node);
    }
    Ok(description)
}

impl Description {
    fn graph(&mut self, graph: &GraphProto) {
        for tensor in &graph.initializer {
            let elements = elements(tensor);
            let bits = elements.saturating_mul(bits_of(tensor.data_type));
            self.parameters = self.parameters.saturating_add(elements);
            self.parameter_bytes = self.parameter_bytes.saturating_add(bits.div_ceil(8));
        }
        self.nodes(&graph.node);
    }

    fn nodes(&mut self, nodes: &[NodeProto]) {
        for node in nodes {
            let key = (domain_of(&node.domain).to_owned(), node.op_type.clone());
            *self.operators.entry(key).or_default() += 1;
            for attribute in &node.attribute {
                if attribute.r#type() == AttributeType::Graph
                    && let Some(graph) = &attribute.g
                {
                    self.graph(graph);
                }
            }
        }
    }
}

fn elements(tensor: &TensorProto) -> u64 {
    let sizes = tensor.dims.iter().map(|&dim| u64::try_from(dim).unwrap_or(0));
    sizes.fold(1, u64::saturating_mul)
}

/// What one element takes; strings do not say.
fn bits_of(element: i32) -> u64 {
    let known = dtype_of(element).and_then(ingle_types::DType::size_bytes);
    if let Some(bytes) = known {
        return bytes as u64 * 8;
    }
    match DataType::try_from(element) {
        Ok(DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1) => 4,
        Ok(DataType::Uint2 | DataType::Int2) => 2,
        Ok(DataType::Complex64) => 64,
        Ok(DataType::Complex128) => 128,
        Ok(DataType::String | DataType::Undefined) | Err(_) => 0,
        Ok(_) => 8,
    }
}

fn declared(info: &ValueInfoProto, defaults: &HashSet<&str>) -> DeclaredValue {
    let (kind, shape) = match info.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(Value::TensorType(tensor)) => {
            (element_name(tensor.elem_type), tensor.shape.as_ref().map(shape_text))
        }
        Some(Value::SequenceType(_)) => ("sequence".to_owned(), None),
        Some(Value::MapType(_)) => ("map".to_owned(), None),
        Some(Value::SparseTensorType(_)) => ("sparse tensor".to_owned(), None),
        Some(Value::OptionalType(_)) => ("optional".to_owned(), None),
        None => ("unknown".to_owned(), None),
    };
    let optional = defaults.contains(info.name.as_str());
    DeclaredValue { name: info.name.clone(), kind, shape, optional }
}

/// The engine's name, or ONNX's where the engine has none.
pub(crate) fn element_name(element: i32) -> String {
    match (dtype_of(element), DataType::try_from(element)) {
        (Some(dtype), _) => dtype.to_string(),
        (None, Ok(name)) => name.as_str_name().to_owned(),
        (None, Err(_)) => element.to_string(),
    }
}

fn shape_text(shape: &TensorShapeProto) -> String {
    let size = |dim: &Dimension| match &dim.value {
        Some(dimension::Value::DimValue(size)) if *size >= 0 => size.to_string(),
        Some(dimension::Value::DimParam(name)) if !name.is_empty() => name.clone(),
        _ => "?".to_owned(),
    };
    let sizes: Vec<String> = shape.dim.iter().map(size).collect();
    format!("[{}]", sizes.join(","))
}

#[cfg(test)]
mod tests {
    use ingle_types::DType;
    use prost::Message;

    use super::*;
    use crate::proto::{OperatorSetIdProto, TypeProto, type_proto};
    use crate::testing::{f32s, info, initializer, model, node};

    #[test]
    fn a_model_is_described_before_anything_is_supported() {
        let mut float8 = info("y", DType::F32, Some(&[-1, 3]));
        let dims = vec![
            Dimension { value: Some(dimension::Value::DimParam("N".into())) },
            Dimension { value: Some(dimension::Value::DimValue(3)) },
            Dimension { value: None },
        ];
        let shape = Some(TensorShapeProto { dim: dims });
        let tensor = type_proto::Tensor { elem_type: DataType::Float8e5m2.into(), shape };
        float8.r#type = Some(TypeProto { value: Some(Value::TensorType(tensor)) });
        let mut branch = node("If", &["c"], &["z"]);
        let inner = GraphProto {
            node: vec![node("Relu", &["x"], &["i"])],
            initializer: vec![initializer("k", &f32s(&[3], &[0.0; 3]))],
            ..GraphProto::default()
        };
        branch.attribute.push(proto::AttributeProto {
            name: "then_branch".into(),
            g: Some(inner),
            r#type: AttributeType::Graph.into(),
            ..Default::default()
        });
        let graph = GraphProto {
            node: vec![node("Nonsense", &["x", "w"], &["y"]), node("Relu", &["y"], &["c"]), branch],
            input: vec![info("x", DType::I64, None), info("w", DType::F32, Some(&[2]))],
            output: vec![float8],
            initializer: vec![initializer("w", &f32s(&[2], &[1., 2.]))],
            ..GraphProto::default()
        };
        let mut proto = model(graph, 17);
        proto.producer_name = "maker".into();
        proto.opset_import.push(OperatorSetIdProto { domain: "mine".into(), version: 2 });
        let d = describe(&proto.encode_to_vec(), &Limits::default()).unwrap();
        assert_eq!((d.ir_version, d.producer.as_str()), (8, "maker"));
        assert_eq!((d.opsets["ai.onnx"], d.opsets["mine"]), (17, 2));
        assert_eq!((d.inputs[0].kind.as_str(), &d.inputs[0].shape), ("int64", &None));
        assert!(d.inputs[1].optional && !d.inputs[0].optional);
        assert_eq!(d.outputs[0].kind, "FLOAT8E5M2");
        assert_eq!(d.outputs[0].shape.as_deref(), Some("[N,3,?]"));
        assert_eq!(d.operators[&(String::new(), "Relu".into())], 2);
        assert_eq!((d.parameters, d.parameter_bytes), (5, 20));
    }

    #[test]
    fn sizes_that_lie_are_only_large() {
        let tensor = TensorProto {
            dims: vec![i64::MAX, i64::MAX, -1],
            data_type: DataType::Int4.into(),
            ..TensorProto::default()
        };
        let mut d = Description::default();
        d.graph(&GraphProto { initializer: vec![tensor], ..GraphProto::default() });
        assert_eq!(d.parameters, 0);
        assert!(describe(b"garbage", &Limits::default()).is_err());
    }
}
