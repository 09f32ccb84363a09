//! Convolution.

use burn::tensor::ops::{ConvOptions, FloatTensor};

use super::spatial::{Placed, Window, array, pad_constant};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Conv", 1.., 2..=3, conv);
}

fn conv<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let window = Window::of(args)?;
    let groups = groups(args)?;
    op(move |ctx, mut inputs| {
        let (x, weight) = (inputs.take(0)?, inputs.take(1)?);
        let bias = inputs.take_opt(2);
        Ok(vec![run(ctx, &window, groups, (x, weight, bias))?])
    })
}

pub(super) fn groups<B: Kernels>(args: &Args<'_, B>) -> Result<usize, BuildError> {
    usize::try_from(args.int("group", 1)?)
        .ok()
        .filter(|&groups| groups > 0)
        .ok_or(BuildError::Value { name: "group", reason: "not positive" })
}

type Operands<B> = (Value<B>, Value<B>, Option<Value<B>>);

fn run<B: Kernels>(
    ctx: &Context<B>,
    window: &Window,
    groups: usize,
    (x, weight, bias): Operands<B>,
) -> Result<Value<B>, OpError> {
    let dtype = x.dtype();
    let (dims, kernel) = (x.dims(), weight.dims());
    let (&[batch, channels, ref sizes @ ..], &[maps, depth, ref kernel_sizes @ ..]) =
        (dims.as_slice(), kernel.as_slice())
    else {
        return Err(OpError::Dims { what: "the operand of a convolution", dims });
    };
    check_operands(&x, &weight, bias.as_ref())?;
    if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [maps]) {
        return Err(OpError::Dims { what: "the bias", dims: bias.dims() });
    }
    if depth.checked_mul(groups) != Some(channels) || !maps.is_multiple_of(groups) {
        let what = "the channels do not fit the weights and groups";
        return Err(OpError::Mismatch { what, left: dims, right: kernel });
    }
    let placed = window.place(sizes, kernel_sizes)?;
    let out = [&[batch, maps][..], &placed.out()].concat();
    ctx.admit(dtype, &out)?;
    if out.contains(&0) {
        return Ok(Value::empty(dtype, out));
    }
    if channels == 0 {
        return Err(OpError::Dims { what: "the operand of a convolution", dims });
    }
    let x = x.into_device(ctx)?;
    let (x, begins) = if placed.is_symmetric() {
        (x, placed.begins())
    } else {
        let padded = pad_constant(ctx, x, &placed.begins(), &placed.ends(), 0.0)?;
        (padded, vec![0; sizes.len()])
    };
    let x = Value::from(x).into_float(ctx, "the operand")?;
    let weight = weight.into_float(ctx, "the weights")?;
    let bias = bias.map(|bias| bias.into_float(ctx, "the bias")).transpose()?;
    let answer: DeviceTensor<B> =
        DeviceTensor::Float(convolve::<B>((x, weight, bias), &placed, &begins, groups)?);
    Ok(answer.cut(&out)?.into())
}

/// All are of one float type.
pub(super) fn check_operands<B: Kernels>(
    x: &Value<B>,
    weight: &Value<B>,
    bias: Option<&Value<B>>,
) -> Result<(), OpError> {
    let dtype = x.dtype();
    for other in std::iter::once(weight).chain(bias) {
        if !is_float(dtype) || other.dtype() != dtype {
            return Err(OpError::DTypes { left: dtype, right: other.dtype() });
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
