//! The operators. One file for each family; an operator is a function in its
//! family's file and one line in that file's `register`.
//!
//! A build function reads the node's attributes, once, while the model is
//! loaded, and gives back what runs. All that an operator is told by tensors
//! (weights, axes, shapes) it learns when it runs: they may come from a request.
//! An operator checks its operands' shapes before it calls Burn, whose kernels
//! trust them.

mod activation;
mod args;
mod attend;
mod attention;
mod bits;
mod cache;
mod catalogue;
mod causal_conv;
mod compare;
mod control;
mod conv;
mod conv_transpose;
mod cumulative;
mod deform;
mod det;
mod einsum;
mod elementwise;
mod fft;
mod fold;
mod fourier;
mod function;
mod gather;
mod generate;
mod grid_sample;
mod linear;
mod linear_attention;
mod matmul;
mod microsoft;
mod microsoft_attention;
mod microsoft_group;
mod microsoft_norm;
mod ml;
mod nms;
mod norm;
mod one_hot;
mod pad;
mod pick;
mod pool;
mod pool_host;
mod qlinear;
mod quantize;
mod quantized;
mod reduce;
mod resize;
mod rnn;
mod rnn_cell;
mod roi;
mod rotary;
mod sampling;
mod scan;
mod scatter;
mod sequence;
mod shape;
mod slice;
mod spatial;
mod tensor;
mod text;
mod tfidf;
mod tokenizer;
mod unary;
mod unique;
mod windows;

#[cfg(test)]
mod exact;

use std::collections::HashMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

pub(crate) use self::args::{Args, Subgraph};
pub use self::catalogue::{OperatorInfo, operators};
pub(crate) use self::gather::LOOK_UP;
pub(crate) use self::linear::LINEAR;
pub(crate) use self::ml::DOMAIN as ML_DOMAIN;
use crate::context::Context;
use crate::graph::{Attribute, Graph, Node};
use crate::kernels::Kernels;
use crate::value::Value;
use crate::{BuildError, LoadError, NodeLabel, OpError};

/// The domain of operators that only the optimiser puts in.
const INTERNAL: &str = "ingle";

/// The newest version of ONNX's own operators that is known.
pub(crate) const NEWEST_OPSET: i64 = 27;

/// A node ready to run.
pub(crate) trait Op<B: Kernels>: Send + Sync {
    fn run(&self, ctx: &Context<B>, inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError>;

    /// The operator with what it can work out beforehand from the inputs that
    /// are constant; asked once, when the plan is complete.
    fn bind(&self, _: &Context<B>, _constants: &[Option<Value<B>>]) -> Option<Prepared<B>> {
        None
    }

    /// Whether equal inputs always give equal outputs.
    fn is_pure(&self) -> bool {
        true
    }
}

impl<B: Kernels, F> Op<B> for F
where
    F: Fn(&Context<B>, Inputs<B>) -> Result<Vec<Value<B>>, OpError> + Send + Sync,
{
    fn run(&self, ctx: &Context<B>, inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        self(ctx, inputs)
    }
}

/// What an operator becomes once its constant inputs are known.
pub(crate) struct Prepared<B: Kernels> {
    pub(crate) op: Box<dyn Op<B>>,
    /// The inputs that it does not read any more.
    pub(crate) holds: Vec<usize>,
    /// What it holds in their place, in bytes.
    pub(crate) bytes: usize,
}

pub(crate) type Built<B> = Result<Box<dyn Op<B>>, BuildError>;

/// Boxes a closure, which lets its argument types be inferred.
pub(crate) fn op<B, F>(run: F) -> Built<B>
where
    B: Kernels,
    F: Fn(&Context<B>, Inputs<B>) -> Result<Vec<Value<B>>, OpError> + Send + Sync + 'static,
{
    Ok(Box::new(run))
}

/// The tensors that reach a node. Taking one gives it away, so that an operator
/// can reuse the memory of an operand that nobody else reads.
pub(crate) struct Inputs<B: Kernels> {
    values: Vec<Option<Value<B>>>,
    own: usize,
}

impl<B: Kernels> Inputs<B> {
    /// The first `own` are the node's inputs; the others are captured values.
    pub(crate) fn new(values: Vec<Option<Value<B>>>, own: usize) -> Self {
        Self { values, own }
    }

    pub(crate) fn take(&mut self, index: usize) -> Result<Value<B>, OpError> {
        self.take_any(index)?.tensor("an input")
    }

    pub(crate) fn take_opt(&mut self, index: usize) -> Option<Value<B>> {
        if index >= self.own {
            return None;
        }
        self.values.get_mut(index)?.take()
    }

    /// As [`Inputs::take`], for operators that know values other than tensors.
    pub(crate) fn take_any(&mut self, index: usize) -> Result<Value<B>, OpError> {
        self.take_opt(index).ok_or(OpError::Missing { index })
    }

    /// All of the node's inputs; none may be left out.
    pub(crate) fn take_all(&mut self) -> Result<Vec<Value<B>>, OpError> {
        (0..self.own).map(|index| self.take(index)).collect()
    }

    /// A captured value, by its place among them. Several subgraphs may read it.
    pub(crate) fn captured(&self, index: usize) -> Option<Value<B>> {
        self.values.get(self.own + index)?.clone()
    }
}

type Build<B> = fn(&Args<'_, B>) -> Built<B>;

struct Entry<B: Kernels> {
    versions: (Bound<i64>, Bound<i64>),
    /// The least and the most.
    inputs: (usize, usize),
    build: Build<B>,
}

/// Every operator that is known, by domain and name.
pub(crate) struct Registry<B: Kernels> {
    entries: HashMap<(&'static str, &'static str), Vec<Entry<B>>>,
}

impl<B: Kernels> Registry<B> {
    pub(crate) fn new() -> Self {
        let mut registry = Self { entries: HashMap::new() };
        activation::register(&mut registry);
        attention::register(&mut registry);
        cache::register(&mut registry);
        causal_conv::register(&mut registry);
        bits::register(&mut registry);
        compare::register(&mut registry);
        control::register(&mut registry);
        conv::register(&mut registry);
        conv_transpose::register(&mut registry);
        cumulative::register(&mut registry);
        deform::register(&mut registry);
        det::register(&mut registry);
        einsum::register(&mut registry);
        elementwise::register(&mut registry);
        fold::register(&mut registry);
        fourier::register(&mut registry);
        gather::register(&mut registry);
        generate::register(&mut registry);
        grid_sample::register(&mut registry);
        linear_attention::register(&mut registry);
        linear::register(&mut registry);
        matmul::register(&mut registry);
        microsoft::register(&mut registry);
        microsoft_attention::register(&mut registry);
        microsoft_group::register(&mut registry);
        microsoft_norm::register(&mut registry);
        ml::register(&mut registry);
        nms::register(&mut registry);
        norm::register(&mut registry);
        one_hot::register(&mut registry);
        pad::register(&mut registry);
        pick::register(&mut registry);
        pool::register(&mut registry);
        qlinear::register(&mut registry);
        quantize::register(&mut registry);
        quantized::register(&mut registry);
        reduce::register(&mut registry);
        resize::register(&mut registry);
        rnn::register(&mut registry);
        roi::register(&mut registry);
        rotary::register(&mut registry);
        scan::register(&mut registry);
        scatter::register(&mut registry);
        sequence::register(&mut registry);
        shape::register(&mut registry);
        slice::register(&mut registry);
        tensor::register(&mut registry);
        text::register(&mut registry);
        tfidf::register(&mut registry);
        tokenizer::register(&mut registry);
        unary::register(&mut registry);
        unique::register(&mut registry);
        windows::register(&mut registry);
        #[cfg(test)]
        registry.add("Panic", .., .., |_| op(|_, _| panic!("the text of a foreign library")));
        registry
    }

    /// An operator of ONNX's own domain: its name, the opset versions in which
    /// it means this, how many inputs it takes, and how it is built.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        versions: impl RangeBounds<i64>,
        inputs: impl RangeBounds<usize>,
        build: Build<B>,
    ) {
        self.add_in("", name, versions, inputs, build);
    }

    /// As [`Registry::add`], for an operator of another domain, in whose versions
    /// `versions` counts.
    pub(crate) fn add_in(
        &mut self,
        domain: &'static str,
        name: &'static str,
        versions: impl RangeBounds<i64>,
        inputs: impl RangeBounds<usize>,
        build: Build<B>,
    ) {
        let versions = (versions.start_bound().cloned(), versions.end_bound().cloned());
        let least = match inputs.start_bound() {
            Bound::Included(&least) => least,
            Bound::Excluded(_) | Bound::Unbounded => 0,
        };
        let most = match inputs.end_bound() {
            Bound::Included(&most) => most,
            Bound::Excluded(_) | Bound::Unbounded => usize::MAX,
        };
        let entry = Entry { versions, inputs: (least, most), build };
        self.entries.entry((domain, name)).or_default().push(entry);
    }

    fn find<'a>(&'a self, label: &'a NodeLabel) -> Option<&'a Entry<B>> {
        let entries = self.entries.get(&(label.domain.as_str(), label.operator.as_str()))?;
        entries.iter().find(|entry| entry.versions.contains(&label.opset))
    }

    /// Refuses a graph with operators that are not known, naming all of them.
    pub(crate) fn check(&self, graph: &Graph) -> Result<(), LoadError> {
        let mut unknown = Vec::new();
        self.collect_unknown(graph, &mut unknown);
        if unknown.is_empty() { Ok(()) } else { Err(LoadError::Operators { labels: unknown }) }
    }

    fn collect_unknown(&self, graph: &Graph, unknown: &mut Vec<Arc<NodeLabel>>) {
        for node in &graph.nodes {
            if self.find(&node.label).is_none() || node.label.domain == INTERNAL {
                unknown.push(node.label.clone());
            }
            for (_, attribute) in &node.attributes {
                if let Attribute::Graph(graph) = attribute {
                    self.collect_unknown(graph, unknown);
                }
            }
        }
    }

    pub(crate) fn build(&self, node: &Node, ctx: &Context<B>) -> Result<Box<dyn Op<B>>, LoadError> {
        let label = &node.label;
        let unknown = || LoadError::Operators { labels: vec![label.clone()] };
        let entry = self.find(label).ok_or_else(unknown)?;
        let build = || {
            check_inputs(node, entry.inputs)?;
            let args = Args::new(node, self, ctx);
            let op = (entry.build)(&args)?;
            args.finish()?;
            Ok(op)
        };
        build().map_err(|reason| LoadError::Build { label: label.clone(), reason })
    }
}

fn check_inputs(node: &Node, (least, most): (usize, usize)) -> Result<(), BuildError> {
    let given = node.inputs.len();
    let required = node.inputs.iter().take(least).flatten().count();
    if required < least || given > most {
        return Err(BuildError::Inputs { given, least, most });
    }
    Ok(())
}
