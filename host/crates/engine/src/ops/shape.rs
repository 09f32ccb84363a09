//! Operators on shapes.

use ingle_types::DType;

use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axes_at, broadcast, product, split_at, to_ints, to_sizes};
use crate::kernels::Kernels;
use crate::value::{HOST_INTS, Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Shape", 1.., 1..=1, shape);
    r.add("Size", 1.., 1..=1, |_| {
        op(|_, mut inputs| {
            let count = to_ints(&[inputs.take(0)?.elements()]);
            Ok(vec![Host::ints(DType::I64, vec![], count).into()])
        })
    });
    r.add("Reshape", 1..=4, 1..=1, reshape_by_attribute);
    r.add("Reshape", 5.., 2..=2, reshape_by_input);
    r.add("Flatten", 1.., 1..=1, flatten);
    r.add("Squeeze", 1..=12, 1..=1, |a| squeeze(a.ints("axes")?.map(<[i64]>::to_vec)));
    r.add("Squeeze", 13.., 1..=2, |_| squeeze(None));
    r.add("Unsqueeze", 1..=12, 1..=1, |a| {
        let axes = a.ints("axes")?.ok_or(BuildError::Missing { name: "axes" })?;
        unsqueeze(Some(axes.to_vec()))
    });
    r.add("Unsqueeze", 13.., 2..=2, |_| unsqueeze(None));
    r.add("Expand", 8.., 2..=2, expand);
    r.add("Tile", 6.., 2..=2, tile);
}

fn shape<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let start = args.int("start", 0)?;
    let end = args.int_opt("end")?;
    op(move |_, mut inputs| {
        let dims = inputs.take(0)?.dims();
        let rank = i64::try_from(dims.len()).unwrap_or(i64::MAX);
        let clamp = |place: i64| {
            let place = if place < 0 { place.saturating_add(rank) } else { place };
            usize::try_from(place.clamp(0, rank)).unwrap_or_default()
        };
        let range = clamp(start)..clamp(end.unwrap_or(rank));
        let sizes = to_ints(dims.get(range).unwrap_or_default());
        Ok(vec![Host::ints(DType::I64, vec![sizes.len()], sizes).into()])
    })
}

fn reshape_by_attribute<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let target = args.ints("shape")?.ok_or(BuildError::Missing { name: "shape" })?.to_vec();
    op(move |_, mut inputs| reshape(inputs.take(0)?, &target, false))
}

fn reshape_by_input<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let allow_zero = args.flag("allowzero", false)?;
    op(move |ctx, mut inputs| {
        let (x, target) = (inputs.take(0)?, inputs.take(1)?);
        reshape(x, &target.ints(ctx, "the shape")?, allow_zero)
    })
}

/// 0 = as in the operand, unless zeros are allowed; -1 = what remains.
fn reshape<B: Kernels>(
    x: Value<B>,
    target: &[i64],
    allow_zero: bool,
) -> Result<Vec<Value<B>>, OpError> {
    let dims = x.dims();
    let fail = || OpError::Reshape { dims: dims.clone(), target: target.to_vec() };
    let mut wildcard = None;
    let mut sizes = Vec::with_capacity(target.len());
    for (i, &size) in target.iter().enumerate() {
        sizes.push(match size {
            -1 if wildcard.replace(i).is_none() => 1,
            0 if !allow_zero => dims.get(i).copied().ok_or_else(fail)?,
            size => usize::try_from(size).map_err(|_| fail())?,
        });
    }
    let known = product(&sizes).map_err(|_| fail())?;
    let count = x.elements();
    if let Some(slot) = wildcard.and_then(|i| sizes.get_mut(i)) {
        *slot = count.checked_div(known).ok_or_else(fail)?;
    }
    if sizes.iter().product::<usize>() != count {
        return Err(fail());
    }
    Ok(vec![x.reshape(sizes)])
}

fn flatten<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", 1)?;
    op(move |_, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let (front, back) = dims.split_at(split_at(axis, dims.len())?);
        Ok(vec![x.reshape(vec![front.iter().product(), back.iter().product()])])
    })
}

/// The axes come from the attribute or the second input; without either, all of size one.
fn squeeze<B: Kernels>(axes: Option<Vec<i64>>) -> Built<B> {
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let given = inputs.take_opt(1).map(|v| v.ints(ctx, "the axes")).transpose()?;
        let places = match given.as_ref().or(axes.as_ref()) {
            Some(axes) => axes_at(axes, dims.len())?,
            None => (0..dims.len()).filter(|&i| dims.get(i) == Some(&1)).collect(),
        };
        if places.iter().any(|&i| dims.get(i) != Some(&1)) {
            let what = "an axis to squeeze is not of size one";
            return Err(OpError::Mismatch { what, left: dims, right: places });
        }
        let kept = dims.iter().enumerate().filter(|(i, _)| !places.contains(i));
        let kept = kept.map(|(_, &d)| d).collect();
        Ok(vec![x.reshape(kept)])
    })
}

fn unsqueeze<B: Kernels>(axes: Option<Vec<i64>>) -> Built<B> {
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let given = inputs.take_opt(1).map(|v| v.ints(ctx, "the axes")).transpose()?;
        let axes = given.as_ref().or(axes.as_ref()).ok_or(OpError::Missing { index: 1 })?;
        let mut dims = x.dims();
        for place in axes_at(axes, dims.len() + axes.len())? {
            dims.insert(place, 1);
        }
        Ok(vec![x.reshape(dims)])
    })
}

fn expand<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let (x, target) = (inputs.take(0)?, inputs.take(1)?);
        let target = to_sizes(&target.ints(ctx, "the shape")?, "a size")?;
        let dims = broadcast(&x.dims(), &target)?;
        ctx.admit(x.dtype(), &dims)?;
        Ok(vec![x.expand(ctx, &dims)?])
    })
}

fn tile<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let (x, repeats) = (inputs.take(0)?, inputs.take(1)?);
        let repeats = to_sizes(&repeats.ints(ctx, "the repeats")?, "a repeat")?;
        Ok(vec![repeat(ctx, x, &repeats)?])
    })
}

fn repeat<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    repeats: &[usize],
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    if repeats.len() != dims.len() {
        let what = "one repeat is needed for each axis";
        return Err(OpError::Mismatch { what, left: dims, right: repeats.to_vec() });
    }
    let tiled: Vec<usize> = dims.iter().zip(repeats).map(|(&d, &r)| d.saturating_mul(r)).collect();
    ctx.admit(x.dtype(), &tiled)?;
    if tiled.contains(&0) {
        return Ok(Value::empty(x.dtype(), tiled));
    }
    // Each axis becomes (repeat, size); the repeats are broadcast and joined again.
    let ones: Vec<usize> = dims.iter().flat_map(|&d| [1, d]).collect();
    let pairs: Vec<usize> = dims.iter().zip(repeats).flat_map(|(&d, &r)| [r, d]).collect();
    let stays = x.as_host().is_some_and(|host| host.stays(tiled.iter().product()));
    if pairs.len() <= 6 || stays || tiled.iter().product::<usize>() <= HOST_INTS {
        return Ok(x.reshape(ones).expand(ctx, &pairs)?.reshape(tiled));
    }
    let mut tensor = x.into_device(ctx)?;
    for (axis, &times) in repeats.iter().enumerate().filter(|(_, times)| **times > 1) {
        tensor = tensor.repeat(axis, times);
    }
    Ok(tensor.into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    #[test]
    fn shapes_are_read_whole_or_in_part() {
        let x = counting(&[2, 3, 4]);
        Case::of("Shape", [x.clone()]).gives([i64s(&[3], &[2, 3, 4])]);
        Case::of("Shape", [x.clone()]).int("start", -2).gives([i64s(&[2], &[3, 4])]);
        Case::of("Shape", [x.clone()]).int("end", 99).int("start", 1).gives([i64s(&[2], &[3, 4])]);
        Case::of("Shape", [x.clone()]).int("start", 2).int("end", 1).gives([i64s(&[0], &[])]);
        Case::of("Size", [x]).gives([i64s(&[], &[24])]);
    }

    #[test]
    fn reshape_copies_sizes_and_infers_one() {
        let x = counting(&[2, 3]);
        let flat = f32s(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
        let to = |target: &[i64]| Case::of("Reshape", [x.clone(), i64s(&[target.len()], target)]);
        to(&[3, -1]).gives([flat.clone()]);
        to(&[0, -1, 1]).gives([counting(&[2, 3, 1])]);
        to(&[4, -1]).fails("shape [2, 3] cannot become [4, -1]");
        to(&[-1, -1]).fails("cannot become");
        to(&[7]).fails("cannot become");
        to(&[i64::MAX, i64::MAX]).fails("cannot become");
        Case::of("Reshape", [x.clone()]).opset(1).ints("shape", &[3, 2]).gives([flat]);
        let nothing = f32s(&[0, 3], &[]);
        Case::of("Reshape", [nothing, i64s(&[2], &[7, 0])])
            .int("allowzero", 1)
            .gives([f32s(&[7, 0], &[])]);
    }

    #[test]
    fn flatten_makes_two_dimensions() {
        let x = counting(&[2, 3, 2]);
        for (axis, dims) in [(0, [1, 12]), (1, [2, 6]), (-1, [6, 2]), (3, [12, 1])] {
            Case::of("Flatten", [x.clone()]).int("axis", axis).gives([counting(&dims)]);
        }
    }

    #[test]
    fn ones_come_and_go_by_attribute_or_input() {
        let x = counting(&[1, 3, 1]);
        Case::of("Squeeze", [x.clone()]).gives([counting(&[3])]);
        Case::of("Squeeze", [x.clone(), i64s(&[1], &[-1])]).gives([counting(&[1, 3])]);
        Case::of("Squeeze", [x.clone()]).opset(11).ints("axes", &[0]).gives([counting(&[3, 1])]);
        Case::of("Squeeze", [x, i64s(&[1], &[1])]).fails("not of size one");
        let x = counting(&[3]);
        Case::of("Unsqueeze", [x.clone(), i64s(&[2], &[0, -1])]).gives([counting(&[1, 3, 1])]);
        Case::of("Unsqueeze", [x.clone()]).opset(11).ints("axes", &[1]).gives([counting(&[3, 1])]);
        Case::of("Unsqueeze", [x, i64s(&[1], &[5])]).fails("axis 5");
    }

    #[test]
    fn expand_and_tile_repeat() {
        let x = counting(&[2, 1]);
        Case::of("Expand", [x.clone(), i64s(&[3], &[2, 1, 2])])
            .gives([f32s(&[2, 2, 2], &[1., 1., 2., 2., 1., 1., 2., 2.])]);
        Case::of("Expand", [x.clone(), i64s(&[1], &[1 << 40])]).fails("limit");
        Case::of("Tile", [x.clone(), i64s(&[2], &[2, 2])])
            .gives([f32s(&[4, 2], &[1., 1., 2., 2., 1., 1., 2., 2.])]);
        Case::of("Tile", [x, i64s(&[2], &[0, 2])]).gives([f32s(&[0, 2], &[])]);
        let deep = counting(&[1, 1, 1, 2000]);
        let twice: Vec<f32> = deep.as_slice::<f32>().unwrap().repeat(2);
        Case::of("Tile", [deep, i64s(&[4], &[1, 2, 1, 1])]).gives([f32s(&[1, 2, 1, 2000], &twice)]);
    }
}
