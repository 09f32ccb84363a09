//! Works factors and shifts of each channel into the weights of the product
//! before or behind them: batch norms, and arithmetic with constants.

use ingle_types::{DType, Tensor};

use super::pattern::{scalar, with_constant};
use super::rewriter::Rewriter;
use super::shapes::{Dim, Shapes};
use crate::graph::{Attribute, Node, ValueId};
use crate::value::Host;

/// The version of ONNX's operator that is put in.
const CONV: (&str, &str, i64) = ("", "Conv", 11);

pub(super) fn run(graph: &mut Rewriter, shapes: &Shapes) {
    for at in graph.places() {
        while let Some(change) = graph.node(at).and_then(|node| before(graph, node)) {
            change.apply(graph, at);
        }
        if let Some(swap) = graph.node(at).and_then(|node| before_shift(graph, node)) {
            swap.apply(graph, at);
        }
        if let Some(change) = graph.node(at).and_then(|node| behind(graph, node)) {
            change.apply(graph, at);
        }
        if let Some(change) = graph.node(at).and_then(|node| alone(graph, shapes, node)) {
            change.apply(graph, at);
        }
    }
}

/// x * scale + shift; each list has one number, or one for each channel.
struct Affine {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    fn at(&self, channel: usize) -> (f64, f64) {
        let of = |list: &[f64]| list.get(channel).or(list.first()).copied().unwrap_or_default();
        (of(&self.scale), of(&self.shift))
    }

    fn scales(&self) -> bool {
        self.scale.iter().any(|&scale| scale != 1.0)
    }

    fn shifts(&self) -> bool {
        self.shift.iter().any(|&shift| shift != 0.0)
    }

    fn is_finite(&self) -> bool {
        self.scale.iter().chain(&self.shift).all(|v| v.is_finite())
    }
}

/// A product with new weights, in the place of another node.
struct Change {
    product: Node,
    x: ValueId,
    /// New weights; `None` = as they are.
    weight: Option<Tensor>,
    bias: Tensor,
}

impl Change {
    fn apply(self, graph: &mut Rewriter, at: usize) {
        let Self { mut product, x, weight, bias } = self;
        let named = |what: &str| format!("{} ({what})", product.label.node);
        let (bias_name, weight_name) = (named("bias"), named("weight"));
        let old = product.input(1);
        let weight_name = old.map_or(weight_name, |old| graph.name(old).to_owned());
        let weight = match (weight, old) {
            (Some(weight), _) => graph.add_constant(weight_name, weight),
            (None, Some(old)) => old,
            (None, None) => return,
        };
        let bias = graph.add_constant(bias_name, bias);
        product.inputs = vec![Some(x), Some(weight), Some(bias)];
        graph.replace(at, product);
    }
}

/// A node whose answer is linear in its weights.
struct Product<'a> {
    node: &'a Node,
    weight: &'a Tensor,
    /// One for each output channel; `None` = zeros.
    bias: Option<Vec<f64>>,
    /// The weights' axis of the output channels, and into how many groups it is cut.
    axis: usize,
    groups: usize,
    channels: usize,
    /// How many axes lie behind that of the channels in the answer.
    behind: usize,
}

impl<'a> Product<'a> {
    fn of(graph: &'a Rewriter, node: &'a Node) -> Option<Self> {
        let weight = graph.constant(node.input(1)?).filter(|w| w.dtype() == DType::F32)?;
        let dims = weight.dims();
        let groups = usize::try_from(node.int("group").unwrap_or(1)).ok().filter(|&g| g > 0)?;
        let (axis, groups) = match node.label.operator.as_str() {
            "Conv" if node.is("Conv") => (0, 1),
            "ConvTranspose" if node.is("ConvTranspose") => (1, groups),
            "Gemm" if node.is("Gemm") && node.opset() >= 7 => {
                (usize::from(node.int("transB").unwrap_or(0) == 0), 1)
            }
            _ => return None,
        };
        let behind = dims.len().checked_sub(2)?;
        let channels = dims.get(axis)?.checked_mul(groups)?;
        let bias = match node.input(2) {
            None => None,
            Some(id) => {
                let bias = graph.constant(id).filter(|bias| bias.dtype() == DType::F32)?;
                let fits = node.is("Gemm") || bias.dims() == [channels];
                Some(by_channel(bias, channels, 0, 2).filter(|_| fits)?)
            }
        };
        if node.is("Gemm") && dims.len() != 2 || channels == 0 {
            return None;
        }
        Some(Self { node, weight, bias, axis, groups, channels, behind })
    }

    /// The weights with `new` of each, an output channel and a value.
    fn weights(&self, new: impl Fn(usize, f32) -> f32) -> Option<Tensor> {
        let (values, dims) = (self.weight.as_slice::<f32>().ok()?, self.weight.dims());
        let inner: usize = dims.get(self.axis + 1..)?.iter().product();
        let along = *dims.get(self.axis)?;
        let first = if self.axis == 0 { 1 } else { *dims.first()? };
        let mut made = Vec::with_capacity(values.len());
        for (place, line) in values.chunks(inner.max(1)).enumerate() {
            let group = place / along.max(1) * self.groups / first.max(1);
            let channel = if self.axis == 0 { place } else { group * along + place % along.max(1) };
            made.extend(line.iter().map(|&v| new(channel, v)));
        }
        Tensor::from_slice(dims, &made).ok()
    }

    fn change(&self, x: ValueId, weight: Option<Tensor>, bias: &[f64]) -> Option<Change> {
        let bias: Vec<f32> = bias.iter().map(|&v| v as f32).collect();
        let mut product = self.node.clone();
        product
            .attributes
            .retain(|(name, _)| !(product.label.operator == "Gemm" && name == "beta"));
        let bias = Tensor::from_slice(&[self.channels], &bias).ok()?;
        Some(Change { product, x, weight, bias })
    }

    /// The bias of each channel as it is added.
    fn bias_at(&self, channel: usize) -> f64 {
        let beta = if self.node.is("Gemm") { self.node.float("beta", 1.0).into() } else { 1.0 };
        let bias = self.bias.as_ref().and_then(|bias| bias.get(channel).or(bias.first()));
        bias.map_or(0.0, |bias| bias * beta)
    }
}

/// The numbers for each channel in a constant beside a tensor of at most `rank`
/// axes, of which `behind` lie behind the channels: one number, or `channels`.
fn by_channel(constant: &Tensor, channels: usize, behind: usize, rank: usize) -> Option<Vec<f64>> {
    let dims = constant.dims();
    let elements = constant.shape().elements();
    let line = dims.len().checked_sub(behind + 1).and_then(|axis| dims.get(axis));
    let fits = elements == 1 || elements == channels && line == Some(&channels);
    if dims.len() > rank || !fits {
        return None;
    }
    Some(Host::from_tensor(constant)?.to_f64())
}

/// An affine step behind a product that nothing else reads.
fn behind(graph: &Rewriter, node: &Node) -> Option<Change> {
    let (x, _) = steps(graph, node)?;
    let (_, maker) = graph.maker(x)?;
    if graph.reads(x) != 1 || !graph.makes_only(maker, x) {
        return None;
    }
    let product = Product::of(graph, maker)?;
    let rank = product.behind + 2;
    let affine = affine_of(graph, node, product.channels, product.behind, rank)?;
    let bias: Vec<f64> = (0..product.channels)
        .map(|channel| {
            let (scale, shift) = affine.at(channel);
            product.bias_at(channel) * scale + shift
        })
        .collect();
    let weight = if affine.scales() {
        let scaled = product.weights(|channel, v| (f64::from(v) * affine.at(channel).0) as f32);
        Some(scaled?)
    } else {
        None
    };
    let mut change = product.change(maker.input(0)?, weight, &bias)?;
    change.product.outputs = vec![node.output()];
    Some(change)
}

/// An affine step before a convolution that alone reads it.
fn before(graph: &Rewriter, node: &Node) -> Option<Change> {
    if !node.is("Conv") {
        return None;
    }
    let moved = node.input(0)?;
    let (_, maker) = graph.maker(moved)?;
    if graph.reads(moved) != 1 || !graph.makes_only(maker, moved) || maker.is("BatchNormalization")
    {
        return None;
    }
    let (x, _) = steps(graph, maker)?;
    let product = Product::of(graph, node)?;
    let depth = *product.weight.dims().get(1)?;
    let groups = usize::try_from(node.int("group").unwrap_or(1)).ok()?;
    let rank = product.behind + 2;
    let affine = affine_of(graph, maker, depth.checked_mul(groups)?, product.behind, rank)?;
    // Padding is put around what was shifted, and is not shifted itself.
    if affine.shifts() && is_padded(node) {
        return None;
    }
    let kernel: usize = product.weight.dims().iter().skip(2).product();
    let maps_per_group = product.channels.checked_div(groups)?.max(1);
    let values = product.weight.as_slice::<f32>().ok()?;
    let mut made = Vec::with_capacity(values.len());
    let mut bias = Vec::with_capacity(product.channels);
    for (map, weights) in values.chunks(depth.checked_mul(kernel)?.max(1)).enumerate() {
        let mut sum = product.bias_at(map);
        for (place, taps) in weights.chunks(kernel.max(1)).enumerate() {
            let (scale, shift) = affine.at(map / maps_per_group * depth + place);
            sum += taps.iter().map(|&v| f64::from(v)).sum::<f64>() * shift;
            made.extend(taps.iter().map(|&v| (f64::from(v) * scale) as f32));
        }
        bias.push(sum);
    }
    let scaled = Tensor::from_slice(product.weight.dims(), &made).ok()?;
    product.change(x, affine.scales().then_some(scaled), &bias)
}

/// x * s + c before a convolution with padding becomes x + c / s, and s goes into
/// the weights.
struct Swap {
    change: Change,
    /// Where the sum is computed, and what it is now.
    sum: (usize, Node),
    shift: Tensor,
}

impl Swap {
    fn apply(self, graph: &mut Rewriter, at: usize) {
        let Self { mut change, sum: (place, mut sum), shift } = self;
        let shift = graph.add_constant(format!("{} (shift)", sum.label.node), shift);
        sum.inputs = vec![Some(change.x), Some(shift)];
        let Some(moved) = sum.output() else { return };
        change.x = moved;
        graph.replace(place, sum);
        change.apply(graph, at);
    }
}

fn before_shift(graph: &Rewriter, node: &Node) -> Option<Swap> {
    let (place, sum) = graph.maker(node.input(0)?)?;
    let (scaled, shift) = with_constant(graph, sum.pair().filter(|_| sum.is_arithmetic("Add"))?)?;
    let (x, scale) = with_constant(graph, graph.operands(scaled, "Mul")?)?;
    let (scale, shift) = (scalar(graph, scale)?, scalar(graph, shift)?);
    let alone = node.is("Conv") && graph.reads(sum.output()?) == 1;
    // One number, without axes that x does not have.
    let flat =
        |id: Option<ValueId>| graph.constant(id?).is_none_or(|t| t.dims().len() <= 1).then_some(());
    sum.inputs.iter().try_for_each(|&id| flat(id))?;
    let moved = shift / scale;
    if !alone || !moved.is_finite() || scale == 0.0 {
        return None;
    }
    let product = Product::of(graph, node)?;
    let weight = product.weights(|_, v| (f64::from(v) * scale) as f32)?;
    let bias: Vec<f64> = (0..product.channels).map(|channel| product.bias_at(channel)).collect();
    let change = product.change(x, Some(weight), &bias)?;
    let shift = Tensor::from_slice(&[], &[moved as f32]).ok()?;
    Some(Swap { change, sum: (place, sum.clone()), shift })
}

fn is_padded(node: &Node) -> bool {
    let placed = match node.attribute("auto_pad") {
        None => false,
        Some(Attribute::String(how)) => how.as_ref() != b"NOTSET" && how.as_ref() != b"VALID",
        Some(_) => true,
    };
    placed || node.ints("pads").is_some_and(|pads| pads.iter().any(|&pad| pad != 0))
}

/// The operand of an affine step, and the constant of one that has one.
fn steps(graph: &Rewriter, node: &Node) -> Option<(ValueId, Option<ValueId>)> {
    if node.is("BatchNormalization") {
        let known = ["epsilon", "momentum", "spatial", "is_test", "training_mode"];
        let inference = node.attributes.iter().all(|(name, _)| known.contains(&name.as_str()))
            && node.int("training_mode").unwrap_or(0) == 0
            && node.int("spatial").unwrap_or(1) == 1
            && node.inputs.len() == 5
            && graph.makes_only(node, node.output()?);
        return inference.then(|| node.input(0).map(|x| (x, None))).flatten();
    }
    let commutes = node.is_arithmetic("Mul") || node.is_arithmetic("Add");
    if !commutes && !node.is_arithmetic("Sub") && !node.is_arithmetic("Div") {
        return None;
    }
    let (left, right) = node.pair()?;
    let (x, constant) = with_constant(graph, (left, right))?;
    (commutes || x == left).then_some((x, Some(constant)))
}

/// What a step does to each of `channels`, in a tensor of `rank` axes.
fn affine_of(
    graph: &Rewriter,
    node: &Node,
    channels: usize,
    behind: usize,
    rank: usize,
) -> Option<Affine> {
    let (_, constant) = steps(graph, node)?;
    let Some(constant) = constant else { return batch_norm(graph, node, channels) };
    let constant = graph.constant(constant).filter(|t| t.dtype() == DType::F32)?;
    let values = by_channel(constant, channels, behind, rank)?;
    let affine = match node.label.operator.as_str() {
        "Mul" => Affine { scale: values, shift: vec![0.0] },
        "Div" => Affine { scale: values.iter().map(|v| 1.0 / v).collect(), shift: vec![0.0] },
        "Add" => Affine { scale: vec![1.0], shift: values },
        _ => Affine { scale: vec![1.0], shift: values.iter().map(|v| -v).collect() },
    };
    affine.is_finite().then_some(affine)
}

/// A batch norm that nothing before it takes in, as a convolution of each channel
/// with one weight: what follows goes into that.
fn alone(graph: &Rewriter, shapes: &Shapes, node: &Node) -> Option<Change> {
    let (x, _) = steps(graph, node).filter(|_| node.is("BatchNormalization"))?;
    let dims = shapes.dims(graph, x)?;
    let Some(&Dim::Known(channels)) = dims.get(1) else { return None };
    if !(3..=5).contains(&dims.len()) || channels == 0 {
        return None;
    }
    let affine = batch_norm(graph, node, channels)?;
    let numbers = |of: &[f64]| of.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let kernel = [&[channels, 1][..], &vec![1; dims.len() - 2]].concat();
    let weight = Tensor::from_slice(&kernel, &numbers(&affine.scale)).ok()?;
    let bias = Tensor::from_slice(&[channels], &numbers(&affine.shift)).ok()?;
    let group = i64::try_from(channels).ok()?;
    let product = node.instead(CONV, vec![], vec![("group", Attribute::Int(group))]);
    Some(Change { product, x, weight: Some(weight), bias })
}

fn batch_norm(graph: &Rewriter, node: &Node, channels: usize) -> Option<Affine> {
    let parameter = |index| {
        let tensor = graph.constant(node.input(index)?)?;
        let fits = tensor.dtype() == DType::F32 && tensor.dims() == [channels];
        fits.then(|| Host::from_tensor(tensor)).flatten().map(|host| host.to_f64())
    };
    let (scale, bias) = (parameter(1)?, parameter(2)?);
    let (mean, variance) = (parameter(3)?, parameter(4)?);
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let scale: Vec<f64> =
        scale.iter().zip(&variance).map(|(scale, v)| scale / (v + epsilon).sqrt()).collect();
    let shift = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    let affine = Affine { scale, shift };
    affine.is_finite().then_some(affine)
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::Sketch;
    use crate::testing::{counting, f32s, i64s};

    /// x, of two channels, and a convolution of it, as "c".
    fn convolved(weight: &[usize], groups: i64, pads: i64) -> Sketch {
        let sketch = Sketch::new(17).input("x", &[-1, 2, -1, 3], counting(&[1, 2, 3, 3]));
        let sketch = sketch.weight("w", counting(weight)).weight("b", f32s(&[2], &[3., -4.]));
        let sketch =
            sketch.weight("s", f32s(&[2, 1, 1], &[0.5, -2.])).node("Conv", &["x", "w", "b"], "c");
        sketch.int("group", groups).ints("pads", &[pads; 4])
    }

    fn normed(sketch: Sketch) -> Sketch {
        let parameters = [[2., 0.5], [0.1, -1.], [3., 4.], [0.25, 9.]];
        let mut sketch = sketch;
        for (name, values) in ["scale", "shift", "mean", "var"].iter().zip(parameters) {
            sketch = sketch.weight(name, f32s(&[2], &values));
        }
        sketch.node("BatchNormalization", &["c", "scale", "shift", "mean", "var"], "y")
    }

    #[test]
    fn a_batch_norm_behind_a_product_goes_into_its_weights() {
        normed(convolved(&[2, 2, 2, 2], 1, 0)).output("y").becomes(&["Conv"]);
        normed(convolved(&[2, 1, 3, 3], 2, 1)).output("y").becomes(&["Conv"]);
        let both = normed(convolved(&[2, 2, 2, 2], 1, 0)).output("y").output("c");
        both.becomes(&["Conv", "Conv"]);
    }

    #[test]
    fn a_batch_norm_by_itself_takes_in_what_follows() {
        let x = || Sketch::new(17).input("c", &[-1, 2, -1, 3], counting(&[1, 2, 3, 3]));
        let scaled = normed(x()).weight("s", f32s(&[2, 1, 1], &[0.5, -2.]));
        let scaled = scaled.node("Mul", &["y", "s"], "m").node("Add", &["s", "m"], "a");
        scaled.node("Relu", &["a"], "z").output("z").becomes(&["FusedConv"]);
        // Of how many axes there are, nothing is known.
        let unknown = Sketch::new(17).input("i", &[-1], i64s(&[4], &[1, 2, 3, 3]));
        let unknown = unknown.weight("v", f32s(&[1], &[0.5])).node("Expand", &["v", "i"], "c");
        normed(unknown).output("y").becomes(&["Expand", "BatchNormalization"]);
    }

    #[test]
    fn a_batch_norm_goes_into_a_transposed_convolution() {
        for (weight, groups) in [([2, 2, 2, 2], 1), ([2, 1, 2, 2], 2)] {
            let sketch = Sketch::new(17).input("x", &[1, 2, 2, 2], counting(&[1, 2, 2, 2]));
            let sketch =
                sketch.weight("w", counting(&weight)).node("ConvTranspose", &["x", "w"], "c");
            normed(sketch.int("group", groups)).output("y").becomes(&["ConvTranspose"]);
        }
    }

    #[test]
    fn a_batch_norm_goes_into_a_matrix_product() {
        for (turned, weight) in [(0, [3, 2]), (1, [2, 3])] {
            let sketch = Sketch::new(17).input("x", &[-1, 3], counting(&[4, 3]));
            let sketch =
                sketch.weight("w", counting(&weight)).weight("b", f32s(&[1, 2], &[1., 2.]));
            let gemm = sketch.node("Gemm", &["x", "w", "b"], "c").int("transB", turned);
            let gemm = gemm.float("alpha", 0.5).float("beta", 3.);
            normed(gemm).output("y").becomes(&["Gemm"]);
        }
    }

    #[test]
    fn arithmetic_with_constants_goes_into_a_convolution() {
        let behind = |operator| convolved(&[2, 2, 2, 2], 1, 1).node(operator, &["c", "s"], "y");
        for operator in ["Mul", "Add", "Sub", "Div"] {
            behind(operator).output("y").becomes(&["Conv"]);
        }
        let turned = convolved(&[2, 2, 2, 2], 1, 1).node("Sub", &["s", "c"], "y").output("y");
        turned.becomes(&["Conv", "Sub"]);
        // A factor for each column is none for each channel.
        let columns = convolved(&[2, 2, 2, 2], 1, 0).weight("row", f32s(&[2], &[1., 2.]));
        columns.node("Mul", &["c", "row"], "y").output("y").becomes(&["Conv", "Mul"]);
    }

    #[test]
    fn factors_before_a_convolution_go_into_it_and_shifts_where_nothing_is_padded() {
        let before = |operator: &str, pads, groups, weight: &[usize]| {
            let sketch = Sketch::new(17).input("x", &[1, 2, 3, 3], counting(&[1, 2, 3, 3]));
            let sketch =
                sketch.weight("w", counting(weight)).weight("s", f32s(&[2, 1, 1], &[0.5, -2.]));
            let sketch = sketch.node(operator, &["x", "s"], "t").node("Conv", &["t", "w"], "y");
            sketch.int("group", groups).ints("pads", &[pads; 4]).output("y")
        };
        before("Mul", 1, 1, &[2, 2, 2, 2]).becomes(&["Conv"]);
        before("Mul", 1, 2, &[4, 1, 2, 2]).becomes(&["Conv"]);
        before("Add", 0, 1, &[3, 2, 1, 1]).becomes(&["Conv"]);
        before("Sub", 0, 2, &[4, 1, 2, 2]).becomes(&["Conv"]);
        before("Add", 1, 1, &[2, 2, 2, 2]).becomes(&["Add", "Conv"]);
    }

    #[test]
    fn a_factor_passes_a_shift_that_has_to_stay() {
        let sketch = Sketch::new(17).input("x", &[1, 2, 3, 3], counting(&[1, 2, 3, 3]));
        let sketch = sketch.weight("w", counting(&[2, 2, 2, 2])).weight("s", f32s(&[1], &[0.5]));
        let sketch = sketch.weight("c", f32s(&[1], &[3.])).node("Mul", &["s", "x"], "m");
        let sketch = sketch.node("Add", &["m", "c"], "a").node("Conv", &["a", "w"], "y");
        let padded = sketch.ints("pads", &[1; 4]).output("y");
        padded.becomes(&["Add", "Conv"]);
        padded.output("m").becomes(&["Mul", "Add", "Conv"]);
    }

    #[test]
    fn a_weight_that_a_request_may_give_is_left() {
        let mut sketch = normed(convolved(&[2, 2, 2, 2], 1, 0)).output("y");
        let given = crate::testing::info("w", ingle_types::DType::F32, None);
        sketch.graph.input.push(given);
        sketch.becomes(&["Conv", "BatchNormalization"]);
    }
}
