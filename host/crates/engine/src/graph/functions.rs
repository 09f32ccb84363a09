//! Functions that a model brings along: each call is replaced by the nodes of
//! the function's body, so that nothing after this knows of them.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;

use super::build::{Opsets, domain_of};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use crate::{LoadError, NodeLabel};

/// How deep calls may nest.
const DEPTH: usize = 64;

/// Domain, name and overload.
type Key = (String, String, String);

pub(crate) struct Functions {
    functions: HashMap<Key, Function>,
    opsets: Arc<Opsets>,
    /// What the bodies of all calls together may take, in bytes.
    limit: usize,
}

struct Function {
    proto: FunctionProto,
    opsets: Arc<Opsets>,
    bytes: usize,
}

/// A node that calls no function, and what its operator's version is taken from.
pub(super) struct Placed {
    pub(super) node: NodeProto,
    pub(super) opsets: Arc<Opsets>,
}

/// What the expansion of a model has used up so far.
#[derive(Default)]
pub(super) struct Expansion {
    calls: usize,
    bytes: usize,
}

impl Functions {
    pub(crate) fn new(
        protos: Vec<FunctionProto>,
        opsets: Opsets,
        limit: usize,
    ) -> Result<Self, LoadError> {
        let opsets = Arc::new(opsets);
        let mut functions = HashMap::new();
        for proto in protos {
            let own = proto.opset_import.iter();
            let own = own.map(|i| (domain_of(&i.domain).to_owned(), i.version));
            let mut merged = opsets.0.clone();
            merged.extend(own);
            let key =
                (domain_of(&proto.domain).to_owned(), proto.name.clone(), proto.overload.clone());
            let bytes = proto.encoded_len();
            let name = proto.name.clone();
            let function = Function { proto, opsets: Arc::new(Opsets(merged)), bytes };
            if functions.insert(key, function).is_some() {
                return Err(LoadError::FunctionTwice { name });
            }
        }
        Ok(Self { functions, opsets, limit })
    }

    fn called_by(&self, node: &NodeProto) -> Option<&Function> {
        if self.functions.is_empty() {
            return None;
        }
        let domain = domain_of(&node.domain).to_owned();
        self.functions.get(&(domain, node.op_type.clone(), node.overload.clone()))
    }

    /// Replaces calls by what they call, in the order of the nodes. `around` are the
    /// opsets of the place that the nodes are from.
    pub(super) fn expand(
        &self,
        nodes: Vec<NodeProto>,
        around: Option<&Arc<Opsets>>,
        used: &mut Expansion,
    ) -> Result<Vec<Placed>, LoadError> {
        let around = around.unwrap_or(&self.opsets);
        let mut placed = Vec::with_capacity(nodes.len());
        let mut waiting: Vec<(NodeProto, Arc<Opsets>, usize)> =
            nodes.into_iter().rev().map(|node| (node, around.clone(), 0)).collect();
        while let Some((node, opsets, depth)) = waiting.pop() {
            let Some(function) = self.called_by(&node) else {
                placed.push(Placed { node, opsets });
                continue;
            };
            if depth == DEPTH {
                let label = Arc::new(label_of(&node));
                return Err(LoadError::FunctionDepth { label, limit: DEPTH });
            }
            used.calls += 1;
            used.bytes = used.bytes.saturating_add(function.bytes);
            if used.bytes > self.limit {
                return Err(LoadError::Parts { limit: self.limit });
            }
            let body = Call::new(&function.proto, &node, used.calls)?.body();
            let body = body.into_iter().rev();
            waiting.extend(body.map(|node| (node, function.opsets.clone(), depth + 1)));
        }
        Ok(placed)
    }
}

fn label_of(node: &NodeProto) -> NodeLabel {
    NodeLabel {
        node: node.name.clone(),
        operator: node.op_type.clone(),
        domain: node.domain.clone(),
        opset: 0,
    }
}

/// One call of a function.
struct Call<'a> {
    function: &'a FunctionProto,
    node: &'a NodeProto,
    /// The caller's name of each parameter and result.
    names: HashMap<&'a str, &'a str>,
    /// Sets the names inside of this call apart from all others.
    prefix: String,
}

impl<'a> Call<'a> {
    fn new(
        function: &'a FunctionProto,
        node: &'a NodeProto,
        number: usize,
    ) -> Result<Self, LoadError> {
        let check = |what, given: usize, expected: usize| {
            if given <= expected {
                return Ok(());
            }
            let label = Arc::new(label_of(node));
            Err(LoadError::FunctionCall { label, what, given, expected })
        };
        check("inputs", node.input.len(), function.input.len())?;
        check("outputs", node.output.len(), function.output.len())?;
        let mut names = HashMap::new();
        for (i, name) in function.input.iter().enumerate() {
            names.insert(name.as_str(), node.input.get(i).map_or("", String::as_str));
        }
        for (name, given) in function.output.iter().zip(&node.output) {
            // A result that is a parameter is copied in `body`.
            if !given.is_empty() && !function.input.contains(name) {
                names.insert(name.as_str(), given.as_str());
            }
        }
        let caller = if node.name.is_empty() { &node.op_type } else { &node.name };
        Ok(Self { function, node, names, prefix: format!("{caller}#{number}/") })
    }

    fn body(&self) -> Vec<NodeProto> {
        let results = self.function.output.iter().zip(&self.node.output);
        let copies =
            results.filter(|(name, given)| !given.is_empty() && self.function.input.contains(name));
        let copies = copies.map(|(name, given)| NodeProto {
            op_type: "Identity".to_owned(),
            input: vec![self.renamed(name)],
            output: vec![given.clone()],
            ..NodeProto::default()
        });
        self.function.node.iter().cloned().map(|node| self.rewrite(node)).chain(copies).collect()
    }

    fn renamed(&self, name: &str) -> String {
        match self.names.get(name) {
            Some(given) => (*given).to_owned(),
            None if name.is_empty() => String::new(),
            None => format!("{}{name}", self.prefix),
        }
    }

    /// Subgraphs see the function's names, so their own are renamed as well.
    fn rewrite(&self, mut node: NodeProto) -> NodeProto {
        node.name = format!("{}{}", self.prefix, node.name);
        for name in node.input.iter_mut().chain(&mut node.output) {
            *name = self.renamed(name);
        }
        let attributes = node.attribute.into_iter();
        node.attribute = attributes.filter_map(|attribute| self.attribute(attribute)).collect();
        node
    }

    /// An attribute may stand for one of the call, or for its default; without
    /// either it is left out.
    fn attribute(&self, mut attribute: AttributeProto) -> Option<AttributeProto> {
        if !attribute.ref_attr_name.is_empty() {
            let given = self.node.attribute.iter().chain(&self.function.attribute_proto);
            let mut given = given.filter(|given| given.name == attribute.ref_attr_name);
            return given
                .next()
                .map(|given| AttributeProto { name: attribute.name, ..given.clone() });
        }
        attribute.g = attribute.g.map(|graph| self.graph(graph));
        Some(attribute)
    }

    fn graph(&self, mut graph: GraphProto) -> GraphProto {
        for value in graph.input.iter_mut().chain(&mut graph.output) {
            value.name = self.renamed(&value.name);
        }
        for tensor in &mut graph.initializer {
            tensor.name = self.renamed(&tensor.name);
        }
        graph.node = graph.node.into_iter().map(|node| self.rewrite(node)).collect();
        graph
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::DType;

    use crate::proto::attribute_proto::AttributeType;
    use crate::proto::*;
    use crate::testing::{f32s, full_text, info, load, model, node};

    fn in_domain(mut node: NodeProto) -> NodeProto {
        node.domain = "mine".into();
        node
    }

    /// y = LeakyRelu(x, alpha) + x, with `alpha` from the call.
    fn function() -> FunctionProto {
        let mut leaky = node("LeakyRelu", &["x"], &["t"]);
        leaky.attribute.push(AttributeProto {
            name: "alpha".into(),
            ref_attr_name: "slope".into(),
            r#type: AttributeType::Float.into(),
            ..AttributeProto::default()
        });
        FunctionProto {
            name: "F".into(),
            domain: "mine".into(),
            input: vec!["x".into()],
            output: vec!["y".into()],
            attribute: vec!["slope".into()],
            node: vec![leaky, node("Add", &["t", "x"], &["y"])],
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 16 }],
            ..FunctionProto::default()
        }
    }

    fn with_calls(function: FunctionProto, calls: Vec<NodeProto>) -> ModelProto {
        let graph = GraphProto {
            node: calls.into_iter().map(in_domain).collect(),
            input: vec![info("a", DType::F32, None)],
            output: vec![info("b", DType::F32, None)],
            ..GraphProto::default()
        };
        let mut model = model(graph, 17);
        model.opset_import.push(OperatorSetIdProto { domain: "mine".into(), version: 1 });
        model.functions.push(function);
        model
    }

    fn answer(model: &ModelProto) -> Vec<f32> {
        let request = [("a".to_owned(), f32s(&[2], &[1., -1.]))].into();
        let answer = load(model).unwrap().run(&request, &[]).unwrap();
        answer["b"].as_slice::<f32>().unwrap().to_vec()
    }

    #[test]
    fn calls_become_the_body_each_with_names_of_its_own() {
        let mut first = node("F", &["a"], &["m"]);
        first.attribute.push(AttributeProto {
            name: "slope".into(),
            f: 0.5,
            r#type: AttributeType::Float.into(),
            ..AttributeProto::default()
        });
        // Without the attribute the operator's own default, 0.01, holds.
        let calls = vec![first, node("F", &["m"], &["b"])];
        assert_eq!(answer(&with_calls(function(), calls)), [4.0, -1.5 * 1.01]);
    }

    #[test]
    fn a_result_that_is_a_parameter_is_copied() {
        let function = FunctionProto { output: vec!["x".into()], node: Vec::new(), ..function() };
        assert_eq!(answer(&with_calls(function, vec![node("F", &["a"], &["b"])])), [1., -1.]);
    }

    #[test]
    fn endless_and_swelling_calls_are_refused() {
        let refused = |f: FunctionProto, call: NodeProto| {
            full_text(&load(&with_calls(f, vec![call])).unwrap_err())
        };
        let call = || node("F", &["a"], &["b"]);
        let endless =
            FunctionProto { node: vec![in_domain(node("F", &["x"], &["y"]))], ..function() };
        assert!(refused(endless, call()).contains("64 calls deep"));
        let names: Vec<String> = (0..10).map(|i| format!("t{i}")).collect();
        let mut body: Vec<NodeProto> =
            names.iter().map(|name| in_domain(node("F", &["x"], &[name]))).collect();
        body.push(in_domain(node("F", &["x"], &["y"])));
        let swelling = FunctionProto { node: body, ..function() };
        assert!(refused(swelling, call()).contains("calls deep"));
        assert!(refused(function(), node("F", &["a", "a"], &["b"])).contains("2 inputs"));
    }

    #[test]
    fn a_function_is_defined_once() {
        let mut model = with_calls(function(), vec![node("F", &["a"], &["b"])]);
        model.functions.push(function());
        assert!(full_text(&load(&model).unwrap_err()).contains("\"F\" twice"));
    }
}
