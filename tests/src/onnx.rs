//! Tiny ONNX models, written field by field (field numbers of onnx.proto).

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

const FLOAT: i32 = 1;

fn pair(name: &str) -> ValueInfo {
    let any = Dimension { dim_value: None, dim_param: Some("N".into()) };
    let two = Dimension { dim_value: Some(2), dim_param: None };
    let shape = Some(Shape { dim: vec![any, two] });
    let tensor_type = Some(TensorType { elem_type: FLOAT, shape });
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type }) }
}

fn model(op_type: &str, domain: &str, addend: [f32; 2]) -> Vec<u8> {
    let node = Node {
        input: vec!["x".into(), "addend".into()],
        output: vec!["y".into()],
        name: "the_node".into(),
        op_type: op_type.into(),
        domain: domain.into(),
    };
    let addend = Tensor {
        dims: vec![2],
        data_type: FLOAT,
        float_data: addend.to_vec(),
        name: "addend".into(),
    };
    let graph = Graph {
        node: vec![node],
        name: "tiny".into(),
        initializer: vec![addend],
        input: vec![pair("x")],
        output: vec![pair("y")],
    };
    let opset_import = vec![OperatorSet { domain: String::new(), version: 17 }];
    Model { ir_version: 8, graph: Some(graph), opset_import }.encode_to_vec()
}

/// `y = x + [a, b]` for `x` of float32 [N, 2].
pub fn add(addend: [f32; 2]) -> Vec<u8> {
    model("Add", "", addend)
}

/// A model with an operator that nobody has.
pub fn unknown_operator() -> Vec<u8> {
    model("Frobnicate", "com.example", [0.0; 2])
}

/// A float32 tensor as ONNX's tests store theirs.
pub fn tensor_file(dims: &[i64], values: &[f32]) -> Vec<u8> {
    let (dims, float_data) = (dims.to_vec(), values.to_vec());
    Tensor { dims, data_type: FLOAT, float_data, name: String::new() }.encode_to_vec()
}

/// A tensor file of an element type that nothing here computes with (FLOAT8E8M0).
pub fn exotic_tensor_file() -> Vec<u8> {
    Tensor { dims: vec![1], data_type: 24, ..Tensor::default() }.encode_to_vec()
}

/// A model of two nodes with operators that nobody has.
pub fn two_unknown_operators() -> Vec<u8> {
    let mut model = Model::decode(unknown_operator().as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let mut second = graph.node[0].clone();
    second.name = "another_node".into();
    second.op_type = "Defenestrate".into();
    second.output = vec!["unread".into()];
    graph.node.push(second);
    model.opset_import.push(OperatorSet { domain: "com.example".into(), version: 1 });
    model.encode_to_vec()
}
