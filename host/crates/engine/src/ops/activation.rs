//! Activation functions.

use burn::tensor::ops::FloatTensor;
use ingle_types::DType;

use super::elementwise::{apply, max, min, mul};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axis_at, split_at};
use crate::kernels::{Activation, Kernels, bool_store};
use crate::value::{DeviceTensor, Host, HostData, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Relu", 1.., 1..=1, |_| op(|ctx, mut i| clip(ctx, i.take(0)?, Some(0.0), None)));
    r.add("Sigmoid", 1.., 1..=1, |_| activated(Activation::Sigmoid));
    r.add("LeakyRelu", 1.., 1..=1, |a| {
        activated(Activation::LeakyRelu { alpha: a.float("alpha", 0.01)? as f32 })
    });
    r.add("HardSigmoid", 1.., 1..=1, |a| {
        let (alpha, beta) = (a.float("alpha", 0.2)? as f32, a.float("beta", 0.5)? as f32);
        activated(Activation::HardSigmoid { alpha, beta })
    });
    r.add("HardSwish", 14.., 1..=1, |_| activated(Activation::HardSwish));
    r.add("Elu", 1.., 1..=1, |a| {
        let alpha = a.float("alpha", 1.0)?;
        map::<B>(move |x| elu::<B>(x, alpha, 1.0))
    });
    r.add("Selu", 1.., 1..=1, |a| {
        let alpha = a.float("alpha", 1.673_263_2)?;
        let gamma = a.float("gamma", 1.050_701)?;
        map::<B>(move |x| B::float_mul_scalar(elu::<B>(x, alpha, 1.0), gamma.into()))
    });
    r.add("Celu", 12.., 1..=1, |a| {
        let alpha = a.float("alpha", 1.0)?;
        map::<B>(move |x| elu::<B>(x, alpha, alpha))
    });
    r.add("ThresholdedRelu", 10.., 1..=1, |a| {
        let alpha = a.float("alpha", 1.0)?;
        map::<B>(move |x| thresholded_relu::<B>(x, alpha))
    });
    r.add("Shrink", 9.., 1..=1, |a| {
        let (bias, lambd) = (a.float("bias", 0.0)?, a.float("lambd", 0.5)?);
        map::<B>(move |x| shrink::<B>(x, bias, lambd))
    });
    r.add("Softplus", 1.., 1..=1, |_| map(softplus::<B>));
    r.add("Softsign", 1.., 1..=1, |_| map(softsign::<B>));
    r.add("Mish", 18.., 1..=1, |_| {
        map::<B>(|x| B::float_mul(B::float_tanh(softplus::<B>(x.clone())), x))
    });
    r.add("Swish", 24.., 1..=1, |a| {
        activated(Activation::Swish { alpha: a.float("alpha", 1.0)? as f32 })
    });
    r.add("Gelu", 20.., 1..=1, gelu);
    r.add("PRelu", 1.., 2..=2, prelu);
    r.add("Clip", 1..=10, 1..=1, clip_by_attributes);
    r.add("Clip", 11.., 1..=3, clip_by_inputs);
    r.add("Softmax", 1.., 1..=1, |a| along_axis(a, B::softmax_along));
    r.add("LogSoftmax", 1.., 1..=1, |a| along_axis(a, B::log_softmax));
    r.add("Hardmax", 1.., 1..=1, |a| along_axis(a, hardmax::<B>));
}

fn store<B: Kernels>(x: &FloatTensor<B>) -> burn::tensor::BoolStore {
    bool_store::<B>(&B::float_device(x))
}

/// A function of a float tensor that keeps its shape.
fn map<B: Kernels>(
    function: impl Fn(FloatTensor<B>) -> FloatTensor<B> + Send + Sync + 'static,
) -> Built<B> {
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        if x.elements() == 0 {
            return Ok(vec![x]);
        }
        let dims = x.dims();
        let x = x.into_float(ctx, "the operand")?;
        Ok(vec![DeviceTensor::<B>::Float(function(x)).reshape(&dims).into()])
    })
}

fn activated<B: Kernels>(activation: Activation) -> Built<B> {
    map::<B>(move |x| B::activate(x, activation))
}

/// x where it is positive, `alpha * (exp(x / scale) - 1)` elsewhere.
pub(super) fn elu<B: Kernels>(x: FloatTensor<B>, alpha: f64, scale: f64) -> FloatTensor<B> {
    let positive = B::float_greater_elem(x.clone(), 0f64.into(), store::<B>(&x));
    let exp = B::float_exp(B::float_div_scalar(x.clone(), scale.into()));
    let curve = B::float_mul_scalar(B::float_sub_scalar(exp, 1f64.into()), alpha.into());
    B::float_mask_where(curve, positive, x)
}

pub(super) fn thresholded_relu<B: Kernels>(x: FloatTensor<B>, alpha: f64) -> FloatTensor<B> {
    let below = B::float_lower_equal_elem(x.clone(), alpha.into(), store::<B>(&x));
    B::float_mask_fill(x, below, 0f64.into())
}

pub(super) fn softsign<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    let scale = B::float_add_scalar(B::float_abs(x.clone()), 1f64.into());
    B::float_div(x, scale)
}

fn shrink<B: Kernels>(x: FloatTensor<B>, bias: f64, lambd: f64) -> FloatTensor<B> {
    let zero = B::float_mul_scalar(x.clone(), 0f64.into());
    let low = B::float_lower_elem(x.clone(), (-lambd).into(), store::<B>(&x));
    let high = B::float_greater_elem(x.clone(), lambd.into(), store::<B>(&x));
    let raised = B::float_add_scalar(x.clone(), bias.into());
    let lowered = B::float_sub_scalar(x, bias.into());
    B::float_mask_where(B::float_mask_where(zero, low, raised), high, lowered)
}

/// log(1 + exp(x)) without overflow.
pub(super) fn softplus<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    let tail = B::float_log1p(B::float_exp(B::float_neg(B::float_abs(x.clone()))));
    B::float_add(B::relu(x), tail)
}

/// With tanh instead of the error function.
pub(super) fn gelu_tanh<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::activate(x, Activation::GeluTanh)
}

fn gelu<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    match &*args.string("approximate", "none")? {
        "none" => activated(Activation::Gelu),
        "tanh" => activated(Activation::GeluTanh),
        _ => Err(BuildError::Value { name: "approximate", reason: "neither none nor tanh" }),
    }
}

fn prelu<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let by_channel = args.opset() < 7;
    op(move |ctx, mut inputs| {
        let (x, slope) = (inputs.take(0)?, inputs.take(1)?);
        let (dims, mut slopes) = (x.dims(), slope.dims());
        if by_channel && slopes.len() == 1 && slope.elements() > 1 {
            slopes.extend(std::iter::repeat_n(1, dims.len().saturating_sub(2)));
        }
        if crate::dims::broadcast(&dims, &slopes)? != dims {
            let what = "the slope does not broadcast to the operand";
            return Err(OpError::Mismatch { what, left: dims, right: slopes });
        }
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let scaled = apply(ctx, &mul(), x.clone(), slope.reshape(slopes))?;
        let x: FloatTensor<B> = x.into_float(ctx, "the operand")?;
        let negative = B::float_lower_elem(x.clone(), 0f64.into(), ctx.bool_store());
        let scaled = scaled.into_float(ctx, "the operand")?;
        Ok(vec![DeviceTensor::Float(B::float_mask_where(x, negative, scaled)).into()])
    })
}

fn clip_by_attributes<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (low, high) = (args.float_opt("min")?, args.float_opt("max")?);
    op(move |ctx, mut inputs| clip(ctx, inputs.take(0)?, low, high))
}

fn clip_by_inputs<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let x = inputs.take(0)?;
        if !is_float(x.dtype()) {
            return clip_integers(ctx, x, inputs.take_opt(1), inputs.take_opt(2));
        }
        let mut bound =
            |index, what| inputs.take_opt(index).map(|v: Value<B>| v.scalar(ctx, what)).transpose();
        let (low, high) = (bound(1, "the lower bound")?, bound(2, "the upper bound")?);
        clip(ctx, x, low, high)
    })
}

/// The bounds are tensors of one element, of the operand's type.
fn clip_integers<B: Kernels>(
    ctx: &Context<B>,
    mut x: Value<B>,
    low: Option<Value<B>>,
    high: Option<Value<B>>,
) -> Result<Vec<Value<B>>, OpError> {
    for (bound, binary, what) in [(low, max(), "the lower bound"), (high, min(), "the upper bound")]
    {
        let Some(bound) = bound else { continue };
        if bound.elements() != 1 {
            return Err(OpError::Dims { what, dims: bound.dims() });
        }
        x = apply(ctx, &binary, x, bound.reshape(vec![]))?;
    }
    Ok(vec![x])
}

fn clip<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    low: Option<f64>,
    high: Option<f64>,
) -> Result<Vec<Value<B>>, OpError> {
    let (dtype, dims) = (x.dtype(), x.dims());
    if let Some(host) = x.as_host()
        && host.is_plain()
    {
        let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
        return Ok(vec![match host.data() {
            HostData::Float(values) => {
                let bound = |&v: &f64| if v.is_nan() { v } else { v.max(low).min(high) };
                Host::floats(dtype, dims, values.iter().map(bound).collect()).into()
            }
            HostData::Int(values) => {
                let bound = |&v: &i64| v.max(low as i64).min(high as i64);
                Host::ints(dtype, dims, values.iter().map(bound).collect()).into()
            }
            HostData::Text(_) => return Err(OpError::Unsupported { what: "bounds on strings" }),
        }]);
    }
    let tensor = match x.into_device(ctx)? {
        DeviceTensor::Float(x) => DeviceTensor::Float(match (low, high) {
            (Some(0.0), None) => B::activate(x, Activation::Relu),
            (Some(low), Some(high)) if low <= high && dtype == DType::F32 => {
                B::activate(x, Activation::Clip { low: low as f32, high: high as f32 })
            }
            (Some(low), Some(high)) if low <= high => B::float_clamp(x, low.into(), high.into()),
            _ => {
                let x = match low {
                    Some(low) => B::float_clamp_min(x, low.into()),
                    None => x,
                };
                match high {
                    Some(high) => B::float_clamp_max(x, high.into()),
                    None => x,
                }
            }
        }),
        DeviceTensor::Int(x) => {
            let x = match low {
                Some(low) => B::int_clamp_min(x, (low as i64).into()),
                None => x,
            };
            DeviceTensor::Int(match high {
                Some(high) => B::int_clamp_max(x, (high as i64).into()),
                None => x,
            })
        }
        DeviceTensor::Bool(_) => {
            let expected = "a numeric tensor";
            return Err(OpError::DType { what: "the operand", expected, given: dtype });
        }
    };
    Ok(vec![tensor.into()])
}

/// Before opset 13 all dimensions from the axis on were one.
fn along_axis<B: Kernels>(
    args: &Args<'_, B>,
    function: fn(FloatTensor<B>, usize) -> FloatTensor<B>,
) -> Built<B> {
    let flattens = args.opset() < 13;
    let axis = args.int("axis", if flattens { 1 } else { -1 })?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let (dtype, dims) = (x.dtype(), x.dims());
        if !is_float(dtype) {
            let expected = "a float tensor";
            return Err(OpError::DType { what: "the operand", expected, given: dtype });
        }
        let (shape, axis) = if flattens {
            let (front, back) = dims.split_at(split_at(axis, dims.len())?);
            (vec![front.iter().product(), back.iter().product()], 1)
        } else if dims.is_empty() {
            (vec![1], axis_at(axis, 1)?)
        } else {
            let axis = axis_at(axis, dims.len())?;
            (dims.clone(), axis)
        };
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let x = x.reshape(shape).into_float(ctx, "the operand")?;
        let answer: DeviceTensor<B> = DeviceTensor::Float(function(x, axis));
        Ok(vec![answer.reshape(&dims).into()])
    })
}

fn hardmax<B: Kernels>(x: FloatTensor<B>, axis: usize) -> FloatTensor<B> {
    use burn::tensor::{IntDType, Shape, TensorMetadata};
    let (shape, dtype) = (x.shape(), x.dtype());
    let (store, device) = (store::<B>(&x), B::float_device(&x));
    let size = shape.to_vec().get(axis).copied().unwrap_or(1);
    let largest = B::float_argmax(x, axis, IntDType::I64);
    let mut line = vec![1; shape.num_dims()];
    if let Some(slot) = line.get_mut(axis) {
        *slot = size;
    }
    let places = B::int_arange(0..size as i64, &device, IntDType::I64);
    let places = B::int_expand(B::int_reshape(places, Shape::from(line)), shape.clone());
    let hit = B::int_equal(places, B::int_expand(largest, shape), store);
    B::bool_into_float(hit, dtype.into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    const X: [f32; 4] = [-4., -1., 0.5, 4.];

    fn case(operator: &str) -> Case {
        Case::of(operator, [f32s(&[2, 2], &X)])
    }

    fn y(values: [f32; 4]) -> [ingle_types::Tensor; 1] {
        [f32s(&[2, 2], &values)]
    }

    #[test]
    fn activations_have_their_values() {
        case("Relu").gives(y([0., 0., 0.5, 4.]));
        case("Sigmoid").gives(y([0.017_986_21, 0.268_941_4, 0.622_459_35, 0.982_013_8]));
        case("LeakyRelu").float("alpha", 0.1).gives(y([-0.4, -0.1, 0.5, 4.]));
        case("HardSigmoid").gives(y([0., 0.3, 0.6, 1.]));
        case("HardSwish").gives(y([0., -1. / 3., 0.291_666_67, 4.]));
        case("Elu").float("alpha", 2.).gives(y([-1.963_368_8, -1.264_241_1, 0.5, 4.]));
        case("Softplus").gives(y([0.018_149_927, 0.313_261_7, 0.974_077, 4.018_15]));
        case("Softsign").gives(y([-0.8, -0.5, 1. / 3., 0.8]));
        case("ThresholdedRelu").gives(y([0., 0., 0., 4.]));
        case("Shrink").float("lambd", 1.5).float("bias", 1.).gives(y([-3., 0., 0., 3.]));
        case("Gelu").opset(20).gives(y([-0.000_126_7, -0.158_655_3, 0.345_731_2, 3.999_873_3]));
        let tanh = case("Gelu").opset(20).string("approximate", "tanh");
        tanh.gives(y([-0.000_070_2, -0.158_808, 0.345_714, 3.999_93]));
        case("Gelu").opset(20).string("approximate", "sinh").fails("neither none nor tanh");
    }

    #[test]
    fn the_slope_of_prelu_broadcasts() {
        case("PRelu").fails("takes 2 to 2");
        let x = f32s(&[1, 2, 2], &[-1., 2., -3., -4.]);
        Case::of("PRelu", [x.clone(), f32s(&[2, 1], &[0.5, 0.1])])
            .gives([f32s(&[1, 2, 2], &[-0.5, 2., -0.3, -0.4])]);
        Case::of("PRelu", [x.clone(), f32s(&[2], &[0.5, 0.1])])
            .opset(6)
            .gives([f32s(&[1, 2, 2], &[-0.5, 2., -0.3, -0.4])]);
        Case::of("PRelu", [x, f32s(&[2, 2, 2], &[0.; 8])]).fails("does not broadcast");
    }

    #[test]
    fn clip_takes_bounds_as_attributes_and_as_inputs() {
        case("Clip").opset(6).float("max", 1.).gives(y([-4., -1., 0.5, 1.]));
        let (low, high) = (f32s(&[], &[-1.5]), f32s(&[], &[2.]));
        Case::of("Clip", [f32s(&[2, 2], &X), low.clone(), high.clone()])
            .gives(y([-1.5, -1., 0.5, 2.]));
        Case::of("Clip", [f32s(&[2, 2], &X), high.clone()])
            .without(1)
            .gives(y([-4., -1., 0.5, 2.]));
        Case::of("Clip", [f32s(&[2, 2], &X), high, low]).gives(y([-1.5; 4]));
        Case::of("Clip", [i64s(&[3], &[1, 5, 9]), i64s(&[], &[2]), i64s(&[], &[8])])
            .gives([i64s(&[3], &[2, 5, 8])]);
    }

    #[test]
    fn softmax_is_over_one_axis_since_opset_13_and_over_the_rest_before() {
        let x = f32s(&[1, 2, 2], &[0., 1., 2., 3.]);
        let (low, high) = (0.268_941_43, 0.731_058_6);
        Case::of("Softmax", [x.clone()]).gives([f32s(&[1, 2, 2], &[low, high, low, high])]);
        Case::of("Softmax", [x.clone()])
            .int("axis", 1)
            .gives([f32s(&[1, 2, 2], &[0.119_202_92, 0.119_202_92, 0.880_797_1, 0.880_797_1])]);
        Case::of("Softmax", [x.clone()])
            .opset(11)
            .gives([f32s(&[1, 2, 2], &[0.032_058_604, 0.087_144_32, 0.236_882_82, 0.643_914_2])]);
        Case::of("LogSoftmax", [x.clone()])
            .gives([f32s(&[1, 2, 2], &[-1.313_261_7, -0.313_261_7, -1.313_261_7, -0.313_261_7])]);
        Case::of("Hardmax", [x.clone()]).gives([f32s(&[1, 2, 2], &[0., 1., 0., 1.])]);
        Case::of("Softmax", [x]).int("axis", 3).fails("axis 3");
        Case::of("Softmax", [f32s(&[0, 3], &[])]).gives([f32s(&[0, 3], &[])]);
        Case::of("Softmax", [counting(&[1])]).gives([f32s(&[1], &[1.])]);
    }
}
