//! How many floating-point operations a step takes, estimated from shapes alone.

use crate::NodeLabel;
use crate::observe::StepTensor;

/// See [`crate::StepReport::flops`].
pub(crate) fn estimate(
    label: &NodeLabel,
    inputs: &[Option<StepTensor>],
    outputs: &[StepTensor],
) -> u64 {
    let input = |index: usize| inputs.get(index).and_then(Option::as_ref);
    let made = outputs.first().map_or(0, StepTensor::elements);
    let products = match label.operator.as_str() {
        "Conv" | "FusedConv" | "ConvInteger" => made.saturating_mul(per_output(input(1))),
        "QLinearConv" => made.saturating_mul(per_output(input(3))),
        "ConvTranspose" => elements(input(0)).saturating_mul(per_output(input(1))),
        "MatMul" | "MatMulInteger" | "QLinearMatMul" | "FusedMatMul" | "Linear" => {
            made.saturating_mul(last(input(0)))
        }
        "Gemm" | "FusedGemm" => {
            let rows = outputs.first().and_then(|y| y.dims.first()).copied().unwrap_or(0);
            made.saturating_mul(elements(input(0)).checked_div(rows as u64).unwrap_or(0))
        }
        "LSTM" | "GRU" | "RNN" => recurrent(input(0), input(1), input(2)),
        "Attention" | "MultiHeadAttention" if label.domain.is_empty() => {
            let keys = second_last(input(1));
            elements(input(0)).saturating_add(made).saturating_mul(keys)
        }
        name if ELEMENTWISE.contains(&name) => return made,
        _ => 0,
    };
    products.saturating_mul(2)
}

fn elements(tensor: Option<&StepTensor>) -> u64 {
    tensor.map_or(0, StepTensor::elements)
}

/// Multiplications for each element that slides under a window: `[out, in, window...]`.
fn per_output(weight: Option<&StepTensor>) -> u64 {
    weight.map_or(0, |weight| {
        let window = weight.dims.iter().skip(1);
        window.fold(1, |n: u64, &d| n.saturating_mul(d as u64))
    })
}

fn last(tensor: Option<&StepTensor>) -> u64 {
    tensor.and_then(|t| t.dims.last()).map_or(0, |&d| d as u64)
}

fn second_last(tensor: Option<&StepTensor>) -> u64 {
    let second = |t: &StepTensor| t.dims.iter().rev().nth(1).copied();
    tensor.and_then(second).map_or(0, |d| d as u64)
}

/// Both weights are read once for each step of each row of `[steps, rows, features]`.
fn recurrent(
    x: Option<&StepTensor>,
    weight: Option<&StepTensor>,
    recurrence: Option<&StepTensor>,
) -> u64 {
    let steps = x.and_then(|x| x.dims.get(..2)).unwrap_or_default();
    let steps = steps.iter().fold(1, |n: u64, &d| n.saturating_mul(d as u64));
    steps.saturating_mul(elements(weight).saturating_add(elements(recurrence)))
}

/// One operation for each element, though some take many instructions.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BatchNormalization",
    "BiasGelu",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "FastGelu",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "QuickGelu",
    "RMSNormalization",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "SimplifiedLayerNormalization",
    "Sin",
    "Sinh",
    "SkipLayerNormalization",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Where",
];

#[cfg(test)]
mod tests {
    use ingle_types::DType;

    use super::*;

    fn flops(operator: &str, inputs: &[&[usize]], output: &[usize]) -> u64 {
        let tensor = |dims: &[usize]| StepTensor { dtype: DType::F32, dims: dims.to_vec() };
        let label = NodeLabel {
            node: String::new(),
            operator: operator.into(),
            domain: String::new(),
            opset: 17,
        };
        let inputs: Vec<_> = inputs.iter().map(|dims| Some(tensor(dims))).collect();
        estimate(&label, &inputs, &[tensor(output)])
    }

    #[test]
    fn products_are_counted_twice() {
        // The first layer of ResNet-50: 118 013 952 multiplications.
        let conv = flops("Conv", &[&[1, 3, 224, 224], &[64, 3, 7, 7]], &[1, 64, 112, 112]);
        assert_eq!(conv, 2 * 118_013_952);
        let deep = flops("Conv", &[&[1, 8, 4, 4], &[8, 1, 3, 3]], &[1, 8, 4, 4]);
        assert_eq!(deep, 2 * 128 * 9);
        let transposed = flops("ConvTranspose", &[&[1, 4, 2, 2], &[4, 3, 2, 2]], &[1, 3, 4, 4]);
        assert_eq!(transposed, 2 * 16 * 12);
        assert_eq!(flops("MatMul", &[&[5, 2, 3], &[3, 4]], &[5, 2, 4]), 2 * 40 * 3);
        assert_eq!(flops("Gemm", &[&[2, 3], &[3, 4]], &[2, 4]), 2 * 24);
        assert_eq!(flops("Gemm", &[&[3, 2], &[3, 4]], &[2, 4]), 2 * 24);
        let attention = flops("Attention", &[&[1, 2, 5, 8], &[1, 2, 7, 8]], &[1, 2, 5, 8]);
        assert_eq!(attention, 2 * 2 * (2 * 5 * 7 * 8));
        let lstm = flops("LSTM", &[&[6, 1, 3], &[1, 8, 3], &[1, 8, 2]], &[6, 1, 1, 2]);
        assert_eq!(lstm, 2 * 6 * (24 + 16));
    }

    #[test]
    fn the_rest_is_one_for_an_element_or_nothing() {
        assert_eq!(flops("Relu", &[&[2, 3]], &[2, 3]), 6);
        assert_eq!(flops("Reshape", &[&[2, 3], &[1]], &[6]), 0);
        assert_eq!(flops("Conv", &[], &[]), 0);
        assert_eq!(flops("Gemm", &[&[0, 3], &[3, 4]], &[0, 4]), 0);
    }

    #[test]
    fn sizes_that_lie_do_not_overflow() {
        let huge = [usize::MAX, usize::MAX, usize::MAX];
        assert_eq!(flops("MatMul", &[&huge, &huge], &huge), u64::MAX);
    }
}
