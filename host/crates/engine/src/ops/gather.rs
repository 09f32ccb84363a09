//! Picking entries by index.

use burn::tensor::IntDType;
use ingle_types::DType;

use super::compare::on_hand;
use super::tensor::narrow;
use super::{Args, Built, INTERNAL, Registry, op};
use crate::context::Context;
use crate::dims::{axis_at, product, strides, to_ints};
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Gather", 1.., 2..=2, gather);
    r.add("GatherElements", 11.., 2..=2, gather_elements);
    let (domain, name, version) = LOOK_UP;
    r.add_in(domain, name, version..=version, 2..=2, look_up);
    r.add("GatherND", 11.., 2..=2, gather_nd);
}

fn gather<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", 0)?;
    op(move |ctx, mut inputs| {
        let (x, indices) = (inputs.take(0)?, inputs.take(1)?);
        let axis = axis_at(axis, x.rank())?;
        Ok(vec![take(ctx, x, axis, indices)?])
    })
}

/// An operator that only the optimiser puts in: indices `[..., 1]` become rows
/// `[..., columns]`. The table has a row more before the first and one behind the
/// last, which all indices that are too small or too large find.
pub(crate) const LOOK_UP: (&str, &str, i64) = (INTERNAL, "LookUp", 1);

fn look_up<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let (indices, table) = (inputs.take(0)?, inputs.take(1)?);
        let (mut dims, table_dims) = (indices.dims(), table.dims());
        let last = match (dims.pop(), table_dims.as_slice()) {
            (Some(1), &[rows, _]) => rows.checked_sub(2).and_then(|rows| i64::try_from(rows).ok()),
            _ => None,
        };
        let Some(last) = last else {
            let what = "the indices do not fit the table";
            return Err(OpError::Mismatch { what, left: indices.dims(), right: table_dims });
        };
        let places = indices.reshape(dims).cast(ctx, DType::I64)?;
        let places: Value<B> = match places.as_host() {
            Some(host) => {
                let ints = host.as_ints().unwrap_or_default();
                let ints = ints.iter().map(|&v| v.clamp(-1, last) + 1).collect();
                Host::ints(DType::I64, host.dims().to_vec(), ints).into()
            }
            None => {
                let places =
                    B::int_clamp(places.into_int(ctx, "the indices")?, (-1i64).into(), last.into());
                DeviceTensor::Int(B::int_add_scalar(places, 1i64.into())).into()
            }
        };
        Ok(vec![take(ctx, table, 0, places)?])
    })
}

/// The axis is replaced by the dims of the indices.
pub(super) fn take<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    axis: usize,
    indices: Value<B>,
) -> Result<Value<B>, OpError> {
    let indices = on_hand(ctx, indices, &x)?;
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
            && values.stays(count)
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
pub(super) fn checked_places(indices: &Host, size: usize) -> Result<Vec<usize>, OpError> {
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
        let indices = on_hand(ctx, indices, &x)?;
        let (dims, picked) = (x.dims(), indices.dims());
        let axis = axis_at(axis, dims.len())?;
        check_reach(&dims, &picked, axis)?;
        ctx.admit(x.dtype(), &picked)?;
        if picked.contains(&0) {
            return Ok(vec![Value::empty(x.dtype(), picked)]);
        }
        let size = dims.get(axis).copied().unwrap_or_default();
        if let (Some(values), Some(host)) = (x.as_host(), indices.as_host()) {
            let along = checked_places(host, size)?;
            let at = element_places(&dims, &picked, axis, &along)?;
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

fn check_reach(dims: &[usize], picked: &[usize], axis: usize) -> Result<(), OpError> {
    let fits = dims.len() == picked.len()
        && (0..dims.len()).all(|i| i == axis || picked.get(i) <= dims.get(i));
    if fits {
        return Ok(());
    }
    let what = "the indices reach beyond the operand";
    Err(OpError::Mismatch { what, left: dims.to_vec(), right: picked.to_vec() })
}

/// The place in shape `dims` of each element of shape `picked`, whose place along
/// `axis` is replaced by the checked one in `along`.
pub(super) fn element_places(
    dims: &[usize],
    picked: &[usize],
    axis: usize,
    along: &[usize],
) -> Result<impl Iterator<Item = usize>, OpError> {
    check_reach(dims, picked, axis)?;
    let steps = strides(dims);
    let own = strides(picked);
    let terms: Vec<(usize, usize, usize)> = own
        .into_iter()
        .zip(picked)
        .zip(&steps)
        .enumerate()
        .map(|(d, ((own, &size), &step))| (own, size, if d == axis { 0 } else { step }))
        .collect();
    let step = steps.get(axis).copied().unwrap_or_default();
    Ok(along.iter().enumerate().map(move |(i, place)| {
        let others = terms.iter().map(|&(own, size, step)| i / own % size * step);
        place * step + others.sum::<usize>()
    }))
}

/// What a tensor of index tuples points at.
pub(super) struct Tuples {
    /// The part that each tuple points at, counted in parts.
    pub(super) places: Vec<usize>,
    /// The shape of all those parts together.
    pub(super) dims: Vec<usize>,
    /// Elements of a part.
    pub(super) part: usize,
}

/// The last dimension of the indices holds tuples that point into `dims`, behind
/// `batch` leading dimensions that both have.
pub(super) fn tuple_places<B: Kernels>(
    ctx: &Context<B>,
    dims: &[usize],
    indices: &Value<B>,
    batch: usize,
) -> Result<Tuples, OpError> {
    let given = indices.dims();
    let Some((&length, outer)) = given.split_last() else {
        return Err(OpError::Dims { what: "the indices", dims: given });
    };
    let fail = |what| OpError::Mismatch { what, left: dims.to_vec(), right: given.clone() };
    let (Some(shared), Some(rest)) = (dims.get(..batch), dims.get(batch..)) else {
        return Err(fail("the indices have more batch dimensions than its rank"));
    };
    if outer.get(..batch) != Some(shared) {
        return Err(fail("their batch dimensions differ"));
    }
    let (Some(pointed), Some(part)) = (rest.get(..length), rest.get(length..)) else {
        return Err(fail("the tuples are longer, more than its rank"));
    };
    let picked = [outer, part].concat();
    let elements = product(&picked)?;
    let part = part.iter().product();
    if elements == 0 {
        return Ok(Tuples { places: Vec::new(), dims: picked, part });
    }
    // Empty tuples take no memory, however many there are.
    ctx.admit(DType::I64, outer)?;
    let indices = indices.to_host(ctx)?;
    let steps = strides(pointed);
    let (size, tuples): (usize, usize) = (pointed.iter().product(), outer.iter().product());
    let each = tuples / shared.iter().product::<usize>();
    let mut places: Vec<usize> = (0..tuples).map(|tuple| tuple / each * size).collect();
    for (at, (&size, step)) in pointed.iter().zip(steps).enumerate() {
        let column = indices.pick(vec![tuples], (0..tuples).map(|tuple| tuple * length + at));
        for (place, along) in places.iter_mut().zip(checked_places(&column, size)?) {
            *place += along * step;
        }
    }
    Ok(Tuples { places, dims: picked, part })
}

fn gather_nd<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let batch = usize::try_from(args.int("batch_dims", 0)?)
        .map_err(|_| BuildError::Value { name: "batch_dims", reason: "it is negative" })?;
    op(move |ctx, mut inputs| {
        let (x, indices) = (inputs.take(0)?, inputs.take(1)?);
        let tuples = tuple_places(ctx, &x.dims(), &indices, batch)?;
        Ok(vec![pick_parts(ctx, x, tuples.part, &tuples.places, tuples.dims)?])
    })
}

/// A tensor of shape `dims` out of parts of `part` elements of `x`, whose places
/// are counted in such parts and are inside.
pub(super) fn pick_parts<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    part: usize,
    places: &[usize],
    dims: Vec<usize>,
) -> Result<Value<B>, OpError> {
    ctx.admit(x.dtype(), &dims)?;
    if dims.contains(&0) {
        return Ok(Value::empty(x.dtype(), dims));
    }
    let count: usize = dims.iter().product();
    if let Some(host) = x.as_host()
        && host.stays(count)
    {
        let at = places.iter().flat_map(|&place| place * part..(place + 1) * part);
        return Ok(host.pick(dims, at).into());
    }
    let rows = x.elements() / part;
    let places = Host::ints(DType::I64, vec![places.len()], to_ints(places));
    let places = Value::<B>::from(places).into_int(ctx, "the indices")?;
    Ok(x.into_device(ctx)?.reshape(&[rows, part]).select(0, places).reshape(&dims).into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor, texts};

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
    fn strings_are_picked_too() {
        let (x, indices) = (texts(&[2], &["a", "b"]), vec![-1i64; 2000]);
        Case::of("Gather", [x.clone(), i64s(&[2000], &indices)])
            .gives([texts(&[2000], &["b"; 2000])]);
        Case::of("GatherElements", [x.clone(), i64s(&[2000], &indices)])
            .gives([texts(&[2000], &["b"; 2000])]);
        Case::of("Gather", [x, i64s(&[1], &[2])]).fails("index 2");
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
    #[test]
    fn each_tuple_picks_a_part() {
        let x = counting(&[2, 2, 2]);
        Case::of("GatherND", [x.clone(), i64s(&[2, 1], &[1, 0])])
            .gives([f32s(&[2, 2, 2], &[5., 6., 7., 8., 1., 2., 3., 4.])]);
        Case::of("GatherND", [x.clone(), i64s(&[2, 3], &[0, 1, -1, 1, 0, 0])])
            .gives([f32s(&[2], &[4., 5.])]);
        Case::of("GatherND", [x.clone(), i64s(&[2, 1], &[1, 0])])
            .int("batch_dims", 1)
            .gives([f32s(&[2, 2], &[3., 4., 5., 6.])]);
        Case::of("GatherND", [x, i64s(&[0, 1], &[])]).gives([f32s(&[0, 2, 2], &[])]);
        Case::of("GatherND", [tensor(&[2], &[true as u8, 7]), i64s(&[1], &[1])])
            .gives([tensor(&[], &[7u8])]);
    }

    #[test]
    fn tuples_are_checked() {
        let x = counting(&[2, 2]);
        let gather = |indices| Case::of("GatherND", [x.clone(), indices]);
        gather(i64s(&[1, 2], &[0, 2])).fails("index 2");
        gather(i64s(&[1, 2], &[0, i64::MIN])).fails("size 2");
        gather(i64s(&[1, 3], &[0; 3])).fails("more than its rank");
        gather(i64s(&[], &[0])).fails("the indices cannot be");
        gather(i64s(&[3, 1], &[0; 3])).int("batch_dims", 1).fails("batch dimensions differ");
        gather(i64s(&[2, 2, 1], &[0; 4])).int("batch_dims", 3).fails("than its rank");
        gather(i64s(&[1, 1], &[0])).int("batch_dims", -1).fails("negative");
    }
}
