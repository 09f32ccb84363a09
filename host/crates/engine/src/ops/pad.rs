//! Pad.

use std::borrow::Cow;

use bytes::Bytes;
use ingle_types::DType;

use super::generate::full;
use super::tensor::narrow;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axes_at, axis_at, to_sizes};
use crate::kernels::Kernels;
use crate::value::{Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Pad", 1..=1, 1..=1, |a| by_attributes(a, "paddings"));
    r.add("Pad", 2..=10, 1..=1, |a| by_attributes(a, "pads"));
    r.add("Pad", 11.., 2..=4, by_inputs);
    r.add("CenterCropPad", 18.., 2..=2, center_crop_pad);
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

impl Mode {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let mode: Cow<'_, str> = args.string("mode", "constant")?;
        match &*mode {
            "constant" => Ok(Self::Constant),
            "reflect" => Ok(Self::Reflect),
            "edge" => Ok(Self::Edge),
            "wrap" => Ok(Self::Wrap),
            _ => Err(BuildError::Value { name: "mode", reason: "not a known mode" }),
        }
    }
}

fn by_attributes<B: Kernels>(args: &Args<'_, B>, name: &'static str) -> Built<B> {
    let mode = Mode::of(args)?;
    let pads = args.ints(name)?.ok_or(BuildError::Missing { name })?.to_vec();
    let value = args.float("value", 0.0)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let fill = Host::floats(DType::F32, vec![], vec![value]).cast(x.dtype());
        Ok(vec![pad(ctx, x, &pads, None, (mode, fill))?])
    })
}

fn by_inputs<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let mode = Mode::of(args)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let pads = inputs.take(1)?.ints(ctx, "the pads")?;
        let fill = match inputs.take_opt(2) {
            Some(fill) => fill.to_host(ctx)?,
            None => nothing(x.dtype()),
        };
        if fill.dtype() != x.dtype() {
            return Err(OpError::DTypes { left: x.dtype(), right: fill.dtype() });
        }
        if fill.elements() != 1 {
            return Err(OpError::Dims { what: "the fill", dims: fill.dims().to_vec() });
        }
        let axes = inputs.take_opt(3).map(|v| v.ints(ctx, "the axes")).transpose()?;
        Ok(vec![pad(ctx, x, &pads, axes.as_deref(), (mode, fill))?])
    })
}

/// What is put where nothing else is said: zero, or an empty string.
pub(super) fn nothing(dtype: DType) -> Host {
    match dtype {
        DType::Bytes => Host::text(vec![], vec![Bytes::new()]),
        dtype => Host::ints(DType::I64, vec![], vec![0]).cast(dtype),
    }
}

/// Crops or pads some axes to the sizes of a tensor, keeping what is in the middle.
fn center_crop_pad<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axes = args.ints("axes")?.map(<[i64]>::to_vec);
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let sizes = to_sizes(&inputs.take(1)?.ints(ctx, "the shape")?, "a size")?;
        let dims = x.dims();
        let axes = axes.clone().unwrap_or_else(|| (0..dims.len() as i64).collect());
        axes_at(&axes, dims.len())?;
        if axes.len() != sizes.len() {
            let what = "one size is needed for each axis";
            return Err(OpError::Mismatch { what, left: dims, right: sizes });
        }
        let (mut begins, mut ends) = (Vec::new(), Vec::new());
        for (&axis, &wanted) in axes.iter().zip(&sizes) {
            let size = dims.get(axis_at(axis, dims.len())?).copied().unwrap_or_default();
            let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            let more = signed(wanted).saturating_sub(signed(size));
            begins.push(more / 2);
            ends.push(more - more / 2);
        }
        let (fill, pads) = (nothing(x.dtype()), [begins, ends].concat());
        Ok(vec![pad(ctx, x, &pads, Some(&axes), (Mode::Constant, fill))?])
    })
}

/// `pads` are the entries before each axis, then those behind.
pub(super) fn pad<B: Kernels>(
    ctx: &Context<B>,
    mut x: Value<B>,
    pads: &[i64],
    axes: Option<&[i64]>,
    (mode, fill): (Mode, Host),
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    let axes: Vec<usize> = match axes {
        Some(axes) => axes.iter().map(|&a| axis_at(a, dims.len())).collect::<Result<_, _>>()?,
        None => (0..dims.len()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        let what = "two pads are needed for each axis";
        return Err(OpError::Mismatch { what, left: dims, right: vec![pads.len()] });
    }
    let (begins, ends) = pads.split_at(axes.len());
    for ((&axis, &begin), &end) in axes.iter().zip(begins).zip(ends) {
        x = pad_axis(ctx, x, axis, (begin, end), (mode, &fill))?;
    }
    Ok(x)
}

/// A negative pad cuts entries off.
fn pad_axis<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    axis: usize,
    (begin, end): (i64, i64),
    (mode, fill): (Mode, &Host),
) -> Result<Value<B>, OpError> {
    let mut dims = x.dims();
    let size = dims.get(axis).copied().unwrap_or_default();
    let cut = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).unwrap_or(usize::MAX);
    let (from, to) = (cut(begin), size.checked_sub(cut(end)));
    let to = to.filter(|&to| from <= to).ok_or(OpError::Value { what: "a pad", value: begin })?;
    let x = narrow(ctx, &x, axis, from, to)?;
    let size = to - from;
    let grow = |pad: i64| usize::try_from(pad.max(0)).unwrap_or(usize::MAX);
    let (before, after) = (grow(begin), grow(end));
    if before == 0 && after == 0 {
        return Ok(x);
    }
    let padded = size.saturating_add(before).saturating_add(after);
    if let Some(slot) = dims.get_mut(axis) {
        *slot = padded;
    }
    ctx.admit(x.dtype(), &dims)?;
    if dims.contains(&0) {
        return Ok(Value::empty(x.dtype(), dims));
    }
    if mode == Mode::Constant {
        return fill_axis(ctx, x, axis, (before, after), fill);
    }
    if size == 0 {
        return Err(OpError::Value { what: "a pad around nothing", value: begin });
    }
    ctx.admit(DType::I64, &[padded])?;
    let place = |i: usize| source(mode, i as i64 - before as i64, size as i64);
    let places: Vec<i64> = (0..padded).map(place).collect();
    let indices: Value<B> = Host::ints(DType::I64, vec![padded], places).into();
    let indices = indices.into_int(ctx, "the places")?;
    Ok(x.into_device(ctx)?.select(axis, indices).into())
}

fn fill_axis<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    axis: usize,
    (before, after): (usize, usize),
    fill: &Host,
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    let block = |size: usize| {
        let mut dims = dims.clone();
        if let Some(slot) = dims.get_mut(axis) {
            *slot = size;
        }
        full(ctx, fill, dims)
    };
    let parts = vec![block(before)?, x, block(after)?];
    super::tensor::join(ctx, parts, axis as i64)
}

/// The entry that place `i` of the padded axis shows, where 0 is the first own one.
fn source(mode: Mode, i: i64, size: i64) -> i64 {
    match mode {
        Mode::Constant | Mode::Edge => i.clamp(0, size - 1),
        Mode::Wrap => i.rem_euclid(size),
        Mode::Reflect if size == 1 => 0,
        Mode::Reflect => {
            let period = 2 * (size - 1);
            let place = i.rem_euclid(period);
            place.min(period - place)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    #[test]
    fn each_mode_has_its_fill() {
        let x = counting(&[3]);
        let pad = |mode: &str, wanted: &[f32]| {
            Case::of("Pad", [x.clone(), i64s(&[2], &[2, 1])])
                .string("mode", mode)
                .gives([f32s(&[6], wanted)]);
        };
        pad("constant", &[0., 0., 1., 2., 3., 0.]);
        pad("reflect", &[3., 2., 1., 2., 3., 2.]);
        pad("edge", &[1., 1., 1., 2., 3., 3.]);
        pad("wrap", &[2., 3., 1., 2., 3., 1.]);
    }

    #[test]
    fn pads_come_from_attributes_or_inputs_and_may_cut() {
        let x = counting(&[1, 2]);
        Case::of("Pad", [x.clone()])
            .opset(2)
            .ints("pads", &[0, 1, 0, 0])
            .float("value", 9.)
            .gives([f32s(&[1, 3], &[9., 1., 2.])]);
        Case::of("Pad", [x.clone(), i64s(&[2], &[-1, 1]), f32s(&[], &[7.]), i64s(&[1], &[-1])])
            .opset(18)
            .gives([f32s(&[1, 2], &[2., 7.])]);
        Case::of("Pad", [i64s(&[1], &[5]), i64s(&[2], &[1, 0]), i64s(&[], &[4])])
            .gives([i64s(&[2], &[4, 5])]);
        Case::of("Pad", [x.clone(), i64s(&[4], &[0, -3, 0, 0])]).fails("a pad cannot be -3");
        Case::of("Pad", [x.clone(), i64s(&[1], &[1])]).fails("two pads are needed");
        Case::of("Pad", [x, i64s(&[4], &[0, i64::MAX, 0, 0])]).fails("limit");
    }

    #[test]
    fn the_middle_is_kept() {
        let to = |shape: &[i64]| {
            Case::of("CenterCropPad", [counting(&[1, 4]), i64s(&[shape.len()], shape)]).opset(18)
        };
        to(&[1, 1]).gives([f32s(&[1, 1], &[2.])]);
        to(&[2, 3]).gives([f32s(&[2, 3], &[1., 2., 3., 0., 0., 0.])]);
        to(&[7]).ints("axes", &[-1]).gives([f32s(&[1, 7], &[0., 1., 2., 3., 4., 0., 0.])]);
        to(&[2, 0]).gives([f32s(&[2, 0], &[])]);
        to(&[7]).fails("one size is needed");
        to(&[-1]).ints("axes", &[1]).fails("a size cannot be -1");
        to(&[1, i64::MAX]).fails("limit");
        to(&[1, 1]).ints("axes", &[1, -1]).fails("axis 1");
        to(&[1]).ints("axes", &[2]).fails("axis 2");
    }
}
