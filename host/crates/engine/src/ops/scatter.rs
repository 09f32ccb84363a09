//! Writing entries by index. Computed on the host: the order in which equal
//! indices are written counts, which a device's kernels leave open.

use ingle_types::{DType, Tensor};

use super::gather::{checked_places, element_places, tuple_places};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::axis_at;
use crate::kernels::Kernels;
use crate::number::{Number, by_element, elements, tensor_of};
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Scatter", 9.., 3..=3, scatter_elements);
    r.add("ScatterElements", 11.., 3..=3, scatter_elements);
    r.add("ScatterND", 11.., 3..=3, scatter_nd);
}

/// How an update joins what is there.
#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    Replace,
    Add,
    Mul,
    Max,
    Min,
}

impl Reduction {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        Ok(match &*args.string("reduction", "none")? {
            "none" => Self::Replace,
            "add" => Self::Add,
            "mul" => Self::Mul,
            "max" => Self::Max,
            "min" => Self::Min,
            _ => return Err(BuildError::Value { name: "reduction", reason: "not known" }),
        })
    }

    fn join<T: Number>(self) -> fn(T, T) -> T {
        match self {
            Self::Replace => |_, update| update,
            Self::Add => T::plus,
            Self::Mul => T::times,
            Self::Max => T::greater,
            Self::Min => T::lesser,
        }
    }
}

fn scatter_elements<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", 0)?;
    let reduction = Reduction::of(args)?;
    op(move |ctx, mut inputs| {
        let (x, indices, updates) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let (dims, picked) = (x.dims(), indices.dims());
        let axis = axis_at(axis, dims.len())?;
        check_updates(&picked, &updates.dims())?;
        if picked.contains(&0) {
            return Ok(vec![x]);
        }
        let size = dims.get(axis).copied().unwrap_or_default();
        let along = checked_places(&indices.to_host(ctx)?, size)?;
        let places: Vec<usize> = element_places(&dims, &picked, axis, &along)?.collect();
        Ok(vec![write(ctx, x, updates, &places, reduction)?])
    })
}

/// Each tuple of the last dimension of the indices names a part of the operand.
fn scatter_nd<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let reduction = Reduction::of(args)?;
    op(move |ctx, mut inputs| {
        let (x, indices, updates) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let tuples = tuple_places(ctx, &x.dims(), &indices, 0)?;
        check_updates(&tuples.dims, &updates.dims())?;
        if updates.elements() == 0 {
            return Ok(vec![x]);
        }
        Ok(vec![write(ctx, x, updates, &tuples.places, reduction)?])
    })
}

fn check_updates(wanted: &[usize], given: &[usize]) -> Result<(), OpError> {
    if wanted == given {
        return Ok(());
    }
    let what = "the updates do not fit the indices";
    Err(OpError::Mismatch { what, left: wanted.to_vec(), right: given.to_vec() })
}

/// Writes the rows of `updates` to `places`, counted in rows of the same size;
/// neither is empty.
fn write<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    updates: Value<B>,
    places: &[usize],
    reduction: Reduction,
) -> Result<Value<B>, OpError> {
    let dtype = x.dtype();
    if updates.dtype() != dtype {
        return Err(OpError::DTypes { left: dtype, right: updates.dtype() });
    }
    let row = updates.elements() / places.len().max(1);
    let (x, updates) = (x.to_tensor(ctx)?, updates.to_tensor(ctx)?);
    let job = Job { places, row, reduction };
    let tensor = by_element!(
        dtype,
        T => job.on_numbers::<T>(&x, &updates)?,
        job.on_strings(&x, &updates)?
    );
    Value::from_tensor(ctx, &tensor)
}

struct Job<'a> {
    /// Where each row goes, counted in rows.
    places: &'a [usize],
    /// Elements of a row.
    row: usize,
    reduction: Reduction,
}

impl Job<'_> {
    fn on_numbers<T: Number + Send + Sync>(
        &self,
        x: &Tensor,
        updates: &Tensor,
    ) -> Result<Tensor, OpError> {
        // One and one is one, for bools.
        let join = match self.reduction {
            Reduction::Add if x.dtype() == DType::Bool => T::greater,
            reduction => reduction.join(),
        };
        let mut values = elements::<T>(x).into_owned();
        self.run(&mut values, &elements::<T>(updates), join);
        tensor_of(x.dtype(), x.dims(), values)
    }

    fn on_strings(&self, x: &Tensor, updates: &Tensor) -> Result<Tensor, OpError> {
        if self.reduction != Reduction::Replace {
            return Err(OpError::Unsupported { what: "arithmetic on strings" });
        }
        let mut values = x.strings().unwrap_or_default().to_vec();
        let updates = updates.strings().unwrap_or_default();
        self.run(&mut values, updates, |_, update| update);
        let invalid = |_| OpError::Dims { what: "an output", dims: x.dims().to_vec() };
        Tensor::blobs(x.shape().clone(), values).map_err(invalid)
    }

    fn run<T: Clone>(&self, values: &mut [T], updates: &[T], join: fn(T, T) -> T) {
        for (&place, update) in self.places.iter().zip(updates.chunks_exact(self.row.max(1))) {
            let row = values.get_mut(place * self.row..(place + 1) * self.row);
            for (value, update) in row.into_iter().flatten().zip(update) {
                *value = join(value.clone(), update.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ingle_types::Tensor;

    use crate::testing::{Case, bools, counting, f32s, i64s, tensor};

    #[test]
    fn each_index_writes_one_element() {
        let (x, indices) = (f32s(&[1, 5], &[1., 2., 3., 4., 5.]), i64s(&[1, 2], &[1, -2]));
        let updates = f32s(&[1, 2], &[1.1, 2.1]);
        for operator in ["Scatter", "ScatterElements"] {
            Case::of(operator, [x.clone(), indices.clone(), updates.clone()])
                .int("axis", 1)
                .opset(11)
                .gives([f32s(&[1, 5], &[1., 1.1, 3., 2.1, 5.])]);
        }
        let first = [f32s(&[3, 2], &[0.; 6]), i64s(&[2, 1], &[1, 2]), f32s(&[2, 1], &[8., 9.])];
        Case::of("ScatterElements", first).gives([f32s(&[3, 2], &[0., 0., 8., 0., 9., 0.])]);
        let nothing = [x.clone(), i64s(&[0, 5], &[]), f32s(&[0, 5], &[])];
        Case::of("ScatterElements", nothing).gives([x]);
    }

    #[test]
    fn updates_of_one_place_are_joined_in_order() {
        let reduce = |reduction: &str, wanted: [f32; 2]| {
            let (x, indices) = (f32s(&[2], &[3., 4.]), i64s(&[3], &[0, 0, 0]));
            Case::of("ScatterElements", [x, indices, f32s(&[3], &[5., 2., 4.])])
                .opset(18)
                .string("reduction", reduction)
                .gives([f32s(&[2], &wanted)]);
        };
        reduce("none", [4., 4.]);
        reduce("add", [14., 4.]);
        reduce("mul", [120., 4.]);
        reduce("max", [5., 4.]);
        reduce("min", [2., 4.]);
    }

    #[test]
    fn every_type_keeps_its_own_arithmetic() {
        fn sum(x: Tensor, update: Tensor, wanted: Tensor) {
            Case::of("ScatterND", [x, i64s(&[1, 1], &[0]), update])
                .opset(18)
                .string("reduction", "add")
                .gives([wanted]);
        }
        sum(tensor(&[1], &[250u8]), tensor(&[1], &[10u8]), tensor(&[1], &[4u8]));
        let big = u64::MAX - 5;
        sum(tensor(&[1], &[big]), tensor(&[1], &[5u64]), tensor(&[1], &[u64::MAX]));
        sum(tensor(&[1], &[0.1f64]), tensor(&[1], &[0.2f64]), tensor(&[1], &[0.1f64 + 0.2]));
        sum(bools(&[2], &[1, 0]), bools(&[1], &[1]), bools(&[2], &[1, 0]));
    }

    #[test]
    fn each_tuple_writes_a_part() {
        let (x, updates) = (counting(&[3, 2]), f32s(&[2, 2], &[10., 20., 30., 40.]));
        Case::of("ScatterND", [x.clone(), i64s(&[2, 1], &[-1, 0]), updates])
            .gives([f32s(&[3, 2], &[30., 40., 3., 4., 10., 20.])]);
        Case::of("ScatterND", [x.clone(), i64s(&[1, 2], &[1, 0]), f32s(&[1], &[9.])])
            .gives([f32s(&[3, 2], &[1., 2., 9., 4., 5., 6.])]);
        let whole = [x, i64s(&[1, 0], &[]), f32s(&[1, 3, 2], &[7.; 6])];
        Case::of("ScatterND", whole).gives([f32s(&[3, 2], &[7.; 6])]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = || counting(&[3, 2]);
        let elements = |indices, updates| Case::of("ScatterElements", [x(), indices, updates]);
        elements(i64s(&[1, 1], &[3]), f32s(&[1, 1], &[0.])).fails("index 3");
        elements(i64s(&[1, 1], &[i64::MIN]), f32s(&[1, 1], &[0.])).fails("size 3");
        elements(i64s(&[1, 1], &[0]), f32s(&[1, 2], &[0.; 2])).fails("updates do not fit");
        elements(i64s(&[1, 3], &[0; 3]), f32s(&[1, 3], &[0.; 3])).fails("reach beyond");
        elements(i64s(&[1, 1], &[0]), i64s(&[1, 1], &[0])).fails("float and int64");
        let nd = |indices, updates| Case::of("ScatterND", [x(), indices, updates]);
        nd(i64s(&[1, 2], &[0, 2]), f32s(&[1], &[0.])).fails("index 2");
        nd(i64s(&[1, 3], &[0; 3]), f32s(&[1], &[0.])).fails("more than its rank");
        nd(i64s(&[], &[0]), f32s(&[], &[0.])).fails("cannot be a tensor of shape []");
        nd(i64s(&[1, 1], &[0]), f32s(&[1], &[0.])).fails("updates do not fit");
        nd(i64s(&[1, 1], &[0]), f32s(&[1, 2], &[0.; 2])).string("reduction", "xor").fails("known");
    }
}
