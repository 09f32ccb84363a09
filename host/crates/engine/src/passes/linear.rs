//! Lets a product with a constant matrix add the bias that follows it, and apply
//! the function behind that.

use ingle_types::{DType, Tensor};

use super::convolutions::activation;
use super::pattern::{fits_beside, with_constant};
use super::rewriter::Rewriter;
use super::shapes::Shapes;
use crate::graph::{Attribute, Node, ValueId};
use crate::ops::LINEAR;

pub(super) fn run(graph: &mut Rewriter, shapes: &Shapes) {
    for at in graph.places() {
        let Some(node) = graph.node(at) else { continue };
        let found =
            with_bias((graph, shapes), node).or_else(|| with_activation((graph, shapes), node));
        if let Some(found) = found {
            found.apply(graph, at);
        }
    }
}

type Seen<'a> = (&'a Rewriter, &'a Shapes);

/// A product in the place of another node.
struct Product {
    node: Node,
    x: ValueId,
    weight: Constant,
    bias: Option<Constant>,
}

/// One that the graph has, or a new one.
enum Constant {
    Kept(ValueId),
    New(Tensor),
}

impl Constant {
    fn enter(self, graph: &mut Rewriter, name: &str) -> ValueId {
        match self {
            Self::Kept(id) => id,
            Self::New(tensor) => graph.add_constant(name.to_owned(), tensor),
        }
    }
}

impl Product {
    fn apply(self, graph: &mut Rewriter, at: usize) {
        let Self { mut node, x, weight, bias } = self;
        let name = |what| format!("{} ({what})", node.label.node);
        let weight = weight.enter(graph, &name("weights"));
        let bias = bias.map(|bias| bias.enter(graph, &name("bias")));
        node.inputs = [Some(x), Some(weight)].into_iter().chain(bias.map(Some)).collect();
        graph.replace(at, node);
    }
}

/// The operand and the matrix of a product that is made for one reader.
fn product_of(graph: &Rewriter, id: ValueId) -> Option<(&Node, ValueId, ValueId)> {
    let node = graph.only_for(id, "MatMul").filter(|node| node.is_plain("MatMul"))?;
    let (x, weight) = node.pair()?;
    let of_weight = graph.constant(weight)?;
    let fits = of_weight.dtype() == DType::F32 && of_weight.dims().len() == 2;
    (fits && graph.constant(x).is_none()).then_some((node, x, weight))
}

/// Add(MatMul(x, weight), bias).
fn with_bias(seen: Seen<'_>, node: &Node) -> Option<Product> {
    let (graph, _) = seen;
    let (sum, bias) = with_constant(graph, node.is_arithmetic("Add").then(|| node.pair())??)?;
    let (matmul, x, weight) = product_of(graph, sum)?;
    let columns = *graph.constant(weight)?.dims().last()?;
    let of_bias = graph.constant(bias).filter(|bias| bias.dtype() == DType::F32)?;
    let row = of_bias.dims().last() == Some(&columns) && of_bias.shape().elements() == columns;
    if !row || of_bias.dims().len() > 1 && !fits_beside(seen, bias, sum) {
        return None;
    }
    let bias = Constant::New(of_bias.clone().reshaped(&[columns]).ok()?);
    let mut new = matmul.instead(LINEAR, Vec::new(), Vec::new());
    new.outputs = vec![node.output()];
    Some(Product { node: new, x, weight: Constant::Kept(weight), bias: Some(bias) })
}

fn with_activation(seen: Seen<'_>, node: &Node) -> Option<Product> {
    let (graph, _) = seen;
    let (name, params) = activation(graph, node)?;
    let operand = node.input(0)?;
    let mut product = linear(graph, operand)
        .or_else(|| {
            let (matmul, x, weight) = product_of(graph, operand)?;
            let node = matmul.instead(LINEAR, Vec::new(), Vec::new());
            Some(Product { node, x, weight: Constant::Kept(weight), bias: None })
        })
        .or_else(|| gemm(seen, operand))?;
    let attributes = &mut product.node.attributes;
    attributes.push(("activation".to_owned(), Attribute::String(name.into())));
    if !params.is_empty() {
        attributes.push(("activation_params".to_owned(), Attribute::Floats(params)));
    }
    product.node.outputs = vec![node.output()];
    Some(product)
}

/// One that was put in before and applies no function yet.
fn linear(graph: &Rewriter, id: ValueId) -> Option<Product> {
    let (_, node) = graph.maker(id)?;
    let ours = (node.label.domain.as_str(), node.label.operator.as_str()) == (LINEAR.0, LINEAR.1);
    if !ours || graph.reads(id) != 1 || !node.attributes.is_empty() {
        return None;
    }
    let bias = node.input(2).map(Constant::Kept);
    let weight = Constant::Kept(node.input(1)?);
    Some(Product { node: node.clone(), x: node.input(0)?, weight, bias })
}

/// A Gemm that neither turns nor scales its operand, which is a matrix for sure.
fn gemm((graph, shapes): Seen<'_>, id: ValueId) -> Option<Product> {
    let node = graph.only_for(id, "Gemm").filter(|node| node.opset() >= 7)?;
    let (x, weight) = (node.input(0)?, node.input(1)?);
    let known = ["alpha", "beta", "transA", "transB"];
    let plain = node.attributes.iter().all(|(name, _)| known.contains(&name.as_str()))
        && node.float("alpha", 1.0) == 1.0
        && node.float("beta", 1.0) == 1.0
        && node.int("transA").unwrap_or(0) == 0;
    let matrix = graph.constant(weight).filter(|w| w.dtype() == DType::F32)?;
    if !plain || graph.constant(x).is_some() || shapes.rank(graph, x) != Some(2) {
        return None;
    }
    let &[rows, columns] = matrix.dims() else { return None };
    let turned = node.int("transB").unwrap_or(0) != 0;
    let columns = if turned { rows } else { columns };
    let bias = match node.input(2) {
        None => None,
        Some(id) => {
            let bias = graph.constant(id).filter(|bias| bias.dtype() == DType::F32)?;
            let row = bias.dims().last() == Some(&columns) && bias.dims().len() <= 2;
            let row = row && bias.shape().elements() == columns;
            Some(Constant::New(bias.clone().reshaped(&[columns]).ok().filter(|_| row)?))
        }
    };
    let weight = if turned { Constant::New(transposed(matrix)?) } else { Constant::Kept(weight) };
    Some(Product { node: node.instead(LINEAR, Vec::new(), Vec::new()), x, weight, bias })
}

fn transposed(matrix: &Tensor) -> Option<Tensor> {
    let &[rows, columns] = matrix.dims() else { return None };
    let values = matrix.as_slice::<f32>().ok()?;
    let mut turned: Vec<f32> = Vec::with_capacity(values.len());
    for column in 0..columns {
        turned.extend(values.iter().skip(column).step_by(columns.max(1)));
    }
    Tensor::from_slice(&[columns, rows], &turned).ok()
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::Sketch;
    use crate::testing::{counting, f32s};

    fn sketch(dims: &[i64]) -> Sketch {
        let size: Vec<usize> = dims.iter().map(|&d| usize::try_from(d).unwrap_or(2)).collect();
        let sketch = Sketch::new(17).input("x", dims, counting(&size));
        let sketch = sketch.weight("w", f32s(&[3, 2], &[1., -2., 3., -4., 0.5, 2.]));
        sketch.weight("b", f32s(&[2], &[-9., 1.])).weight("r", f32s(&[1, 2], &[-9., 1.]))
    }

    #[test]
    fn a_bias_and_a_function_behind_a_product_become_part_of_it() {
        let sum =
            sketch(&[-1, -1, 3]).node("MatMul", &["x", "w"], "p").node("Add", &["b", "p"], "s");
        sum.clone().output("s").becomes(&["Linear"]);
        sum.clone().node("Relu", &["s"], "y").output("y").becomes(&["Linear"]);
        sum.clone()
            .node("Tanh", &["s"], "y")
            .output("y")
            .output("p")
            .becomes(&["MatMul", "Add", "Tanh"]);
        sum.node("Relu", &["s"], "y").output("y").output("s").becomes(&["Linear", "Relu"]);
        let bare = sketch(&[-1, 3]).node("MatMul", &["x", "w"], "p").node("Tanh", &["p"], "y");
        bare.output("y").becomes(&["Linear"]);
    }

    #[test]
    fn a_bias_that_may_add_an_axis_stays() {
        let with = |dims: &[i64], bias| {
            sketch(dims).node("MatMul", &["x", "w"], "p").node("Add", &["p", bias], "y").output("y")
        };
        with(&[3], "b").becomes(&["Linear"]);
        with(&[3], "r").becomes(&["MatMul", "Add"]);
        with(&[-1, 3], "r").becomes(&["Linear"]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_no_rows_give_no_rows() {
        let linear = |x| {
            let sketch = Sketch::new(17).input("x", &[-1, -1], x).weight("w", counting(&[3, 2]));
            let sum = sketch.weight("b", counting(&[2])).node("MatMul", &["x", "w"], "p");
            sum.node("Add", &["p", "b"], "s").node("Relu", &["s"], "y").output("y")
        };
        linear(counting(&[2, 4])).fails_as(&["Linear"]);
        linear(f32s(&[0, 3], &[])).becomes(&["Linear"]);
    }

    #[test]
    fn a_gemm_takes_the_function_behind_it() {
        let gemm = |inputs: &[&str]| sketch(&[-1, 3]).node("Gemm", inputs, "p");
        let relu = |sketch: Sketch| sketch.node("Relu", &["p"], "y").output("y");
        relu(gemm(&["x", "w", "b"])).becomes(&["Linear"]);
        relu(gemm(&["x", "w", "r"])).becomes(&["Linear"]);
        relu(gemm(&["x", "w"])).becomes(&["Linear"]);
        relu(gemm(&["x", "w"]).float("alpha", 2.)).becomes(&["Gemm", "Relu"]);
        let turned = sketch(&[-1, 2]).node("Gemm", &["x", "w"], "p").int("transB", 1);
        relu(turned).becomes(&["Linear"]);
    }
}
