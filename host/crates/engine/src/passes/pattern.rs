//! What several patterns are made of.

use ingle_types::{DType, Tensor};

use super::rewriter::Rewriter;
use super::shapes::Shapes;
use crate::graph::{Node, ValueId};
use crate::value::{Host, is_float};

/// Arithmetic broadcasts as NumPy does from this version on.
const BROADCASTS: i64 = 7;

/// The only element of a float constant.
pub(super) fn scalar(graph: &Rewriter, id: ValueId) -> Option<f64> {
    let tensor = graph.constant(id).filter(|t| is_float(t.dtype()) && t.shape().elements() == 1)?;
    Host::from_tensor(tensor)?.to_f64().first().copied()
}

/// Whether a constant is this number, as exactly as its type can say it.
pub(super) fn is_number(graph: &Rewriter, id: ValueId, number: f64) -> bool {
    let precision = match graph.constant(id).map(Tensor::dtype) {
        Some(DType::F16) => 1e-3,
        Some(DType::BF16) => 1e-2,
        _ => 1e-6,
    };
    scalar(graph, id).is_some_and(|given| (given - number).abs() <= precision * number.abs())
}

/// Whether a constant can be an operand beside `x` without giving the result
/// more axes than `x` has.
pub(super) fn fits_beside(
    (graph, shapes): (&Rewriter, &Shapes),
    constant: ValueId,
    x: ValueId,
) -> bool {
    let Some(tensor) = graph.constant(constant) else { return false };
    let rank = tensor.dims().len();
    rank == 0 || shapes.rank(graph, x).is_some_and(|of_x| of_x >= rank)
}

impl Node {
    /// Whether this is arithmetic that broadcasts as NumPy's.
    pub(super) fn is_arithmetic(&self, operator: &str) -> bool {
        self.is(operator) && self.opset() >= BROADCASTS && self.attributes.is_empty()
    }

    /// Whether this is an operator of ONNX's own that has no attributes here.
    pub(super) fn is_plain(&self, operator: &str) -> bool {
        self.is(operator) && self.attributes.is_empty()
    }
}

impl Rewriter {
    /// The operands of the node that makes `id` for one reader only.
    pub(super) fn operands(&self, id: ValueId, operator: &str) -> Option<(ValueId, ValueId)> {
        self.only_for(id, operator).filter(|node| node.is_arithmetic(operator))?.pair()
    }

    /// The operand of a function of one tensor that has one reader only.
    pub(super) fn argument(&self, id: ValueId, operator: &str) -> Option<ValueId> {
        let node = self.only_for(id, operator).filter(|node| node.is_plain(operator))?;
        (node.inputs.len() == 1).then(|| node.input(0)).flatten()
    }
}

/// The variable operand and the constant one, of an operator that commutes.
pub(super) fn with_constant(
    graph: &Rewriter,
    (left, right): (ValueId, ValueId),
) -> Option<(ValueId, ValueId)> {
    match (graph.constant(left).is_some(), graph.constant(right).is_some()) {
        (false, true) => Some((left, right)),
        (true, false) => Some((right, left)),
        _ => None,
    }
}

/// The factors of a product, of which those in between have no other reader.
/// A power of a value is as many factors.
pub(super) fn factors(graph: &Rewriter, node: &Node) -> Vec<ValueId> {
    const MOST: usize = 8;
    let mut found = Vec::new();
    let mut open: Vec<ValueId> = node.inputs.iter().rev().flatten().copied().collect();
    while let Some(id) = open.pop() {
        if found.len() + open.len() > MOST {
            return Vec::new();
        }
        if let Some((left, right)) = graph.operands(id, "Mul") {
            open.extend([right, left]);
        } else if let Some((base, power)) = graph.operands(id, "Pow")
            && let Some(times) = [2u8, 3].into_iter().find(|&n| is_number(graph, power, n.into()))
        {
            found.extend(std::iter::repeat_n(base, times.into()));
        } else {
            found.push(id);
        }
    }
    found
}

/// Removes one factor that `is` accepts.
pub(super) fn without(factors: &[ValueId], is: impl Fn(ValueId) -> bool) -> Option<Vec<ValueId>> {
    let place = factors.iter().position(|&id| is(id))?;
    let mut rest = factors.to_vec();
    rest.remove(place);
    Some(rest)
}
