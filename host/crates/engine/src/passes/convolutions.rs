//! Lets a convolution add what is added to its answer, and apply the function
//! that follows, while the answer is at hand.

use super::pattern::scalar;
use super::rewriter::Rewriter;
use super::shapes::Shapes;
use crate::graph::{Attribute, Node, ValueId};

const FUSED: (&str, &str, i64) = ("com.microsoft", "FusedConv", 1);

pub(super) fn run(graph: &mut Rewriter, shapes: &Shapes) {
    for at in graph.places() {
        let Some(node) = graph.node(at) else { continue };
        let found = with_residual(graph, shapes, node).or_else(|| with_activation(graph, node));
        if let Some(new) = found {
            graph.replace(at, new);
        }
    }
}

/// The convolution that makes `id` for one reader, and applies nothing yet.
fn convolution(graph: &Rewriter, id: ValueId) -> Option<(usize, &Node)> {
    let (at, node) = graph.maker(id)?;
    let fused = (node.label.domain.as_str(), node.label.operator.as_str()) == (FUSED.0, FUSED.1);
    let free = node.is("Conv") || fused && node.attribute("activation").is_none();
    (free && graph.reads(id) == 1 && graph.makes_only(node, id)).then_some((at, node))
}

fn fused(root: &Node, conv: &Node, residual: Option<ValueId>) -> Node {
    let mut inputs = conv.inputs.clone();
    if residual.is_some() {
        inputs.resize(3, None);
        inputs.push(residual);
    }
    let mut node = conv.instead(FUSED, inputs, Vec::new());
    node.attributes = conv.attributes.clone();
    node.outputs = vec![root.output()];
    node
}

/// Add(Conv(...), z), where z is as large.
fn with_residual(graph: &Rewriter, shapes: &Shapes, node: &Node) -> Option<Node> {
    let sums = node.is_arithmetic("Add") || node.is_plain("Sum") && node.opset() >= 8;
    let (left, right) = sums.then(|| node.pair()).flatten()?;
    let dims = shapes.dims(graph, left)?;
    if left == right || shapes.dims(graph, right)? != dims {
        return None;
    }
    let takes_one = |id| convolution(graph, id).filter(|(_, conv)| conv.input(3).is_none());
    // Of two convolutions the later one adds: the other's answer is there by then.
    let (conv, z) = match (takes_one(left), takes_one(right)) {
        (Some((l, left_conv)), Some((r, _))) if l > r => (left_conv, right),
        (_, Some((_, conv))) => (conv, left),
        (Some((_, conv)), None) => (conv, right),
        (None, None) => return None,
    };
    Some(fused(node, conv, Some(z)))
}

fn with_activation(graph: &Rewriter, node: &Node) -> Option<Node> {
    let (name, params) = activation(graph, node)?;
    let (_, conv) = convolution(graph, node.input(0)?)?;
    let mut new = fused(node, conv, None);
    new.attributes.push(("activation".to_owned(), Attribute::String(name.into())));
    if !params.is_empty() {
        new.attributes.push(("activation_params".to_owned(), Attribute::Floats(params)));
    }
    Some(new)
}

/// The function of one tensor that a node is, as the fused operators name it.
pub(super) fn activation(graph: &Rewriter, node: &Node) -> Option<(&'static str, Vec<f32>)> {
    let float = |name, default| match node.attribute(name) {
        None => Some(default),
        Some(Attribute::Float(value)) => Some(*value),
        Some(_) => None,
    };
    let knows = |names: &[&str]| node.attributes.iter().all(|(n, _)| names.contains(&n.as_str()));
    let given = node.inputs.len();
    let name = match node.label.operator.as_str() {
        "Clip" if node.is("Clip") => return clip(graph, node).map(|b| ("Clip", b.to_vec())),
        _ if !node.label.domain.is_empty() || given != 1 => return None,
        "LeakyRelu" if knows(&["alpha"]) => {
            return Some(("LeakyRelu", vec![float("alpha", 0.01)?]));
        }
        "HardSigmoid" if knows(&["alpha", "beta"]) => {
            return Some(("HardSigmoid", vec![float("alpha", 0.2)?, float("beta", 0.5)?]));
        }
        "Swish" if knows(&["alpha"]) => return Some(("Swish", vec![float("alpha", 1.0)?])),
        "Gelu" => {
            let exact = match node.attribute("approximate") {
                None => true,
                Some(Attribute::String(how)) => how.as_ref() == b"none",
                Some(_) => false,
            };
            return (exact && knows(&["approximate"])).then(|| ("Gelu", Vec::new()));
        }
        "Relu" => "Relu",
        "Sigmoid" => "Sigmoid",
        "Tanh" => "Tanh",
        "HardSwish" => "HardSwish",
        _ => return None,
    };
    node.attributes.is_empty().then(|| (name, Vec::new()))
}

/// Bounds that are known; those that cross are left to the operator.
fn clip(graph: &Rewriter, node: &Node) -> Option<[f32; 2]> {
    let (low, high) = if node.opset() >= 11 {
        let bound = |index, none| match node.input(index) {
            None => Some(none),
            Some(id) => scalar(graph, id).map(|bound| bound as f32),
        };
        let plain = node.attributes.is_empty() && node.inputs.len() <= 3;
        plain.then(|| Some((bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?))).flatten()?
    } else {
        let float = |name| matches!(node.attribute(name), None | Some(Attribute::Float(_)));
        let bounds = (node.float("min", f32::NEG_INFINITY), node.float("max", f32::INFINITY));
        let known = node.attributes.iter().all(|(name, _)| name == "min" || name == "max");
        (known && node.inputs.len() == 1 && float("min") && float("max")).then_some(bounds)?
    };
    (low <= high).then_some([low, high])
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::Sketch;
    use crate::testing::{counting, f32s};

    /// Two convolutions of x, which has any height and width, as "c" and "d".
    fn sketch(strides: [i64; 2]) -> Sketch {
        let sketch = Sketch::new(17).input("x", &[-1, 2, -1, -1], counting(&[1, 2, 4, 4]));
        let sketch =
            sketch.weight("w", counting(&[2, 2, 3, 3])).weight("v", counting(&[2, 2, 1, 1]));
        let sketch = sketch.weight("six", f32s(&[], &[600.])).weight("zero", f32s(&[], &[0.]));
        let sketch = sketch.weight("one", f32s(&[2], &[-900., -800.]));
        let sketch = sketch.node("Conv", &["x", "w", "one"], "c").ints("pads", &[1; 4]);
        let sketch = sketch.ints("strides", &[strides[0]; 2]).node("Conv", &["x", "v"], "d");
        sketch.ints("strides", &[strides[1]; 2])
    }

    #[test]
    fn a_function_behind_a_convolution_becomes_part_of_it() {
        let with = |operator, inputs: &[&str]| {
            sketch([1, 1]).node(operator, inputs, "y").output("y").output("d")
        };
        let fused = ["Conv", "FusedConv"];
        for operator in ["Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "HardSigmoid"] {
            with(operator, &["c"]).becomes(&fused);
        }
        with("LeakyRelu", &["c"]).float("alpha", 0.3).becomes(&fused);
        with("Clip", &["c", "zero", "six"]).becomes(&fused);
        with("Clip", &["c", "", "six"]).becomes(&fused);
        // Bounds that cross, and a value that is asked for.
        with("Clip", &["c", "six", "zero"]).becomes(&["Conv", "Conv", "Clip"]);
        with("Relu", &["c"]).output("c").becomes(&["Conv", "Conv", "Relu"]);
        with("Softplus", &["c"]).becomes(&["Conv", "Conv", "Softplus"]);
    }

    #[test]
    fn what_is_added_becomes_part_of_the_later_convolution() {
        for strides in [[1, 1], [2, 2], [3, 3]] {
            let sum = sketch(strides).node("Add", &["c", "d"], "s");
            sum.clone().output("s").becomes(&["Conv", "FusedConv"]);
            let relu = sum.node("Relu", &["s"], "y").output("y");
            relu.becomes(&["Conv", "FusedConv"]);
        }
    }

    #[test]
    fn what_may_be_smaller_is_added_apart() {
        let pooled = || sketch([1, 1]).node("GlobalAveragePool", &["d"], "p");
        let sum = pooled().node("Add", &["c", "p"], "y").output("y");
        sum.becomes(&["Conv", "Conv", "GlobalAveragePool", "Add"]);
        let twice = sketch([1, 1]).node("Add", &["c", "c"], "y").output("y").output("d");
        twice.becomes(&["Conv", "Conv", "Add"]);
    }
}
