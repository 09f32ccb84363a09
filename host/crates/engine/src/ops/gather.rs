//! Picking entries by index.

use burn::tensor::IntDType;
use ingle_types::DType;

use super::tensor::narrow;
use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::dims::{axis_at, strides};
use crate::kernels::Kernels;
use crate::value::{HOST_INTS, Host, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Gather", 1.., 2..=2, gather);
    r.add("GatherElements", 11.., 2..=2, gather_elements);
}

fn gather<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", 0)?;
    op(move |ctx, mut inputs| {
        let (x, indices) = (inputs.take(0)?, inputs.take(1)?);
        let axis = axis_at(axis, x.rank())?;
        Ok(vec![take(ctx, x, axis, indices)?])
    })
}

/// The axis is replaced by the dims of the indices.
fn take<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    axis: usize,
    indices: Value<B>,
) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    let size = dims.get(axis).copied().unwrap_or_default();
    let (front, back) =
        (dims.get(..axis).unwrap_or_default(), dims.get(axis + 1..).unwrap_or_default());
    let picked = [front, &indices.dims(), back].concat();
    ctx.admit(x.dtype(), &picked)?;
    if picked.contains(&0) {
        return Ok(Value::empty(x.dtype(), picked));
    }
    if let Some(host) = indices.as_host() {
        let places = checked_places(host, size)?;
        if let &[place] = places.as_slice() {
            return Ok(narrow(ctx, &x, axis, place, place + 1)?.reshape(picked));
        }
        let count: usize = picked.iter().product();
        if let Some(values) = x.as_host()
            && count <= HOST_INTS
        {
            let (outer, inner): (usize, usize) = (front.iter().product(), back.iter().product());
            let at = |o: usize| {
                let places = &places;
                places.iter().flat_map(move |&p| {
                    let from = (o * size + p) * inner;
                    from..from + inner
                })
            };
            return Ok(values.pick(picked, (0..outer).flat_map(at)).into());
        }
    }
    let flat = indices.elements();
    let indices = checked_indices(ctx, indices.reshape(vec![flat]), size)?;
    Ok(x.into_device(ctx)?.select(axis, indices).reshape(&picked).into())
}

/// Indices on the host, counted from the start.
fn checked_places(indices: &Host, size: usize) -> Result<Vec<usize>, OpError> {
    let given = indices.dtype();
    let expected = "an integer tensor";
    let values =
        indices.as_ints().ok_or(OpError::DType { what: "the indices", expected, given })?;
    let bound = i64::try_from(size).unwrap_or(i64::MAX);
    let place = |&index: &i64| {
        let place = if index < 0 { index.saturating_add(bound) } else { index };
        usize::try_from(place).ok().filter(|&p| p < size).ok_or(OpError::Index { index, size })
    };
    values.iter().map(place).collect()
}

/// Indices on the device, counted from the start. Where reading them back would
/// wait for the device they are not refused but bent into the range.
pub(super) fn checked_indices<B: Kernels>(
    ctx: &Context<B>,
    indices: Value<B>,
    size: usize,
) -> Result<B::IntTensorPrimitive, OpError> {
    if let Some(host) = indices.as_host() {
        let dims = host.dims().to_vec();
        let places = checked_places(host, size)?.into_iter().map(|p| p as i64).collect();
        let places: Value<B> = Host::ints(DType::I64, dims, places).into();
        return places.into_int(ctx, "the indices");
    }
    let bound = i64::try_from(size).unwrap_or(i64::MAX);
    let indices = B::int_cast(indices.into_int(ctx, "the indices")?, IntDType::I64);
    match B::int_range(&indices) {
        Some((low, high)) if low < -bound => Err(OpError::Index { index: low.min(high), size }),
        Some((_, high)) if high >= bound => Err(OpError::Index { index: high, size }),
        Some((low, _)) if low >= 0 => Ok(indices),
        _ => {
            let negative = B::int_lower_elem(indices.clone(), 0i64.into(), ctx.bool_store());
            let wrapped = B::int_add_scalar(indices.clone(), bound.into());
            let places = B::int_mask_where(indices, negative, wrapped);
            Ok(B::int_clamp(places, 0i64.into(), (bound - 1).into()))
        }
    }
}

fn gather_elements<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", 0)?;
    op(move |ctx, mut inputs| {
        let (x, indices) = (inputs.take(0)?, inputs.take(1)?);
        let (dims, picked) = (x.dims(), indices.dims());
        let axis = axis_at(axis, dims.len())?;
        let fits = dims.len() == picked.len()
            && (0..dims.len()).all(|i| i == axis || picked.get(i) <= dims.get(i));
        if !fits {
            let what = "the indices reach beyond the operand";
            return Err(OpError::Mismatch { what, left: dims, right: picked });
        }
        ctx.admit(x.dtype(), &picked)?;
        if picked.contains(&0) {
            return Ok(vec![Value::empty(x.dtype(), picked)]);
        }
        let size = dims.get(axis).copied().unwrap_or_default();
        if let (Some(values), Some(host)) = (x.as_host(), indices.as_host()) {
            let places = checked_places(host, size)?;
            let (steps, own) = (strides(&dims), strides(&picked));
            let at = places.into_iter().enumerate().map(|(i, place)| {
                let coordinate = |d: usize| {
                    let (stride, size) = (own.get(d).copied(), picked.get(d).copied());
                    i / stride.unwrap_or(1) % size.unwrap_or(1)
                };
                let along = |(d, &step): (usize, &usize)| {
                    step * if d == axis { place } else { coordinate(d) }
                };
                steps.iter().enumerate().map(along).sum()
            });
            return Ok(vec![values.pick(picked.clone(), at).into()]);
        }
        let indices = checked_indices(ctx, indices, size)?;
        let mut tensor = x.into_device(ctx)?;
        for (i, &end) in picked.iter().enumerate().filter(|(i, _)| *i != axis) {
            tensor = tensor.narrow(i, 0, end);
        }
        Ok(vec![tensor.gather(axis, indices).into()])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor};

    #[test]
    fn entries_are_picked_and_the_axis_replaced() {
        let x = counting(&[3, 2]);
        Case::of("Gather", [x.clone(), i64s(&[2, 1], &[2, -3])])
            .gives([f32s(&[2, 1, 2], &[5., 6., 1., 2.])]);
        Case::of("Gather", [x.clone(), i64s(&[], &[-1])])
            .int("axis", 1)
            .gives([f32s(&[3], &[2., 4., 6.])]);
        Case::of("Gather", [i64s(&[3], &[7, 8, 9]), i64s(&[], &[1])]).gives([i64s(&[], &[8])]);
        Case::of("Gather", [x, i64s(&[0], &[])]).gives([f32s(&[0, 2], &[])]);
    }

    #[test]
    fn many_indices_are_checked_too() {
        let x = counting(&[4, 1]);
        let mut indices = vec![-1i32; 2000];
        Case::of("Gather", [x.clone(), tensor(&[2000], &indices)])
            .gives([f32s(&[2000, 1], &[4.; 2000])]);
        for bad in [4, -5, i32::MIN] {
            indices[1000] = bad;
            Case::of("Gather", [x.clone(), tensor(&[2000], &indices)]).fails("size 4");
        }
        Case::of("Gather", [x.clone(), i64s(&[1], &[4])]).fails("index 4");
        Case::of("Gather", [x, i64s(&[1], &[i64::MIN])]).fails("size 4");
    }

    #[test]
    fn each_index_picks_one_element() {
        let x = f32s(&[2, 2], &[1., 2., 3., 4.]);
        Case::of("GatherElements", [x.clone(), i64s(&[2, 2], &[0, 0, 1, 0])])
            .int("axis", 1)
            .gives([f32s(&[2, 2], &[1., 1., 4., 3.])]);
        Case::of("GatherElements", [x.clone(), i64s(&[1, 2], &[-1, 0])])
            .gives([f32s(&[1, 2], &[3., 2.])]);
        Case::of("GatherElements", [i64s(&[2, 2], &[1, 2, 3, 4]), i64s(&[1, 2], &[1, 0])])
            .gives([i64s(&[1, 2], &[3, 2])]);
        Case::of("GatherElements", [x.clone(), i64s(&[3, 2], &[0; 6])])
            .int("axis", 1)
            .fails("reach beyond");
        Case::of("GatherElements", [x, i64s(&[1, 1], &[2])]).fails("index 2");
    }
}
