//! Replaces products with rows of one-hot vectors by looking rows up, and works
//! functions of what was looked up into the table.

use ingle_types::{DType, Tensor};

use super::fold::compute;
use super::pattern::{fits_beside, with_constant};
use super::rewriter::Rewriter;
use super::shapes::{Dim, Shapes};
use crate::context::Context;
use crate::graph::{Node, ValueId};
use crate::kernels::Kernels;
use crate::ops::{LOOK_UP, Registry};
use crate::value::Host;

/// Elements of a table that functions are computed of while loading.
const MOST: usize = 1 << 22;

pub(super) fn run<B: Kernels>(
    graph: &mut Rewriter,
    shapes: &Shapes,
    registry: &Registry<B>,
    ctx: &Context<B>,
) {
    for at in graph.places() {
        let Some(node) = graph.node(at) else { continue };
        let seen = (&*graph, shapes);
        let found = one_hot(seen, node)
            .or_else(|| behind_look_up(seen, node, |node, of| compute(node, of, registry, ctx)));
        if let Some((mut new, indices, table)) = found {
            let table = graph.add_constant(format!("{} (table)", new.label.node), table);
            let places = if new.is("Gather") { [table, indices] } else { [indices, table] };
            new.inputs = places.map(Some).to_vec();
            graph.replace(at, new);
        }
    }
}

type Seen<'a> = (&'a Rewriter, &'a Shapes);
/// A node, its indices, and its table.
type Found = (Node, ValueId, Tensor);

/// MatMul(Cast(Equal(x, [0, 1, 2...])), table), where x has one column.
fn one_hot(seen: Seen<'_>, node: &Node) -> Option<Found> {
    let (graph, shapes) = seen;
    let (vectors, table) = node.is_plain("MatMul").then(|| node.pair()).flatten()?;
    let table = graph.constant(table).filter(|t| t.dtype() == DType::F32)?;
    let &[rows, columns] = table.dims() else { return None };
    let cast = graph.only_for(vectors, "Cast").filter(|cast| is_to_f32(cast))?;
    let equal = graph.only_for(cast.input(0)?, "Equal").filter(|e| e.is_arithmetic("Equal"))?;
    let (indices, numbers) = with_constant(graph, equal.pair()?)?;
    let counts = is_count_to(graph.constant(numbers)?, rows) && fits_beside(seen, numbers, indices);
    let of_indices = shapes.dims(graph, indices)?;
    if !counts || of_indices.len() < 2 || of_indices.last() != Some(&Dim::Known(1)) {
        return None;
    }
    // What is no index finds the row before the first one or behind the last one.
    let edge = vec![0f32; columns];
    let padded = [edge.as_slice(), &table.as_slice::<f32>().ok()?, &edge].concat();
    let table = Tensor::from_slice(&[rows.checked_add(2)?, columns], &padded).ok()?;
    Some((node.instead(LOOK_UP, Vec::new(), Vec::new()), indices, table))
}

fn is_to_f32(cast: &Node) -> bool {
    const FLOAT: i64 = 1;
    cast.int("to") == Some(FLOAT) && cast.attributes.len() == 1
}

/// Whether a constant is the integers below `count` along its last axis.
fn is_count_to(tensor: &Tensor, count: usize) -> bool {
    let shaped = tensor.dims().last() == Some(&count) && tensor.shape().elements() == count;
    let integers = matches!(tensor.dtype(), DType::I32 | DType::I64);
    let numbers = (shaped && integers).then(|| Host::from_tensor(tensor)).flatten();
    numbers.is_some_and(|numbers| {
        numbers.as_ints().is_some_and(|values| values.iter().copied().eq(0..count as i64))
    })
}

/// A function of each entry of the rows that were looked up.
fn behind_look_up(
    seen: Seen<'_>,
    node: &Node,
    compute: impl Fn(&Node, &[Option<&Tensor>]) -> Option<Vec<Tensor>>,
) -> Option<Found> {
    let (graph, _) = seen;
    let (looked_up, constant) = function_of(seen, node)?;
    let (_, source) = graph.maker(looked_up)?;
    let gathers = source.is("Gather") && source.int("axis").unwrap_or(0) == 0;
    let ours = (source.label.domain.as_str(), source.label.operator.as_str());
    if !gathers && ours != (LOOK_UP.0, LOOK_UP.1)
        || graph.reads(looked_up) != 1
        || !graph.makes_only(source, looked_up)
    {
        return None;
    }
    let (left, right) = source.pair()?;
    let (table, indices) = if gathers { (left, right) } else { (right, left) };
    let table = graph.constant(table).filter(|t| t.dtype() == DType::F32)?;
    let &[rows, columns] = table.dims() else { return None };
    if table.shape().elements() > MOST || rows == 0 {
        return None;
    }
    let operand = match constant {
        Some(id) => Some(as_row(graph.constant(id)?, columns)?),
        None => None,
    };
    // The operands in the node's own order.
    let first = node.input(0) == Some(looked_up);
    let inputs = match &operand {
        None => vec![Some(table)],
        Some(row) if first => vec![Some(table), Some(row)],
        Some(row) => vec![Some(row), Some(table)],
    };
    let made = compute(node, &inputs)?.into_iter().next()?;
    if made.dims() != table.dims() || made.dtype() != table.dtype() {
        return None;
    }
    let mut new = source.clone();
    new.outputs = vec![node.output()];
    Some((new, indices, made))
}

/// The operand of a function of single entries, and the constant that is the other.
fn function_of(seen: Seen<'_>, node: &Node) -> Option<(ValueId, Option<ValueId>)> {
    const UNARY: [&str; 12] = [
        "Relu",
        "Sigmoid",
        "Tanh",
        "Gelu",
        "Swish",
        "HardSwish",
        "HardSigmoid",
        "LeakyRelu",
        "Erf",
        "Exp",
        "Neg",
        "Abs",
    ];
    if node.label.domain.is_empty() && UNARY.contains(&node.label.operator.as_str()) {
        return (node.inputs.len() == 1).then(|| Some((node.input(0)?, None))).flatten();
    }
    let known = ["Add", "Sub", "Mul", "Div"];
    if !known.iter().any(|operator| node.is_arithmetic(operator)) {
        return None;
    }
    let (graph, _) = seen;
    let (x, constant) = with_constant(graph, node.pair()?)?;
    fits_beside(seen, constant, x).then_some((x, Some(constant)))
}

/// A constant that is the same in all rows, as one row.
fn as_row(constant: &Tensor, columns: usize) -> Option<Tensor> {
    let elements = constant.shape().elements();
    let flat = constant.dims().last().is_none_or(|&last| last == elements);
    let fits = flat && (elements == 1 || elements == columns) && constant.dtype() == DType::F32;
    fits.then(|| constant.clone().reshaped(&[elements]).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::passes::testing::Sketch;
    use crate::testing::{counting, f32s, i64s, tensor};

    /// Rows of three one-hot columns for 0, 2, -1, 3.
    fn product(indices: Tensor, dims: &[i64], cast_to: i64) -> Sketch {
        let sketch = Sketch::new(17).input("x", dims, indices);
        let sketch = sketch.weight("w", counting(&[3, 2])).weight("n", i64s(&[1, 3], &[0, 1, 2]));
        let sketch = sketch.node("Equal", &["x", "n"], "e").node("Cast", &["e"], "c");
        sketch.int("to", cast_to).node("MatMul", &["c", "w"], "p")
    }

    #[test]
    fn a_product_with_one_hot_vectors_looks_rows_up() {
        let x = || i64s(&[4, 1], &[0, 2, -1, 3]);
        product(x(), &[-1, 1], 1).output("p").becomes(&["LookUp"]);
        let far = i64s(&[4, 1], &[i64::MIN, i64::MAX, 1, 0]);
        product(far, &[4, 1], 1).output("p").becomes(&["LookUp"]);
        let wide = product(i64s(&[1, 3], &[0, 2, 2]), &[1, 3], 1).output("p");
        wide.becomes(&["Equal", "Cast", "MatMul"]);
        let read = product(x(), &[-1, 1], 1).output("p").output("c");
        read.becomes(&["Equal", "Cast", "MatMul"]);
    }

    #[test]
    fn functions_of_rows_become_part_of_the_table() {
        let rows = product(i64s(&[2, 2, 1], &[0, 2, -1, 3]), &[2, 2, 1], 1);
        let rows = rows.weight("b", f32s(&[1, 1, 2], &[0.5, -9.]));
        let rows = rows.node("Sub", &["b", "p"], "s").node("Sigmoid", &["s"], "y");
        rows.clone().output("y").becomes(&["LookUp"]);
        rows.output("y").output("s").becomes(&["LookUp", "Sigmoid"]);
    }

    #[test]
    fn functions_of_gathered_rows_become_part_of_the_table() {
        let sketch = Sketch::new(17).input("x", &[3], tensor(&[3], &[1i64, 0, -1]));
        let sketch = sketch.weight("w", counting(&[3, 2])).weight("f", f32s(&[], &[0.5]));
        let sketch = sketch.node("Gather", &["w", "x"], "g").node("Mul", &["g", "f"], "y");
        sketch.output("y").becomes(&["Gather"]);
        // A number for each of the looked-up rows is none for each row of the table.
        let sketch = Sketch::new(17).input("x", &[3], tensor(&[3], &[1i64, 0, -1]));
        let sketch = sketch.weight("w", counting(&[3, 2])).weight("f", counting(&[3, 1]));
        let sketch = sketch.node("Gather", &["w", "x"], "g").node("Mul", &["g", "f"], "y");
        sketch.output("y").becomes(&["Gather", "Mul"]);
    }
}
