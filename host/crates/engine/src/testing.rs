//! Small models for tests, and the harness of the operators' golden tests.

use std::error::Error;

use bytes::Bytes;
use ingle_types::{DType, Element, Limits, Shape, Tensor, TensorMap};
use prost::Message;

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::*;
use crate::{DeviceChoice, Engine, LoadError, NoExternalData, Program};

pub(crate) fn tensor<T: Element>(dims: &[usize], values: &[T]) -> Tensor {
    Tensor::from_slice(dims, values).unwrap()
}

pub(crate) fn f32s(dims: &[usize], values: &[f32]) -> Tensor {
    tensor(dims, values)
}

pub(crate) fn i64s(dims: &[usize], values: &[i64]) -> Tensor {
    tensor(dims, values)
}

pub(crate) fn bools(dims: &[usize], values: &[u8]) -> Tensor {
    Tensor::dense(DType::Bool, Shape::new(dims).unwrap(), values.to_vec()).unwrap()
}

/// A tensor of strings.
pub(crate) fn texts(dims: &[usize], values: &[&str]) -> Tensor {
    let values = values.iter().map(|v| Bytes::copy_from_slice(v.as_bytes())).collect();
    Tensor::blobs(Shape::new(dims).unwrap(), values).unwrap()
}

/// 1, 2, 3... in shape `dims`.
pub(crate) fn counting(dims: &[usize]) -> Tensor {
    let count: usize = dims.iter().product();
    f32s(dims, &(1..=count).map(|v| v as f32).collect::<Vec<_>>())
}

pub(crate) fn element_of(dtype: DType) -> DataType {
    match dtype {
        DType::F32 => DataType::Float,
        DType::F64 => DataType::Double,
        DType::F16 => DataType::Float16,
        DType::BF16 => DataType::Bfloat16,
        DType::U8 => DataType::Uint8,
        DType::I8 => DataType::Int8,
        DType::U16 => DataType::Uint16,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::U32 => DataType::Uint32,
        DType::U64 => DataType::Uint64,
        DType::Bool => DataType::Bool,
        DType::Bytes => DataType::String,
    }
}

/// A declared input or output; -1 = any size.
pub(crate) fn info(name: &str, dtype: DType, dims: Option<&[i64]>) -> ValueInfoProto {
    let dim = |&size: &i64| Dimension { value: Some(dimension::Value::DimValue(size)) };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: element_of(dtype).into(), shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value }) }
}

pub(crate) fn initializer(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: tensor.dims().iter().map(|&d| d as i64).collect(),
        data_type: element_of(tensor.dtype()).into(),
        raw_data: tensor.bytes().cloned().unwrap_or_default(),
        string_data: tensor.strings().map(<[Bytes]>::to_vec).unwrap_or_default(),
        ..TensorProto::default()
    }
}

/// An empty name leaves an input or output out.
pub(crate) fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        op_type: operator.into(),
        input: list(inputs),
        output: list(outputs),
        ..NodeProto::default()
    }
}

pub(crate) fn model(graph: GraphProto, opset: i64) -> ModelProto {
    ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![
            OperatorSetIdProto { domain: String::new(), version: opset },
            OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 },
        ],
        ..ModelProto::default()
    }
}

pub(crate) fn load(model: &ModelProto) -> Result<Program, LoadError> {
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    engine.load(&model.encode_to_vec(), &NoExternalData, &Limits::default())
}

/// An error with all that it was caused by.
pub(crate) fn full_text(error: &dyn Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", full_text(source)),
        None => error.to_string(),
    }
}

/// One node, its inputs, and what it must give.
#[derive(Clone)]
pub(crate) struct Case {
    node: NodeProto,
    inputs: Vec<Option<Tensor>>,
    opset: i64,
    /// The version of `ai.onnx.ml`.
    ml: i64,
}

impl Case {
    pub(crate) fn of(operator: &str, inputs: impl IntoIterator<Item = Tensor>) -> Self {
        let inputs: Vec<Option<Tensor>> = inputs.into_iter().map(Some).collect();
        Self { node: node(operator, &[], &[]), inputs, opset: 17, ml: 3 }
    }

    /// Leaves out the input at `index`.
    pub(crate) fn without(mut self, index: usize) -> Self {
        self.inputs.insert(index, None);
        self
    }

    pub(crate) fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    pub(crate) fn domain(mut self, domain: &str) -> Self {
        self.node.domain = domain.into();
        self
    }

    /// Makes the node one of this version of `ai.onnx.ml`.
    pub(crate) fn ml(mut self, version: i64) -> Self {
        self.node.domain = "ai.onnx.ml".into();
        self.ml = version;
        self
    }

    fn with(mut self, name: &str, kind: AttributeType, attribute: AttributeProto) -> Self {
        let name = name.to_owned();
        self.node.attribute.push(AttributeProto { name, r#type: kind.into(), ..attribute });
        self
    }

    pub(crate) fn int(self, name: &str, i: i64) -> Self {
        self.with(name, AttributeType::Int, AttributeProto { i, ..AttributeProto::default() })
    }

    pub(crate) fn float(self, name: &str, f: f32) -> Self {
        self.with(name, AttributeType::Float, AttributeProto { f, ..AttributeProto::default() })
    }

    pub(crate) fn ints(self, name: &str, ints: &[i64]) -> Self {
        let ints = ints.to_vec();
        self.with(name, AttributeType::Ints, AttributeProto { ints, ..AttributeProto::default() })
    }

    pub(crate) fn floats(self, name: &str, floats: &[f32]) -> Self {
        let floats = floats.to_vec();
        let attribute = AttributeProto { floats, ..AttributeProto::default() };
        self.with(name, AttributeType::Floats, attribute)
    }

    pub(crate) fn strings(self, name: &str, strings: &[&str]) -> Self {
        let strings = strings.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
        let attribute = AttributeProto { strings, ..AttributeProto::default() };
        self.with(name, AttributeType::Strings, attribute)
    }

    pub(crate) fn string(self, name: &str, s: &str) -> Self {
        let s = Bytes::copy_from_slice(s.as_bytes());
        self.with(name, AttributeType::String, AttributeProto { s, ..AttributeProto::default() })
    }

    pub(crate) fn tensor(self, name: &str, tensor: &Tensor) -> Self {
        let t = Some(initializer("", tensor));
        self.with(name, AttributeType::Tensor, AttributeProto { t, ..AttributeProto::default() })
    }

    pub(crate) fn graph(self, name: &str, graph: GraphProto) -> Self {
        let g = Some(graph);
        self.with(name, AttributeType::Graph, AttributeProto { g, ..AttributeProto::default() })
    }

    /// Checks the outputs twice: with the inputs in the request, and with the
    /// inputs as weights, which computes the node while it is loaded.
    #[track_caller]
    pub(crate) fn gives(&self, wanted: impl IntoIterator<Item = Tensor>) {
        let wanted: Vec<Tensor> = wanted.into_iter().collect();
        for constant in [false, true] {
            let given = match self.run(constant, &wanted) {
                Ok(given) => given,
                Err(error) => panic!("constant {constant}: {error}"),
            };
            for (given, wanted) in given.iter().zip(&wanted) {
                assert_close(given, wanted, constant);
            }
        }
    }

    /// The output, where no literal could say what it must be.
    #[track_caller]
    pub(crate) fn answer(&self) -> Tensor {
        match self.run(false, &[f32s(&[], &[0.0])]) {
            Ok(mut given) => given.remove(0),
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks that the node is refused, at load or in the run, with this text.
    #[track_caller]
    pub(crate) fn fails(&self, text: &str) {
        match self.run(false, &[f32s(&[], &[0.0])]) {
            Ok(given) => panic!("it gave {given:?}"),
            Err(error) => {
                assert!(error.contains(text), "{error}");
                assert!(error.contains(&self.node.op_type), "{error}");
                assert!(!error.contains("made the engine fail"), "{error}");
            }
        }
    }

    fn run(&self, constant: bool, wanted: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let mut graph = GraphProto::default();
        let mut request = TensorMap::new();
        let mut node = self.node.clone();
        for (i, input) in self.inputs.iter().enumerate() {
            let Some(input) = input else {
                node.input.push(String::new());
                continue;
            };
            let name = format!("x{i}");
            node.input.push(name.clone());
            if constant {
                graph.initializer.push(initializer(&name, input));
            } else {
                graph.input.push(info(&name, input.dtype(), None));
                request.insert(name, input.clone());
            }
        }
        for (i, wanted) in wanted.iter().enumerate() {
            let name = format!("y{i}");
            node.output.push(name.clone());
            graph.output.push(info(&name, wanted.dtype(), None));
        }
        graph.node.push(node);
        let mut model = model(graph, self.opset);
        let domain = "ai.onnx.ml".into();
        model.opset_import.push(OperatorSetIdProto { domain, version: self.ml });
        let program = load(&model).map_err(|e| full_text(&e))?;
        let answer = program.run(&request, &[]).map_err(|e| full_text(&e))?;
        Ok(answer.into_values().collect())
    }
}

#[track_caller]
fn assert_close(given: &Tensor, wanted: &Tensor, constant: bool) {
    let context = format!("constant {constant}: {given:?} instead of {wanted:?}");
    assert_eq!((given.dtype(), given.dims()), (wanted.dtype(), wanted.dims()), "{context}");
    if wanted.dtype() != DType::F32 {
        assert_eq!(given.bytes(), wanted.bytes(), "{context}");
        return;
    }
    let (given, wanted) = (given.as_slice::<f32>().unwrap(), wanted.as_slice::<f32>().unwrap());
    for (a, b) in given.iter().zip(wanted.iter()) {
        let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-5 * b.abs().max(1.0);
        assert!(same, "{context}: {a} instead of {b} in {given:?}");
    }
}
