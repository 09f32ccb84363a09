//! Convolution.

use burn::tensor::ops::{ConvOptions, FloatTensor};
use ingle_types::DType;

use super::elementwise::{add, apply};
use super::spatial::{Axis, Placed, Window, array, pad_constant};
use super::{Args, Built, Inputs, Op, Prepared, Registry};
use crate::context::Context;
use crate::kernels::{Activation, ConvAxis, ConvTail, Kernels};
use crate::value::{DeviceTensor, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Conv", 1.., 2..=3, conv);
    r.add_in("com.microsoft", "FusedConv", 1.., 2..=4, fused_conv);
}

#[derive(Clone)]
struct Conv {
    window: Window,
    groups: usize,
    activation: Option<Activation>,
}

impl Conv {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        Ok(Self { window: Window::of(args)?, groups: groups(args)?, activation: None })
    }
}

fn conv<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    Ok(Box::new(Conv::of(args)?))
}

/// Adds a fourth operand to the convolution, then applies a function.
fn fused_conv<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let activation = fused_activation(args)?;
    Ok(Box::new(Conv { activation, ..Conv::of(args)? }))
}

/// The function that onnxruntime's fused operators name, and its parameters.
pub(super) fn fused_activation<B: Kernels>(
    args: &Args<'_, B>,
) -> Result<Option<Activation>, BuildError> {
    let params = args.floats("activation_params")?.unwrap_or_default();
    let given = &*args.string("activation", "")?;
    let activation = match (given, params) {
        ("", []) => return Ok(None),
        ("Relu", []) => Activation::Relu,
        ("Sigmoid", []) => Activation::Sigmoid,
        ("Tanh", []) => Activation::Tanh,
        ("HardSwish", []) => Activation::HardSwish,
        ("Gelu", []) => Activation::Gelu,
        ("Swish", []) => Activation::Swish { alpha: 1.0 },
        ("Swish", &[alpha]) => Activation::Swish { alpha },
        ("LeakyRelu", &[alpha]) => Activation::LeakyRelu { alpha },
        ("HardSigmoid", &[alpha, beta]) => Activation::HardSigmoid { alpha, beta },
        ("Clip", &[low, high]) if low <= high => Activation::Clip { low, high },
        _ => {
            let reason = "not a known function with as many parameters";
            return Err(BuildError::Value { name: "activation", reason });
        }
    };
    Ok(Some(activation))
}

pub(super) fn groups<B: Kernels>(args: &Args<'_, B>) -> Result<usize, BuildError> {
    usize::try_from(args.int("group", 1)?)
        .ok()
        .filter(|&groups| groups > 0)
        .ok_or(BuildError::Value { name: "group", reason: "not positive" })
}

/// What a convolution reads, checked against each other.
struct Operands<B: Kernels> {
    x: Value<B>,
    bias: Option<Value<B>>,
    residual: Option<Value<B>>,
    out: Vec<usize>,
    placed: Placed,
}

impl Conv {
    /// `kernel` is the weights' dims, and `dtype` theirs.
    fn check<B: Kernels>(
        &self,
        ctx: &Context<B>,
        inputs: &mut Inputs<B>,
        kernel: &[usize],
        dtype: DType,
    ) -> Result<Operands<B>, OpError> {
        let (x, bias) = (inputs.take(0)?, inputs.take_opt(2));
        let residual = inputs.take_opt(3);
        let dims = x.dims();
        let (&[batch, channels, ref sizes @ ..], &[maps, depth, ref kernel_sizes @ ..]) =
            (dims.as_slice(), kernel)
        else {
            return Err(OpError::Dims { what: "the operand of a convolution", dims });
        };
        check_dtypes(dtype, [Some(&x), bias.as_ref(), residual.as_ref()].into_iter().flatten())?;
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [maps]) {
            return Err(OpError::Dims { what: "the bias", dims: bias.dims() });
        }
        if depth.checked_mul(self.groups) != Some(channels) || !maps.is_multiple_of(self.groups) {
            let what = "the channels do not fit the weights and groups";
            return Err(OpError::Mismatch { what, left: dims, right: kernel.to_vec() });
        }
        let placed = self.window.place(sizes, kernel_sizes)?;
        let out = [&[batch, maps][..], &placed.out()].concat();
        ctx.admit(dtype, &out)?;
        if let Some(residual) = residual.as_ref().filter(|residual| residual.dims() != out) {
            let what = "what is added differs from the convolution";
            return Err(OpError::Mismatch { what, left: residual.dims(), right: out });
        }
        if channels == 0 && !out.contains(&0) {
            return Err(OpError::Dims { what: "the operand of a convolution", dims });
        }
        Ok(Operands { x, bias, residual, out, placed })
    }

    fn convolve<B: Kernels>(
        &self,
        ctx: &Context<B>,
        mut inputs: Inputs<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let weight = inputs.take(1)?;
        let operands = self.check(ctx, &mut inputs, &weight.dims(), weight.dtype())?;
        if operands.out.contains(&0) {
            return Ok(vec![Value::empty(weight.dtype(), operands.out)]);
        }
        let dtype = weight.dtype();
        if matches!(dtype, DType::F16 | DType::BF16) && B::full_floats() {
            // Sums of 16 bits would lose what the products have.
            let wide = |value: Value<B>| value.cast(ctx, DType::F32);
            let Operands { x, bias, residual, out, placed } = operands;
            let (bias, residual) = (bias.map(wide).transpose()?, residual.map(wide).transpose()?);
            let operands = Operands { x: wide(x)?, bias, residual, out, placed };
            let answers = self.apply(ctx, operands, wide(weight)?)?;
            return answers.into_iter().map(|answer| answer.cast(ctx, dtype)).collect();
        }
        self.apply(ctx, operands, weight)
    }

    fn apply<B: Kernels>(
        &self,
        ctx: &Context<B>,
        operands: Operands<B>,
        weight: Value<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let weight = weight.into_float(ctx, "the weights")?;
        match B::pack_conv(&weight, self.groups) {
            Some((weights, _)) => self.fast(ctx, operands, &weights),
            None => self.slow(ctx, operands, weight),
        }
    }

    fn fast<B: Kernels>(
        &self,
        ctx: &Context<B>,
        operands: Operands<B>,
        weights: &B::ConvWeights,
    ) -> Result<Vec<Value<B>>, OpError> {
        let Operands { x, bias, residual, out, placed } = operands;
        let tail = ConvTail {
            bias: bias.map(|bias| bias.into_float(ctx, "the bias")).transpose()?,
            residual: residual.map(|z| z.into_float(ctx, "what is added")).transpose()?,
            activation: self.activation,
        };
        let axes: Vec<ConvAxis> = placed.axes.iter().map(Axis::of_conv).collect();
        let x = x.into_float(ctx, "the operand")?;
        let answer = B::conv_packed(x, weights, &axes, tail).ok_or(OpError::Unsupported {
            what: "a window that reaches so far over the operand",
        })?;
        let answer: DeviceTensor<B> = DeviceTensor::Float(answer);
        if answer.dims() != out {
            let what = "the answer is not as large as it should be";
            return Err(OpError::Mismatch { what, left: answer.dims(), right: out });
        }
        Ok(vec![answer.into()])
    }

    /// With Burn's own kernels.
    fn slow<B: Kernels>(
        &self,
        ctx: &Context<B>,
        operands: Operands<B>,
        weight: FloatTensor<B>,
    ) -> Result<Vec<Value<B>>, OpError> {
        let Operands { x, bias, residual, out, placed } = operands;
        let bias = bias.map(|bias| bias.into_float(ctx, "the bias")).transpose()?;
        let answer = plain(ctx, (x, weight, bias), &placed, self.groups)?.cut(&out)?;
        let answer = match residual {
            Some(residual) => apply(ctx, &add(), answer.into(), residual)?,
            None => answer.into(),
        };
        let Some(activation) = self.activation else { return Ok(vec![answer]) };
        let answer = activation.apply::<B>(answer.into_float(ctx, "the answer")?);
        Ok(vec![DeviceTensor::<B>::Float(answer).into()])
    }
}

/// With Burn's own kernels, in which sums of integers are exact while they are
/// exact as floats. The answer may be larger than it should be.
pub(super) fn plain<B: Kernels>(
    ctx: &Context<B>,
    (x, weight, bias): (Value<B>, FloatTensor<B>, Option<FloatTensor<B>>),
    placed: &Placed,
    groups: usize,
) -> Result<DeviceTensor<B>, OpError> {
    let x = x.into_device(ctx)?;
    let (x, begins) = if placed.is_symmetric() {
        (x, placed.begins())
    } else {
        let padded = pad_constant(ctx, x, &placed.begins(), &placed.ends(), 0.0)?;
        (padded, vec![0; placed.axes.len()])
    };
    let x = Value::from(x).into_float(ctx, "the operand")?;
    Ok(DeviceTensor::Float(convolve::<B>((x, weight, bias), placed, &begins, groups)?))
}

impl<B: Kernels> Op<B> for Conv {
    fn run(&self, ctx: &Context<B>, inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        self.convolve(ctx, inputs)
    }

    fn bind(&self, ctx: &Context<B>, constants: &[Option<Value<B>>]) -> Option<Prepared<B>> {
        let weight = constants.get(1)?.clone()?;
        let (dims, dtype) = (weight.dims(), weight.dtype());
        // What is wrong with them is said when they are used.
        if dims.contains(&0) || !dims.first()?.is_multiple_of(self.groups) {
            return None;
        }
        let (weights, bytes) =
            B::keep_conv(&weight.into_float(ctx, "the weights").ok()?, self.groups)?;
        let op = Box::new(Packed { conv: self.clone(), weights, dims, dtype });
        Some(Prepared { op, holds: vec![1], bytes })
    }
}

/// A convolution whose weights are constant.
struct Packed<B: Kernels> {
    conv: Conv,
    weights: B::ConvWeights,
    dims: Vec<usize>,
    dtype: DType,
}

impl<B: Kernels> Op<B> for Packed<B> {
    fn run(&self, ctx: &Context<B>, mut inputs: Inputs<B>) -> Result<Vec<Value<B>>, OpError> {
        let operands = self.conv.check(ctx, &mut inputs, &self.dims, self.dtype)?;
        if operands.out.contains(&0) {
            return Ok(vec![Value::empty(self.dtype, operands.out)]);
        }
        self.conv.fast(ctx, operands, &self.weights)
    }
}

/// All are of one float type.
pub(super) fn check_dtypes<'a, B: Kernels>(
    dtype: DType,
    operands: impl IntoIterator<Item = &'a Value<B>>,
) -> Result<(), OpError> {
    for operand in operands {
        if !is_float(dtype) || operand.dtype() != dtype {
            return Err(OpError::DTypes { left: operand.dtype(), right: dtype });
        }
    }
    Ok(())
}

type Tensors<B> = (FloatTensor<B>, FloatTensor<B>, Option<FloatTensor<B>>);

fn convolve<B: Kernels>(
    (x, weight, bias): Tensors<B>,
    placed: &Placed,
    begins: &[usize],
    groups: usize,
) -> Result<FloatTensor<B>, OpError> {
    fn options<const N: usize>(
        placed: &Placed,
        begins: &[usize],
        groups: usize,
    ) -> Result<ConvOptions<N>, OpError> {
        let mut begins = begins.iter().copied();
        Ok(ConvOptions::new(
            array(&placed.axes, |a| a.stride)?,
            array(&placed.axes, |_| 0)?.map(|_: usize| begins.next().unwrap_or_default()),
            array(&placed.axes, |a| a.dilation)?,
            groups,
        ))
    }
    match placed.axes.len() {
        1 => Ok(B::conv1d(x, weight, bias, options(placed, begins, groups)?)),
        2 => Ok(B::conv2d(x, weight, bias, options(placed, begins, groups)?)),
        3 => Ok(B::conv3d(x, weight, bias, options(placed, begins, groups)?)),
        _ => Err(OpError::Unsupported { what: "a convolution over more than three axes" }),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s};

    fn ones(dims: &[usize]) -> ingle_types::Tensor {
        f32s(dims, &vec![1.; dims.iter().product()])
    }

    #[test]
    fn windows_are_summed_with_pads_and_strides() {
        let (x, w) = (counting(&[1, 1, 3, 3]), ones(&[1, 1, 2, 2]));
        Case::of("Conv", [x.clone(), w.clone()])
            .gives([f32s(&[1, 1, 2, 2], &[12., 16., 24., 28.])]);
        Case::of("Conv", [x.clone(), w.clone(), f32s(&[1], &[100.])])
            .ints("strides", &[2, 2])
            .ints("pads", &[0, 0, 1, 1])
            .gives([f32s(&[1, 1, 2, 2], &[112., 109., 115., 109.])]);
        Case::of("Conv", [x.clone(), w])
            .string("auto_pad", "SAME_LOWER")
            .ints("strides", &[2, 2])
            .gives([f32s(&[1, 1, 2, 2], &[1., 5., 11., 28.])]);
        Case::of("Conv", [x, ones(&[1, 1, 2, 2])])
            .ints("dilations", &[2, 2])
            .gives([f32s(&[1, 1, 1, 1], &[20.])]);
    }

    #[test]
    fn groups_see_their_own_channels() {
        let x = counting(&[1, 2, 1, 2]);
        Case::of("Conv", [x.clone(), f32s(&[2, 1, 1, 1], &[10., 100.])])
            .int("group", 2)
            .gives([f32s(&[1, 2, 1, 2], &[10., 20., 300., 400.])]);
        Case::of("Conv", [x.clone(), ones(&[2, 1, 1, 1])]).fails("channels do not fit");
        Case::of("Conv", [x, ones(&[3, 1, 1, 1])]).int("group", 2).fails("channels do not fit");
    }

    #[test]
    fn one_and_three_axes_work_too() {
        Case::of("Conv", [counting(&[1, 1, 4]), f32s(&[1, 1, 2], &[1., -1.])])
            .ints("pads", &[1, 0])
            .gives([f32s(&[1, 1, 4], &[-1., -1., -1., -1.])]);
        Case::of("Conv", [counting(&[1, 1, 2, 2, 2]), ones(&[1, 1, 2, 2, 1])])
            .gives([f32s(&[1, 1, 1, 1, 2], &[16., 20.])]);
    }

    #[test]
    fn a_fused_convolution_adds_and_applies() {
        let case = |activation: &str, params: &[f32]| {
            let (x, w) = (counting(&[1, 1, 1, 3]), f32s(&[1, 1, 1, 1], &[-2.]));
            let (bias, residual) = (f32s(&[1], &[1.]), f32s(&[1, 1, 1, 3], &[0.5, 5., 0.]));
            let case = Case::of("FusedConv", [x, w, bias, residual]).domain("com.microsoft");
            case.string("activation", activation).floats("activation_params", params)
        };
        let gives = |activation, params: &[f32], wanted: [f32; 3]| {
            case(activation, params).gives([f32s(&[1, 1, 1, 3], &wanted)]);
        };
        gives("Relu", &[], [0., 2., 0.]);
        gives("LeakyRelu", &[0.5], [-0.25, 2., -2.5]);
        gives("Clip", &[-4., 1.], [-0.5, 1., -4.]);
        gives("HardSigmoid", &[0.25, 0.5], [0.375, 1., 0.]);
        gives("HardSwish", &[], [-0.208_333_33, 1.666_666_6, -0.0]);
        gives("Sigmoid", &[], [0.377_540_67, 0.880_797_1, 0.006_692_850_7]);
        gives("Tanh", &[], [-0.462_117_16, 0.964_027_6, -0.999_909_2]);
        gives("Swish", &[2.], [-0.134_470_71, 1.964_027_6, -0.000_226_989_34]);
        gives("Gelu", &[], [-0.154_268_77, 1.954_499_7, -0.000_001_433_258]);
        case("Softplus", &[]).fails("\"activation\"");
        case("Clip", &[1., -1.]).fails("\"activation\"");
        case("Relu", &[1.]).fails("\"activation\"");
        let (x, w) = (counting(&[1, 1, 1, 3]), f32s(&[1, 1, 1, 1], &[1.]));
        let residual = f32s(&[1, 1, 1, 1], &[0.]);
        let wrong = Case::of("FusedConv", [x, w, residual]).without(2).domain("com.microsoft");
        wrong.fails("what is added");
    }

    #[test]
    fn no_examples_give_no_examples() {
        Case::of("Conv", [f32s(&[0, 1, 3, 3], &[]), ones(&[2, 1, 2, 2])])
            .gives([f32s(&[0, 2, 2, 2], &[])]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = counting(&[1, 1, 3, 3]);
        Case::of("Conv", [x.clone(), ones(&[1, 1, 4, 4])]).fails("window does not fit");
        Case::of("Conv", [x.clone(), ones(&[1, 1, 2])]).fails("window does not fit");
        Case::of("Conv", [x.clone(), ones(&[1, 1, 2, 2]), ones(&[3])]).fails("the bias cannot be");
        Case::of("Conv", [x.clone(), ones(&[1, 1, 2, 2])]).int("group", 0).fails("not positive");
        Case::of("Conv", [x.clone(), ones(&[1, 1, 2, 2])]).ints("strides", &[0, 1]).fails("zero");
        Case::of("Conv", [x, ones(&[1, 1, 2, 2])]).ints("pads", &[-1, 0, 0, 0]).fails("negative");
    }
}
