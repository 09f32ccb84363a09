//! Operators that move, join, cut and relabel tensors without computing.

use ingle_types::DType;

use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axis_at, strides};
use crate::kernels::Kernels;
use crate::literal::dtype_of;
use crate::value::{DeviceTensor, Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Identity", 1.., 1..=1, |_| op(|_, mut inputs| Ok(vec![inputs.take_any(0)?])));
    r.add("Dropout", 1.., 1..=3, dropout);
    r.add("Cast", 1.., 1..=1, cast);
    r.add("CastLike", 15.., 2..=2, cast_like);
    r.add("Concat", 1.., 1.., concat);
    r.add("Split", 1.., 1..=2, split);
    r.add("Transpose", 1.., 1..=1, transpose);
    r.add("DepthToSpace", 1.., 1..=1, |a| {
        let block = block_size(a)?;
        let column_first = match &*a.string("mode", "DCR")? {
            "DCR" => false,
            "CRD" => true,
            _ => return Err(BuildError::Value { name: "mode", reason: "neither DCR nor CRD" }),
        };
        op(move |ctx, mut inputs| depth_to_space(ctx, inputs.take(0)?, block, column_first))
    });
    r.add("SpaceToDepth", 1.., 1..=1, |a| {
        let block = block_size(a)?;
        op(move |ctx, mut inputs| space_to_depth(ctx, inputs.take(0)?, block))
    });
}

/// Only inference: the operand passes.
fn dropout<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    for known in ["ratio", "seed", "is_test"] {
        args.ignore(known);
    }
    args.makes_outputs(2);
    let masked = args.has_output(1);
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let training = match inputs.take_opt(2) {
            Some(mode) => mode.scalar(ctx, "the training mode")? != 0.0,
            None => false,
        };
        let ratio = match inputs.take_opt(1) {
            Some(ratio) if training => ratio.scalar(ctx, "the ratio")?,
            _ => 0.5,
        };
        if training && ratio != 0.0 {
            return Err(OpError::Unsupported { what: "training mode" });
        }
        if !masked {
            return Ok(vec![x]);
        }
        let dims = x.dims();
        let yes: Value<B> = Host::ints(DType::Bool, vec![], vec![1]).into();
        let mask = yes.expand(ctx, &dims)?;
        Ok(vec![x, mask])
    })
}

fn cast<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.ignore("saturate");
    args.ignore("round_mode");
    let to = args.int_opt("to")?.ok_or(BuildError::Missing { name: "to" })?;
    let dtype = i32::try_from(to).ok().and_then(dtype_of);
    let dtype = dtype.ok_or(BuildError::Unsupported { what: "this element type" })?;
    op(move |ctx, mut inputs| Ok(vec![inputs.take(0)?.cast(ctx, dtype)?]))
}

fn cast_like<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.ignore("saturate");
    args.ignore("round_mode");
    op(|ctx, mut inputs| {
        let (x, like) = (inputs.take(0)?, inputs.take(1)?);
        Ok(vec![x.cast(ctx, like.dtype())?])
    })
}

fn concat<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = match args.int_opt("axis")? {
        Some(axis) => axis,
        None if args.opset() < 4 => 1,
        None => return Err(BuildError::Missing { name: "axis" }),
    };
    op(move |ctx, mut inputs| Ok(vec![join(ctx, inputs.take_all()?, axis)?]))
}

/// Joins values whose dims differ in `axis` only.
pub(super) fn join<B: Kernels>(
    ctx: &Context<B>,
    mut values: Vec<Value<B>>,
    axis: i64,
) -> Result<Value<B>, OpError> {
    let first = values.first().ok_or(OpError::Missing { index: 0 })?;
    let (dtype, mut dims) = (first.dtype(), first.dims());
    let axis = axis_at(axis, dims.len())?;
    let mut size = 0usize;
    for value in &values {
        let mut given = value.dims();
        if value.dtype() != dtype {
            return Err(OpError::DTypes { left: dtype, right: value.dtype() });
        }
        if let (Some(a), Some(b)) = (given.get_mut(axis), dims.get(axis)) {
            size = size.saturating_add(std::mem::replace(a, *b));
        }
        if given != dims {
            let what = "they differ outside of the axis";
            return Err(OpError::Mismatch { what, left: dims, right: value.dims() });
        }
    }
    if let Some(slot) = dims.get_mut(axis) {
        *slot = size;
    }
    ctx.admit(dtype, &dims)?;
    values.retain(|value| value.elements() > 0);
    match values.len() {
        0 => return Ok(Value::empty(dtype, dims)),
        1 => return values.pop().ok_or(OpError::Missing { index: 0 }),
        _ => {}
    }
    let count: usize = dims.iter().product();
    let hosts: Option<Vec<&Host>> = values.iter().map(Value::as_host).collect();
    if let Some(hosts) = hosts.filter(|hosts| hosts.iter().all(|host| host.stays(count))) {
        return Ok(Host::join(dtype, dims, axis, &hosts).into());
    }
    let tensors = values.into_iter().map(|v| v.into_device(ctx)).collect::<Result<Vec<_>, _>>()?;
    Ok(DeviceTensor::concat(tensors, axis)?.into())
}

/// The sizes come from an attribute, an input, or the number of outputs.
fn split<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.makes_outputs(usize::MAX);
    let axis = args.int("axis", 0)?;
    let sizes = args.sizes("split")?;
    let parts = match args.int_opt("num_outputs")? {
        Some(parts) => usize::try_from(parts)
            .ok()
            .filter(|&parts| parts > 0 && parts <= args.outputs().max(1))
            .ok_or(BuildError::Value {
                name: "num_outputs",
                reason: "not the number of outputs",
            })?,
        None => args.outputs().max(1),
    };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let axis = axis_at(axis, dims.len())?;
        let size = dims.get(axis).copied().unwrap_or_default();
        let sizes = match (inputs.take_opt(1), &sizes) {
            (Some(given), _) => crate::dims::to_sizes(&given.ints(ctx, "the sizes")?, "a size")?,
            (None, Some(sizes)) => sizes.clone(),
            (None, None) => {
                let each = size.div_ceil(parts);
                (0..parts).map(|i| size.saturating_sub(i * each).min(each)).collect()
            }
        };
        let total = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
        if total != Some(size) {
            return Err(OpError::Mismatch {
                what: "sizes to split into",
                left: dims,
                right: sizes,
            });
        }
        let mut start = 0;
        let mut outputs = Vec::with_capacity(sizes.len());
        for size in sizes {
            outputs.push(narrow(ctx, &x, axis, start, start + size)?);
            start += size;
        }
        Ok(outputs)
    })
}

/// Entries `start..end` of an axis, both inside.
pub(super) fn narrow<B: Kernels>(
    ctx: &Context<B>,
    x: &Value<B>,
    axis: usize,
    start: usize,
    end: usize,
) -> Result<Value<B>, OpError> {
    let mut dims = x.dims();
    let size = dims.get(axis).copied().unwrap_or_default();
    if let Some(slot) = dims.get_mut(axis) {
        *slot = end - start;
    }
    if dims.contains(&0) {
        return Ok(Value::empty(x.dtype(), dims));
    }
    let Some(host) = x.as_host() else {
        return Ok(x.clone().into_device(ctx)?.narrow(axis, start, end).into());
    };
    let inner: usize = dims.iter().skip(axis + 1).product();
    let outer: usize = dims.iter().take(axis).product();
    let places = (0..outer).flat_map(|o| (o * size + start) * inner..(o * size + end) * inner);
    Ok(host.pick(dims.clone(), places).into())
}

fn transpose<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axes = args.sizes("perm")?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let axes = axes.clone().unwrap_or_else(|| (0..x.rank()).rev().collect());
        Ok(vec![permute(ctx, x, &axes)?])
    })
}

pub(super) fn permute<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    axes: &[usize],
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..dims.len()) {
        let what = "the axes are no permutation of its axes";
        return Err(OpError::Mismatch { what, left: dims, right: axes.to_vec() });
    }
    if axes.iter().copied().eq(0..dims.len()) {
        return Ok(x);
    }
    let pick = |from: &[usize]| -> Vec<usize> {
        axes.iter().filter_map(|&a| from.get(a).copied()).collect()
    };
    let new_dims = pick(&dims);
    let Some(host) = x.as_host() else {
        return Ok(x.into_device(ctx)?.permute(axes).into());
    };
    let new_strides = pick(&strides(&dims));
    let places = (0..host.elements()).map(|index| {
        let mut rest = index;
        let mut place = 0;
        for (&size, &stride) in new_dims.iter().zip(&new_strides).rev() {
            place += (rest % size) * stride;
            rest /= size;
        }
        place
    });
    Ok(host.pick(new_dims.clone(), places).into())
}

fn block_size<B: Kernels>(args: &Args<'_, B>) -> Result<usize, BuildError> {
    let block = args.int_opt("blocksize")?.ok_or(BuildError::Missing { name: "blocksize" })?;
    usize::try_from(block)
        .ok()
        .filter(|block| (1..1 << 16).contains(block))
        .ok_or(BuildError::Value { name: "blocksize", reason: "not a positive size" })
}

fn depth_to_space<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    block: usize,
    column_first: bool,
) -> Result<Vec<Value<B>>, OpError> {
    let dims = x.dims();
    let &[n, c, h, w] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the operand", dims });
    };
    if !c.is_multiple_of(block * block) {
        return Err(OpError::Dims { what: "the operand of this block size", dims });
    }
    let depth = c / (block * block);
    let (split, axes) = if column_first {
        (vec![n, depth, block, block, h, w], [0, 1, 4, 2, 5, 3])
    } else {
        (vec![n, block, block, depth, h, w], [0, 3, 4, 1, 5, 2])
    };
    let moved = permute(ctx, x.reshape(split), &axes)?;
    Ok(vec![moved.reshape(vec![n, depth, h * block, w * block])])
}

fn space_to_depth<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    block: usize,
) -> Result<Vec<Value<B>>, OpError> {
    let dims = x.dims();
    let &[n, c, h, w] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the operand", dims });
    };
    if !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return Err(OpError::Dims { what: "the operand of this block size", dims });
    }
    let split = vec![n, c, h / block, block, w / block, block];
    let moved = permute(ctx, x.reshape(split), &[0, 3, 5, 1, 2, 4])?;
    Ok(vec![moved.reshape(vec![n, c * block * block, h / block, w / block])])
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, bools, counting, f32s, i64s, tensor, texts};

    #[test]
    fn casts_keep_what_the_type_can_hold() {
        let x = f32s(&[4], &[-1.7, 0., 2.5, 300.]);
        let to = |element: i64| Case::of("Cast", [x.clone()]).int("to", element);
        to(7).gives([i64s(&[4], &[-1, 0, 2, 300])]);
        to(9).gives([bools(&[4], &[1, 0, 1, 1])]);
        to(11).gives([tensor(&[4], &[f64::from(-1.7f32), 0., 2.5, 300.])]);
        to(8).gives([texts(&[4], &["-1.7", "0", "2.5", "300"])]);
        Case::of("Cast", [texts(&[2], &["1", "-2.5"])])
            .int("to", 1)
            .gives([f32s(&[2], &[1., -2.5])]);
        Case::of("Cast", [texts(&[1], &["one"])]).int("to", 1).fails("\"one\" is not a number");
        to(14).fails("this element type is not supported");
        let large: Vec<i64> = (0..3000).collect();
        let narrow: Vec<i32> = (0..3000).collect();
        Case::of("Cast", [i64s(&[3000], &large)]).int("to", 6).gives([tensor(&[3000], &narrow)]);
        Case::of("CastLike", [i64s(&[2], &[1, 2]), f32s(&[1], &[0.])])
            .gives([f32s(&[2], &[1., 2.])]);
    }

    #[test]
    fn parts_are_joined_along_an_axis() {
        let (a, b) = (counting(&[2, 1]), f32s(&[2, 2], &[5., 6., 7., 8.]));
        Case::of("Concat", [a.clone(), b.clone()])
            .int("axis", -1)
            .gives([f32s(&[2, 3], &[1., 5., 6., 2., 7., 8.])]);
        Case::of("Concat", [i64s(&[1], &[1]), i64s(&[0], &[]), i64s(&[2], &[2, 3])])
            .int("axis", 0)
            .gives([i64s(&[3], &[1, 2, 3])]);
        Case::of("Concat", [a, b]).int("axis", 0).fails("differ outside of the axis");
        Case::of("Concat", [counting(&[1])]).fails("\"axis\" is missing");
    }

    #[test]
    fn a_tensor_is_split_by_sizes_or_evenly() {
        let x = counting(&[5, 1]);
        let part = |values: &[f32]| f32s(&[values.len(), 1], values);
        let thirds: [Tensor; 3] = [part(&[1., 2.]), part(&[3., 4.]), part(&[5.])];
        Case::of("Split", [x.clone()]).opset(18).int("num_outputs", 3).gives(thirds);
        Case::of("Split", [x.clone(), i64s(&[2], &[1, 4])])
            .gives([part(&[1.]), part(&[2., 3., 4., 5.])]);
        Case::of("Split", [x.clone()])
            .opset(11)
            .ints("split", &[5, 0])
            .gives([part(&[1., 2., 3., 4., 5.]), part(&[])]);
        Case::of("Split", [x, i64s(&[1], &[4])]).fails("sizes to split into");
    }

    #[test]
    fn strings_are_moved_too() {
        let many = vec!["x"; 1500];
        let x = texts(&[2, 2], &["a", "b", "c", "d"]);
        let turned = texts(&[2, 2], &["a", "c", "b", "d"]);
        Case::of("Transpose", [x.clone()]).gives([turned]);
        Case::of("Identity", [x.clone()]).gives([x.clone()]);
        Case::of("Shape", [x.clone()]).gives([i64s(&[2], &[2, 2])]);
        Case::of("Reshape", [x.clone(), i64s(&[1], &[-1])])
            .gives([texts(&[4], &["a", "b", "c", "d"])]);
        Case::of("Tile", [x.clone(), i64s(&[2], &[1, 2])])
            .gives([texts(&[2, 4], &["a", "b", "a", "b", "c", "d", "c", "d"])]);
        Case::of("Slice", [x.clone(), i64s(&[1], &[1]), i64s(&[1], &[2])])
            .gives([texts(&[1, 2], &["c", "d"])]);
        Case::of("Split", [x]).gives([texts(&[1, 2], &["a", "b"]), texts(&[1, 2], &["c", "d"])]);
        Case::of("Concat", [texts(&[1500], &many), texts(&[1500], &many)])
            .int("axis", 0)
            .gives([texts(&[3000], &[many.clone(), many.clone()].concat())]);
        Case::of("Expand", [texts(&[1], &["x"]), i64s(&[1], &[1500])])
            .gives([texts(&[1500], &many)]);
        Case::of("Expand", [texts(&[1], &["x"]), i64s(&[1], &[1 << 30])]).fails("larger than");
    }

    #[test]
    fn axes_are_permuted() {
        let x = counting(&[1, 2, 3]);
        let turned = [1., 4., 2., 5., 3., 6.];
        Case::of("Transpose", [x.clone()]).gives([f32s(&[3, 2, 1], &turned)]);
        Case::of("Transpose", [x.clone()])
            .ints("perm", &[0, 2, 1])
            .gives([f32s(&[1, 3, 2], &turned)]);
        Case::of("Transpose", [i64s(&[2, 2], &[1, 2, 3, 4])]).gives([i64s(&[2, 2], &[1, 3, 2, 4])]);
        Case::of("Transpose", [x]).ints("perm", &[0, 1, 1]).fails("no permutation");
    }

    #[test]
    fn channels_and_blocks_change_places() {
        let x = counting(&[1, 4, 1, 1]);
        let block = f32s(&[1, 1, 2, 2], &[1., 2., 3., 4.]);
        let case = Case::of("DepthToSpace", [x.clone()]).int("blocksize", 2);
        case.gives([block.clone()]);
        Case::of("SpaceToDepth", [block]).int("blocksize", 2).gives([x]);
        Case::of("DepthToSpace", [counting(&[1, 3, 1, 1])]).int("blocksize", 2).fails("block size");
    }

    #[test]
    fn dropout_passes_its_operand() {
        let x = counting(&[2, 1]);
        Case::of("Dropout", [x.clone()]).gives([x.clone(), bools(&[2, 1], &[1, 1])]);
        Case::of("Dropout", [x.clone()]).opset(9).float("ratio", 0.9).gives([x.clone()]);
        Case::of("Dropout", [x, f32s(&[], &[0.5]), bools(&[], &[1])]).fails("training mode");
    }
}
