//! Normalisations.

use burn::tensor::Shape;
use burn::tensor::ops::FloatTensor;
use ingle_types::DType;

use super::elementwise::{add, apply, mul};
use super::spatial::pad_constant;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axes_at, axis_at};
use crate::kernels::{Kernels, LocalResponse};
use crate::value::{DeviceTensor, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("BatchNormalization", 1.., 5..=5, batch_norm);
    r.add("InstanceNormalization", 1.., 3..=3, instance_norm);
    r.add("LayerNormalization", 17.., 2..=3, layer_norm);
    r.add("GroupNormalization", 18.., 3..=3, group_norm);
    r.add("RMSNormalization", 23.., 2..=2, rms_norm);
    r.add("LRN", 1.., 1..=1, lrn);
    r.add("LpNormalization", 1.., 1..=1, lp_norm);
    r.add("MeanVarianceNormalization", 9.., 1..=1, mean_variance_norm);
}

/// Only inference: scale and shift come from the given mean and variance.
fn batch_norm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    for known in ["momentum", "is_test", "spatial"] {
        args.ignore(known);
    }
    if args.flag("training_mode", false)? {
        return Err(BuildError::Unsupported { what: "training mode" });
    }
    let epsilon = args.float("epsilon", 1e-5)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let mut parameter = |i, what| channel_values(ctx, &x.dims(), inputs.take(i)?, what);
        let (scale, bias) = (parameter(1, "the scale")?, parameter(2, "the bias")?);
        let (mean, variance) = (parameter(3, "the mean")?, parameter(4, "the variance")?);
        let dims = x.dims();
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
        let factor = B::float_div(scale, deviation);
        let shift = B::float_sub(bias, B::float_mul(mean, factor.clone()));
        let factor = by_channel::<B>(factor, dims.len());
        let shift = by_channel::<B>(shift, dims.len());
        let scaled = apply(ctx, &mul(), x, factor)?;
        Ok(vec![apply(ctx, &add(), scaled, shift)?])
    })
}

/// A parameter with one entry for each channel.
fn channel_values<B: Kernels>(
    ctx: &Context<B>,
    dims: &[usize],
    value: Value<B>,
    what: &'static str,
) -> Result<FloatTensor<B>, OpError> {
    let given = value.dims();
    if given.len() != 1 || given.first() != dims.get(1) && dims.len() > 1 {
        return Err(OpError::Dims { what, dims: given });
    }
    if value.elements() == 0 {
        return Err(OpError::Dims { what, dims: given });
    }
    value.into_float(ctx, what)
}

/// Dims `[C, 1, 1...]`, which broadcast along the second axis of rank `rank`.
fn by_channel<B: Kernels>(tensor: FloatTensor<B>, rank: usize) -> Value<B> {
    let tensor: DeviceTensor<B> = DeviceTensor::Float(tensor);
    let mut dims = tensor.dims();
    dims.extend(std::iter::repeat_n(1, rank.saturating_sub(2)));
    tensor.reshape(&dims).into()
}

/// Rows with mean zero and variance one; with the means and the inverse deviations.
struct Normalized<B: Kernels> {
    rows: FloatTensor<B>,
    mean: FloatTensor<B>,
    inverse: FloatTensor<B>,
}

/// `x` has two dimensions, the second of which is normalised.
fn normalize<B: Kernels>(x: FloatTensor<B>, epsilon: f64) -> Normalized<B> {
    let mean = B::float_mean_dim(x.clone(), 1);
    let centred = B::float_sub(x, mean.clone());
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
    let inverse = B::float_recip(deviation);
    Normalized { rows: B::float_mul(centred, inverse.clone()), mean, inverse }
}

fn instance_norm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let epsilon = args.float("epsilon", 1e-5)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let &[n, c, ref sizes @ ..] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        let scale = channel_values(ctx, &dims, inputs.take(1)?, "the scale")?;
        let bias = channel_values(ctx, &dims, inputs.take(2)?, "the bias")?;
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let x = x.reshape(vec![n * c, sizes.iter().product()]).into_float(ctx, "the operand")?;
        let rows: DeviceTensor<B> = DeviceTensor::Float(normalize::<B>(x, epsilon).rows);
        let rows = Value::from(rows.reshape(&dims));
        let scaled = apply(ctx, &mul(), rows, by_channel::<B>(scale, dims.len()))?;
        Ok(vec![apply(ctx, &add(), scaled, by_channel::<B>(bias, dims.len()))?])
    })
}

/// The axes from `axis` on are normalised as one. The second and third output
/// are the means and the inverse deviations, in 32 bits.
fn layer_norm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", -1)?;
    let epsilon = args.float("epsilon", 1e-5)?;
    args.ignore("stash_type");
    args.makes_outputs(3);
    let statistics = args.has_output(1) || args.has_output(2);
    op(move |ctx, mut inputs| {
        let (x, scale) = (inputs.take(0)?, inputs.take(1)?);
        let rows = Rows { axis, epsilon, centred: true, statistics };
        let NormalizedRows { rows, mean, inverse } =
            normalize_rows(ctx, &rows, x, scale, inputs.take_opt(2))?;
        Ok([Some(rows), mean, inverse].into_iter().flatten().collect())
    })
}

/// `value * scale + bias`, which must not grow it.
fn affine<B: Kernels>(
    ctx: &Context<B>,
    value: Value<B>,
    scale: Value<B>,
    bias: Option<Value<B>>,
) -> Result<Value<B>, OpError> {
    let dims = value.dims();
    let scaled = apply(ctx, &mul(), value, scale)?;
    let answer = match bias {
        Some(bias) => apply(ctx, &add(), scaled, bias)?,
        None => scaled,
    };
    if answer.dims() != dims {
        let what = "scale and bias do not broadcast to the operand";
        return Err(OpError::Mismatch { what, left: dims, right: answer.dims() });
    }
    Ok(answer)
}

/// Until opset 20 scale and bias had an entry for each group, then for each channel.
fn group_norm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let epsilon = args.float("epsilon", 1e-5)?;
    args.ignore("stash_type");
    let groups = args.int_opt("num_groups")?.ok_or(BuildError::Missing { name: "num_groups" })?;
    let groups = usize::try_from(groups).ok().filter(|&groups| groups > 0);
    let groups = groups.ok_or(BuildError::Value { name: "num_groups", reason: "not positive" })?;
    let by_group = args.opset() < 21;
    op(move |ctx, mut inputs| {
        let (x, scale, bias) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let dims = x.dims();
        let &[n, c, ref sizes @ ..] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        let parameters = if by_group { groups } else { c };
        if !c.is_multiple_of(groups) || scale.dims() != [parameters] || bias.dims() != [parameters]
        {
            let what = "the channels do not fit the groups and parameters";
            return Err(OpError::Mismatch { what, left: dims, right: scale.dims() });
        }
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let row = c / groups * sizes.iter().product::<usize>();
        let x = x.reshape(vec![n * groups, row]).into_float(ctx, "the operand")?;
        let rows: DeviceTensor<B> = DeviceTensor::Float(normalize::<B>(x, epsilon).rows);
        let middle = if by_group { vec![n, groups, row] } else { dims.clone() };
        let rows = Value::from(rows.reshape(&middle));
        let scale = by_channel::<B>(scale.into_float(ctx, "the scale")?, middle.len());
        let bias = by_channel::<B>(bias.into_float(ctx, "the bias")?, middle.len());
        Ok(vec![affine(ctx, rows, scale, Some(bias))?.reshape(dims)])
    })
}

fn rms_norm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", -1)?;
    let epsilon = args.float("epsilon", 1e-5)?;
    args.ignore("stash_type");
    op(move |ctx, mut inputs| {
        let (x, scale) = (inputs.take(0)?, inputs.take(1)?);
        let rows = Rows { axis, epsilon, centred: false, statistics: false };
        Ok(vec![normalize_rows(ctx, &rows, x, scale, None)?.rows])
    })
}

/// How the axes from `axis` on are normalised.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) axis: i64,
    pub(super) epsilon: f64,
    /// Whether the mean is taken out first.
    pub(super) centred: bool,
    /// Whether means and inverse deviations are asked for.
    pub(super) statistics: bool,
}

/// Normalised rows and, where asked for, in 32 bits, their means and inverse
/// deviations: zero and the inverse root of the squares' mean where not centred.
pub(super) struct NormalizedRows<B: Kernels> {
    pub(super) rows: Value<B>,
    pub(super) mean: Option<Value<B>>,
    pub(super) inverse: Option<Value<B>>,
}

/// Scale and shift broadcast to `x`.
pub(super) fn normalize_rows<B: Kernels>(
    ctx: &Context<B>,
    how: &Rows,
    x: Value<B>,
    scale: Value<B>,
    shift: Option<Value<B>>,
) -> Result<NormalizedRows<B>, OpError> {
    let (dtype, dims) = (x.dtype(), x.dims());
    let (front, back) = dims.split_at(axis_at(how.axis, dims.len())?);
    let kept = [front, &vec![1; back.len()]].concat();
    if dims.contains(&0) {
        if how.statistics && !kept.contains(&0) {
            return Err(OpError::Dims { what: "the operand", dims });
        }
        let empty = || how.statistics.then(|| Value::empty(DType::F32, kept.clone()));
        return Ok(NormalizedRows { rows: x, mean: empty(), inverse: empty() });
    }
    let (rows, row) = (front.iter().product::<usize>(), back.iter().product::<usize>());
    let plain = |v: &Value<B>| v.dims() == back && v.dtype() == dtype;
    let flat = x.reshape(vec![rows, row]);
    if how.centred && !how.statistics && plain(&scale) && shift.as_ref().is_none_or(plain) {
        let x = flat.into_float(ctx, "the operand")?;
        let scale = scale.reshape(vec![row]).into_float(ctx, "the scale")?;
        let shift = shift.map(|b| b.reshape(vec![row]).into_float(ctx, "the shift"));
        let answer = B::layer_norm(x, scale, shift.transpose()?, how.epsilon);
        let rows = DeviceTensor::<B>::Float(answer).reshape(&dims).into();
        return Ok(NormalizedRows { rows, mean: None, inverse: None });
    }
    // Squares overflow in half precision.
    let half = matches!(dtype, DType::F16 | DType::BF16);
    let flat = if half { flat.cast(ctx, DType::F32)? } else { flat };
    let x: FloatTensor<B> = flat.into_float(ctx, "the operand")?;
    let normalized: Normalized<B> =
        if how.centred { normalize(x, how.epsilon) } else { scale_rows(x, how.epsilon) };
    let value = Value::from(DeviceTensor::<B>::Float(normalized.rows).reshape(&dims));
    let rows = affine(ctx, value.cast(ctx, dtype)?, scale, shift)?;
    let statistic = |t| {
        let value = Value::from(DeviceTensor::<B>::Float(t).reshape(&kept));
        how.statistics.then(|| value.cast(ctx, DType::F32)).transpose()
    };
    let (mean, inverse) = (statistic(normalized.mean)?, statistic(normalized.inverse)?);
    Ok(NormalizedRows { rows, mean, inverse })
}

/// As [`normalize`], but the mean stays: the squares have the mean one.
fn scale_rows<B: Kernels>(x: FloatTensor<B>, epsilon: f64) -> Normalized<B> {
    let squares = B::float_mean_dim(B::float_mul(x.clone(), x.clone()), 1);
    let mean = B::float_mul_scalar(squares.clone(), 0f64.into());
    let inverse = B::float_recip(B::float_sqrt(B::float_add_scalar(squares, epsilon.into())));
    Normalized { rows: B::float_mul(x, inverse.clone()), mean, inverse }
}

/// `x / (bias + alpha / size * sum of squares of the neighbouring channels) ^ beta`.
fn lrn<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (alpha, beta) = (args.float("alpha", 0.0001)?, args.float("beta", 0.75)?);
    let bias = args.float("bias", 1.0)?;
    let size = args.int_opt("size")?.ok_or(BuildError::Missing { name: "size" })?;
    let size = usize::try_from(size).ok().filter(|size| (1..1 << 16).contains(size));
    let size = size.ok_or(BuildError::Value { name: "size", reason: "not positive" })?;
    let [alpha32, beta32, bias32] = [alpha, beta, bias].map(|number| number as f32);
    let lrn = LocalResponse { size, alpha: alpha32, beta: beta32, bias: bias32 };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let &[n, c, ref sizes @ ..] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let inner = sizes.iter().product();
        let x = x.reshape(vec![n, c, inner]).into_float(ctx, "the operand")?;
        let x = match B::local_response(x, lrn) {
            Ok(answer) => return Ok(vec![DeviceTensor::<B>::Float(answer).reshape(&dims).into()]),
            Err(x) => B::float_reshape(x, Shape::from([n, 1, c, inner])),
        };
        let squares = DeviceTensor::<B>::Float(B::float_mul(x.clone(), x.clone()));
        let (before, after) = ((size - 1) / 2, size - 1 - (size - 1) / 2);
        let padded = pad_constant(ctx, squares, &[before, 0], &[after, 0], 0.0)?;
        let padded = Value::from(padded).into_float(ctx, "the squares")?;
        let means = B::avg_pool2d(padded, [size, 1], [1, 1], [0, 0], true, false);
        let base = B::float_add_scalar(B::float_mul_scalar(means, alpha.into()), bias.into());
        let scale = B::float_powf_scalar(base, (-beta).into());
        Ok(vec![DeviceTensor::<B>::Float(B::float_mul(x, scale)).reshape(&dims).into()])
    })
}

fn lp_norm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", -1)?;
    let p = args.int("p", 2)?;
    if !(1..=2).contains(&p) {
        return Err(BuildError::Value { name: "p", reason: "neither 1 nor 2" });
    }
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let axis = axis_at(axis, dims.len())?;
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let x: FloatTensor<B> = x.into_float(ctx, "the operand")?;
        let norm = if p == 1 {
            B::float_sum_dim(B::float_abs(x.clone()), axis)
        } else {
            B::float_sqrt(B::float_sum_dim(B::float_mul(x.clone(), x.clone()), axis))
        };
        // Where the norm is zero, so are the entries.
        let zero = B::float_equal_elem(norm.clone(), 0f64.into(), ctx.bool_store());
        let norm = B::float_mask_fill(norm, zero, 1f64.into());
        let norm = B::float_expand(norm, Shape::from(dims));
        Ok(vec![DeviceTensor::<B>::Float(B::float_div(x, norm)).into()])
    })
}

fn mean_variance_norm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axes = args.ints("axes")?.map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec);
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let reduced = axes_at(&axes, dims.len())?;
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let kept = (0..dims.len()).filter(|i| !reduced.contains(i));
        let order: Vec<usize> = kept.chain(reduced.iter().copied()).collect();
        let mut back = vec![0; order.len()];
        for (place, &axis) in order.iter().enumerate() {
            if let Some(slot) = back.get_mut(axis) {
                *slot = place;
            }
        }
        let moved = super::tensor::permute(ctx, x, &order)?;
        let moved_dims = moved.dims();
        let row = reduced.iter().filter_map(|&i| dims.get(i)).product::<usize>();
        let rows = moved.elements() / row;
        let flat: FloatTensor<B> = moved.reshape(vec![rows, row]).into_float(ctx, "the operand")?;
        let mean = B::float_mean_dim(flat.clone(), 1);
        let centred = B::float_sub(flat, mean);
        let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
        let deviation = B::float_add_scalar(B::float_sqrt(variance), 1e-9f64.into());
        let answer = DeviceTensor::<B>::Float(B::float_div(centred, deviation));
        let answer = Value::from(answer.reshape(&moved_dims));
        Ok(vec![super::tensor::permute(ctx, answer, &back)?])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s};

    #[test]
    fn batch_norm_scales_each_channel() {
        let x = counting(&[2, 2, 1, 1]);
        let parameters = [
            f32s(&[2], &[2., 1.]),
            f32s(&[2], &[0., 10.]),
            f32s(&[2], &[1., 2.]),
            f32s(&[2], &[4., 1.]),
        ];
        let inputs = [&[x.clone()][..], &parameters].concat();
        Case::of("BatchNormalization", inputs.clone())
            .float("epsilon", 0.)
            .gives([f32s(&[2, 2, 1, 1], &[0., 10., 2., 12.])]);
        Case::of("BatchNormalization", inputs).int("training_mode", 1).fails("training mode");
        let short = [x, f32s(&[1], &[1.])].into_iter().chain(parameters[1..].to_vec());
        Case::of("BatchNormalization", short).fails("the scale");
    }

    #[test]
    fn layer_norm_gives_means_and_deviations_too() {
        let x = f32s(&[2, 2], &[1., 3., -2., 2.]);
        let (scale, bias) = (f32s(&[2], &[1., 10.]), f32s(&[2], &[0., 1.]));
        let y = f32s(&[2, 2], &[-1., 11., -1., 11.]);
        let case = Case::of("LayerNormalization", [x, scale, bias]).float("epsilon", 0.);
        case.gives([y.clone()]);
        case.gives([y, f32s(&[2, 1], &[2., 0.]), f32s(&[2, 1], &[1., 0.5])]);
    }

    #[test]
    fn instances_and_groups_are_normalised_apart() {
        let x = f32s(&[1, 2, 2], &[1., 3., 10., 30.]);
        let (scale, bias) = (f32s(&[2], &[1., 2.]), f32s(&[2], &[0., 1.]));
        let y = f32s(&[1, 2, 2], &[-1., 1., -1., 3.]);
        let case = |operator| {
            Case::of(operator, [x.clone(), scale.clone(), bias.clone()]).float("epsilon", 0.)
        };
        case("InstanceNormalization").gives([y.clone()]);
        case("GroupNormalization").opset(18).int("num_groups", 2).gives([y.clone()]);
        case("GroupNormalization").opset(21).int("num_groups", 2).gives([y]);
        case("GroupNormalization").opset(21).int("num_groups", 3).fails("do not fit the groups");
    }

    #[test]
    fn neighbouring_channels_dampen() {
        let x = f32s(&[1, 3, 1, 1], &[1., 2., 3.]);
        let y = [1. / 6., 2. / 15., 3. / 14.];
        Case::of("LRN", [x])
            .int("size", 3)
            .float("alpha", 3.)
            .float("beta", 1.)
            .float("bias", 1.)
            .gives([f32s(&[1, 3, 1, 1], &y)]);
    }

    #[test]
    fn rows_get_unit_length() {
        let x = f32s(&[2, 2], &[3., -4., 0., 0.]);
        Case::of("LpNormalization", [x.clone()]).gives([f32s(&[2, 2], &[0.6, -0.8, 0., 0.])]);
        Case::of("LpNormalization", [x])
            .int("p", 1)
            .gives([f32s(&[2, 2], &[3. / 7., -4. / 7., 0., 0.])]);
        Case::of("RMSNormalization", [f32s(&[1, 2], &[3., 3.]), f32s(&[2], &[1., 2.])])
            .opset(23)
            .float("epsilon", 0.)
            .gives([f32s(&[1, 2], &[1., 2.])]);
        Case::of("MeanVarianceNormalization", [f32s(&[2, 1], &[1., 3.])])
            .ints("axes", &[0])
            .gives([f32s(&[2, 1], &[-1., 1.])]);
    }
}
