//! The distinct entries of a tensor.

use std::cmp::Ordering;

use ingle_types::{DType, Tensor};

use super::gather::take;
use super::generate::placed;
use super::pick::along;
use super::tensor::permute;
use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::kernels::Kernels;
use crate::number::{Number, by_element, elements};
use crate::value::{Host, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Unique", 11.., 1..=1, unique);
}

/// Entries are the parts along an axis; without an axis, the elements.
fn unique<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int_opt("axis")?;
    let sorted = args.flag("sorted", true)?;
    args.makes_outputs(4);
    op(move |ctx, mut inputs| {
        let (x, axis) = along(inputs.take(0)?, axis)?;
        let dims = x.dims();
        let count = dims.get(axis).copied().unwrap_or_default();
        ctx.admit(DType::I64, &[count])?;
        let mut groups = if dims.contains(&0) {
            // Parts without elements are all the same.
            Groups::of(count, |_, _| Ordering::Equal)
        } else {
            let mut axes: Vec<usize> = (0..dims.len()).filter(|&a| a != axis).collect();
            axes.insert(0, axis);
            groups_of_parts(&permute(ctx, x.clone(), &axes)?.to_tensor(ctx)?, count)
        };
        if !sorted {
            groups.sort_by_first();
        }
        let first = groups.first(ctx)?;
        let entries = take(ctx, x, axis, first.clone())?;
        Ok(vec![entries, first, groups.inverse(ctx, count)?, groups.counts(ctx)?])
    })
}

/// Groups the equal ones of `count` parts, none of which is empty.
fn groups_of_parts(parts: &Tensor, count: usize) -> Groups {
    fn compare<T>(
        values: &[T],
        size: usize,
        by: fn(&T, &T) -> Ordering,
    ) -> impl Fn(usize, usize) -> Ordering {
        move |i, j| {
            let part = |i: usize| values.get(i * size..(i + 1) * size).unwrap_or_default();
            let pairs = part(i).iter().zip(part(j));
            pairs.map(|(a, b)| by(a, b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
        }
    }
    let size = parts.shape().elements() / count.max(1);
    by_element!(
        parts.dtype(),
        T => Groups::of(count, compare(&elements::<T>(parts), size, |a, b| a.order(*b))),
        Groups::of(count, compare(parts.strings().unwrap_or_default(), size, Ord::cmp))
    )
}

/// The places of equal entries together, in rising order.
struct Groups(Vec<Vec<usize>>);

impl Groups {
    fn of(count: usize, compare: impl Fn(usize, usize) -> Ordering) -> Self {
        let mut places: Vec<usize> = (0..count).collect();
        places.sort_by(|&i, &j| compare(i, j));
        Self(places.chunk_by(|&i, &j| compare(i, j).is_eq()).map(<[usize]>::to_vec).collect())
    }

    fn sort_by_first(&mut self) {
        self.0.sort_by_key(|group| group.first().copied());
    }

    fn first<B: Kernels>(&self, ctx: &Context<B>) -> Result<Value<B>, OpError> {
        list(ctx, self.0.iter().map(|group| group.first().map_or(0, |&i| i as i64)).collect())
    }

    fn counts<B: Kernels>(&self, ctx: &Context<B>) -> Result<Value<B>, OpError> {
        list(ctx, self.0.iter().map(|group| group.len() as i64).collect())
    }

    /// The group of each of `count` entries.
    fn inverse<B: Kernels>(&self, ctx: &Context<B>, count: usize) -> Result<Value<B>, OpError> {
        let mut inverse = vec![0; count];
        for (number, group) in (0..).zip(&self.0) {
            for &place in group {
                if let Some(slot) = inverse.get_mut(place) {
                    *slot = number;
                }
            }
        }
        list(ctx, inverse)
    }
}

fn list<B: Kernels>(ctx: &Context<B>, values: Vec<i64>) -> Result<Value<B>, OpError> {
    placed(ctx, Host::ints(DType::I64, vec![values.len()], values))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, i64s, tensor};

    #[test]
    fn elements_are_sorted_or_stay_in_order() {
        let x = f32s(&[6], &[2., 1., 1., 3., 4., 3.]);
        let unique = Case::of("Unique", [x]);
        unique.gives([
            f32s(&[4], &[1., 2., 3., 4.]),
            i64s(&[4], &[1, 0, 3, 4]),
            i64s(&[6], &[1, 0, 0, 2, 3, 2]),
            i64s(&[4], &[2, 1, 2, 1]),
        ]);
        unique.int("sorted", 0).gives([
            f32s(&[4], &[2., 1., 3., 4.]),
            i64s(&[4], &[0, 1, 3, 4]),
            i64s(&[6], &[0, 1, 1, 2, 3, 2]),
            i64s(&[4], &[1, 2, 2, 1]),
        ]);
    }

    #[test]
    fn parts_of_an_axis_are_compared_as_a_whole() {
        let x = tensor(&[3, 3], &[1u64, 0, 0, 1, 0, 0, u64::MAX, 3, 4]);
        Case::of("Unique", [x.clone()]).int("axis", 0).gives([
            tensor(&[2, 3], &[1u64, 0, 0, u64::MAX, 3, 4]),
            i64s(&[2], &[0, 2]),
            i64s(&[3], &[0, 0, 1]),
            i64s(&[2], &[2, 1]),
        ]);
        Case::of("Unique", [f32s(&[1, 4], &[2., 1., 1., 2.])])
            .int("axis", -1)
            .gives([f32s(&[1, 2], &[1., 2.]), i64s(&[2], &[1, 0])]);
        Case::of("Unique", [x]).int("axis", 2).fails("axis 2");
    }

    #[test]
    fn nothing_and_no_numbers_are_unique_too() {
        Case::of("Unique", [f32s(&[0], &[])]).gives([f32s(&[0], &[]), i64s(&[0], &[])]);
        Case::of("Unique", [f32s(&[2, 0], &[])]).int("axis", 0).gives([
            f32s(&[1, 0], &[]),
            i64s(&[1], &[0]),
            i64s(&[2], &[0, 0]),
        ]);
        Case::of("Unique", [f32s(&[4], &[f32::NAN, 1., f32::NAN, -0.])])
            .gives([f32s(&[3], &[0., 1., f32::NAN]), i64s(&[3], &[3, 1, 0])]);
    }
}
