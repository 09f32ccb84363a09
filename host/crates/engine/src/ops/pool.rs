//! Pooling. Burn pools over two axes; other numbers are made of several passes.

use burn::tensor::IntDType;
use burn::tensor::ops::{ConvOptions, FloatTensor};
use ingle_types::DType;

use super::elementwise::{apply, mul};
use super::pool_host::largest_on_host;
use super::spatial::{Axis, Placed, Window, pad_constant};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::kernels::{ConvAxis, Kernels, Pooling};
use crate::value::{DeviceTensor, Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("MaxPool", 1.., 1..=1, max_pool);
    r.add("AveragePool", 1.., 1..=1, average_pool);
    r.add("LpPool", 2.., 1..=1, lp_pool);
    r.add("GlobalAveragePool", 1.., 1..=1, |_| global(B::float_mean_dim));
    r.add("GlobalMaxPool", 1.., 1..=1, |_| global(B::float_max_dim));
    r.add("GlobalLpPool", 2.., 1..=1, |a| {
        let p = a.int("p", 2)? as f64;
        global(move |x, axis| {
            let powers = B::float_powf_scalar(B::float_abs(x), p.into());
            B::float_powf_scalar(B::float_sum_dim(powers, axis), p.recip().into())
        })
    });
}

/// A window on an operand: `[batch, channels, spatial...]`.
fn place<B: Kernels>(
    ctx: &Context<B>,
    window: &Window,
    x: &Value<B>,
) -> Result<(Vec<usize>, Placed), OpError> {
    let dims = x.dims();
    let (Some(sizes), Some(kernel)) = (dims.get(2..), window.kernel()) else {
        return Err(OpError::Dims { what: "the operand of a pooling", dims });
    };
    let placed = window.place(sizes, kernel)?;
    let out = [dims.get(..2).unwrap_or_default(), &placed.out()].concat();
    // The kernel is a number in the model, and no larger than the operand with its padding.
    let padded = placed.axes.iter().map(|a| a.size.saturating_add(a.begin + a.padding_end));
    ctx.admit(x.dtype(), &padded.collect::<Vec<_>>())?;
    if dims.contains(&0) && !out.contains(&0) {
        return Err(OpError::Dims { what: "the operand of a pooling", dims });
    }
    Ok((out, placed))
}

fn window<B: Kernels>(args: &Args<'_, B>) -> Result<Window, BuildError> {
    let window = Window::of(args)?;
    window.kernel().ok_or(BuildError::Missing { name: "kernel_shape" })?;
    Ok(window)
}

fn max_pool<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let window = window(args)?;
    let column_major = args.flag("storage_order", false)?;
    args.makes_outputs(2);
    let with_indices = args.has_output(1);
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dtype = x.dtype();
        let (out, placed) = place(ctx, &window, &x)?;
        ctx.admit(DType::I64, &out)?;
        if out.contains(&0) {
            return Ok(vec![Value::empty(dtype, out.clone()), Value::empty(DType::I64, out)]);
        }
        // Small integers are exact as floats.
        let x = if is_float(dtype) { x } else { x.cast(ctx, DType::F32)? };
        let x = x.into_device(ctx)?;
        if with_indices {
            let (values, indices) = max_with_indices(ctx, x, &placed, column_major)?;
            let values = Value::from(values.reshape(&out)).cast(ctx, dtype)?;
            return Ok(vec![values, indices.reshape(&out).into()]);
        }
        let pooled = at_once(x, &placed, Pooling::Max).or_else(|x| {
            let pooled = by_pairs(ctx, x, &placed, f64::NEG_INFINITY, |x, [h, w]| {
                let (kernel, stride) = ([h.kernel, w.kernel], [h.stride, w.stride]);
                let (padding, dilation) = ([h.begin, w.begin], [h.dilation, w.dilation]);
                B::max_pool2d(x, kernel, stride, padding, dilation, false)
            })?;
            Ok::<_, OpError>(pooled.reshape(&out))
        })?;
        Ok(vec![Value::from(pooled).cast(ctx, dtype)?])
    })
}

/// The places are those in the whole operand, counted without padding.
fn max_with_indices<B: Kernels>(
    ctx: &Context<B>,
    x: DeviceTensor<B>,
    placed: &Placed,
    column_major: bool,
) -> Result<(DeviceTensor<B>, DeviceTensor<B>), OpError> {
    let dims = x.dims();
    let (&[n, c, ref sizes @ ..], axes) = (dims.as_slice(), placed.axes.as_slice()) else {
        return Err(OpError::Dims { what: "the operand of a pooling", dims });
    };
    let (rows, columns, h, w) = match (sizes, axes) {
        (&[columns], &[w]) => (1, columns, Axis::whole(1), w),
        (&[rows, columns], &[h, w]) => (rows, columns, h, w),
        _ => return largest_on_host(ctx, x, placed, column_major),
    };
    let placed = Placed { axes: vec![h, w] };
    let x = x.reshape(&[n, c, rows, columns]);
    let padded = pad_constant(ctx, x, &placed.begins(), &placed.ends(), f64::NEG_INFINITY)?;
    let width = padded.dims().get(3).copied().unwrap_or(1) as i64;
    let padded = Value::from(padded).into_float(ctx, "the operand")?;
    let (kernel, stride) = ([h.kernel, w.kernel], [h.stride, w.stride]);
    let pooled =
        B::max_pool2d_with_indices(padded, kernel, stride, [0, 0], [h.dilation, w.dilation], false);
    let indices = B::int_cast(pooled.indices, IntDType::I64);
    let row = B::int_sub_scalar(
        B::int_div_scalar(indices.clone(), width.into()),
        (h.begin as i64).into(),
    );
    let column =
        B::int_sub_scalar(B::int_remainder_scalar(indices, width.into()), (w.begin as i64).into());
    let plane = if column_major {
        B::int_add(B::int_mul_scalar(column, (rows as i64).into()), row)
    } else {
        B::int_add(B::int_mul_scalar(row, (columns as i64).into()), column)
    };
    let starts = (0..n * c).map(|i| (i * rows * columns) as i64).collect();
    let starts: Value<B> = Host::ints(DType::I64, vec![n, c, 1, 1], starts).into();
    let starts = starts.expand(ctx, &[n, c, h.out, w.out])?.into_int(ctx, "the places")?;
    let indices = DeviceTensor::Int(B::int_add(plane, starts));
    Ok((DeviceTensor::Float(pooled.output), indices))
}

/// Pools all spatial axes; the operand comes back where the backend does not.
fn at_once<B: Kernels>(
    x: DeviceTensor<B>,
    placed: &Placed,
    pooling: Pooling<'_>,
) -> Result<DeviceTensor<B>, DeviceTensor<B>> {
    let DeviceTensor::Float(x) = x else { return Err(x) };
    let axes: Vec<ConvAxis> = placed.axes.iter().map(Axis::of_conv).collect();
    B::pool(x, &axes, pooling).map(DeviceTensor::Float).map_err(DeviceTensor::Float)
}

/// Pools the spatial axes, the last two first, each pass over two of them.
fn by_pairs<B: Kernels>(
    ctx: &Context<B>,
    mut x: DeviceTensor<B>,
    placed: &Placed,
    fill: f64,
    pool: impl Fn(FloatTensor<B>, [Axis; 2]) -> FloatTensor<B>,
) -> Result<DeviceTensor<B>, OpError> {
    let lead: usize = x.dims().iter().take(2).product();
    let mut after = 1;
    let mut axes = placed.axes.as_slice();
    while let Some((&last, rest)) = axes.split_last() {
        // Of what is behind, already pooled, only the first pass can be a real axis.
        let (pair, rest) = match rest.split_last() {
            Some((&before, rest)) if after == 1 => ([before, last], rest),
            _ => ([last, Axis::whole(after)], rest),
        };
        let [h, w] = pair;
        let front = rest.iter().map(|a| a.size).product::<usize>() * lead;
        let pair = Placed { axes: pair.to_vec() };
        x = x.reshape(&[1, front, h.size, w.size]);
        let [mut h, mut w] = [h, w];
        if !pair.is_symmetric() {
            x = pad_constant(ctx, x, &pair.begins(), &pair.ends(), fill)?;
            (h.begin, w.begin) = (0, 0);
        }
        let input = Value::from(x).into_float(ctx, "the operand")?;
        x = DeviceTensor::Float(pool(input, [h, w])).cut(&[1, front, h.out, w.out])?;
        after = h.out * w.out;
        axes = rest;
    }
    Ok(x)
}

fn average_pool<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let window = window(args)?;
    let count_padding = args.flag("count_include_pad", false)?;
    op(move |ctx, mut inputs| Ok(vec![average(ctx, &window, count_padding, inputs.take(0)?)?]))
}

/// The mean of each window, which has a kernel.
pub(super) fn average<B: Kernels>(
    ctx: &Context<B>,
    window: &Window,
    count_padding: bool,
    x: Value<B>,
) -> Result<Value<B>, OpError> {
    let (out, placed) = place(ctx, window, &x)?;
    ctx.admit(x.dtype(), &out)?;
    if out.contains(&0) {
        return Ok(Value::empty(x.dtype(), out));
    }
    if placed.axes.iter().all(Axis::sees_all) {
        return global_average(ctx, x);
    }
    let counts: Vec<Vec<usize>> =
        placed.axes.iter().map(|axis| counts(axis, count_padding)).collect();
    let x = match at_once(x.into_device(ctx)?, &placed, Pooling::Sum(&shares(&counts))) {
        Ok(means) => return Ok(means.into()),
        Err(x) => x,
    };
    let ratios = counts.iter().zip(&placed.axes).map(|(counts, axis)| {
        let ratio = |&n: &usize| if n == 0 { 0.0 } else { axis.kernel as f64 / n as f64 };
        counts.iter().map(ratio).collect::<Vec<f64>>()
    });
    let ratios: Vec<Vec<f64>> = ratios.collect();
    let means = mean_of_padded(ctx, x.into(), &placed)?.reshape(&out);
    scale_places(ctx, means.into(), &out, &ratios)
}

/// For each window, the share that each of its entries has in its mean.
fn shares(counts: &[Vec<usize>]) -> Vec<f32> {
    counts.iter().fold(vec![1.0], |shares, counts| {
        let share = |&n: &usize| if n == 0 { 0.0 } else { (n as f32).recip() };
        shares.iter().flat_map(|before| counts.iter().map(move |n| before * share(n))).collect()
    })
}

/// How many entries each window along an axis covers.
fn counts(axis: &Axis, count_padding: bool) -> Vec<usize> {
    let inside = if count_padding {
        0..axis.begin + axis.size + axis.padding_end
    } else {
        axis.begin..axis.begin + axis.size
    };
    let count = |o: usize| {
        let before = |end: usize| {
            let reach = end.saturating_sub(o * axis.stride);
            reach.div_ceil(axis.dilation).min(axis.kernel)
        };
        before(inside.end) - before(inside.start)
    };
    (0..axis.out).map(count).collect()
}

/// The mean over each whole window, where padding counts as zeros.
fn mean_of_padded<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    placed: &Placed,
) -> Result<DeviceTensor<B>, OpError> {
    let dilated = placed.axes.iter().any(|axis| axis.dilation > 1);
    let given = x.dtype();
    let stored = ctx.stored(given)?;
    if !is_float(given) {
        let expected = "a float tensor";
        return Err(OpError::DType { what: "the operand", expected, given });
    }
    let x = x.into_device(ctx)?;
    let device = ctx.device().clone();
    by_pairs(ctx, x, placed, 0.0, move |x, [h, w]| {
        let (kernel, stride) = ([h.kernel, w.kernel], [h.stride, w.stride]);
        let padding = [h.begin, w.begin];
        if !dilated {
            return B::avg_pool2d(x, kernel, stride, padding, true, false);
        }
        let shape = burn::tensor::Shape::from([1, 1, h.kernel, w.kernel]);
        let share = ((h.kernel * w.kernel) as f64).recip();
        let weight = B::float_full(shape, share.into(), &device, stored.into());
        let options = ConvOptions::new(stride, padding, [h.dilation, w.dilation], 1);
        let x = B::float_permute(x, &[1, 0, 2, 3]);
        B::float_permute(B::conv2d(x, weight, None, options), &[1, 0, 2, 3])
    })
}

/// Multiplies by a factor for each place along each spatial axis.
fn scale_places<B: Kernels>(
    ctx: &Context<B>,
    mut x: Value<B>,
    out: &[usize],
    factors: &[Vec<f64>],
) -> Result<Value<B>, OpError> {
    for (i, factors) in factors.iter().enumerate() {
        if factors.iter().any(|&f| f != 1.0) {
            let mut dims = vec![1; out.len().saturating_sub(2 + i)];
            if let Some(first) = dims.first_mut() {
                *first = factors.len();
            }
            let factors = Host::floats(x.dtype(), dims, factors.clone());
            x = apply(ctx, &mul(), x, factors.into())?;
        }
    }
    Ok(x)
}

fn lp_pool<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let window = window(args)?;
    let p = args.int("p", 2)? as f64;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dtype = x.dtype();
        let (out, placed) = place(ctx, &window, &x)?;
        ctx.admit(dtype, &out)?;
        if out.contains(&0) {
            return Ok(vec![Value::empty(dtype, out)]);
        }
        let x = x.into_float(ctx, "the operand")?;
        let powers: DeviceTensor<B> =
            DeviceTensor::Float(B::float_powf_scalar(B::float_abs(x), p.into()));
        let means = Value::from(mean_of_padded(ctx, powers.into(), &placed)?.reshape(&out));
        let kernel: usize = placed.axes.iter().map(|axis| axis.kernel).product();
        let sums = B::float_mul_scalar(means.into_float(ctx, "the sums")?, (kernel as f64).into());
        Ok(vec![DeviceTensor::Float(B::float_powf_scalar(sums, p.recip().into())).into()])
    })
}

/// Reduces all spatial axes to one entry.
fn global<B: Kernels>(
    reduce: impl Fn(FloatTensor<B>, usize) -> FloatTensor<B> + Send + Sync + 'static,
) -> Built<B> {
    op(move |ctx, mut inputs| Ok(vec![whole(ctx, inputs.take(0)?, &reduce)?]))
}

pub(super) fn global_average<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
) -> Result<Value<B>, OpError> {
    whole(ctx, x, B::float_mean_dim)
}

fn whole<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    reduce: impl Fn(FloatTensor<B>, usize) -> FloatTensor<B>,
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    let &[n, c, ref sizes @ ..] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the operand of a pooling", dims });
    };
    let out = [&[n, c][..], &vec![1; sizes.len()]].concat();
    if n * c == 0 {
        return Ok(Value::empty(x.dtype(), out));
    }
    if sizes.contains(&0) {
        return Err(OpError::Dims { what: "the operand of a pooling", dims });
    }
    let x = x.reshape(vec![n, c, sizes.iter().product()]).into_float(ctx, "the operand")?;
    Ok(DeviceTensor::<B>::Float(reduce(x, 2)).reshape(&out).into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    fn case(operator: &str) -> Case {
        Case::of(operator, [counting(&[1, 1, 3, 3])]).ints("kernel_shape", &[2, 2])
    }

    #[test]
    fn windows_far_larger_than_the_operand_are_refused_at_once() {
        let far = 1 << 30;
        for operator in ["MaxPool", "AveragePool", "LpPool"] {
            for (begin, end) in [(far - 1, 0), (far / 2, far / 2)] {
                Case::of(operator, [counting(&[1, 1, 4])])
                    .ints("kernel_shape", &[far])
                    .ints("strides", &[far])
                    .ints("pads", &[begin, end])
                    .fails("larger than the limit");
            }
        }
    }

    #[test]
    fn the_largest_of_each_window() {
        case("MaxPool").gives([f32s(&[1, 1, 2, 2], &[5., 6., 8., 9.])]);
        case("MaxPool")
            .ints("strides", &[2, 2])
            .int("ceil_mode", 1)
            .gives([f32s(&[1, 1, 2, 2], &[5., 6., 8., 9.])]);
        let negative = Case::of("MaxPool", [f32s(&[1, 1, 2], &[-1., -2.])]);
        negative
            .ints("kernel_shape", &[2])
            .ints("pads", &[1, 0])
            .gives([f32s(&[1, 1, 2], &[-1., -1.])]);
        Case::of("MaxPool", [counting(&[1, 1, 2, 2, 2])])
            .ints("kernel_shape", &[2, 1, 2])
            .gives([f32s(&[1, 1, 1, 2, 1], &[6., 8.])]);
    }

    #[test]
    fn places_count_without_padding() {
        let wanted = [f32s(&[1, 1, 2, 2], &[1., 3., 7., 9.]), i64s(&[1, 1, 2, 2], &[0, 2, 6, 8])];
        let case = case("MaxPool").ints("strides", &[2, 2]).ints("pads", &[1, 1, 0, 0]);
        case.gives(wanted.clone());
        case.int("storage_order", 1).gives([wanted[0].clone(), i64s(&[1, 1, 2, 2], &[0, 6, 2, 8])]);
    }

    #[test]
    fn averages_count_padding_only_where_asked() {
        case("AveragePool").gives([f32s(&[1, 1, 2, 2], &[3., 4., 6., 7.])]);
        let padded = case("AveragePool").ints("strides", &[2, 2]).ints("pads", &[1, 1, 0, 0]);
        padded.gives([f32s(&[1, 1, 2, 2], &[1., 2.5, 5.5, 7.])]);
        padded.int("count_include_pad", 1).gives([f32s(&[1, 1, 2, 2], &[0.25, 1.25, 2.75, 7.])]);
        case("AveragePool")
            .ints("strides", &[2, 2])
            .int("ceil_mode", 1)
            .gives([f32s(&[1, 1, 2, 2], &[3., 4.5, 7.5, 9.])]);
        case("AveragePool")
            .opset(19)
            .ints("dilations", &[2, 2])
            .gives([f32s(&[1, 1, 1, 1], &[5.])]);
    }

    #[test]
    fn global_pooling_keeps_the_rank() {
        let x = counting(&[1, 2, 2, 2]);
        Case::of("GlobalAveragePool", [x.clone()]).gives([f32s(&[1, 2, 1, 1], &[2.5, 6.5])]);
        Case::of("GlobalMaxPool", [x]).gives([f32s(&[1, 2, 1, 1], &[4., 8.])]);
        Case::of("GlobalAveragePool", [f32s(&[0, 2, 3], &[])]).gives([f32s(&[0, 2, 1], &[])]);
        Case::of("GlobalAveragePool", [f32s(&[1, 2, 0], &[])]).fails("the operand of a pooling");
    }

    #[test]
    fn norms_are_pooled() {
        Case::of("LpPool", [f32s(&[1, 1, 4], &[3., -4., 0., 1.])])
            .ints("kernel_shape", &[2])
            .ints("strides", &[2])
            .gives([f32s(&[1, 1, 2], &[5., 1.])]);
    }

    #[test]
    fn a_window_is_needed_and_must_fit() {
        Case::of("MaxPool", [counting(&[1, 1, 3, 3])]).fails("\"kernel_shape\" is missing");
        case("MaxPool").ints("kernel_shape", &[4, 4]).fails("\"kernel_shape\" is given twice");
        let large = Case::of("MaxPool", [counting(&[1, 1, 3, 3])]);
        large.ints("kernel_shape", &[4, 4]).fails("window does not fit");
        Case::of("MaxPool", [counting(&[3])]).ints("kernel_shape", &[1]).fails("pooling");
        let padding = Case::of("MaxPool", [f32s(&[1, 1, 0], &[])]).ints("pads", &[1, 1]);
        padding.ints("kernel_shape", &[2]).fails("the operand of a pooling cannot be");
    }
}
