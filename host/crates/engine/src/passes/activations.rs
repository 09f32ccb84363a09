//! Recognises activation functions that exporters spell out.

use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};

use super::pattern::{factors, fits_beside, is_number, scalar, with_constant, without};
use super::rewriter::Rewriter;
use super::shapes::Shapes;
use crate::graph::{Attribute, Node, ValueId};

/// The versions of ONNX's operators that are put in; which version the model is
/// written for makes no difference to them.
const HARD_SIGMOID: (&str, &str, i64) = ("", "HardSigmoid", 6);
const HARD_SWISH: (&str, &str, i64) = ("", "HardSwish", 14);
const SWISH: (&str, &str, i64) = ("", "Swish", 24);
const GELU: (&str, &str, i64) = ("", "Gelu", 20);

const SIXTH: f32 = 1.0 / 6.0;

pub(super) fn run(graph: &mut Rewriter, shapes: &Shapes) {
    for at in graph.places() {
        let Some(node) = graph.node(at) else { continue };
        let seen = (&*graph, shapes);
        let found = gelu(seen, node)
            .or_else(|| hard_swish(seen, node))
            .or_else(|| swish(seen, node))
            .or_else(|| hard_sigmoid(seen, node));
        if let Some(new) = found {
            graph.replace(at, new);
        }
    }
}

type Seen<'a> = (&'a Rewriter, &'a Shapes);

/// Div(Clip(Add(x, 3), 0, 6), 6).
fn hard_sigmoid(seen: Seen<'_>, node: &Node) -> Option<Node> {
    let clipped = sixth_of(seen, node)?;
    let x = clipped_x_plus_3(seen, clipped)?;
    let attributes = vec![("alpha", Attribute::Float(SIXTH)), ("beta", Attribute::Float(0.5))];
    Some(node.instead(HARD_SIGMOID, vec![Some(x)], attributes))
}

/// Div(Mul(x, Clip(Add(x, 3), 0, 6)), 6), or Mul(x, HardSigmoid(x)).
fn hard_swish(seen: Seen<'_>, node: &Node) -> Option<Node> {
    let (graph, _) = seen;
    let x = match sixth_of(seen, node) {
        Some(product) => {
            let (left, right) = graph.operands(product, "Mul")?;
            either(left, right, |x, gate| clipped_x_plus_3(seen, gate) == Some(x))?
        }
        None => {
            let (left, right) = node.is_arithmetic("Mul").then(|| node.pair()).flatten()?;
            either(left, right, |x, gate| {
                let Some(gate) = graph.only_for(gate, "HardSigmoid") else { return false };
                let (alpha, beta) = (gate.float("alpha", 0.2), gate.float("beta", 0.5));
                gate.input(0) == Some(x)
                    && (alpha - SIXTH).abs() < 1e-6
                    && beta == 0.5
                    && gate.attributes.len() <= 2
            })?
        }
    };
    Some(node.instead(HARD_SWISH, vec![Some(x)], Vec::new()))
}

/// What is divided by six.
fn sixth_of(seen: Seen<'_>, node: &Node) -> Option<ValueId> {
    let (graph, _) = seen;
    let (x, constant) = if node.is_arithmetic("Div") {
        node.pair().filter(|&(_, by)| is_number(graph, by, 6.0))?
    } else if node.is_arithmetic("Mul") {
        let pair = with_constant(graph, node.pair()?)?;
        Some(pair).filter(|&(_, by)| is_number(graph, by, 1.0 / 6.0))?
    } else {
        return None;
    };
    fits_beside(seen, constant, x).then_some(x)
}

/// The x of Clip(Add(x, 3), 0, 6).
fn clipped_x_plus_3(seen: Seen<'_>, id: ValueId) -> Option<ValueId> {
    let (graph, _) = seen;
    let clip = graph.only_for(id, "Clip")?;
    let bounds = if clip.opset() >= 11 {
        let bound = |index| scalar(graph, clip.input(index)?);
        clip.attributes.is_empty().then(|| Some((bound(1)?, bound(2)?))).flatten()
    } else {
        let bounds = (clip.float("min", f32::NAN), clip.float("max", f32::NAN));
        (clip.attributes.len() == 2).then(|| (bounds.0.into(), bounds.1.into()))
    };
    let (x, three) = with_constant(graph, graph.operands(clip.input(0)?, "Add")?)?;
    let matches = bounds == Some((0.0, 6.0)) && is_number(graph, three, 3.0);
    (matches && fits_beside(seen, three, x)).then_some(x)
}

/// Mul(x, Sigmoid(x)), or with a factor within.
fn swish(seen: Seen<'_>, node: &Node) -> Option<Node> {
    let (graph, _) = seen;
    let (left, right) = node.is_arithmetic("Mul").then(|| node.pair()).flatten()?;
    let gate = |x: ValueId, gate: ValueId| -> Option<f32> {
        let inner = graph.argument(gate, "Sigmoid")?;
        if inner == x {
            return Some(1.0);
        }
        let (of, factor) = with_constant(graph, graph.operands(inner, "Mul")?)?;
        let alpha = scalar(graph, factor)?;
        (of == x && fits_beside(seen, factor, x)).then_some(alpha as f32)
    };
    let (x, alpha) = match (gate(left, right), gate(right, left)) {
        (Some(alpha), _) => (left, alpha),
        (None, Some(alpha)) => (right, alpha),
        (None, None) => return None,
    };
    Some(node.instead(SWISH, vec![Some(x)], vec![("alpha", Attribute::Float(alpha))]))
}

/// x / 2 * (1 + erf(x / sqrt 2)), or the form with tanh that is close to it.
fn gelu(seen: Seen<'_>, node: &Node) -> Option<Node> {
    let (graph, _) = seen;
    if !node.is_arithmetic("Mul") {
        return None;
    }
    let all = factors(graph, node);
    if all.len() != 3 {
        return None;
    }
    let rest = without(&all, |id| is_number(graph, id, 0.5))?;
    let half = all.iter().copied().find(|&id| is_number(graph, id, 0.5))?;
    let &[left, right] = rest.as_slice() else { return None };
    let by_erf = |x, gate| one_plus(seen, gate, "Erf").is_some_and(|of| is_erf_of(seen, of, x));
    let by_tanh = |x, gate| one_plus(seen, gate, "Tanh").is_some_and(|of| is_tanh_of(seen, of, x));
    let (x, approximate) = match either(left, right, by_erf) {
        Some(x) => (x, "none"),
        None => (either(left, right, by_tanh)?, "tanh"),
    };
    let attribute = Attribute::String(approximate.into());
    let fits = fits_beside(seen, half, x);
    fits.then(|| node.instead(GELU, vec![Some(x)], vec![("approximate", attribute)]))
}

/// What `operator` is a function of, in 1 + operator(...).
fn one_plus(seen: Seen<'_>, id: ValueId, operator: &str) -> Option<ValueId> {
    let (graph, _) = seen;
    let (function, one) = with_constant(graph, graph.operands(id, "Add")?)?;
    let matches = is_number(graph, one, 1.0) && fits_beside(seen, one, function);
    matches.then(|| graph.argument(function, operator)).flatten()
}

/// Whether `id` is x divided by the root of two.
fn is_erf_of(seen: Seen<'_>, id: ValueId, x: ValueId) -> bool {
    let (graph, _) = seen;
    let (of, by, number) = match (graph.operands(id, "Div"), graph.operands(id, "Mul")) {
        (Some((of, by)), _) => (of, by, SQRT_2),
        (None, Some(pair)) => match with_constant(graph, pair) {
            Some((of, by)) => (of, by, FRAC_1_SQRT_2),
            None => return false,
        },
        (None, None) => return false,
    };
    of == x && is_number(graph, by, number) && fits_beside(seen, by, x)
}

/// Whether `id` is the root of 2 / pi times x + 0.044715 x³.
fn is_tanh_of(seen: Seen<'_>, id: ValueId, x: ValueId) -> bool {
    let (graph, _) = seen;
    let matches = || {
        let slope = (2.0 / PI).sqrt();
        let (sum, by) = with_constant(graph, graph.operands(id, "Mul")?)?;
        let (left, right) = graph.operands(sum, "Add")?;
        let cube = if left == x { right } else { left };
        let cube = graph.only_for(cube, "Mul").filter(|node| node.is_arithmetic("Mul"))?;
        let all = factors(graph, cube);
        let number = all.iter().copied().find(|&id| is_number(graph, id, 0.044_715))?;
        let rest = without(&all, |id| id == number)?;
        let right = rest == [x, x, x]
            && (left == x || right == x)
            && is_number(graph, by, slope)
            && fits_beside(seen, by, x)
            && fits_beside(seen, number, x);
        right.then_some(())
    };
    matches().is_some()
}

/// The first of the two for which `is` accepts both, in either order.
fn either(left: ValueId, right: ValueId, is: impl Fn(ValueId, ValueId) -> bool) -> Option<ValueId> {
    if is(left, right) { Some(left) } else { is(right, left).then_some(right) }
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::Sketch;
    use crate::testing::f32s;

    fn sketch() -> Sketch {
        let x = f32s(&[1, 6], &[-4., -2.5, -0.3, 0.7, 2.5, 5.]);
        let mut sketch = Sketch::new(17).input("x", &[-1, 6], x);
        let numbers = [
            ("three", 3.),
            ("zero", 0.),
            ("six", 6.),
            ("sixth", 1. / 6.),
            ("half", 0.5),
            ("one", 1.),
            ("root", std::f32::consts::SQRT_2),
            ("slope", 0.797_884_6),
            ("c", 0.044_715),
        ];
        for (name, number) in numbers {
            sketch = sketch.weight(name, f32s(&[], &[number]));
        }
        sketch
    }

    /// Clip(x + 3, 0, 6), as "gate".
    fn gate(sketch: Sketch) -> Sketch {
        sketch.node("Add", &["x", "three"], "moved").node("Clip", &["moved", "zero", "six"], "gate")
    }

    fn erf(sketch: Sketch) -> Sketch {
        let scaled = sketch.node("Div", &["x", "root"], "scaled").node("Erf", &["scaled"], "erf");
        scaled.node("Add", &["erf", "one"], "sum")
    }

    #[test]
    fn a_hard_sigmoid_is_found() {
        gate(sketch()).node("Div", &["gate", "six"], "y").output("y").becomes(&["HardSigmoid"]);
        gate(sketch()).node("Mul", &["sixth", "gate"], "y").output("y").becomes(&["HardSigmoid"]);
        gate(sketch())
            .node("Div", &["gate", "three"], "y")
            .output("y")
            .becomes(&["Add", "Clip", "Div"]);
        // The clipped value is asked for too.
        let read_twice = gate(sketch()).node("Div", &["gate", "six"], "y").output("y");
        read_twice.output("gate").becomes(&["Add", "Clip", "Div"]);
    }

    #[test]
    fn a_hard_swish_is_found() {
        let product = || gate(sketch()).node("Mul", &["x", "gate"], "product");
        product().node("Div", &["product", "six"], "y").output("y").becomes(&["HardSwish"]);
        product().node("Mul", &["product", "sixth"], "y").output("y").becomes(&["HardSwish"]);
        let sigmoid = || gate(sketch()).node("Div", &["gate", "six"], "s");
        sigmoid().node("Mul", &["s", "x"], "y").output("y").becomes(&["HardSwish"]);
        let other = sigmoid().node("Mul", &["s", "three"], "y").output("y");
        other.becomes(&["HardSigmoid", "Mul"]);
    }

    #[test]
    fn a_swish_is_found() {
        let sigmoid = || sketch().node("Sigmoid", &["x"], "s");
        sigmoid().node("Mul", &["x", "s"], "y").output("y").becomes(&["Swish"]);
        let scaled = sketch().node("Mul", &["x", "three"], "t").node("Sigmoid", &["t"], "s");
        scaled.node("Mul", &["s", "x"], "y").output("y").becomes(&["Swish"]);
        let two = sigmoid().node("Mul", &["x", "s"], "y").output("y").output("s");
        two.becomes(&["Sigmoid", "Mul"]);
        // Here the product of two tensors is no square of one.
        let other = sigmoid().node("Exp", &["x"], "e").node("Mul", &["e", "s"], "y").output("y");
        other.becomes(&["Sigmoid", "Exp", "Mul"]);
    }

    #[test]
    fn a_gelu_is_found_in_any_order_of_its_factors() {
        let first = erf(sketch()).node("Mul", &["x", "half"], "h").node("Mul", &["h", "sum"], "y");
        first.output("y").becomes(&["Gelu"]);
        let second = erf(sketch()).node("Mul", &["x", "sum"], "h").node("Mul", &["h", "half"], "y");
        second.output("y").becomes(&["Gelu"]);
        let third = erf(sketch()).node("Mul", &["half", "sum"], "h").node("Mul", &["x", "h"], "y");
        third.clone().output("y").becomes(&["Gelu"]);
        third.output("y").output("erf").becomes(&["Div", "Erf", "Add", "Mul", "Mul"]);
    }

    #[test]
    fn a_gelu_by_tanh_is_found() {
        let cube = sketch().node("Mul", &["c", "x"], "a").node("Mul", &["x", "a"], "b");
        let cube = cube.node("Mul", &["x", "b"], "cube").node("Add", &["x", "cube"], "inner");
        let tanh = cube.node("Mul", &["slope", "inner"], "t").node("Tanh", &["t"], "tanh");
        let y = tanh.node("Add", &["one", "tanh"], "s").node("Mul", &["half", "s"], "h");
        y.node("Mul", &["x", "h"], "y").output("y").becomes(&["Gelu"]);
    }

    #[test]
    fn a_constant_that_adds_axes_is_no_part_of_a_function() {
        let x = f32s(&[2], &[-1., 4.]);
        let sketch = Sketch::new(17).input("x", &[2], x).weight("three", f32s(&[1, 1], &[3.]));
        let sketch = sketch.weight("zero", f32s(&[], &[0.])).weight("six", f32s(&[], &[6.]));
        gate(sketch)
            .node("Div", &["gate", "six"], "y")
            .output("y")
            .becomes(&["Add", "Clip", "Div"]);
    }

    #[test]
    fn operators_that_broadcast_by_attributes_are_left() {
        let x = f32s(&[2], &[-1., 4.]);
        let sketch = Sketch::new(6).input("x", &[2], x).node("Sigmoid", &["x"], "s");
        sketch.node("Mul", &["x", "s"], "y").output("y").becomes(&["Sigmoid", "Mul"]);
    }
}
