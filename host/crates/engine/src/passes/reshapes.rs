//! Works out shapes that a graph computes while it runs, where they are known but
//! for sizes that a request tells and the operand has already.

use ingle_types::Tensor;

use super::rewriter::Rewriter;
use super::shapes::{Dim, Dims, Shapes};
use crate::graph::Node;

const IDENTITY: (&str, &str, i64) = ("", "Identity", 1);

pub(super) fn run(graph: &mut Rewriter, shapes: &Shapes) {
    for at in graph.places() {
        let Some(node) = graph.node(at) else { continue };
        if let Some(new) = needless_expand(graph, shapes, node) {
            graph.replace(at, new);
        } else if let Some(sizes) = constant_shape(graph, shapes, node) {
            let mut new = node.clone();
            let name = format!("{} (shape)", node.label.node);
            let Ok(tensor) = Tensor::from_slice(&[sizes.len()], &sizes) else { continue };
            let shape = graph.add_constant(name, tensor);
            if let Some(slot) = new.inputs.get_mut(1) {
                *slot = Some(shape);
            }
            graph.replace(at, new);
        }
    }
}

/// An Expand to the shape that its operand has.
fn needless_expand(graph: &Rewriter, shapes: &Shapes, node: &Node) -> Option<Node> {
    let (x, to) = node.is_plain("Expand").then(|| node.pair()).flatten()?;
    let (dims, to) = (shapes.dims(graph, x)?, shapes.list(graph, to)?);
    let behind = dims.len().checked_sub(to.len())?;
    let kept = to.iter().zip(dims.get(behind..)?);
    let mut same = kept.map(|(to, dim)| *to == Some(*dim) || *to == Some(Dim::Known(1)));
    let all = same.all(|same| same);
    all.then(|| node.instead(IDENTITY, vec![Some(x)], Vec::new()))
}

/// The shape of a Reshape in numbers: 0 where it is the operand's own size, and
/// -1 for one that follows from the others.
fn constant_shape(graph: &Rewriter, shapes: &Shapes, node: &Node) -> Option<Vec<i64>> {
    let plain = node.is("Reshape") && node.opset() >= 5 && node.int("allowzero").unwrap_or(0) == 0;
    let (x, shape) = plain.then(|| node.pair()).flatten()?;
    if graph.constant(shape).is_some() {
        return None;
    }
    let (dims, wanted) = (shapes.dims(graph, x)?, shapes.list(graph, shape)?);
    let wanted: Dims = wanted.into_iter().collect::<Option<_>>()?;
    let mut sizes = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (axis, &size) in wanted.iter().enumerate() {
        sizes.push(match size {
            Dim::Known(0) => return None,
            Dim::Known(size) => i64::try_from(size).ok()?,
            Dim::Symbol(_) if dims.get(axis) == Some(&size) => 0,
            Dim::Symbol(_) if open.is_none() => {
                open = Some(axis);
                -1
            }
            Dim::Symbol(_) => return None,
        });
    }
    // What is left out is divided by the other sizes, of which none may be zero.
    let divides = open.is_none() || !sizes.contains(&0) && as_many(dims, wanted);
    divides.then_some(sizes)
}

/// Whether both have the same number of elements, whatever the symbols stand for.
fn as_many(mut left: Dims, right: Dims) -> bool {
    let mut factor = 1u128;
    for dim in right {
        match left.iter().position(|other| *other == dim) {
            Some(place) => drop(left.swap_remove(place)),
            None => match dim {
                Dim::Known(size) => factor = factor.saturating_mul(size as u128),
                Dim::Symbol(_) => return false,
            },
        }
    }
    left.into_iter().try_fold(1u128, |product, dim| match dim {
        Dim::Known(size) => product.checked_mul(size as u128),
        Dim::Symbol(_) => None,
    }) == Some(factor)
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::Sketch;
    use crate::testing::{counting, i64s};

    /// The sizes of x, each in a list of its own: "n", "s"; and "four", "two".
    fn sketch() -> Sketch {
        let sketch = Sketch::new(17).input("x", &[-1, -1, 8], counting(&[3, 2, 8]));
        let mut sketch = sketch.node("Shape", &["x"], "shape");
        for (name, value) in [("zero", 0), ("one", 1), ("four", 4), ("two", 2), ("three", 3)] {
            sketch = sketch.weight(name, i64s(&[1], &[value]));
        }
        let sketch = sketch.node("Gather", &["shape", "zero"], "n");
        sketch.node("Slice", &["shape", "one", "two"], "s")
    }

    fn reshaped(sizes: &[&str]) -> Sketch {
        let sketch = sketch().node("Concat", sizes, "to").int("axis", 0);
        sketch.node("Reshape", &["x", "to"], "y").output("y")
    }

    #[test]
    fn sizes_of_the_operand_are_copied() {
        reshaped(&["n", "s", "two", "four"]).becomes(&["Reshape"]);
    }

    #[test]
    fn a_size_that_follows_is_left_out() {
        let flat = sketch().weight("minus", i64s(&[1], &[-1])).weight("eight", i64s(&[1], &[8]));
        let flat = flat.node("Concat", &["minus", "eight"], "f").int("axis", 0);
        let flat = flat.node("Reshape", &["x", "f"], "rows").node("Shape", &["rows"], "of_rows");
        let sketch = flat.node("Gather", &["of_rows", "zero"], "count");
        let to = sketch.node("Concat", &["four", "count", "two"], "to").int("axis", 0);
        to.node("Reshape", &["rows", "to"], "y").output("y").becomes(&["Reshape", "Reshape"]);
    }

    #[test]
    fn sizes_that_might_not_fit_are_computed() {
        // Whether s is 2 is for the request to tell.
        let sketch = reshaped(&["n", "two", "s", "four"]);
        sketch.becomes(&["Shape", "Gather", "Slice", "Concat", "Reshape"]);
    }

    #[test]
    fn an_expand_to_the_shape_it_has_is_removed() {
        let expand = sketch().node("Expand", &["x", "shape"], "y").node("Exp", &["y"], "z");
        expand.output("z").becomes(&["Exp"]);
        let wider = sketch().node("Concat", &["three", "shape"], "to").int("axis", 0);
        wider.node("Expand", &["x", "to"], "z").output("z").becomes(&["Shape", "Concat", "Expand"]);
    }
}
