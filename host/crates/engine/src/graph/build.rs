use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use super::functions::{Expansion, Functions, Placed};
use super::{Attribute, Capture, Declared, Graph, Node, ValueId};
use crate::literal::{Literals, dtype_of};
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::type_proto::Value;
use crate::proto::{GraphProto, TensorProto, ValueInfoProto};
use crate::{BuildError, LoadError, NodeLabel};

/// The version of each operator domain that a model imports.
#[derive(Debug)]
pub(crate) struct Opsets(pub(crate) HashMap<String, i64>);

impl Opsets {
    pub(crate) fn version(&self, domain: &str) -> Option<i64> {
        self.0.get(domain).copied()
    }
}

/// ONNX's own domain has two spellings.
pub(crate) fn domain_of(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Resolves the main graph of a model, with at most `nodes` nodes in all.
pub(crate) fn build(
    proto: GraphProto,
    functions: &Functions,
    literals: Literals<'_>,
    nodes: usize,
) -> Result<Graph, LoadError> {
    let (around, expansion) = (None, Expansion::default());
    let mut builder = Builder { functions, literals, nodes: 0, limit: nodes, around, expansion };
    let graph = builder.graph(proto)?;
    match graph.captures.into_iter().next() {
        None => Ok(Graph { captures: Vec::new(), ..graph }),
        Some(Capture { name, reader: Some(label), .. }) => Err(LoadError::Dangling { label, name }),
        Some(Capture { name, reader: None, .. }) => Err(LoadError::Output { name }),
    }
}

pub(super) struct Builder<'a> {
    functions: &'a Functions,
    literals: Literals<'a>,
    nodes: usize,
    limit: usize,
    /// The opsets of the function that the subgraph at hand is from.
    around: Option<Arc<Opsets>>,
    expansion: Expansion,
}

impl<'a> Builder<'a> {
    pub(super) fn literals(&self) -> Literals<'a> {
        self.literals
    }

    /// Resolves a graph; what it reads of the graph around it is in `captures`.
    pub(super) fn graph(&mut self, proto: GraphProto) -> Result<Graph, LoadError> {
        let placed =
            self.functions.expand(proto.node, self.around.as_ref(), &mut self.expansion)?;
        self.nodes = self.nodes.saturating_add(placed.len());
        if self.nodes > self.limit {
            return Err(LoadError::Nodes { nodes: self.nodes, limit: self.limit });
        }
        if let Some(sparse) = proto.sparse_initializer.into_iter().next() {
            let name = sparse.values.unwrap_or_default().name;
            return Err(LoadError::Sparse { name });
        }
        let mut scope = Scope::default();
        let inputs = proto
            .input
            .into_iter()
            .map(|input| scope.define(input.name))
            .collect::<Result<Vec<_>, _>>()?;
        let constants = self.constants(&mut scope, &inputs, proto.initializer)?;
        let names = placed.iter().flat_map(|placed| &placed.node.output);
        for name in names.filter(|n| !n.is_empty()) {
            scope.define(name.clone())?;
        }
        let nodes = placed
            .into_iter()
            .enumerate()
            .map(|(index, placed)| self.node(&mut scope, index, placed))
            .collect::<Result<Vec<_>, _>>()?;
        let declared = proto.output.iter().map(Declared::of).collect();
        let outputs: Vec<ValueId> =
            proto.output.into_iter().map(|output| scope.resolve(&output.name, None)).collect();
        let nodes = sort(nodes, scope.names.len())?;
        Ok(Graph {
            values: scope.names,
            inputs,
            outputs,
            declared,
            constants,
            nodes,
            captures: scope.captures,
        })
    }

    fn constants(
        &self,
        scope: &mut Scope,
        inputs: &[ValueId],
        initializers: Vec<TensorProto>,
    ) -> Result<Vec<(ValueId, ingle_types::Tensor)>, LoadError> {
        let inputs: HashSet<ValueId> = inputs.iter().copied().collect();
        let mut seen = HashSet::new();
        let mut constants = Vec::new();
        for proto in initializers {
            let known = scope.ids.get(&proto.name).copied().filter(|id| inputs.contains(id));
            let id = match known {
                Some(id) if seen.insert(id) => id,
                Some(_) => return Err(LoadError::Duplicate { name: proto.name }),
                None => scope.define(proto.name.clone())?,
            };
            let tensor = self
                .literals
                .decode(&proto)
                .map_err(|reason| LoadError::Literal { name: proto.name, reason })?;
            constants.push((id, tensor));
        }
        Ok(constants)
    }

    fn node(
        &mut self,
        scope: &mut Scope,
        index: usize,
        Placed { node: proto, opsets }: Placed,
    ) -> Result<Node, LoadError> {
        let domain = domain_of(&proto.domain).to_owned();
        let opset = opsets.version(&domain);
        let label = Arc::new(NodeLabel {
            node: if proto.name.is_empty() { format!("#{index}") } else { proto.name },
            operator: proto.op_type,
            domain,
            opset: opset.unwrap_or_default(),
        });
        if opset.is_none() {
            return Err(LoadError::Domain { label });
        }
        let around = self.around.replace(opsets);
        let mut attributes: Vec<(String, Attribute)> = Vec::new();
        for attribute in proto.attribute {
            let name = attribute.name.clone();
            if attributes.iter().any(|(known, _)| *known == name) {
                return Err(LoadError::Build { label, reason: BuildError::Duplicate { name } });
            }
            attributes.push((name, Attribute::decode(self, &label, attribute)?));
        }
        self.around = around;
        let mut captured: Vec<ValueId> = Vec::new();
        for (_, attribute) in &mut attributes {
            let Attribute::Graph(graph) = attribute else { continue };
            for capture in &mut graph.captures {
                let id = scope.resolve(&capture.name, Some(&label));
                capture.outer = Some(id);
                if !captured.contains(&id) {
                    captured.push(id);
                }
            }
        }
        let mut read =
            |name: &String| (!name.is_empty()).then(|| scope.resolve(name, Some(&label)));
        let inputs = proto.input.iter().map(&mut read).collect();
        let outputs = proto.output.iter().map(&mut read).collect();
        Ok(Node { label, inputs, outputs, attributes, captured })
    }
}

impl Declared {
    fn of(info: &ValueInfoProto) -> Self {
        let Some(Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
        else {
            return Self::default();
        };
        let dims = tensor.shape.as_ref().map(|shape| {
            let size = |value: &Option<dimension::Value>| match *value {
                Some(dimension::Value::DimValue(size)) => usize::try_from(size).ok(),
                _ => None,
            };
            shape.dim.iter().map(|dim| size(&dim.value)).collect()
        });
        Self { dtype: dtype_of(tensor.elem_type), dims }
    }
}

/// The names that are known in one graph.
#[derive(Default)]
struct Scope {
    names: Vec<String>,
    ids: HashMap<String, ValueId>,
    captures: Vec<Capture>,
}

impl Scope {
    fn define(&mut self, name: String) -> Result<ValueId, LoadError> {
        if self.ids.contains_key(&name) {
            return Err(LoadError::Duplicate { name });
        }
        Ok(self.add(name))
    }

    fn add(&mut self, name: String) -> ValueId {
        let id = self.names.len();
        self.names.push(name.clone());
        self.ids.insert(name, id);
        id
    }

    /// A name that nothing here defines is the enclosing graph's.
    fn resolve(&mut self, name: &str, reader: Option<&Arc<NodeLabel>>) -> ValueId {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let value = self.add(name.to_owned());
        self.captures.push(Capture {
            name: name.to_owned(),
            value,
            outer: None,
            reader: reader.cloned(),
        });
        value
    }
}

/// Puts the nodes in an order they can run in, the given one where it is.
fn sort(nodes: Vec<Node>, values: usize) -> Result<Vec<Node>, LoadError> {
    let mut producer: Vec<Option<usize>> = vec![None; values];
    for (index, node) in nodes.iter().enumerate() {
        for &id in node.outputs.iter().flatten() {
            if let Some(slot) = producer.get_mut(id) {
                *slot = Some(index);
            }
        }
    }
    let mut waiting = vec![0usize; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for &id in node.inputs.iter().flatten().chain(&node.captured) {
            let Some(from) = producer.get(id).copied().flatten() else { continue };
            if let (Some(readers), Some(count)) = (readers.get_mut(from), waiting.get_mut(index)) {
                readers.push(index);
                *count += 1;
            }
        }
    }
    let ready = waiting.iter().enumerate().filter(|(_, count)| **count == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(index, _)| Reverse(index)).collect();
    let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        sorted.extend(nodes.get_mut(index).and_then(Option::take));
        for &reader in readers.get(index).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(reader) {
                *count -= 1;
                if *count == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
    }
    match nodes.into_iter().flatten().next() {
        Some(node) => Err(LoadError::Cycle { label: node.label }),
        None => Ok(sorted),
    }
}
