//! The optimiser: passes over a graph before it is compiled. A pass is a file
//! here: graph to graph, one walk over the nodes.
//!
//! A pass may change how floating point rounds, and nothing else: neither which
//! models load nor which requests they answer. So a pattern matches only where
//! what it takes away could not have failed by itself, which is what the known
//! shapes are for; and it takes away only values that nothing else reads, neither
//! another node, nor a subgraph, nor the graph's outputs.

mod activations;
mod affine;
mod convolutions;
mod fold;
mod layer_norm;
mod linear;
mod lookups;
mod merge;
mod pattern;
mod reshapes;
mod rewriter;
mod shapes;

use ingle_types::TensorSpec;

use self::rewriter::Rewriter;
use self::shapes::Shapes;
use crate::context::Context;
use crate::graph::Graph;
use crate::kernels::Kernels;
use crate::ops::Registry;

/// Whether models are optimised when they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Optimize {
    #[default]
    On,
    /// Nodes run as the model has them.
    Off,
}

/// `specs` declare the graph's inputs.
pub(crate) fn optimize<B: Kernels>(
    graph: Graph,
    specs: &[TensorSpec],
    registry: &Registry<B>,
    ctx: &Context<B>,
) -> Graph {
    let mut graph = Rewriter::new(graph);
    // What a subgraph is given may be of any shape.
    graph.each_subgraph(|graph| optimize(graph, &[], registry, ctx));
    fold::run(&mut graph, registry, ctx);
    merge::run(&mut graph);
    let shapes = Shapes::of(&graph, specs);
    reshapes::run(&mut graph, &shapes);
    merge::run(&mut graph);
    activations::run(&mut graph, &shapes);
    layer_norm::run(&mut graph, &shapes);
    lookups::run(&mut graph, &shapes, registry, ctx);
    affine::run(&mut graph, &shapes);
    linear::run(&mut graph, &shapes);
    convolutions::run(&mut graph, &shapes);
    graph.finish()
}

#[cfg(test)]
pub(crate) mod testing;
