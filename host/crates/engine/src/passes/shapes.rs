//! What can be known of shapes before a model runs: enough to tell that two
//! operands have the same dims, or how many axes a value has.

use std::collections::HashMap;

use ingle_types::{Dim as Declared, Tensor, TensorSpec};

use super::rewriter::Rewriter;
use crate::dims::axis_at;
use crate::graph::{Node, ValueId};
use crate::value::Host;

/// A size: a number, or one that only a request tells. Equal symbols are equal sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Dim {
    Known(usize),
    Symbol(usize),
}

pub(super) type Dims = Vec<Dim>;

/// More axes than a model has; a hostile one may claim any number.
const MOST_AXES: usize = 64;

/// The shapes of a graph's values, as far as they are known.
pub(super) struct Shapes {
    shapes: Vec<Option<Dims>>,
    /// The elements of values that hold sizes; `None` = not known.
    lists: HashMap<ValueId, Vec<Option<Dim>>>,
    symbols: usize,
    /// What a window of this offset and stride makes of a symbol.
    strided: HashMap<(usize, i64, i64), Dim>,
}

impl Shapes {
    /// `specs` declare the graph's inputs; none, for a subgraph.
    pub(super) fn of(graph: &Rewriter, specs: &[TensorSpec]) -> Self {
        let shapes = vec![None; graph.values()];
        let (lists, strided) = (HashMap::new(), HashMap::new());
        let mut shapes = Self { shapes, lists, symbols: 0, strided };
        for (&id, spec) in graph.inputs().iter().zip(specs) {
            let dims = spec.shape.as_ref().map(|dims| {
                let dim = |dim: &Declared| match *dim {
                    Declared::Fixed(size) => Dim::Known(size),
                    Declared::Any => shapes.symbol(),
                };
                dims.iter().map(dim).collect()
            });
            shapes.set(id, dims);
        }
        for at in graph.places() {
            let Some(node) = graph.node(at) else { continue };
            let dims = shapes.infer(graph, node);
            let list = shapes.list_of(graph, node);
            let Some(id) = node.output() else { continue };
            shapes.set(id, dims);
            if let Some(list) = list {
                shapes.lists.insert(id, list);
            }
        }
        shapes
    }

    /// The shape of a value, constant or not.
    pub(super) fn dims(&self, graph: &Rewriter, id: ValueId) -> Option<Dims> {
        if let Some(tensor) = graph.constant(id) {
            return Some(tensor.dims().iter().copied().map(Dim::Known).collect());
        }
        self.shapes.get(id)?.clone()
    }

    pub(super) fn rank(&self, graph: &Rewriter, id: ValueId) -> Option<usize> {
        match graph.constant(id) {
            Some(tensor) => Some(tensor.dims().len()),
            None => self.shapes.get(id)?.as_ref().map(Vec::len),
        }
    }

    fn set(&mut self, id: ValueId, dims: Option<Dims>) {
        if let Some(slot) = self.shapes.get_mut(id) {
            *slot = dims;
        }
    }

    fn symbol(&mut self) -> Dim {
        self.symbols += 1;
        Dim::Symbol(self.symbols)
    }

    fn infer(&mut self, graph: &Rewriter, node: &Node) -> Option<Dims> {
        if !node.label.domain.is_empty() {
            return None;
        }
        let dims = |shapes: &Self, index| shapes.dims(graph, node.input(index)?);
        let ints = |index| integers(graph.constant(node.input(index)?)?);
        match node.label.operator.as_str() {
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Equal" | "Less" | "Greater" | "And" | "Or"
                if node.opset() >= 7 =>
            {
                let (left, right) = (dims(self, 0)?, dims(self, 1)?);
                self.broadcast(&left, &right)
            }
            "Sum" | "Max" | "Min" | "Where" if node.opset() >= 8 => {
                let first = dims(self, 0)?;
                (1..node.inputs.len())
                    .try_fold(first, |all, index| self.broadcast(&all, &dims(self, index)?))
            }
            "Conv" => self.conv(node, dims(self, 0)?, &dims(self, 1)?),
            "MaxPool" | "AveragePool" => {
                let x = dims(self, 0)?;
                let kernel = sizes(node.ints("kernel_shape")?)?;
                let batch_and_channels = x.get(..2)?.to_vec();
                self.windows(node, batch_and_channels, x.get(2..)?, &kernel)
            }
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let mut x = dims(self, 0)?;
                x.iter_mut().skip(2).for_each(|dim| *dim = Dim::Known(1));
                Some(x)
            }
            "ConvTranspose" => {
                let (x, weight) = (dims(self, 0)?, dims(self, 1)?);
                let groups = Dim::Known(usize::try_from(node.int("group").unwrap_or(1)).ok()?);
                let maps = if groups == Dim::Known(1) { *weight.get(1)? } else { self.symbol() };
                Some(self.behind(vec![*x.first()?, maps], x.len().checked_sub(2)?))
            }
            "MatMul" => {
                let (left, right) = (dims(self, 0)?, dims(self, 1)?);
                self.matmul(&left, &right)
            }
            "Gemm" => {
                let (left, right) = (dims(self, 0)?, dims(self, 1)?);
                let turned = |name| usize::from(node.int(name).unwrap_or(0) != 0);
                let rows = left.get(turned("transA"))?;
                Some(vec![*rows, *right.get(1 - turned("transB"))?])
            }
            "Transpose" => {
                let x = dims(self, 0)?;
                match node.ints("perm") {
                    Some(axes) => axes.iter().map(|&a| at(&x, a)).collect(),
                    None => Some(x.into_iter().rev().collect()),
                }
            }
            "Reshape" if node.opset() >= 5 => {
                let zero = node.int("allowzero").unwrap_or(0) != 0;
                match self.list(graph, node.input(1)?) {
                    Some(wanted) => Some(self.reshaped(dims(self, 0), &wanted, zero)),
                    // The shape's own shape tells the rank.
                    None => {
                        let rank = known(*dims(self, 1)?.first()?)?;
                        (rank <= MOST_AXES).then(|| self.behind(Vec::new(), rank))
                    }
                }
            }
            "Expand" => {
                let to = self.list(graph, node.input(1)?)?;
                let to: Dims =
                    to.into_iter().map(|dim| dim.unwrap_or_else(|| self.symbol())).collect();
                let x = dims(self, 0)?;
                self.broadcast(&x, &to)
            }
            "Flatten" => Some(vec![self.symbol(), self.symbol()]),
            "Unsqueeze" => {
                let axes = node.ints("axes").map(<[i64]>::to_vec).or_else(|| ints(1))?;
                unsqueezed(dims(self, 0)?, &axes)
            }
            "Concat" => {
                let mut first = dims(self, 0)?;
                let axis = axis_at(node.int("axis")?, first.len()).ok()?;
                let along = |index| known(*dims(self, index)?.get(axis)?);
                let sum = (0..node.inputs.len())
                    .try_fold(0usize, |sum, index| sum.checked_add(along(index)?));
                *first.get_mut(axis)? = sum.map_or_else(|| self.symbol(), Dim::Known);
                Some(first)
            }
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" => {
                let axes = node.ints("axes").map(<[i64]>::to_vec).or_else(|| ints(1))?;
                let x = dims(self, 0)?;
                let places = crate::dims::axes_at(&axes, x.len()).ok()?;
                let kept = node.int("keepdims") != Some(0);
                let reduced = x.into_iter().enumerate().filter_map(|(axis, dim)| {
                    let gone = places.contains(&axis);
                    if gone { kept.then_some(Dim::Known(1)) } else { Some(dim) }
                });
                Some(reduced.collect()).filter(|_| !axes.is_empty())
            }
            "Squeeze" => {
                let axes = node.ints("axes").map(<[i64]>::to_vec).or_else(|| ints(1))?;
                let x = dims(self, 0)?;
                let places = crate::dims::axes_at(&axes, x.len()).ok()?;
                let kept = x.iter().enumerate().filter(|(axis, _)| !places.contains(axis));
                Some(kept.map(|(_, &dim)| dim).collect())
            }
            "Shape" if node.attributes.is_empty() => Some(vec![Dim::Known(dims(self, 0)?.len())]),
            "Gather" => {
                let (data, indices) = (dims(self, 0)?, dims(self, 1)?);
                let axis = axis_at(node.int("axis").unwrap_or(0), data.len()).ok()?;
                let (front, behind) = (data.get(..axis)?, data.get(axis + 1..)?);
                Some([front, &indices, behind].concat())
            }
            "Slice" | "Resize" | "Upsample" | "Pad" | "Split" => {
                let rank = dims(self, 0)?.len();
                Some(self.behind(Vec::new(), rank))
            }
            "Relu"
            | "Sigmoid"
            | "Tanh"
            | "Clip"
            | "LeakyRelu"
            | "HardSigmoid"
            | "HardSwish"
            | "Swish"
            | "Gelu"
            | "Erf"
            | "Exp"
            | "Sqrt"
            | "Log"
            | "Neg"
            | "Abs"
            | "Reciprocal"
            | "PRelu"
            | "Elu"
            | "Softplus"
            | "Softmax"
            | "BatchNormalization"
            | "InstanceNormalization"
            | "LayerNormalization"
            | "Identity"
            | "Cast"
            | "Dropout"
            | "LRN"
            | "Not"
            | "Mish" => dims(self, 0),
            _ => None,
        }
    }

    fn conv(&mut self, node: &Node, x: Dims, weight: &[Dim]) -> Option<Dims> {
        let kernel: Option<Vec<usize>> = weight.get(2..)?.iter().map(|&d| known(d)).collect();
        let front = vec![*x.first()?, *weight.first()?];
        self.windows(node, front, x.get(2..)?, &kernel?)
    }

    /// `front`, and how many windows fit along each axis of `sizes`.
    fn windows(
        &mut self,
        node: &Node,
        mut front: Dims,
        sizes: &[Dim],
        kernel: &[usize],
    ) -> Option<Dims> {
        let rank = kernel.len();
        if sizes.len() != rank {
            return None;
        }
        let list = |name, default: i64, count| {
            node.ints(name).map_or_else(|| vec![default; count], <[i64]>::to_vec)
        };
        let (strides, dilations) = (list("strides", 1, rank), list("dilations", 1, rank));
        let pads = list("pads", 0, 2 * rank);
        let placed = node.attribute("auto_pad").is_some() || node.int("ceil_mode") == Some(1);
        for (axis, (&size, &kernel)) in sizes.iter().zip(kernel).enumerate() {
            if placed {
                front.push(self.symbol());
                continue;
            }
            let reach = i64::try_from(kernel).ok()?.checked_sub(1)?;
            let reach = reach.checked_mul(*dilations.get(axis)?)?.checked_add(1)?;
            let pad = pads.get(axis)?.checked_add(*pads.get(axis + rank)?)?;
            front.push(self.slide(size, pad.checked_sub(reach)?, *strides.get(axis)?)?);
        }
        Some(front)
    }

    /// (size + offset) / stride + 1.
    fn slide(&mut self, size: Dim, offset: i64, stride: i64) -> Option<Dim> {
        match size {
            _ if stride < 1 => None,
            Dim::Known(size) => {
                let last = i64::try_from(size).ok()?.checked_add(offset)?;
                let count = last.checked_div_euclid(stride)?.checked_add(1)?;
                Some(Dim::Known(usize::try_from(count).ok()?))
            }
            Dim::Symbol(_) if stride == 1 && offset == -1 => Some(size),
            Dim::Symbol(symbol) => {
                let new = self.symbol();
                Some(*self.strided.entry((symbol, offset, stride)).or_insert(new))
            }
        }
    }

    /// `front`, and sizes of which nothing is known.
    fn behind(&mut self, mut front: Dims, more: usize) -> Dims {
        for _ in 0..more {
            front.push(self.symbol());
        }
        front
    }

    fn broadcast(&mut self, left: &[Dim], right: &[Dim]) -> Option<Dims> {
        let rank = left.len().max(right.len());
        let padded = |dims: &[Dim]| {
            let mut padded = vec![Dim::Known(1); rank - dims.len()];
            padded.extend_from_slice(dims);
            padded
        };
        let pairs = padded(left).into_iter().zip(padded(right));
        let joined = pairs.map(|pair| match pair {
            (a, b) if a == b => a,
            (Dim::Known(1), other) | (other, Dim::Known(1)) => other,
            (Dim::Known(size), Dim::Symbol(_)) | (Dim::Symbol(_), Dim::Known(size)) => {
                Dim::Known(size)
            }
            _ => self.symbol(),
        });
        Some(joined.collect())
    }

    fn matmul(&mut self, left: &[Dim], right: &[Dim]) -> Option<Dims> {
        let [l_batch @ .., rows, _] = left else { return None };
        let [r_batch @ .., _, columns] = right else { return None };
        let mut out = self.broadcast(l_batch, r_batch)?;
        out.extend([*rows, *columns]);
        Some(out)
    }

    fn reshaped(&mut self, x: Option<Dims>, wanted: &[Option<Dim>], zero: bool) -> Dims {
        let copied = |axis| x.as_ref().and_then(|x| x.get(axis).copied());
        let mut dims = Vec::with_capacity(wanted.len());
        for (axis, &size) in wanted.iter().enumerate() {
            let dim = match size {
                Some(Dim::Known(0)) if !zero => copied(axis),
                size => size,
            };
            dims.push(dim.unwrap_or_else(|| self.symbol()));
        }
        dims
    }

    /// The elements of a value that holds sizes, negative ones left out.
    pub(super) fn list(&self, graph: &Rewriter, id: ValueId) -> Option<Vec<Option<Dim>>> {
        let Some(constant) = graph.constant(id) else { return self.lists.get(&id).cloned() };
        let size = |value: i64| usize::try_from(value).ok().map(Dim::Known);
        Some(integers(constant)?.into_iter().map(size).collect())
    }

    /// What a node of shape arithmetic computes.
    fn list_of(&self, graph: &Rewriter, node: &Node) -> Option<Vec<Option<Dim>>> {
        if !node.label.domain.is_empty() {
            return None;
        }
        let first = node.input(0)?;
        let ints = |index| integers(graph.constant(node.input(index)?)?);
        match node.label.operator.as_str() {
            "Shape" if node.attributes.is_empty() => {
                Some(self.dims(graph, first)?.into_iter().map(Some).collect())
            }
            "Cast" | "Identity" | "Unsqueeze" | "Squeeze" => self.list(graph, first),
            "Gather" if node.int("axis").unwrap_or(0) == 0 => {
                let list = self.list(graph, first)?;
                let pick = |&index: &i64| list.get(axis_at(index, list.len()).ok()?).copied();
                ints(1)?.iter().map(pick).collect()
            }
            "Slice" if node.opset() >= 10 => {
                let list = self.list(graph, first)?;
                let (starts, ends) = (ints(1)?, ints(2)?);
                let plain =
                    (3..node.inputs.len()).all(|i| ints(i).is_some_and(|v| v == [i as i64 - 3]));
                let (&[start], &[end]) = (starts.as_slice(), ends.as_slice()) else { return None };
                let place = |at: i64| {
                    let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
                    let at = if at < 0 { at.saturating_add(length) } else { at };
                    usize::try_from(at.clamp(0, length)).ok()
                };
                Some(list.get(place(start)?..place(end)?).filter(|_| plain)?.to_vec())
            }
            "Concat" => {
                let mut joined = Vec::new();
                for id in &node.inputs {
                    joined.extend(self.list(graph, (*id)?)?);
                }
                Some(joined).filter(|joined| joined.len() <= MOST_AXES)
            }
            _ => None,
        }
    }
}

pub(super) fn known(dim: Dim) -> Option<usize> {
    match dim {
        Dim::Known(size) => Some(size),
        Dim::Symbol(_) => None,
    }
}

fn at(dims: &[Dim], axis: i64) -> Option<Dim> {
    dims.get(usize::try_from(axis).ok()?).copied()
}

fn sizes(values: &[i64]) -> Option<Vec<usize>> {
    values.iter().map(|&v| usize::try_from(v).ok()).collect()
}

/// The elements of a small integer tensor.
pub(super) fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    const SMALL: usize = 64;
    if tensor.shape().elements() > SMALL {
        return None;
    }
    Host::from_tensor(tensor)?.as_ints().map(<[i64]>::to_vec)
}

fn unsqueezed(dims: Dims, axes: &[i64]) -> Option<Dims> {
    let rank = dims.len() + axes.len();
    let places = crate::dims::axes_at(axes, rank).ok()?;
    let mut rest = dims.into_iter();
    (0..rank).map(|i| if places.contains(&i) { Some(Dim::Known(1)) } else { rest.next() }).collect()
}
