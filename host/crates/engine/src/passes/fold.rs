//! Computes what does not depend on a request, so that the passes behind this
//! one see numbers.

use ingle_types::Tensor;

use super::rewriter::Rewriter;
use crate::OpError;
use crate::context::Context;
use crate::graph::{Node, ValueId};
use crate::kernels::Kernels;
use crate::ops::{Inputs, Registry};
use crate::value::Value;

/// A node that fails stays where it is, and fails when the graph is compiled.
pub(super) fn run<B: Kernels>(graph: &mut Rewriter, registry: &Registry<B>, ctx: &Context<B>) {
    let mut bytes = 0usize;
    for at in graph.places() {
        if ctx.is_late() {
            return;
        }
        let Some(node) = graph.node(at) else { continue };
        if has_subgraph(node) {
            continue;
        }
        let unread = node.outputs.iter().flatten().all(|&id| graph.reads(id) == 0);
        if unread && registry.build(node, ctx).is_ok() {
            graph.remove(at);
            continue;
        }
        let Some(values) = evaluate(graph, node, registry, ctx) else { continue };
        let made = values.iter().map(|(_, tensor)| tensor.size_bytes());
        bytes = made.fold(bytes, usize::saturating_add);
        if bytes > ctx.constant_bytes() {
            return;
        }
        graph.settle(at, values);
    }
}

fn has_subgraph(node: &Node) -> bool {
    use crate::graph::Attribute;
    node.attributes.iter().any(|(_, attribute)| matches!(attribute, Attribute::Graph(_)))
}

fn evaluate<B: Kernels>(
    graph: &Rewriter,
    node: &Node,
    registry: &Registry<B>,
    ctx: &Context<B>,
) -> Option<Vec<(ValueId, Tensor)>> {
    let constants: Option<Vec<Option<&Tensor>>> = node
        .inputs
        .iter()
        .map(|input| match input {
            Some(id) => graph.constant(*id).map(Some),
            None => Some(None),
        })
        .collect();
    let outputs = compute(node, &constants?, registry, ctx)?;
    let pairs = node.outputs.iter().zip(outputs);
    Some(pairs.filter_map(|(id, tensor)| Some(((*id)?, tensor))).collect())
}

/// What a node makes of constants; `None` where it fails, or draws by lot.
pub(super) fn compute<B: Kernels>(
    node: &Node,
    inputs: &[Option<&Tensor>],
    registry: &Registry<B>,
    ctx: &Context<B>,
) -> Option<Vec<Tensor>> {
    let op = registry.build(node, ctx).ok().filter(|op| op.is_pure())?;
    let upload = |tensor: &Option<&Tensor>| tensor.map(|t| Value::from_tensor(ctx, t)).transpose();
    let values = inputs.iter().map(upload).collect::<Result<Vec<_>, OpError>>().ok()?;
    ctx.step().ok()?;
    let outputs = op.run(ctx, Inputs::new(values, inputs.len())).ok()?;
    if outputs.len() < node.outputs.len() {
        return None;
    }
    outputs.iter().map(|value| value.to_tensor(ctx).ok()).collect()
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::{Sketch, optimized};
    use crate::testing::{counting, f32s, i64s};

    #[test]
    fn what_depends_on_constants_alone_is_a_constant() {
        let sketch = Sketch::new(17).input("x", &[2], f32s(&[2], &[1., 2.]));
        let sketch = sketch.weight("w", counting(&[2, 1])).weight("to", i64s(&[1], &[2]));
        let sketch = sketch.node("Reshape", &["w", "to"], "r").node("Exp", &["r"], "e");
        let sketch = sketch.node("Add", &["x", "e"], "y").output("y");
        sketch.becomes(&["Add"]);
        // Neither the weight nor the shape is kept.
        assert_eq!(optimized(&sketch).constants.len(), 1);
    }

    #[test]
    fn what_fails_is_left_to_fail() {
        let sketch = Sketch::new(17).input("x", &[2], f32s(&[2], &[1., 2.]));
        let sketch = sketch.weight("w", counting(&[2, 1])).weight("to", i64s(&[1], &[3]));
        let sketch = sketch.node("Reshape", &["w", "to"], "r").node("Add", &["x", "r"], "y");
        let proto = crate::testing::model(sketch.output("y").graph, 17);
        let error = crate::testing::full_text(&crate::testing::load(&proto).unwrap_err());
        assert!(error.contains("Reshape"), "{error}");
    }

    #[test]
    fn a_node_that_nothing_reads_is_checked_and_goes() {
        let sketch = Sketch::new(17).input("x", &[2], f32s(&[2], &[1., 2.]));
        let dead = sketch.node("Neg", &["x"], "y").output("y").node("Exp", &["x"], "dead");
        dead.becomes(&["Neg"]);
        let proto = crate::testing::model(dead.int("nonsense", 1).graph, 17);
        assert!(crate::testing::load(&proto).is_err());
    }
}
