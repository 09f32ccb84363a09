//! Small graphs, and what the passes make of them.

use std::collections::HashMap;

use burn_flex::{Flex, FlexDevice};
use ingle_types::{Code, DType, Limits, Tensor, TensorMap};
use prost::Message;

use super::optimize;
use crate::context::Context;
use crate::graph::{self, Functions, Opsets};
use crate::literal::Literals;
use crate::ops::Registry;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto};
use crate::signature::signature_of;
use crate::testing::{info, initializer, model, node};
use crate::{DeviceChoice, Engine, NoExternalData, Optimize, RunError};

/// A graph that is written down node by node, and a request to it.
#[derive(Clone)]
pub(crate) struct Sketch {
    pub(crate) graph: GraphProto,
    request: TensorMap,
    opset: i64,
}

impl Sketch {
    pub(crate) fn new(opset: i64) -> Self {
        Self { graph: GraphProto::default(), request: TensorMap::new(), opset }
    }

    /// An input; negative dims are any.
    pub(crate) fn input(mut self, name: &str, dims: &[i64], tensor: Tensor) -> Self {
        self.graph.input.push(info(name, tensor.dtype(), Some(dims)));
        self.request.insert(name.into(), tensor);
        self
    }

    pub(crate) fn weight(mut self, name: &str, tensor: Tensor) -> Self {
        self.graph.initializer.push(initializer(name, &tensor));
        self
    }

    /// A node whose one output has the name `output`.
    pub(crate) fn node(mut self, operator: &str, inputs: &[&str], output: &str) -> Self {
        self.graph.node.push(node(operator, inputs, &[output]));
        self
    }

    fn with(mut self, name: &str, kind: AttributeType, attribute: AttributeProto) -> Self {
        let attribute = AttributeProto { name: name.into(), r#type: kind.into(), ..attribute };
        self.graph.node.last_mut().unwrap().attribute.push(attribute);
        self
    }

    /// An attribute of the last node.
    pub(crate) fn float(self, name: &str, f: f32) -> Self {
        self.with(name, AttributeType::Float, AttributeProto { f, ..AttributeProto::default() })
    }

    pub(crate) fn int(self, name: &str, i: i64) -> Self {
        self.with(name, AttributeType::Int, AttributeProto { i, ..AttributeProto::default() })
    }

    pub(crate) fn ints(self, name: &str, ints: &[i64]) -> Self {
        let ints = ints.to_vec();
        self.with(name, AttributeType::Ints, AttributeProto { ints, ..AttributeProto::default() })
    }

    pub(crate) fn subgraph(self, name: &str, graph: GraphProto) -> Self {
        let g = Some(graph);
        self.with(name, AttributeType::Graph, AttributeProto { g, ..AttributeProto::default() })
    }

    pub(crate) fn output(mut self, name: &str) -> Self {
        self.graph.output.push(info(name, DType::F32, None));
        self
    }

    fn run(&self, level: Optimize) -> Result<TensorMap, RunError> {
        let proto = model(self.graph.clone(), self.opset).encode_to_vec();
        let engine = Engine::new(DeviceChoice::Cpu).unwrap().with_optimize(level);
        let program = engine.load(&proto, &NoExternalData, &Limits::default()).unwrap();
        program.run(&self.request, &[])
    }

    /// Checks which operators are left, and that they refuse the request as all did.
    #[track_caller]
    pub(crate) fn fails_as(&self, operators: &[&str]) {
        assert_eq!(operators_of(&optimized(self)), operators);
        for level in [Optimize::On, Optimize::Off] {
            assert_eq!(self.run(level).unwrap_err().code(), Code::InvalidArgument, "{level:?}");
        }
    }

    /// Checks which operators are left, and that they answer as all did.
    #[track_caller]
    pub(crate) fn becomes(&self, operators: &[&str]) {
        assert_eq!(operators_of(&optimized(self)), operators);
        let (given, wanted) = (self.run(Optimize::On), self.run(Optimize::Off));
        let (given, wanted) = (given.unwrap(), wanted.unwrap());
        for (name, wanted) in &wanted {
            let given = &given[name];
            assert_eq!(given.dims(), wanted.dims(), "{name}");
            let (given, wanted) = (given.as_slice::<f32>(), wanted.as_slice::<f32>());
            for (a, b) in given.unwrap().iter().zip(wanted.unwrap().iter()) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{name}: {a} instead of {b}");
            }
        }
    }
}

/// A sketch's graph after all passes.
pub(crate) fn optimized(sketch: &Sketch) -> graph::Graph {
    let versions = [(String::new(), sketch.opset), ("com.microsoft".to_owned(), 1)];
    let opsets = Opsets(HashMap::from(versions));
    let limits = Limits::default();
    let functions = Functions::new(Vec::new(), opsets, limits.tensor_bytes).unwrap();
    let literals = Literals { external: &NoExternalData, tensor_bytes: limits.tensor_bytes };
    let specs = signature_of(&sketch.graph).unwrap().inputs;
    let graph = graph::build(sketch.graph.clone(), &functions, literals, limits.graph_nodes);
    let ctx = Context::<Flex>::new(FlexDevice, &limits);
    optimize(graph.unwrap(), &specs, &Registry::new(), &ctx)
}

pub(crate) fn operators_of(graph: &graph::Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.label.operator.as_str()).collect()
}
