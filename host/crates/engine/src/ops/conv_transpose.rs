//! Transposed convolution.

use burn::tensor::ops::{ConvTransposeOptions, FloatTensor};

use super::conv::{check_dtypes, groups};
use super::spatial::AutoPad;
use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("ConvTranspose", 1.., 2..=3, conv_transpose);
}

struct Transposed {
    kernel: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    dilations: Option<Vec<usize>>,
    pads: Option<Vec<i64>>,
    output_padding: Option<Vec<usize>>,
    output_shape: Option<Vec<usize>>,
    auto: AutoPad,
    groups: usize,
}

/// One spatial axis: the whole answer is computed, then cut to `begin..begin + out`.
struct Axis {
    stride: usize,
    dilation: usize,
    extra: usize,
    begin: usize,
    out: usize,
}

fn conv_transpose<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let transposed = Transposed {
        kernel: args.sizes("kernel_shape")?,
        strides: args.sizes("strides")?,
        dilations: args.sizes("dilations")?,
        pads: args.ints("pads")?.map(<[i64]>::to_vec),
        output_padding: args.sizes("output_padding")?,
        output_shape: args.sizes("output_shape")?,
        auto: AutoPad::of(args)?,
        groups: groups(args)?,
    };
    op(move |ctx, mut inputs| {
        let (x, weight) = (inputs.take(0)?, inputs.take(1)?);
        let bias = inputs.take_opt(2);
        Ok(vec![run(ctx, &transposed, x, weight, bias)?])
    })
}

fn run<B: Kernels>(
    ctx: &Context<B>,
    transposed: &Transposed,
    x: Value<B>,
    weight: Value<B>,
    bias: Option<Value<B>>,
) -> Result<Value<B>, OpError> {
    let (dtype, dims, kernel) = (x.dtype(), x.dims(), weight.dims());
    let (&[batch, channels, ref sizes @ ..], &[depth, maps, ref window @ ..]) =
        (dims.as_slice(), kernel.as_slice())
    else {
        return Err(OpError::Dims { what: "the operand of a convolution", dims });
    };
    check_dtypes(dtype, std::iter::once(&weight).chain(bias.as_ref()))?;
    let maps = maps.checked_mul(transposed.groups);
    let fits = depth == channels
        && channels.is_multiple_of(transposed.groups)
        && sizes.len() == window.len()
        && bias.as_ref().is_none_or(|b| maps.is_some_and(|m| b.dims() == [m]));
    let (Some(maps), true) = (maps, fits) else {
        let what = "the channels do not fit the weights, bias and groups";
        return Err(OpError::Mismatch { what, left: dims, right: kernel });
    };
    let axes = transposed.place(sizes, window)?;
    let whole = |(a, (&size, &kernel)): (&Axis, (&usize, &usize))| {
        (size.saturating_sub(1) * a.stride + (kernel - 1) * a.dilation + 1 + a.extra)
            .max(a.begin + a.out)
    };
    let full: Vec<usize> = axes.iter().zip(sizes.iter().zip(window)).map(whole).collect();
    ctx.admit(dtype, &[&[batch, maps][..], &full].concat())?;
    let out: Vec<usize> = axes.iter().map(|axis| axis.out).collect();
    let out = [&[batch, maps][..], &out].concat();
    if out.contains(&0) {
        return Ok(Value::empty(dtype, out));
    }
    if dims.contains(&0) {
        return Err(OpError::Dims { what: "the operand of a convolution", dims });
    }
    let x = x.into_float(ctx, "the operand")?;
    let weight = weight.into_float(ctx, "the weights")?;
    let bias = bias.map(|bias| bias.into_float(ctx, "the bias")).transpose()?;
    let answer = convolve::<B>(x, weight, bias, &axes, transposed.groups)?;
    let mut answer: DeviceTensor<B> = DeviceTensor::Float(answer);
    for (i, axis) in axes.iter().enumerate() {
        answer = answer.narrow(i + 2, axis.begin, axis.begin + axis.out);
    }
    Ok(answer.into())
}

fn convolve<B: Kernels>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    axes: &[Axis],
    groups: usize,
) -> Result<FloatTensor<B>, OpError> {
    fn options<const N: usize>(
        axes: &[Axis],
        groups: usize,
    ) -> Result<ConvTransposeOptions<N>, OpError> {
        let array = |of: fn(&Axis) -> usize| {
            let list: Vec<usize> = axes.iter().map(of).collect();
            <[usize; N]>::try_from(list.as_slice())
                .map_err(|_| OpError::Dims { what: "the window", dims: list })
        };
        let (strides, extra) = (array(|a| a.stride)?, array(|a| a.extra)?);
        Ok(ConvTransposeOptions::new(strides, [0; N], extra, array(|a| a.dilation)?, groups))
    }
    match axes.len() {
        1 => Ok(B::conv_transpose1d(x, weight, bias, options(axes, groups)?)),
        2 => Ok(B::conv_transpose2d(x, weight, bias, options(axes, groups)?)),
        3 => Ok(B::conv_transpose3d(x, weight, bias, options(axes, groups)?)),
        _ => Err(OpError::Unsupported { what: "a convolution over more than three axes" }),
    }
}

impl Transposed {
    fn place(&self, sizes: &[usize], window: &[usize]) -> Result<Vec<Axis>, OpError> {
        let fail = || {
            let what = "the window does not fit the spatial dimensions";
            OpError::Mismatch { what, left: sizes.to_vec(), right: window.to_vec() }
        };
        let rank = sizes.len();
        let at = |list: &Option<Vec<usize>>, i: usize, default: usize| match list {
            None => Ok(default),
            Some(list) if list.len() == rank => Ok(list.get(i).copied().unwrap_or(default)),
            // Some exporters give the whole shape of the output.
            Some(list) if list.len() == rank + 2 => Ok(list.get(i + 2).copied().unwrap_or(default)),
            Some(_) => Err(fail()),
        };
        if self.kernel.as_ref().is_some_and(|kernel| kernel != window) {
            return Err(fail());
        }
        let mut axes = Vec::with_capacity(rank);
        for (i, (&size, &kernel)) in sizes.iter().zip(window).enumerate() {
            let (stride, dilation) = (at(&self.strides, i, 1)?, at(&self.dilations, i, 1)?);
            let extra = at(&self.output_padding, i, 0)?;
            let reach = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation));
            let steps = size.saturating_sub(1).checked_mul(stride);
            let whole =
                reach.zip(steps).and_then(|(r, s)| r.checked_add(s)?.checked_add(1 + extra));
            let whole = whole.filter(|_| stride > 0 && dilation > 0).ok_or_else(fail)?;
            let wanted = match &self.output_shape {
                Some(_) => Some(at(&self.output_shape, i, 0)?),
                None if matches!(self.auto, AutoPad::SameUpper | AutoPad::SameLower) => {
                    Some(size.checked_mul(stride).ok_or_else(fail)?)
                }
                None => None,
            };
            let (begin, out, extra) = match wanted {
                Some(out) => {
                    let total = whole.saturating_sub(out);
                    let small = total / 2;
                    let upper = self.auto == AutoPad::SameUpper;
                    let begin = if upper { small } else { total - small };
                    // What the windows do not reach is the bias alone.
                    (begin, out, extra + out.saturating_sub(whole))
                }
                None => {
                    let (begin, end) = self.pads(i, rank).ok_or_else(fail)?;
                    let out = whole.checked_sub(begin).and_then(|n| n.checked_sub(end));
                    (begin, out.ok_or_else(fail)?, extra)
                }
            };
            axes.push(Axis { stride, dilation, extra, begin, out });
        }
        Ok(axes)
    }

    fn pads(&self, i: usize, rank: usize) -> Option<(usize, usize)> {
        let Some(pads) = self.pads.as_ref().filter(|_| self.auto == AutoPad::No) else {
            return Some((0, 0));
        };
        let at = |i: usize| usize::try_from(*pads.get(i)?).ok();
        (pads.len() == 2 * rank).then_some((at(i)?, at(rank + i)?))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s};

    #[test]
    fn windows_are_spread_and_cut() {
        let (x, w) = (counting(&[1, 1, 2]), f32s(&[1, 1, 2], &[1., 10.]));
        let case = || Case::of("ConvTranspose", [x.clone(), w.clone()]);
        case().gives([f32s(&[1, 1, 3], &[1., 12., 20.])]);
        case().ints("strides", &[2]).gives([f32s(&[1, 1, 4], &[1., 10., 2., 20.])]);
        case()
            .ints("strides", &[2])
            .ints("pads", &[1, 0])
            .gives([f32s(&[1, 1, 3], &[10., 2., 20.])]);
        case()
            .ints("strides", &[2])
            .ints("output_padding", &[1])
            .gives([f32s(&[1, 1, 5], &[1., 10., 2., 20., 0.])]);
        case()
            .ints("strides", &[3])
            .ints("output_shape", &[6])
            .gives([f32s(&[1, 1, 6], &[1., 10., 0., 2., 20., 0.])]);
        case().ints("pads", &[3, 3]).fails("does not fit");
    }

    #[test]
    fn two_axes_and_groups_work() {
        let x = counting(&[1, 2, 1, 1]);
        let w = f32s(&[2, 1, 1, 2], &[1., 10., 1., 10.]);
        Case::of("ConvTranspose", [x, w.clone(), f32s(&[2], &[0., 100.])])
            .int("group", 2)
            .gives([f32s(&[1, 2, 1, 2], &[1., 10., 102., 120.])]);
        Case::of("ConvTranspose", [counting(&[1, 3, 1, 1]), w]).fails("channels do not fit");
    }
}
