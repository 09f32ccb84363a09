//! The intermediate form: a graph whose names are resolved, whose nodes are in
//! an order they can run in, and whose sizes are within bounds.

mod attributes;
mod build;
mod functions;

use std::sync::Arc;

use ingle_types::{DType, Tensor};

pub(crate) use self::attributes::Attribute;
pub(crate) use self::build::{Opsets, build, domain_of};
pub(crate) use self::functions::Functions;
use crate::NodeLabel;

/// A value's place in [`Graph::values`].
pub(crate) type ValueId = usize;

#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    /// The name of each value.
    pub(crate) values: Vec<String>,
    pub(crate) inputs: Vec<ValueId>,
    pub(crate) outputs: Vec<ValueId>,
    /// What the graph says of each output.
    pub(crate) declared: Vec<Declared>,
    /// Initializers. One that is an input too is that input's default.
    pub(crate) constants: Vec<(ValueId, Tensor)>,
    /// Each node comes after those that produce what it reads.
    pub(crate) nodes: Vec<Node>,
    /// Values of the enclosing graph that this one reads.
    pub(crate) captures: Vec<Capture>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) label: Arc<NodeLabel>,
    pub(crate) inputs: Vec<Option<ValueId>>,
    pub(crate) outputs: Vec<Option<ValueId>>,
    pub(crate) attributes: Vec<(String, Attribute)>,
    /// What the node's subgraphs read of this graph, each value once.
    pub(crate) captured: Vec<ValueId>,
}

/// A tensor as a graph declares it; what is not told is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Declared {
    pub(crate) dtype: Option<DType>,
    pub(crate) dims: Option<Vec<Option<usize>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) name: String,
    /// The value in this graph.
    pub(crate) value: ValueId,
    /// The value in the enclosing graph, once that is known.
    pub(crate) outer: Option<ValueId>,
    /// The first node that reads it.
    pub(crate) reader: Option<Arc<NodeLabel>>,
}
