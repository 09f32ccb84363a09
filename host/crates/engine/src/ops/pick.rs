//! Entries picked by a condition, by not being zero, or by a length.

use ingle_types::DType;

use super::gather::{pick_parts, take};
use super::generate::placed;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axis_at, strides};
use crate::kernels::Kernels;
use crate::value::{Host, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Compress", 9.., 2..=2, compress);
    r.add("NonZero", 9.., 1..=1, |_| op(|ctx, mut inputs| non_zero(ctx, inputs.take(0)?)));
    r.add("ReverseSequence", 10.., 2..=2, reverse_sequence);
}

/// The entries of an axis whose condition is true; without an axis, of all elements.
fn compress<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int_opt("axis")?;
    op(move |ctx, mut inputs| {
        let (x, condition) = (inputs.take(0)?, inputs.take(1)?);
        let (x, axis) = along(x, axis)?;
        if condition.rank() != 1 {
            return Err(OpError::Dims { what: "the condition", dims: condition.dims() });
        }
        let condition = condition.ints(ctx, "the condition")?;
        let places: Vec<i64> =
            (0..).zip(&condition).filter(|(_, c)| **c != 0).map(|(i, _)| i).collect();
        let places = Host::ints(DType::I64, vec![places.len()], places);
        Ok(vec![take(ctx, x, axis, places.into())?])
    })
}

/// The operand and one of its axes; without an axis, its elements as a vector.
pub(super) fn along<B: Kernels>(
    x: Value<B>,
    axis: Option<i64>,
) -> Result<(Value<B>, usize), OpError> {
    match axis {
        Some(axis) => {
            let axis = axis_at(axis, x.rank())?;
            Ok((x, axis))
        }
        None => {
            let count = x.elements();
            Ok((x.reshape(vec![count]), 0))
        }
    }
}

/// The coordinates of each element that is not zero: `[rank, count]`.
fn non_zero<B: Kernels>(ctx: &Context<B>, x: Value<B>) -> Result<Vec<Value<B>>, OpError> {
    let dims = x.dims();
    ctx.admit(DType::I64, &dims)?;
    let found = x.cast(ctx, DType::Bool)?.ints(ctx, "the operand")?;
    let places: Vec<usize> =
        found.iter().enumerate().filter(|(_, v)| **v != 0).map(|(place, _)| place).collect();
    let out = vec![dims.len(), places.len()];
    ctx.admit(DType::I64, &out)?;
    let mut coordinates = Vec::with_capacity(out.iter().product());
    for (&size, step) in dims.iter().zip(strides(&dims)) {
        coordinates.extend(places.iter().map(|place| (place / step % size) as i64));
    }
    Ok(vec![placed(ctx, Host::ints(DType::I64, out, coordinates))?])
}

/// Turns round the first entries of the time axis, as many as each example has.
fn reverse_sequence<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let (batch, time) = (args.int("batch_axis", 1)?, args.int("time_axis", 0)?);
    if !matches!((batch, time), (0, 1) | (1, 0)) {
        let reason = "with the time axis it must be 0 and 1";
        return Err(BuildError::Value { name: "batch_axis", reason });
    }
    let time_first = time == 0;
    op(move |ctx, mut inputs| {
        let (x, lengths) = (inputs.take(0)?, inputs.take(1)?);
        let dims = x.dims();
        let &[first, second, ref rest @ ..] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        let (times, batch) = if time_first { (first, second) } else { (second, first) };
        if lengths.dims() != [batch] {
            return Err(OpError::Dims { what: "the lengths", dims: lengths.dims() });
        }
        let lengths = lengths.ints(ctx, "the lengths")?;
        let lengths = lengths.iter().map(|&length| match usize::try_from(length) {
            Ok(length) if length <= times => Ok(length),
            _ => Err(OpError::Value { what: "a length", value: length }),
        });
        let lengths = lengths.collect::<Result<Vec<_>, _>>()?;
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let from = |t: usize, b: usize| {
            let length = lengths.get(b).copied().unwrap_or_default();
            let t = if t < length { length - 1 - t } else { t };
            if time_first { t * batch + b } else { b * times + t }
        };
        ctx.admit(DType::I64, &[first, second])?;
        let places: Vec<usize> = (0..first * second)
            .map(|place| (place / second, place % second))
            .map(|(i, j)| if time_first { from(i, j) } else { from(j, i) })
            .collect();
        let part = rest.iter().product();
        Ok(vec![pick_parts(ctx, x, part, &places, dims)?])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, bools, counting, f32s, i64s, tensor};

    #[test]
    fn a_condition_keeps_entries() {
        let x = counting(&[3, 2]);
        Case::of("Compress", [x.clone(), bools(&[3], &[0, 1, 1])])
            .int("axis", 0)
            .gives([f32s(&[2, 2], &[3., 4., 5., 6.])]);
        Case::of("Compress", [x.clone(), bools(&[2], &[0, 1])])
            .int("axis", -1)
            .gives([f32s(&[3, 1], &[2., 4., 6.])]);
        Case::of("Compress", [x.clone(), bools(&[5], &[0, 1, 0, 0, 1])])
            .gives([f32s(&[2], &[2., 5.])]);
        Case::of("Compress", [x.clone(), bools(&[1], &[0])]).gives([f32s(&[0], &[])]);
        Case::of("Compress", [x.clone(), bools(&[7], &[0, 0, 0, 0, 0, 0, 1])]).fails("index 6");
        Case::of("Compress", [x, bools(&[1, 1], &[1])]).fails("the condition cannot be");
    }

    #[test]
    fn what_is_not_zero_has_coordinates() {
        Case::of("NonZero", [bools(&[2, 2], &[1, 0, 1, 1])])
            .gives([i64s(&[2, 3], &[0, 1, 1, 0, 0, 1])]);
        Case::of("NonZero", [f32s(&[3, 1], &[0., f32::NAN, -0.])]).gives([i64s(&[2, 1], &[1, 0])]);
        Case::of("NonZero", [tensor(&[2], &[0u64, u64::MAX])]).gives([i64s(&[1, 1], &[1])]);
        Case::of("NonZero", [i64s(&[], &[3])]).gives([i64s(&[0, 1], &[])]);
        Case::of("NonZero", [f32s(&[2, 0], &[])]).gives([i64s(&[2, 0], &[])]);
    }

    #[test]
    fn sequences_are_turned_round_up_to_their_length() {
        let x = counting(&[3, 2]);
        let lengths = |values: &[i64]| i64s(&[values.len()], values);
        Case::of("ReverseSequence", [x.clone(), lengths(&[3, 2])])
            .gives([f32s(&[3, 2], &[5., 4., 3., 2., 1., 6.])]);
        Case::of("ReverseSequence", [x.clone(), lengths(&[0, 1, 2])])
            .int("batch_axis", 0)
            .int("time_axis", 1)
            .gives([f32s(&[3, 2], &[1., 2., 3., 4., 6., 5.])]);
        Case::of("ReverseSequence", [x.clone(), lengths(&[4, 1])]).fails("a length cannot be 4");
        Case::of("ReverseSequence", [x.clone(), lengths(&[-1, 1])]).fails("a length cannot be -1");
        Case::of("ReverseSequence", [x.clone(), lengths(&[1])]).fails("the lengths cannot be");
        Case::of("ReverseSequence", [x, lengths(&[1, 1])]).int("time_axis", 2).fails("must be");
    }
}
