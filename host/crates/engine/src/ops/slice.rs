//! Slice.

use burn::tensor::Slice;

use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axis_at, strides};
use crate::kernels::Kernels;
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Slice", 1..=9, 1..=1, by_attributes);
    r.add("Slice", 10.., 3..=5, by_inputs);
}

fn by_attributes<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let required = |name| args.ints(name)?.ok_or(BuildError::Missing { name });
    let (starts, ends) = (required("starts")?.to_vec(), required("ends")?.to_vec());
    let axes = args.ints("axes")?.map(<[i64]>::to_vec);
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let ranges = Range::list(&x.dims(), &starts, &ends, axes.as_deref(), None)?;
        Ok(vec![slice(ctx, x, &ranges)?])
    })
}

fn by_inputs<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let x = inputs.take(0)?;
        let starts = inputs.take(1)?.ints(ctx, "the starts")?;
        let ends = inputs.take(2)?.ints(ctx, "the ends")?;
        let mut list =
            |i, what| inputs.take_opt(i).map(|v: Value<B>| v.ints(ctx, what)).transpose();
        let (axes, steps) = (list(3, "the axes")?, list(4, "the steps")?);
        let ranges = Range::list(&x.dims(), &starts, &ends, axes.as_deref(), steps.as_deref())?;
        Ok(vec![slice(ctx, x, &ranges)?])
    })
}

/// Which entries of an axis: `count` of them from `start`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    start: usize,
    step: i64,
    count: usize,
}

impl Range {
    /// One for each axis of `dims`.
    fn list(
        dims: &[usize],
        starts: &[i64],
        ends: &[i64],
        axes: Option<&[i64]>,
        steps: Option<&[i64]>,
    ) -> Result<Vec<Self>, OpError> {
        let default: Vec<i64> = (0..).take(starts.len()).collect();
        let ones = vec![1; starts.len()];
        let (axes, steps) = (axes.unwrap_or(&default), steps.unwrap_or(&ones));
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            let what = "starts, ends, axes and steps are not of one length";
            let (left, right) = (vec![starts.len(), ends.len()], vec![axes.len(), steps.len()]);
            return Err(OpError::Mismatch { what, left, right });
        }
        let mut ranges: Vec<Self> =
            dims.iter().map(|&count| Self { start: 0, step: 1, count }).collect();
        for (((&start, &end), &axis), &step) in starts.iter().zip(ends).zip(axes).zip(steps) {
            let axis = axis_at(axis, dims.len())?;
            if let (Some(range), Some(&size)) = (ranges.get_mut(axis), dims.get(axis)) {
                *range = Self::new(start, end, step, size)?;
            }
        }
        Ok(ranges)
    }

    fn new(start: i64, end: i64, step: i64, size: usize) -> Result<Self, OpError> {
        if step == 0 {
            return Err(OpError::Value { what: "a step", value: 0 });
        }
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let from_end = |v: i64| if v < 0 { v.saturating_add(size) } else { v };
        let (start, end) = (from_end(start), from_end(end));
        // Backwards, -1 stands for before the first entry.
        let (start, length) = if step > 0 {
            let (start, end) = (start.clamp(0, size), end.clamp(0, size));
            (start, end - start)
        } else {
            let (start, end) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
            (start, start - end)
        };
        let count = length.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
        Ok(Self {
            start: usize::try_from(start).unwrap_or_default(),
            step,
            count: usize::try_from(count).unwrap_or_default(),
        })
    }

    fn places(self) -> impl Iterator<Item = usize> + Clone {
        let (forwards, step) = (self.step > 0, self.step.unsigned_abs() as usize);
        (0..self.count).map(
            move |i| {
                if forwards { self.start + i * step } else { self.start - i * step }
            },
        )
    }

    /// In Burn's terms, where a negative step walks its range from the end.
    fn to_burn(self) -> Slice {
        // One entry has no step; a large one would only overflow.
        let step = if self.count <= 1 { 1 } else { self.step as isize };
        let reach = (self.count.saturating_sub(1) * step.unsigned_abs()) as isize;
        let start = self.start as isize;
        if step > 0 {
            Slice::new(start, Some(start + reach + 1), step)
        } else {
            Slice::new(start - reach, Some(start + 1), step)
        }
    }
}

fn slice<B: Kernels>(ctx: &Context<B>, x: Value<B>, ranges: &[Range]) -> Result<Value<B>, OpError> {
    let dims = x.dims();
    let sliced: Vec<usize> = ranges.iter().map(|range| range.count).collect();
    if sliced.contains(&0) {
        return Ok(Value::empty(x.dtype(), sliced));
    }
    if ranges.iter().zip(&dims).all(|(r, &size)| *r == Range { start: 0, step: 1, count: size }) {
        return Ok(x);
    }
    let Some(host) = x.as_host() else {
        let slices: Vec<Slice> = ranges.iter().map(|range| range.to_burn()).collect();
        return Ok(x.into_device(ctx)?.slice(&slices).into());
    };
    let mut places = vec![0];
    for (range, stride) in ranges.iter().zip(strides(&dims)) {
        let next = |&base: &usize| range.places().map(move |p| base + p * stride);
        places = places.iter().flat_map(next).collect();
    }
    Ok(host.pick(sliced, places.into_iter()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, counting, f32s, i64s};

    #[test]
    fn slices_come_from_attributes_or_inputs() {
        let x = counting(&[2, 4]);
        Case::of("Slice", [x.clone()])
            .opset(9)
            .ints("starts", &[1, -2])
            .ints("ends", &[9, 9])
            .gives([f32s(&[1, 2], &[7., 8.])]);
        let list = |v: &[i64]| i64s(&[v.len()], v);
        Case::of("Slice", [x.clone(), list(&[-1]), list(&[i64::MIN]), list(&[1]), list(&[-2])])
            .gives([f32s(&[2, 2], &[4., 2., 8., 6.])]);
        Case::of("Slice", [x.clone(), list(&[3]), list(&[1]), list(&[1])])
            .gives([f32s(&[2, 0], &[])]);
        Case::of("Slice", [list(&[1, 2, 3, 4]), list(&[1]), list(&[3])]).gives([list(&[2, 3])]);
        Case::of("Slice", [x.clone(), list(&[0]), list(&[1]), list(&[2])]).fails("axis 2");
        Case::of("Slice", [x.clone(), list(&[0]), list(&[1]), list(&[0]), list(&[0])])
            .fails("a step cannot be 0");
        Case::of("Slice", [x, list(&[0, 0]), list(&[1])]).fails("not of one length");
    }

    #[test]
    fn ranges_clamp_and_walk_backwards() {
        let list = |start, end, step, size| -> Vec<usize> {
            Range::new(start, end, step, size).unwrap().places().collect()
        };
        assert_eq!(list(1, 4, 2, 5), [1, 3]);
        assert_eq!(list(-2, i64::MAX, 1, 5), [3, 4]);
        assert_eq!(list(-1, i64::MIN, -1, 3), [2, 1, 0]);
        assert_eq!(list(20, 0, -2, 6), [5, 3, 1]);
        assert!(list(3, 1, 1, 5).is_empty());
        assert!(list(0, 5, -1, 5).is_empty());
        assert!(list(0, 9, 1, 0).is_empty());
        assert_eq!(list(0, 9, i64::MAX, 3), [0]);
        assert!(Range::new(0, 1, 0, 3).is_err());
    }
}
