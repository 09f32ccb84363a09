use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use bytes::Bytes;
use ingle_types::Tensor;

use super::Registry;
use crate::context::Context;
use crate::graph::{Attribute, Declared, Graph, Node};
use crate::kernels::Kernels;
use crate::plan::Plan;
use crate::{BuildError, LoadError};

/// What an operator is built from: a node's attributes and the number of its
/// inputs and outputs. An attribute that no operator asks for is an error.
pub(crate) struct Args<'a, B: Kernels> {
    node: &'a Node,
    registry: &'a Registry<B>,
    ctx: &'a Context<B>,
    read: RefCell<HashSet<&'static str>>,
    most_outputs: Cell<usize>,
}

/// A subgraph of a node, ready to run.
pub(crate) struct Subgraph<B: Kernels> {
    pub(crate) plan: Plan<B>,
    /// Inputs that the operator gives, before the captured ones.
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// What the subgraph says of each output.
    pub(crate) declared: Vec<Declared>,
    /// Which of the node's captured values the plan wants, in its order.
    pub(crate) captured: Vec<usize>,
}

impl<'a, B: Kernels> Args<'a, B> {
    pub(crate) fn new(node: &'a Node, registry: &'a Registry<B>, ctx: &'a Context<B>) -> Self {
        Self { node, registry, ctx, read: RefCell::default(), most_outputs: Cell::new(1) }
    }

    /// The version of the node's domain.
    pub(crate) fn opset(&self) -> i64 {
        self.node.label.opset
    }

    /// Inputs given, counting those left out in the middle.
    pub(crate) fn inputs(&self) -> usize {
        self.node.inputs.len()
    }

    /// Outputs asked for, counting those left out in the middle.
    pub(crate) fn outputs(&self) -> usize {
        self.node.outputs.len()
    }

    pub(crate) fn has_output(&self, index: usize) -> bool {
        self.node.outputs.get(index).is_some_and(Option::is_some)
    }

    fn find(&self, name: &'static str) -> Option<&'a Attribute> {
        self.read.borrow_mut().insert(name);
        self.node.attributes.iter().find(|(n, _)| n == name).map(|(_, attribute)| attribute)
    }

    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.find(name).is_some()
    }

    /// Says that an attribute is known and has no effect here.
    pub(crate) fn ignore(&self, name: &'static str) {
        self.find(name);
    }

    pub(crate) fn int_opt(&self, name: &'static str) -> Result<Option<i64>, BuildError> {
        match self.find(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "int" }),
        }
    }

    pub(crate) fn int(&self, name: &'static str, default: i64) -> Result<i64, BuildError> {
        Ok(self.int_opt(name)?.unwrap_or(default))
    }

    pub(crate) fn flag(&self, name: &'static str, default: bool) -> Result<bool, BuildError> {
        Ok(self.int(name, default.into())? != 0)
    }

    pub(crate) fn float_opt(&self, name: &'static str) -> Result<Option<f64>, BuildError> {
        match self.find(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) => Ok(Some((*value).into())),
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "float" }),
        }
    }

    /// `default` is rounded to the 32 bits that an attribute has.
    pub(crate) fn float(&self, name: &'static str, default: f32) -> Result<f64, BuildError> {
        Ok(self.float_opt(name)?.unwrap_or(default.into()))
    }

    pub(crate) fn ints(&self, name: &'static str) -> Result<Option<&'a [i64]>, BuildError> {
        match self.find(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "ints" }),
        }
    }

    /// As [`Args::ints`], for lists that must not hold negative numbers.
    pub(crate) fn sizes(&self, name: &'static str) -> Result<Option<Vec<usize>>, BuildError> {
        let size = |&v: &i64| {
            usize::try_from(v)
                .ok()
                .filter(|&v| v <= u32::MAX as usize)
                .ok_or(BuildError::Value { name, reason: "a size is negative or too large" })
        };
        self.ints(name)?.map(|values| values.iter().map(size).collect()).transpose()
    }

    pub(crate) fn floats(&self, name: &'static str) -> Result<Option<&'a [f32]>, BuildError> {
        match self.find(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values)),
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "floats" }),
        }
    }

    pub(crate) fn string(
        &self,
        name: &'static str,
        default: &'static str,
    ) -> Result<Cow<'a, str>, BuildError> {
        match self.find(name) {
            None => Ok(default.into()),
            Some(Attribute::String(value)) => Ok(String::from_utf8_lossy(value)),
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "string" }),
        }
    }

    pub(crate) fn strings(
        &self,
        name: &'static str,
    ) -> Result<Option<Vec<Cow<'a, str>>>, BuildError> {
        match self.find(name) {
            None => Ok(None),
            Some(Attribute::Strings(values)) => {
                Ok(Some(values.iter().map(|v| String::from_utf8_lossy(v)).collect()))
            }
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "strings" }),
        }
    }

    /// As [`Args::strings`], byte for byte.
    pub(crate) fn texts(&self, name: &'static str) -> Result<Option<&'a [Bytes]>, BuildError> {
        match self.find(name) {
            None => Ok(None),
            Some(Attribute::Strings(values)) => Ok(Some(values)),
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "strings" }),
        }
    }

    pub(crate) fn tensor(&self, name: &'static str) -> Result<Option<&'a Tensor>, BuildError> {
        match self.find(name) {
            None => Ok(None),
            Some(Attribute::Tensor(value)) => Ok(Some(value)),
            Some(_) => Err(BuildError::Type { name: name.into(), expected: "tensor" }),
        }
    }

    /// Prepares a subgraph.
    pub(crate) fn graph(&self, name: &'static str) -> Result<Subgraph<B>, BuildError> {
        let graph: &Graph = match self.find(name) {
            None => return Err(BuildError::Missing { name }),
            Some(Attribute::Graph(graph)) => graph,
            Some(_) => return Err(BuildError::Type { name: name.into(), expected: "graph" }),
        };
        let fail = |reason: LoadError| BuildError::Graph { name, reason: Box::new(reason) };
        let plan = Plan::compile(graph, self.registry, self.ctx).map_err(fail)?;
        let place = |id| self.node.captured.iter().position(|&c| Some(c) == id);
        let captured = graph.captures.iter().filter_map(|c| place(c.outer)).collect();
        Ok(Subgraph {
            plan,
            inputs: graph.inputs.len(),
            outputs: graph.outputs.len(),
            declared: graph.declared.clone(),
            captured,
        })
    }

    /// Says how many outputs the operator makes; one, where it does not say.
    pub(crate) fn makes_outputs(&self, most: usize) {
        self.most_outputs.set(most);
    }

    /// Refuses attributes that were not asked for and outputs that are not made.
    pub(super) fn finish(self) -> Result<(), BuildError> {
        // Old exporters write this one on every node; it never had an effect.
        self.ignore("consumed_inputs");
        let (given, most) = (self.outputs(), self.most_outputs.get());
        if given > most {
            return Err(BuildError::Outputs { given, most });
        }
        let read = self.read.into_inner();
        match self.node.attributes.iter().find(|(name, _)| !read.contains(name.as_str())) {
            Some((name, _)) => Err(BuildError::Unknown { name: name.clone() }),
            None => Ok(()),
        }
    }
}
