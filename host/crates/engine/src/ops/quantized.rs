//! Products of quantized tensors. Sums are exact, in 32 bits that wrap.

use burn::tensor::{IntDType, Slice};
use ingle_types::DType;

use super::conv::{self, groups};
use super::elementwise::{add, apply, div, mul, sub};
use super::matmul::matmul;
use super::quantize::{only, saturate};
use super::spatial::{Placed, Window, pad_constant};
use super::tensor::narrow;
use super::{Args, Built, Inputs, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("MatMulInteger", 10.., 2..=4, |_| {
        op(|ctx, mut inputs| {
            let (a, b) = (inputs.take(0)?, inputs.take(1)?);
            let zeros = (inputs.take_opt(2), inputs.take_opt(3));
            Ok(vec![matmul_integer(ctx, (a, zeros.0), (b, zeros.1))?])
        })
    });
    r.add("QLinearMatMul", 10.., 8..=8, |_| op(|ctx, inputs| qlinear_matmul(ctx, inputs)));
    r.add("ConvInteger", 10.., 2..=4, conv_integer);
    r.add("QLinearConv", 10.., 8..=9, qlinear_conv);
}

/// An operand of 8 bits and its zero point.
pub(super) type Quantized<B> = (Value<B>, Option<Value<B>>);

/// Integers up to this are exact as floats.
const FLOAT_INTS: u64 = 1 << 24;

/// `x - zero` as `wide`, int32 or float32; `zero` must broadcast to `x`.
fn centred<B: Kernels>(
    ctx: &Context<B>,
    (x, zero): Quantized<B>,
    wide: DType,
) -> Result<Value<B>, OpError> {
    let (dims, given) = (x.dims(), x.dtype());
    if !matches!(given, DType::U8 | DType::I8) {
        let expected = "an integer of 8 bits";
        return Err(OpError::DType { what: "the operand", expected, given });
    }
    ctx.admit(wide, &dims)?;
    if let Some(zero) = zero.as_ref().filter(|zero| zero.dtype() != given) {
        return Err(OpError::DTypes { left: given, right: zero.dtype() });
    }
    let zero = zero.map(single);
    let number = zero.as_ref().map_or(Some(0.0), only);
    if let (Value::Device(DeviceTensor::Int(x)), Some(zero), DType::F32) = (&x, number, wide) {
        return Ok(DeviceTensor::Float(B::from_quantized(x.clone(), zero, 1.0)).into());
    }
    let x = x.cast(ctx, wide)?;
    let Some(zero) = zero else { return Ok(x) };
    let right = zero.dims();
    let centred = apply(ctx, &sub(), x, zero.cast(ctx, wide)?)?;
    if centred.dims() != dims {
        let what = "the zero point does not fit the operand";
        return Err(OpError::Mismatch { what, left: dims, right });
    }
    Ok(centred)
}

/// How many products of the centred operands add up exactly in floats.
fn exact_terms<B: Kernels>(left: &Quantized<B>, right: &Quantized<B>) -> usize {
    let largest = |(x, zero): &Quantized<B>| -> u64 {
        let (low, high) = if x.dtype() == DType::I8 { (-128, 127) } else { (0, 255) };
        let zeros = zero.as_ref().map_or(Some(&[0][..]), |z| z.as_host().and_then(Host::as_ints));
        let reach = |&z: &i64| (z - low).max(high - z).unsigned_abs();
        zeros.and_then(|zeros| zeros.iter().map(reach).max()).unwrap_or(255)
    };
    let product = largest(left).saturating_mul(largest(right));
    usize::try_from(FLOAT_INTS / product.max(1)).unwrap_or(usize::MAX)
}

/// A list with one number for each row, so that it broadcasts over columns.
fn for_rows<B: Kernels>(list: Value<B>, trailing: usize) -> Value<B> {
    match list.dims().as_slice() {
        &[size] if size > 1 => {
            let mut dims = vec![1; trailing + 1];
            if let Some(first) = dims.first_mut() {
                *first = size;
            }
            list.reshape(dims)
        }
        _ => list,
    }
}

/// `(a - zero) * (b - zero)` as int32. Zero points are of a matrix, of the rows
/// of the left one or of the columns of the right one.
pub(super) fn matmul_integer<B: Kernels>(
    ctx: &Context<B>,
    (a, a_zero): Quantized<B>,
    b: Quantized<B>,
) -> Result<Value<B>, OpError> {
    let a = (a, a_zero.map(|zero| for_rows(zero, 1)));
    if !B::full_floats() {
        return matmul(ctx, centred(ctx, a, DType::I32)?, centred(ctx, b, DType::I32)?);
    }
    let most = exact_terms(&a, &b);
    let (a, b) = (centred(ctx, a, DType::F32)?, centred(ctx, b, DType::F32)?);
    let terms = a.dims().last().copied().unwrap_or_default();
    let (last, rows) = (a.rank().saturating_sub(1), b.rank().saturating_sub(2));
    if terms <= most || b.dims().get(rows) != Some(&terms) {
        return to_ints(ctx, matmul(ctx, a, b)?);
    }
    sum_of_parts(ctx, terms, most, |start, end| {
        let part = |x: &Value<B>, axis| narrow(ctx, x, axis, start, end);
        matmul(ctx, part(&a, last)?, part(&b, rows)?)
    })
}

/// Adds, as int32, what floats compute of at most `most` of the terms at a time.
fn sum_of_parts<B: Kernels>(
    ctx: &Context<B>,
    terms: usize,
    most: usize,
    part: impl Fn(usize, usize) -> Result<Value<B>, OpError>,
) -> Result<Value<B>, OpError> {
    let mut sum: Option<Value<B>> = None;
    let mut start = 0usize;
    loop {
        let end = start.saturating_add(most.max(1)).min(terms);
        let ints = to_ints(ctx, part(start, end)?)?;
        let so_far = match sum {
            Some(sum) => apply(ctx, &add(), sum, ints)?,
            None => ints,
        };
        if end >= terms {
            return Ok(so_far);
        }
        sum = Some(so_far);
        start = end;
    }
}

/// Floats that are integers, as int32.
fn to_ints<B: Kernels>(ctx: &Context<B>, x: Value<B>) -> Result<Value<B>, OpError> {
    match x {
        Value::Device(DeviceTensor::Float(x)) => {
            Ok(DeviceTensor::Int(B::float_into_int(x, IntDType::I32)).into())
        }
        x => x.cast(ctx, DType::I32),
    }
}

pub(super) fn real<B: Kernels>(
    ctx: &Context<B>,
    inputs: &mut Inputs<B>,
    index: usize,
) -> Result<Value<B>, OpError> {
    inputs.take(index)?.cast(ctx, DType::F32)
}

/// `sum * factor + zero` in the dtype of the zero point.
pub(super) fn requantize<B: Kernels>(
    ctx: &Context<B>,
    sum: Value<B>,
    factor: Value<B>,
    zero: Value<B>,
) -> Result<Value<B>, OpError> {
    let (dims, right) = (sum.dims(), factor.dims());
    let (dtype, shape) = (zero.dtype(), zero.dims());
    let scaled = apply(ctx, &mul(), sum.cast(ctx, DType::F32)?, factor)?;
    let answer = saturate(ctx, scaled, 1.0, Some(zero), dtype)?;
    if answer.dims() != dims {
        let what = "scale and zero point do not fit the product";
        return Err(OpError::Mismatch { what, left: dims, right: [right, shape].concat() });
    }
    Ok(answer)
}

fn qlinear_matmul<B: Kernels>(
    ctx: &Context<B>,
    mut inputs: Inputs<B>,
) -> Result<Vec<Value<B>>, OpError> {
    let (a, b) = (inputs.take(0)?, inputs.take(3)?);
    let zeros = (inputs.take(2)?, inputs.take(5)?, inputs.take(7)?);
    let a_scale = for_rows(real(ctx, &mut inputs, 1)?, 1);
    let b_scale = real(ctx, &mut inputs, 4)?;
    let y_scale = for_rows(real(ctx, &mut inputs, 6)?, 1);
    let factor = apply(ctx, &div(), apply(ctx, &mul(), a_scale, b_scale)?, y_scale)?;
    let sum = matmul_integer(ctx, (a, Some(zeros.0)), (b, Some(zeros.1)))?;
    Ok(vec![requantize(ctx, sum, single(factor), single(for_rows(zeros.2, 1)))?])
}

/// The only element as a scalar, so that it gives no dims to what it meets.
pub(super) fn single<B: Kernels>(value: Value<B>) -> Value<B> {
    if value.elements() == 1 { value.reshape(vec![]) } else { value }
}

fn conv_integer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (window, groups) = (Window::of(args)?, groups(args)?);
    op(move |ctx, mut inputs| {
        let (x, w) = (inputs.take(0)?, inputs.take(1)?);
        let zeros = (inputs.take_opt(2), inputs.take_opt(3));
        Ok(vec![convolve(ctx, (&window, groups), (x, zeros.0), (w, zeros.1))?])
    })
}

fn qlinear_conv<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (window, groups) = (Window::of(args)?, groups(args)?);
    op(move |ctx, mut inputs| {
        let (x, w) = (inputs.take(0)?, inputs.take(3)?);
        let zeros = (inputs.take(2)?, inputs.take(5)?, inputs.take(7)?);
        let bias = inputs.take_opt(8);
        let spatial = w.rank().saturating_sub(2);
        let mut real = |index| real(ctx, &mut inputs, index);
        let scales = (real(1)?, for_rows(real(4)?, spatial), real(6)?);
        let sum = convolve(ctx, (&window, groups), (x, Some(zeros.0)), (w, Some(zeros.1)))?;
        let sum = match bias {
            Some(bias) => add_bias(ctx, sum, bias)?,
            None => sum,
        };
        let factor = apply(ctx, &div(), apply(ctx, &mul(), scales.0, scales.1)?, scales.2)?;
        Ok(vec![requantize(ctx, sum, single(factor), single(zeros.2))?])
    })
}

fn add_bias<B: Kernels>(
    ctx: &Context<B>,
    sum: Value<B>,
    bias: Value<B>,
) -> Result<Value<B>, OpError> {
    let dims = sum.dims();
    if bias.dims().as_slice() != dims.get(1..2).unwrap_or_default() {
        return Err(OpError::Dims { what: "the bias", dims: bias.dims() });
    }
    let mut shape = vec![1; dims.len().saturating_sub(1)];
    if let (Some(first), Some(&maps)) = (shape.first_mut(), dims.get(1)) {
        *first = maps;
    }
    apply(ctx, &add(), sum, bias.reshape(shape))
}

/// A convolution of `x - zero` with `w - zero`, as int32. The zero point of the
/// weights is of all or of each map.
fn convolve<B: Kernels>(
    ctx: &Context<B>,
    (window, groups): (&Window, usize),
    x: Quantized<B>,
    (w, w_zero): Quantized<B>,
) -> Result<Value<B>, OpError> {
    let behind = w.rank().saturating_sub(1);
    let w = (w, w_zero.map(|zero| for_rows(zero, behind)));
    let (dims, kernel) = (x.0.dims(), w.0.dims());
    let (&[batch, channels, ref sizes @ ..], &[maps, depth, ref kernel_sizes @ ..]) =
        (dims.as_slice(), kernel.as_slice())
    else {
        return Err(OpError::Dims { what: "the operand of a convolution", dims });
    };
    if depth.checked_mul(groups) != Some(channels) || !maps.is_multiple_of(groups) {
        let what = "the channels do not fit the weights and groups";
        return Err(OpError::Mismatch { what, left: dims, right: kernel });
    }
    let placed = window.place(sizes, kernel_sizes)?;
    let out = [&[batch, maps][..], &placed.out()].concat();
    ctx.admit(DType::F32, &out)?;
    if out.contains(&0) {
        return Ok(Value::empty(DType::I32, out));
    }
    if channels == 0 {
        return Err(OpError::Dims { what: "the operand of a convolution", dims });
    }
    let most = exact_terms(&x, &w) / kernel_sizes.iter().product::<usize>().max(1);
    let fits = sizes.len() <= 3 && most >= if groups == 1 { 1 } else { depth };
    if !B::full_floats() || !fits {
        let (x, w) = (centred(ctx, x, DType::I32)?, centred(ctx, w, DType::I32)?);
        return Ok(by_taps(ctx, x, w, &placed, groups)?.reshape(out));
    }
    let (x, w) = (centred(ctx, x, DType::F32)?, centred(ctx, w, DType::F32)?);
    let most = if groups == 1 { most } else { channels };
    sum_of_parts(ctx, channels, most, |start, end| {
        let part = |x: &Value<B>, end| narrow(ctx, x, 1, start, end);
        let w = part(&w, end.min(depth))?.into_float(ctx, "the weights")?;
        Ok(conv::plain(ctx, (part(&x, end)?, w, None), &placed, groups)?.cut(&out)?.into())
    })
}

/// One product of matrices for each place of the window.
fn by_taps<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    w: Value<B>,
    placed: &Placed,
    groups: usize,
) -> Result<Value<B>, OpError> {
    let (&[batch, channels, ..], &[maps, depth, ..]) = (&*x.dims(), &*w.dims()) else {
        return Err(OpError::Dims { what: "the operand of a convolution", dims: x.dims() });
    };
    let places: usize = placed.axes.iter().map(|axis| axis.out).product();
    let kernel: usize = placed.axes.iter().map(|axis| axis.kernel).product();
    let x = pad_constant(ctx, x.into_device(ctx)?, &placed.begins(), &placed.ends(), 0.0)?;
    let w = w.into_device(ctx)?.reshape(&[1, groups, maps / groups, depth, kernel]);
    let mut sum: Option<Value<B>> = None;
    for tap in 0..kernel {
        let mut slices: Vec<Slice> = vec![(0..batch).into(), (0..channels).into()];
        let mut rest = tap;
        let mut spatial: Vec<Slice> = Vec::with_capacity(placed.axes.len());
        for axis in placed.axes.iter().rev() {
            let start = rest % axis.kernel * axis.dilation;
            rest /= axis.kernel;
            let end = start + (axis.out - 1) * axis.stride + 1;
            let step = if axis.out == 1 { 1 } else { axis.stride };
            spatial.push(Slice::new(start as isize, Some(end as isize), step as isize));
        }
        slices.extend(spatial.into_iter().rev());
        let seen = x.clone().slice(&slices).reshape(&[batch, groups, depth, places]);
        let weights = w.clone().narrow(4, tap, tap + 1);
        let weights = weights.reshape(&[1, groups, maps / groups, depth]);
        let (weights, seen) = (Value::from(weights), Value::from(seen));
        let product = match depth {
            1 => apply(ctx, &mul(), weights, seen)?,
            _ => matmul(ctx, weights, seen)?,
        };
        sum = Some(match sum {
            Some(sum) => apply(ctx, &add(), sum, product)?,
            None => product,
        });
    }
    sum.ok_or(OpError::Missing { index: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, f32s, tensor};
    use ingle_types::{Limits, Tensor};

    #[test]
    fn zero_points_are_taken_off_before_a_product() {
        let a = tensor(&[2, 3], &[11u8, 7, 3, 10, 6, 2]);
        let b = tensor(&[3, 2], &[1u8, 4, 2, 5, 3, 6]);
        let zero = |v: u8| tensor(&[], &[v]);
        Case::of("MatMulInteger", [a.clone(), b.clone(), zero(12), zero(0)])
            .gives([tensor(&[2, 2], &[-38i32, -83, -44, -98])]);
        let (rows, columns) = (tensor(&[2], &[11u8, 10]), tensor(&[2], &[1u8, 4]));
        Case::of("MatMulInteger", [a.clone(), b.clone(), rows, columns])
            .gives([tensor(&[2, 2], &[-20i32, -20, -20, -20])]);
        Case::of("MatMulInteger", [a.clone(), tensor(&[3], &[-1i8, 0, 1])])
            .gives([tensor(&[2], &[-8i32, -8])]);
        Case::of("MatMulInteger", [a.clone(), b.clone(), tensor(&[3], &[0u8; 3])])
            .fails("do not broadcast");
        Case::of("MatMulInteger", [a.clone(), b, tensor(&[], &[0i8])]).fails("uint8 and");
        Case::of("MatMulInteger", [a.clone(), a.clone()]).fails("inner dimensions differ");
        Case::of("MatMulInteger", [a, f32s(&[3, 1], &[0.; 3])]).fails("8 bits");
    }

    /// Sums beyond the 24 bits of a float, of which the last must be right too.
    #[test]
    fn long_sums_are_exact() {
        let terms = 3001;
        let a: Vec<u8> = (0..terms).map(|i| (255 - i % 3) as u8).collect();
        let b: Vec<i8> = (0..terms).map(|i| (127 - i % 5) as i8).collect();
        let sum: i32 = a.iter().zip(&b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
        assert!(sum > 1 << 24 && sum % 2 == 1, "{sum}");
        let (x, w) = (tensor(&[1, terms], &a), tensor(&[terms, 1], &b));
        Case::of("MatMulInteger", [x, w]).gives([tensor(&[1, 1], &[sum])]);
        let (x, w) = (tensor(&[1, terms, 1], &a), tensor(&[1, terms, 1], &b));
        Case::of("ConvInteger", [x, w]).gives([tensor(&[1, 1, 1], &[sum])]);
    }

    #[test]
    fn a_convolution_is_padded_with_the_zero_point() {
        let x = tensor(&[1, 1, 3, 3], &[2u8, 3, 4, 5, 6, 7, 8, 9, 10]);
        let w = tensor(&[1, 1, 2, 2], &[1u8; 4]);
        let case = Case::of("ConvInteger", [x, w, tensor(&[], &[1u8])]);
        case.gives([tensor(&[1, 1, 2, 2], &[12i32, 16, 24, 28])]);
        case.ints("pads", &[1, 1, 1, 1]).gives([tensor(
            &[1, 1, 4, 4],
            &[1i32, 3, 5, 3, 5, 12, 16, 9, 11, 24, 28, 15, 7, 15, 17, 9],
        )]);
    }

    #[test]
    fn products_are_quantized_again() {
        let (a, b) = (tensor(&[1, 2], &[10u8, 20]), tensor(&[2, 2], &[1i8, -1, 2, -2]));
        let scale = |v: f32| f32s(&[], &[v]);
        let inputs = [a, scale(0.5), tensor(&[], &[0u8]), b];
        let rest = [f32s(&[2], &[0.1, 0.2]), tensor(&[], &[0i8]), scale(0.5)];
        let inputs = inputs.into_iter().chain(rest).chain([tensor(&[], &[7u8])]);
        Case::of("QLinearMatMul", inputs).gives([tensor(&[1, 2], &[12u8, 0])]);
    }

    fn qlinear_conv(bias: Tensor) -> Case {
        let (x, w) = (tensor(&[1, 2, 1, 2], &[3u8, 4, 5, 6]), tensor(&[2, 1, 1, 1], &[2i8, -3]));
        let scale = |v: f32| f32s(&[], &[v]);
        let front = [x, scale(1.), tensor(&[], &[1u8]), w];
        let back = [f32s(&[2], &[1., 0.5]), tensor(&[2], &[0i8, 0]), scale(2.)];
        let inputs = front.into_iter().chain(back).chain([tensor(&[], &[100u8]), bias]);
        Case::of("QLinearConv", inputs).int("group", 2)
    }

    #[test]
    fn each_map_has_a_scale_and_a_bias() {
        qlinear_conv(tensor(&[2], &[0i32, 10]))
            .gives([tensor(&[1, 2, 1, 2], &[102u8, 103, 100, 99])]);
        qlinear_conv(tensor(&[1], &[0i32])).fails("the bias cannot be");
        qlinear_conv(f32s(&[2], &[0.; 2])).fails("int32 and float");
    }

    #[test]
    fn both_ways_to_convolve_agree() {
        let x: Vec<u8> = (0..2 * 4 * 5 * 6).map(|i| (i * 37 % 251) as u8).collect();
        let w: Vec<i8> = (0..6 * 2 * 3 * 2).map(|i| (i * 29 % 255) as i8).collect();
        let case = |groups: i64| {
            let depth = if groups == 2 { 2 } else { 4 };
            let w: Vec<i8> = w.iter().copied().cycle().take(6 * depth * 6).collect();
            (tensor(&[2, 4, 5, 6], &x), tensor(&[6, depth, 3, 2], &w))
        };
        for groups in [1, 2] {
            let (x, w) = case(groups);
            let ctx = Context::<burn_flex::Flex>::new(Default::default(), &Limits::default());
            let value = |t: &Tensor| Value::from_tensor(&ctx, t).unwrap();
            let placed = Window::of_lists(&[2, 1], &[1, 0, 2, 1]);
            let (x, w) = (value(&x), value(&w));
            let one =
                convolve(&ctx, (&placed, groups as usize), (x.clone(), None), (w.clone(), None));
            let one = one.unwrap();
            let place = placed.place(&[5, 6], &[3, 2]).unwrap();
            let wide = |v: Value<_>| v.cast(&ctx, DType::I32).unwrap();
            let other = by_taps(&ctx, wide(x), wide(w), &place, groups as usize).unwrap();
            let other = other.reshape(one.dims()).to_tensor(&ctx).unwrap();
            assert_eq!(one.to_tensor(&ctx).unwrap(), other, "{groups} groups");
        }
    }
}
