use std::collections::HashMap;

use ingle_types::Tensor;

use crate::NodeLabel;
use crate::graph::{Attribute, Capture, Declared, Graph, Node, ValueId};

/// A graph with the tables that patterns are looked up in: who makes a value,
/// and in how many places it is read. Nodes keep their places while passes run,
/// so that the order in which they can run is kept too.
pub(super) struct Rewriter {
    names: Vec<String>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    declared: Vec<Declared>,
    /// Initializers that a request may override.
    defaults: Vec<(ValueId, Tensor)>,
    captures: Vec<Capture>,
    nodes: Vec<Option<Node>>,
    constants: HashMap<ValueId, Tensor>,
    makers: Vec<Option<usize>>,
    reads: Vec<usize>,
    /// Whether a subgraph reads the value.
    captured: Vec<bool>,
}

impl Rewriter {
    pub(super) fn new(graph: Graph) -> Self {
        let Graph { values: names, inputs, outputs, declared, constants, nodes, captures } = graph;
        let mut given = vec![false; names.len()];
        for &id in &inputs {
            mark(&mut given, id);
        }
        let is_given = |(id, _): &(ValueId, Tensor)| given.get(*id) == Some(&true);
        let (defaults, constants): (Vec<_>, Vec<_>) = constants.into_iter().partition(is_given);
        let mut rewriter = Self {
            makers: vec![None; names.len()],
            reads: vec![0; names.len()],
            captured: vec![false; names.len()],
            nodes: Vec::with_capacity(nodes.len()),
            constants: constants.into_iter().collect(),
            names,
            inputs,
            outputs,
            declared,
            defaults,
            captures,
        };
        for (at, node) in nodes.into_iter().enumerate() {
            rewriter.enter(at, &node);
            rewriter.nodes.push(Some(node));
        }
        for id in rewriter.outputs.clone() {
            rewriter.count(id, true);
        }
        rewriter
    }

    /// The graph without the constants that nothing reads.
    pub(super) fn finish(self) -> Graph {
        let reads = self.reads;
        let is_read = |(id, _): &(ValueId, Tensor)| reads.get(*id).is_some_and(|&n| n > 0);
        let mut constants: Vec<_> = self.constants.into_iter().filter(is_read).collect();
        // Loading a model twice is loading it the same way twice.
        constants.sort_unstable_by_key(|(id, _)| *id);
        constants.extend(self.defaults);
        Graph {
            values: self.names,
            inputs: self.inputs,
            outputs: self.outputs,
            declared: self.declared,
            constants,
            nodes: self.nodes.into_iter().flatten().collect(),
            captures: self.captures,
        }
    }

    /// The places of nodes, some of them empty.
    pub(super) fn places(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    pub(super) fn node(&self, at: usize) -> Option<&Node> {
        self.nodes.get(at)?.as_ref()
    }

    pub(super) fn name(&self, id: ValueId) -> &str {
        self.names.get(id).map_or("", String::as_str)
    }

    pub(super) fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    pub(super) fn values(&self) -> usize {
        self.names.len()
    }

    pub(super) fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.constants.get(&id)
    }

    /// The node that makes a value, and its place.
    pub(super) fn maker(&self, id: ValueId) -> Option<(usize, &Node)> {
        let at = self.makers.get(id).copied().flatten()?;
        Some((at, self.node(at)?))
    }

    /// The node whose only output is `id`, if one other place reads that.
    pub(super) fn only_for(&self, id: ValueId, operator: &str) -> Option<&Node> {
        let (_, node) = self.maker(id)?;
        (self.reads(id) == 1 && self.makes_only(node, id) && node.is(operator)).then_some(node)
    }

    pub(super) fn reads(&self, id: ValueId) -> usize {
        self.reads.get(id).copied().unwrap_or_default()
    }

    /// Whether a subgraph reads the value.
    pub(super) fn is_captured(&self, id: ValueId) -> bool {
        self.captured.get(id) == Some(&true)
    }

    /// Whether the node's other outputs are read by nobody.
    pub(super) fn makes_only(&self, node: &Node, id: ValueId) -> bool {
        node.outputs.first() == Some(&Some(id))
            && node.outputs.iter().skip(1).flatten().all(|&other| self.reads(other) == 0)
    }

    /// Puts `node` where another was, whose outputs it makes, and takes away what
    /// nothing reads any more. It may read what was made before that place.
    pub(super) fn replace(&mut self, at: usize, node: Node) {
        let old = self.nodes.get_mut(at).and_then(Option::take);
        self.enter(at, &node);
        if let Some(slot) = self.nodes.get_mut(at) {
            *slot = Some(node);
        }
        if let Some(old) = old {
            self.leave(&old);
        }
    }

    /// Replaces the node at `at`, which makes one value, by constants.
    pub(super) fn settle(&mut self, at: usize, values: Vec<(ValueId, Tensor)>) {
        self.constants.extend(values);
        self.remove(at);
    }

    pub(super) fn remove(&mut self, at: usize) {
        let Some(node) = self.nodes.get_mut(at).and_then(Option::take) else { return };
        for &id in node.outputs.iter().flatten() {
            if let Some(maker) = self.makers.get_mut(id) {
                *maker = None;
            }
        }
        self.leave(&node);
    }

    pub(super) fn add_constant(&mut self, name: String, tensor: Tensor) -> ValueId {
        let id = self.names.len();
        self.names.push(name);
        self.makers.push(None);
        self.reads.push(0);
        self.captured.push(false);
        self.constants.insert(id, tensor);
        id
    }

    /// Lets the node at `at` read other values.
    pub(super) fn redirect(&mut self, at: usize, to: impl Fn(ValueId) -> ValueId) {
        let Some(mut node) = self.nodes.get_mut(at).and_then(Option::take) else { return };
        for id in node.inputs.iter_mut().flatten() {
            let new = to(*id);
            if new != *id {
                self.count(new, true);
                self.count(*id, false);
                *id = new;
            }
        }
        if let Some(slot) = self.nodes.get_mut(at) {
            *slot = Some(node);
        }
    }

    /// Lets the graph give other values.
    pub(super) fn redirect_outputs(&mut self, to: impl Fn(ValueId) -> ValueId) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for id in &mut outputs {
            let new = to(*id);
            self.count(new, true);
            self.count(*id, false);
            *id = new;
        }
        self.outputs = outputs;
    }

    /// Runs `pass` on each graph that a node holds.
    pub(super) fn each_subgraph(&mut self, mut pass: impl FnMut(Graph) -> Graph) {
        let nodes = self.nodes.iter_mut().flatten();
        for (_, attribute) in nodes.flat_map(|node| &mut node.attributes) {
            if let Attribute::Graph(graph) = attribute {
                *graph = pass(std::mem::take(graph));
            }
        }
    }

    fn enter(&mut self, at: usize, node: &Node) {
        for &id in node.outputs.iter().flatten() {
            if let Some(maker) = self.makers.get_mut(id) {
                *maker = Some(at);
            }
        }
        for &id in node.inputs.iter().flatten().chain(&node.captured) {
            self.count(id, true);
        }
        for &id in &node.captured {
            mark(&mut self.captured, id);
        }
    }

    /// Forgets what a node read that is gone, and the nodes that were there for it.
    fn leave(&mut self, node: &Node) {
        let mut gone = vec![];
        let mut read: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        read.extend(&node.captured);
        loop {
            for id in read.drain(..) {
                self.count(id, false);
                if self.reads(id) == 0 {
                    gone.extend(self.makers.get(id).copied().flatten());
                }
            }
            let Some(at) = gone.pop() else { return };
            let Some(node) = self.take_if_unread(at) else { continue };
            read.extend(node.inputs.iter().flatten().chain(&node.captured));
        }
    }

    fn take_if_unread(&mut self, at: usize) -> Option<Node> {
        let node = self.node(at)?;
        if node.outputs.iter().flatten().any(|&id| self.reads(id) > 0) {
            return None;
        }
        self.nodes.get_mut(at)?.take()
    }

    fn count(&mut self, id: ValueId, up: bool) {
        if let Some(reads) = self.reads.get_mut(id) {
            *reads = if up { *reads + 1 } else { reads.saturating_sub(1) };
        }
    }
}

fn mark(list: &mut [bool], id: ValueId) {
    if let Some(slot) = list.get_mut(id) {
        *slot = true;
    }
}

impl Node {
    /// Whether this is an operator of ONNX's own domain.
    pub(super) fn is(&self, operator: &str) -> bool {
        self.label.domain.is_empty() && self.label.operator == operator
    }

    pub(super) fn opset(&self) -> i64 {
        self.label.opset
    }

    pub(super) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The node's two inputs, if it has two.
    pub(super) fn pair(&self) -> Option<(ValueId, ValueId)> {
        match *self.inputs.as_slice() {
            [Some(left), Some(right)] => Some((left, right)),
            _ => None,
        }
    }

    /// The first output.
    pub(super) fn output(&self) -> Option<ValueId> {
        self.outputs.first().copied().flatten()
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, attribute)| attribute)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            Attribute::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        match self.attribute(name) {
            Some(Attribute::Float(value)) => *value,
            _ => default,
        }
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name)? {
            Attribute::Ints(values) => Some(values),
            _ => None,
        }
    }

    /// A node that stands for this one and others before it, and makes what this
    /// one made. Errors name it by this node's name.
    pub(super) fn instead(
        &self,
        (domain, operator, opset): (&str, &str, i64),
        inputs: Vec<Option<ValueId>>,
        attributes: Vec<(&str, Attribute)>,
    ) -> Self {
        let label = NodeLabel {
            node: self.label.node.clone(),
            operator: operator.to_owned(),
            domain: domain.to_owned(),
            opset,
        };
        Self {
            label: label.into(),
            inputs,
            outputs: self.outputs.first().copied().into_iter().collect(),
            attributes: attributes.into_iter().map(|(name, a)| (name.to_owned(), a)).collect(),
            captured: Vec::new(),
        }
    }
}
