//! Recognises layer norms that exporters spell out.

use super::pattern::{is_number, scalar, with_constant};
use super::rewriter::Rewriter;
use super::shapes::{Dim, Shapes, integers};
use crate::graph::{Attribute, Node, ValueId};

const LAYER_NORM: (&str, &str, i64) = ("", "LayerNormalization", 17);

pub(super) fn run(graph: &mut Rewriter, shapes: &Shapes) {
    for at in graph.places() {
        let Some(node) = graph.node(at) else { continue };
        let found = with_scale((graph, shapes), node).or_else(|| with_bias(graph, node));
        if let Some(new) = found {
            graph.replace(at, new);
        }
    }
}

type Seen<'a> = (&'a Rewriter, &'a Shapes);

/// (x - mean) / sqrt(variance + epsilon) * scale, over the last axis.
fn with_scale(seen: Seen<'_>, node: &Node) -> Option<Node> {
    let (graph, shapes) = seen;
    let product = node.is_arithmetic("Mul").then(|| node.pair()).flatten()?;
    let (normed, scale) = with_constant(graph, product)?;
    let &[size] = graph.constant(scale)?.dims() else { return None };
    let (centred, deviation) = graph.operands(normed, "Div")?;
    let variance = graph.argument(deviation, "Sqrt")?;
    let (variance, epsilon) = with_constant(graph, graph.operands(variance, "Add")?)?;
    let number = scalar(graph, epsilon)
        .filter(|_| graph.constant(epsilon).is_some_and(|t| t.dims().len() <= 1))?;
    let square = mean(seen, variance)?;
    let (_, minus) = graph.maker(centred).filter(|(_, node)| node.is_arithmetic("Sub"))?;
    let squares = is_square_of(graph, square, centred)?;
    // The quotient reads the difference too.
    if graph.reads(centred) != squares + 1 {
        return None;
    }
    let (x, average) = minus.pair()?;
    let same = mean(seen, average)? == x;
    let wide = shapes.dims(graph, x)?.last() == Some(&Dim::Known(size));
    let attributes =
        vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(number as f32))];
    (same && wide).then(|| node.instead(LAYER_NORM, vec![Some(x), Some(scale)], attributes))
}

/// What `id` is the mean of, over the last axis, which stays.
fn mean(seen: Seen<'_>, id: ValueId) -> Option<ValueId> {
    let (graph, shapes) = seen;
    let node = graph.only_for(id, "ReduceMean").filter(|node| node.int("keepdims") != Some(0))?;
    let x = node.input(0)?;
    let axes = match node.ints("axes") {
        Some(axes) => axes.to_vec(),
        None => integers(graph.constant(node.input(1)?)?)?,
    };
    let last = i64::try_from(shapes.rank(graph, x)?).ok()?.checked_sub(1)?;
    (axes == [-1] || axes == [last]).then_some(x)
}

/// How often the square reads `x`, which is what it is a square of.
fn is_square_of(graph: &Rewriter, id: ValueId, x: ValueId) -> Option<usize> {
    if let Some((base, power)) = graph.operands(id, "Pow") {
        return (base == x && is_number(graph, power, 2.0)).then_some(1);
    }
    let (left, right) = graph.operands(id, "Mul")?;
    (left == x && right == x).then_some(2)
}

fn with_bias(graph: &Rewriter, node: &Node) -> Option<Node> {
    let sum = node.is_arithmetic("Add").then(|| node.pair()).flatten()?;
    let (normed, bias) = with_constant(graph, sum)?;
    let norm = graph.only_for(normed, "LayerNormalization")?;
    let &[x, scale] = norm.inputs.as_slice() else { return None };
    let (scale_of, bias_of) = (graph.constant(scale?)?, graph.constant(bias)?);
    let fits = scale_of.dims().len() == 1
        && scale_of.dims() == bias_of.dims()
        && scale_of.dtype() == bias_of.dtype()
        && norm.int("axis").unwrap_or(-1) == -1;
    let mut new = norm.instead(LAYER_NORM, vec![x, scale, Some(bias)], Vec::new());
    new.attributes = norm.attributes.clone();
    new.outputs = vec![node.output()];
    fits.then_some(new)
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::Sketch;
    use crate::testing::{counting, f32s};

    fn sketch(dims: &[i64]) -> Sketch {
        let sketch = Sketch::new(13).input("x", dims, counting(&[2, 2, 3]));
        let sketch = sketch.weight("two", f32s(&[], &[2.])).weight("e", f32s(&[1], &[0.1]));
        let sketch = sketch.weight("scale", f32s(&[3], &[1., 2., 3.]));
        let sketch = sketch.weight("bias", f32s(&[3], &[3., 2., 1.]));
        sketch.node("ReduceMean", &["x"], "mean").ints("axes", &[-1])
    }

    fn normed(sketch: Sketch, square: &[&str]) -> Sketch {
        let sketch = sketch.node("Sub", &["x", "mean"], "c").node(square[0], &square[1..], "s");
        let sketch = sketch.node("ReduceMean", &["s"], "v").ints("axes", &[2]);
        let sketch = sketch.node("Add", &["v", "e"], "ve").node("Sqrt", &["ve"], "d");
        sketch.node("Div", &["c", "d"], "n").node("Mul", &["n", "scale"], "scaled")
    }

    #[test]
    fn a_layer_norm_is_found() {
        for square in [["Pow", "c", "two"], ["Mul", "c", "c"]] {
            let scaled = normed(sketch(&[-1, -1, 3]), &square);
            scaled.clone().output("scaled").becomes(&["LayerNormalization"]);
            let y = scaled.node("Add", &["bias", "scaled"], "y");
            y.clone().output("y").becomes(&["LayerNormalization"]);
            let all =
                ["ReduceMean", "Sub", square[0], "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"];
            y.output("y").output("d").becomes(&all);
        }
    }

    #[test]
    fn over_an_axis_of_unknown_size_it_stays() {
        let scaled = normed(sketch(&[-1, -1, -1]), &["Pow", "c", "two"]).output("scaled");
        scaled.becomes(&["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]);
    }
}
