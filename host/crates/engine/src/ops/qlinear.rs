//! onnxruntime's operators on quantized tensors. Those that are no products
//! compute with real numbers in between.

use burn::tensor::ops::FloatTensor;
use ingle_types::DType;

use super::compare::choose;
use super::elementwise::{Binary, add, apply, div, mul};
use super::pool::{average, global_average};
use super::quantize::{
    Grain, Scheme, dequantize, dequantize_linear, dynamic, quantize, quantize_linear,
};
use super::quantized::{matmul_integer, real, requantize, single};
use super::spatial::Window;
use super::tensor::{join, permute};
use super::{Args, Built, Inputs, Registry, op};
use crate::context::Context;
use crate::dims::{axis_at, product};
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};
use crate::{BuildError, OpError};

const DOMAIN: &str = "com.microsoft";

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "QuantizeLinear", 1.., 2..=3, quantize_linear);
    r.add_in(DOMAIN, "DequantizeLinear", 1.., 2..=3, dequantize_linear);
    r.add_in(DOMAIN, "QLinearAdd", 1.., 7..=8, |_| binary(add()));
    r.add_in(DOMAIN, "QLinearMul", 1.., 7..=8, |_| binary(mul()));
    r.add_in(DOMAIN, "QLinearWhere", 1.., 9..=9, |_| {
        op(|ctx, mut inputs| {
            let (yes, dtype) = take_real(ctx, &mut inputs, 1)?;
            let (no, _) = take_real(ctx, &mut inputs, 4)?;
            let chosen = choose(ctx, inputs.take(0)?, yes, no)?;
            give_back(ctx, &mut inputs, chosen, (7, dtype))
        })
    });
    r.add_in(DOMAIN, "QLinearSigmoid", 1.., 4..=5, |_| {
        unary(|ctx, x| on_floats(ctx, x, B::sigmoid))
    });
    r.add_in(DOMAIN, "QLinearLeakyRelu", 1.., 4..=5, |args| {
        let alpha = args.float("alpha", 0.01)?;
        unary(move |ctx, x| on_floats(ctx, x, |x| B::leaky_relu(x, alpha.into())))
    });
    r.add_in(DOMAIN, "QLinearSoftmax", 1.., 5..=5, softmax);
    r.add_in(DOMAIN, "QLinearAveragePool", 1.., 4..=5, average_pool);
    r.add_in(DOMAIN, "QLinearGlobalAveragePool", 1.., 5..=5, |args| {
        let last = args.flag("channels_last", false)?;
        unary(move |ctx, x| channels_first(ctx, x, last, |x| global_average(ctx, x)))
    });
    r.add_in(DOMAIN, "QLinearConcat", 1.., 5.., concat);
    r.add_in(DOMAIN, "DynamicQuantizeMatMul", 1.., 3..=5, |_| op(dynamic_matmul));
    r.add_in(DOMAIN, "MatMulIntegerToFloat", 1.., 4..=7, |_| op(matmul_to_float));
    r.add_in(DOMAIN, "QGemm", 1.., 6..=9, gemm);
}

/// The real numbers of the tensor at `index`, whose scale and zero point follow,
/// and its dtype.
fn take_real<B: Kernels>(
    ctx: &Context<B>,
    inputs: &mut Inputs<B>,
    index: usize,
) -> Result<(Value<B>, DType), OpError> {
    let (x, scale) = (inputs.take(index)?, inputs.take(index + 1)?);
    let dtype = x.dtype();
    let scheme = Scheme { scale, zero: inputs.take_opt(index + 2) };
    Ok((dequantize(ctx, x, scheme, Grain::WHOLE, DType::F32)?, dtype))
}

/// Quantizes with the scale at `index` and the zero point behind it.
fn give_back<B: Kernels>(
    ctx: &Context<B>,
    inputs: &mut Inputs<B>,
    x: Value<B>,
    (index, dtype): (usize, DType),
) -> Result<Vec<Value<B>>, OpError> {
    let scheme = Scheme { scale: inputs.take(index)?, zero: inputs.take_opt(index + 1) };
    Ok(vec![quantize(ctx, x, scheme, Grain::WHOLE, (dtype, DType::F32))?])
}

fn binary<B: Kernels>(binary: Binary<B>) -> Built<B> {
    op(move |ctx, mut inputs| {
        let (left, dtype) = take_real(ctx, &mut inputs, 0)?;
        let (right, _) = take_real(ctx, &mut inputs, 3)?;
        let answer = apply(ctx, &binary, left, right)?;
        give_back(ctx, &mut inputs, answer, (6, dtype))
    })
}

fn unary<B: Kernels>(
    function: impl Fn(&Context<B>, Value<B>) -> Result<Value<B>, OpError> + Send + Sync + 'static,
) -> Built<B> {
    op(move |ctx, mut inputs| {
        let (x, dtype) = take_real(ctx, &mut inputs, 0)?;
        let answer = function(ctx, x)?;
        give_back(ctx, &mut inputs, answer, (3, dtype))
    })
}

fn on_floats<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    function: impl Fn(FloatTensor<B>) -> FloatTensor<B>,
) -> Result<Value<B>, OpError> {
    if x.elements() == 0 {
        return Ok(x);
    }
    let dims = x.dims();
    let answer: DeviceTensor<B> = DeviceTensor::Float(function(x.into_float(ctx, "it")?));
    Ok(answer.reshape(&dims).into())
}

fn softmax<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", -1)?;
    let opset = args.int_opt("opset")?.ok_or(BuildError::Missing { name: "opset" })?;
    unary(move |ctx, x| {
        let dims = x.dims();
        let axis = axis_at(axis, dims.len())?;
        // Up to opset 12 it is over all axes from the named one on.
        let (flat, axis) = match dims.split_at(axis) {
            (front, back) if opset < 13 => (vec![product(front)?, product(back)?], 1),
            _ => (dims.clone(), axis),
        };
        let answer = on_floats(ctx, x.reshape(flat), |x| B::softmax(x, axis))?;
        Ok(answer.reshape(dims))
    })
}

/// Runs what expects channels behind the batch.
fn channels_first<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    last: bool,
    function: impl Fn(Value<B>) -> Result<Value<B>, OpError>,
) -> Result<Value<B>, OpError> {
    let rank = x.rank();
    if !last || rank < 3 {
        return function(x);
    }
    let to: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let back: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    permute(ctx, function(permute(ctx, x, &to)?)?, &back)
}

fn average_pool<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let window = Window::of(args)?;
    window.kernel().ok_or(BuildError::Missing { name: "kernel_shape" })?;
    let count_padding = args.flag("count_include_pad", false)?;
    let last = args.flag("channels_last", false)?;
    unary(move |ctx, x| channels_first(ctx, x, last, |x| average(ctx, &window, count_padding, x)))
}

fn concat<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int_opt("axis")?.ok_or(BuildError::Missing { name: "axis" })?;
    let given = args.inputs();
    if given % 3 != 2 {
        return Err(BuildError::Unsupported { what: "a tensor without scale and zero point" });
    }
    op(move |ctx, mut inputs| {
        let parts = (2..given).step_by(3).map(|index| take_real(ctx, &mut inputs, index));
        let (parts, dtypes): (Vec<_>, Vec<_>) =
            parts.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let joined = join(ctx, parts, axis)?;
        let dtype = dtypes.first().copied().unwrap_or(DType::U8);
        give_back(ctx, &mut inputs, joined, (0, dtype))
    })
}

/// A product of matrices that ends in real numbers.
fn to_float<B: Kernels>(
    ctx: &Context<B>,
    sum: Value<B>,
    scale: Value<B>,
    bias: Option<Value<B>>,
) -> Result<Vec<Value<B>>, OpError> {
    let (dims, right) = (sum.dims(), scale.dims());
    let mut answer = apply(ctx, &mul(), sum.cast(ctx, DType::F32)?, single(scale))?;
    if let Some(bias) = bias {
        answer = apply(ctx, &add(), answer, bias)?;
    }
    if answer.dims() != dims {
        let what = "scales or bias do not fit the product";
        return Err(OpError::Mismatch { what, left: dims, right });
    }
    Ok(vec![answer])
}

/// `A` is quantized by its own range first.
fn dynamic_matmul<B: Kernels>(
    ctx: &Context<B>,
    mut inputs: Inputs<B>,
) -> Result<Vec<Value<B>>, OpError> {
    let (a, b) = (inputs.take(0)?, inputs.take(1)?);
    let b_scale = real(ctx, &mut inputs, 2)?;
    let [a, a_scale, a_zero]: [Value<B>; 3] =
        dynamic(ctx, a)?.try_into().map_err(|_| OpError::Missing { index: 0 })?;
    let sum = matmul_integer(ctx, (a, Some(a_zero)), (b, inputs.take_opt(3)))?;
    let scale = apply(ctx, &mul(), a_scale, b_scale)?;
    to_float(ctx, sum, scale, inputs.take_opt(4))
}

fn matmul_to_float<B: Kernels>(
    ctx: &Context<B>,
    mut inputs: Inputs<B>,
) -> Result<Vec<Value<B>>, OpError> {
    let (a, b) = (inputs.take(0)?, inputs.take(1)?);
    let scale = apply(ctx, &mul(), real(ctx, &mut inputs, 2)?, real(ctx, &mut inputs, 3)?)?;
    let sum = matmul_integer(ctx, (a, inputs.take_opt(4)), (b, inputs.take_opt(5)))?;
    to_float(ctx, sum, scale, inputs.take_opt(6))
}

fn gemm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let alpha = args.float("alpha", 1.0)?;
    let (turn_a, turn_b) = (args.flag("transA", false)?, args.flag("transB", false)?);
    op(move |ctx, mut inputs| {
        let (a, b) = (inputs.take(0)?, inputs.take(3)?);
        if a.rank() != 2 || b.rank() != 2 {
            let what = "it multiplies matrices";
            return Err(OpError::Mismatch { what, left: a.dims(), right: b.dims() });
        }
        let turned = |x, turn: bool| if turn { permute(ctx, x, &[1, 0]) } else { Ok(x) };
        let zeros = (inputs.take(2)?, inputs.take(5)?);
        let (a, b) = ((turned(a, turn_a)?, Some(zeros.0)), (turned(b, turn_b)?, Some(zeros.1)));
        let sum = matmul_integer(ctx, a, b)?;
        let dims = sum.dims();
        let sum = match inputs.take_opt(6) {
            Some(bias) => apply(ctx, &add(), sum, bias)?,
            None => sum,
        };
        if sum.dims() != dims {
            let what = "the bias does not broadcast to the product";
            return Err(OpError::Mismatch { what, left: dims, right: sum.dims() });
        }
        let scale = apply(ctx, &mul(), real(ctx, &mut inputs, 1)?, real(ctx, &mut inputs, 4)?)?;
        let alpha = Host::floats(DType::F32, vec![], vec![alpha]);
        let scale = apply(ctx, &mul(), scale, alpha.into())?;
        let Some(y_scale) = inputs.take_opt(7) else { return to_float(ctx, sum, scale, None) };
        let factor = apply(ctx, &div(), scale, y_scale.cast(ctx, DType::F32)?)?;
        Ok(vec![requantize(ctx, sum, single(factor), single(inputs.take(8)?))?])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, bools, f32s, tensor};
    use ingle_types::Tensor;

    fn u8s(dims: &[usize], values: &[u8]) -> Tensor {
        tensor(dims, values)
    }

    fn zero(v: u8) -> Tensor {
        tensor(&[], &[v])
    }

    fn scale(v: f32) -> Tensor {
        f32s(&[], &[v])
    }

    fn case(operator: &str, inputs: impl IntoIterator<Item = Tensor>) -> Case {
        Case::of(operator, inputs).domain("com.microsoft")
    }

    // The answers are onnxruntime's.

    #[test]
    fn sums_and_products() {
        let a = [u8s(&[4], &[0, 100, 200, 255]), scale(0.1), zero(100)];
        let b = [u8s(&[4], &[10, 20, 30, 250]), scale(0.05), zero(20)];
        let inputs: Vec<_> = a.into_iter().chain(b).chain([scale(0.2), zero(50)]).collect();
        case("QLinearAdd", inputs.clone()).gives([u8s(&[4], &[0, 50, 102, 185])]);
        case("QLinearMul", inputs.clone()).gives([u8s(&[4], &[75, 50, 75, 255])]);
        let mut wrong = inputs;
        wrong[7] = tensor(&[], &[0i8]);
        case("QLinearAdd", wrong).fails("uint8 and int8");
    }

    #[test]
    fn one_of_two_is_chosen() {
        let x = [u8s(&[2], &[10, 20]), scale(0.5), zero(0)];
        let y = [u8s(&[2], &[30, 40]), scale(0.25), zero(4)];
        let condition = [bools(&[2], &[1, 0])];
        let inputs = condition.into_iter().chain(x).chain(y).chain([scale(0.1), zero(1)]);
        case("QLinearWhere", inputs).gives([u8s(&[2], &[51, 91])]);
    }

    #[test]
    fn functions_of_one_number() {
        let x = tensor(&[7], &[-128i8, -64, -1, 0, 1, 64, 127]);
        let function = |name, s, z: i8| {
            let zero = tensor(&[], &[3i8]);
            case(name, [x.clone(), scale(0.05), zero, scale(s), tensor(&[], &[z])])
        };
        function("QLinearSigmoid", 1. / 256., -128)
            .gives([tensor(&[7], &[-128i8, -119, -13, -10, -6, 116, 127])]);
        function("QLinearLeakyRelu", 0.04, -20)
            .float("alpha", 0.1)
            .gives([tensor(&[7], &[-36i8, -28, -21, -20, -20, 56, 127])]);
    }

    #[test]
    fn softmax_is_over_one_axis() {
        let x = u8s(&[2, 3], &[0, 10, 20, 30, 40, 50]);
        let case = case("QLinearSoftmax", [x, scale(0.1), zero(5), scale(1. / 256.), zero(0)]);
        case.fails("\"opset\" is missing");
        case.int("opset", 13).gives([u8s(&[2, 3], &[23, 63, 170, 23, 63, 170])]);
    }

    fn pooling(name: &str) -> Case {
        let values: Vec<u8> = (1..=12).collect();
        let x = u8s(&[1, 2, 2, 3], &values);
        case(name, [x, scale(0.5), zero(2), scale(0.25), zero(1)])
    }

    #[test]
    fn windows_are_averaged() {
        pooling("QLinearGlobalAveragePool").gives([u8s(&[1, 2, 1, 1], &[4, 16])]);
        pooling("QLinearGlobalAveragePool")
            .int("channels_last", 1)
            .gives([u8s(&[1, 1, 1, 3], &[8, 10, 12])]);
        pooling("QLinearAveragePool")
            .ints("kernel_shape", &[2, 2])
            .ints("pads", &[0, 1, 0, 0])
            .gives([u8s(&[1, 2, 1, 3], &[2, 3, 5, 14, 15, 17])]);
        pooling("QLinearAveragePool")
            .ints("kernel_shape", &[1, 2])
            .int("channels_last", 1)
            .gives([u8s(&[1, 2, 1, 3], &[2, 4, 6, 14, 16, 18])]);
        pooling("QLinearAveragePool").fails("\"kernel_shape\" is missing");
    }

    #[test]
    fn parts_are_brought_to_one_scale() {
        let to = [scale(0.5), zero(10)];
        let parts = [u8s(&[1, 2], &[1, 2]), scale(0.5), zero(10)];
        let more = [u8s(&[1, 2], &[8, 4]), scale(0.25), zero(0)];
        let inputs: Vec<_> = to.into_iter().chain(parts).chain(more).collect();
        case("QLinearConcat", inputs.clone()).int("axis", 1).gives([u8s(&[1, 4], &[1, 2, 14, 12])]);
        case("QLinearConcat", inputs[..7].to_vec()).int("axis", 1).fails("without scale");
        case("QLinearConcat", inputs).int("axis", 2).fails("axis 2");
    }

    #[test]
    fn products_end_in_floats() {
        let a = f32s(&[2, 3], &[1., -2., 0.5, 0., 3., -1.]);
        let b = u8s(&[3, 2], &[1, 2, 3, 4, 5, 6]);
        let (scales, zeros) = (f32s(&[2], &[0.1, 0.2]), u8s(&[2], &[2, 3]));
        let bias = f32s(&[2], &[1., 10.]);
        let inputs = [a, b.clone(), scales.clone(), zeros.clone(), bias.clone()];
        case("DynamicQuantizeMatMul", inputs)
            .gives([f32s(&[2, 2], &[0.852_941_16, 9.705_882, 1., 10.])]);
        let a = u8s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        case("MatMulIntegerToFloat", [a, b, scale(0.5), scales, zero(2), zeros, bias])
            .gives([f32s(&[2, 2], &[1.2, 10.4, 1.65, 11.3])]);
    }

    #[test]
    fn gemm_ends_in_integers_or_floats() {
        let a = || [u8s(&[2, 3], &[1, 2, 3, 4, 5, 6]), scale(0.5), zero(2)];
        let bias = tensor(&[2], &[10i32, -10]);
        let b = [u8s(&[3, 2], &[1, 2, 3, 4, 5, 6]), f32s(&[2], &[0.1, 0.2]), u8s(&[2], &[2, 3])];
        let rest = [bias.clone(), scale(0.05), zero(100)];
        case("QGemm", a().into_iter().chain(b).chain(rest))
            .gives([u8s(&[2, 2], &[114, 88, 123, 106])]);
        let b = [u8s(&[2, 3], &[1, 2, 3, 4, 5, 6]), scale(0.1), zero(2)];
        case("QGemm", a().into_iter().chain(b.clone()).chain([bias]))
            .int("transB", 1)
            .float("alpha", 2.)
            .gives([f32s(&[2, 2], &[1.2, -0.8, 1.2, 1.9])]);
        case("QGemm", a().into_iter().chain(b)).fails("inner dimensions differ");
    }

    #[test]
    fn conversions_are_onnxs() {
        let (scales, zeros) = (f32s(&[2], &[0.5, 0.25]), u8s(&[2], &[1, 2]));
        let x = f32s(&[2, 2], &[1., 2., 3., 4.]);
        case("QuantizeLinear", [x, scales.clone(), zeros.clone()])
            .int("axis", 0)
            .gives([u8s(&[2, 2], &[3, 5, 14, 18])]);
        case("DequantizeLinear", [u8s(&[2, 2], &[1, 2, 3, 4]), scales, zeros])
            .int("axis", 0)
            .gives([f32s(&[2, 2], &[0., 0.5, 0.25, 0.5])]);
        case("DequantizeLinear", [tensor(&[2], &[5i32, -7]), scale(0.5)])
            .gives([f32s(&[2], &[2.5, -3.5])]);
    }
}
