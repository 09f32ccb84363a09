//! Reductions over axes, arg-max and arg-min, the largest entries.

use burn::tensor::IntDType;
use burn::tensor::ops::{FloatTensor, IntTensor};
use ingle_types::DType;

use super::elementwise::{add, apply};
use super::generate::full;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{axes_at, axis_at};
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, HostData, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    let mut add = |name, build: super::Build<B>, since| {
        r.add(name, 1..since, 1..=1, build);
        r.add(name, since.., 1..=2, build);
    };
    add("ReduceSum", |a| reduce(a, sum()), 13);
    add("ReduceMean", |a| reduce(a, mean()), 18);
    add("ReduceMax", |a| reduce(a, max()), 18);
    add("ReduceMin", |a| reduce(a, min()), 18);
    add("ReduceProd", |a| reduce(a, prod()), 18);
    add("ReduceL1", |a| reduce(a, Reduction { before: Some(Before::Abs), ..sum() }), 18);
    add(
        "ReduceL2",
        |a| {
            let after: fn(FloatTensor<B>) -> FloatTensor<B> = B::float_sqrt;
            reduce(
                a,
                Reduction { before: Some(Before::Square), after: Some(after), wide: true, ..sum() },
            )
        },
        18,
    );
    add("ReduceSumSquare", |a| reduce(a, Reduction { before: Some(Before::Square), ..sum() }), 18);
    add(
        "ReduceLogSum",
        |a| reduce(a, Reduction { after: Some(B::float_log), wide: true, ..sum() }),
        18,
    );
    add("ReduceLogSumExp", log_sum_exp, 18);
    r.add("ArgMax", 1.., 1..=1, |a| arg(a, true));
    r.add("ArgMin", 1.., 1..=1, |a| arg(a, false));
    r.add("TopK", 1..=9, 1..=1, |a| {
        let k = a.int_opt("k")?.ok_or(BuildError::Missing { name: "k" })?;
        top_k(a, Some(k))
    });
    r.add("TopK", 10.., 2..=2, |a| top_k(a, None));
}

#[derive(Clone, Copy)]
enum Before {
    Abs,
    Square,
}

/// How one dimension becomes one entry.
struct Reduction<B: Kernels> {
    before: Option<Before>,
    float: fn(FloatTensor<B>, usize) -> FloatTensor<B>,
    int: fn(IntTensor<B>, usize) -> IntTensor<B>,
    after: Option<fn(FloatTensor<B>) -> FloatTensor<B>>,
    host_int: Option<fn(i64, i64) -> i64>,
    /// Whether integers are summed in 64 bits, for what is made of the sum.
    wide: bool,
    /// What no entries reduce to.
    identity: f64,
}

fn sum<B: Kernels>() -> Reduction<B> {
    Reduction {
        before: None,
        float: B::float_sum_dim,
        int: B::int_sum_dim,
        after: None,
        host_int: Some(i64::wrapping_add),
        wide: false,
        identity: 0.0,
    }
}

fn mean<B: Kernels>() -> Reduction<B> {
    let (float, int) = (B::float_mean_dim, B::int_mean_dim);
    Reduction { float, int, host_int: None, wide: true, identity: f64::NAN, ..sum() }
}

fn max<B: Kernels>() -> Reduction<B> {
    let (float, int) = (B::float_max_dim, B::int_max_dim);
    Reduction { float, int, host_int: Some(i64::max), identity: f64::NEG_INFINITY, ..sum() }
}

fn min<B: Kernels>() -> Reduction<B> {
    let (float, int) = (B::float_min_dim, B::int_min_dim);
    Reduction { float, int, host_int: Some(i64::min), identity: f64::INFINITY, ..sum() }
}

fn prod<B: Kernels>() -> Reduction<B> {
    let (float, int) = (B::float_prod_dim, B::int_prod_dim);
    Reduction { float, int, host_int: Some(i64::wrapping_mul), identity: 1.0, ..sum() }
}

/// Which axes a node reduces.
struct Axes {
    fixed: Option<Vec<i64>>,
    keep: bool,
    none_without_axes: bool,
}

impl Axes {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        Ok(Self {
            fixed: args.ints("axes")?.map(<[i64]>::to_vec),
            keep: args.flag("keepdims", true)?,
            none_without_axes: args.flag("noop_with_empty_axes", false)?,
        })
    }

    fn places<B: Kernels>(
        &self,
        ctx: &Context<B>,
        given: Option<Value<B>>,
        rank: usize,
    ) -> Result<Vec<usize>, OpError> {
        let given = given.map(|v| v.ints(ctx, "the axes")).transpose()?;
        match given.as_ref().or(self.fixed.as_ref()).filter(|axes| !axes.is_empty()) {
            Some(axes) => axes_at(axes, rank),
            None if self.none_without_axes => Ok(Vec::new()),
            None => Ok((0..rank).collect()),
        }
    }
}

/// The shapes of an answer with its reduced axes kept as ones, and as asked for.
fn shapes(dims: &[usize], places: &[usize], keep: bool) -> (Vec<usize>, Vec<usize>) {
    let pairs = || dims.iter().enumerate();
    let kept: Vec<usize> = pairs().map(|(i, &d)| if places.contains(&i) { 1 } else { d }).collect();
    let short = pairs().filter(|(i, _)| !places.contains(i)).map(|(_, &d)| d).collect();
    if keep { (kept.clone(), kept) } else { (kept, short) }
}

fn reduce<B: Kernels>(args: &Args<'_, B>, reduction: Reduction<B>) -> Built<B> {
    let axes = Axes::of(args)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let places = axes.places(ctx, inputs.take_opt(1), x.rank())?;
        let (_, out) = shapes(&x.dims(), &places, axes.keep);
        Ok(vec![run(ctx, &reduction, x, &places)?.reshape(out)])
    })
}

/// The sum over the axes at `places`, which stay as ones.
pub(super) fn sum_of<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    places: &[usize],
) -> Result<Value<B>, OpError> {
    run(ctx, &sum(), x, places)
}

/// The answer keeps the reduced axes, as ones.
fn run<B: Kernels>(
    ctx: &Context<B>,
    reduction: &Reduction<B>,
    x: Value<B>,
    places: &[usize],
) -> Result<Value<B>, OpError> {
    let (dtype, dims) = (x.dtype(), x.dims());
    let (kept, _) = shapes(&dims, places, true);
    if dims.contains(&0) {
        let identity = Host::floats(DType::F64, vec![], vec![reduction.identity]);
        let identity = identity.cast(dtype);
        let identity = match reduction.after {
            Some(_) if kept.contains(&0) => identity,
            Some(after) => {
                let tensor = Value::from(identity).into_float(ctx, "the operand")?;
                Value::<B>::from(DeviceTensor::Float(after(tensor))).to_host(ctx)?
            }
            None => identity,
        };
        return full(ctx, &identity, kept);
    }
    if dtype == DType::Bool {
        let small = run(ctx, reduction, x.cast(ctx, DType::I32)?, places)?;
        return small.cast(ctx, dtype);
    }
    if reduction.wide && !is_float(dtype) && dtype.size_bytes() < Some(8) {
        let wide = run(ctx, reduction, x.cast(ctx, DType::I64)?, places)?;
        return wide.cast(ctx, dtype);
    }
    if let Some(answer) = on_host(reduction, &x, places, &kept) {
        return Ok(answer);
    }
    match x.into_device(ctx)? {
        DeviceTensor::Float(x) => {
            let x = match reduction.before {
                Some(Before::Abs) => B::float_abs(x),
                Some(Before::Square) => B::float_mul(x.clone(), x),
                None => x,
            };
            let reduce = |t, axis| match t {
                DeviceTensor::Float(t) => DeviceTensor::Float((reduction.float)(t, axis)),
                other => other,
            };
            let answer = along(DeviceTensor::<B>::Float(x), &dims, places, reduce);
            Ok(match (answer, reduction.after) {
                (DeviceTensor::Float(t), Some(after)) => DeviceTensor::Float(after(t)),
                (answer, _) => answer,
            }
            .reshape(&kept)
            .into())
        }
        DeviceTensor::Int(x) => {
            let x = match reduction.before {
                Some(Before::Abs) => B::int_abs(x),
                Some(Before::Square) => B::int_mul(x.clone(), x),
                None => x,
            };
            let reduce = |t, axis| match t {
                DeviceTensor::Int(t) => DeviceTensor::Int((reduction.int)(t, axis)),
                other => other,
            };
            let answer = along(DeviceTensor::<B>::Int(x), &dims, places, reduce);
            if reduction.after.is_none() {
                return Ok(answer.reshape(&kept).into());
            }
            let wide = answer.cast(ctx, DType::F32)?;
            let DeviceTensor::Float(t) = wide else { return Ok(wide.into()) };
            let after = reduction.after.map(|after| after(t.clone())).unwrap_or(t);
            Ok(DeviceTensor::<B>::Float(after).reshape(&kept).cast(ctx, dtype)?.into())
        }
        DeviceTensor::Bool(x) => Ok(DeviceTensor::Bool(x).into()),
    }
}

/// Reduces runs of neighbouring axes as one axis each.
fn along<B: Kernels>(
    mut x: DeviceTensor<B>,
    dims: &[usize],
    places: &[usize],
    reduce: impl Fn(DeviceTensor<B>, usize) -> DeviceTensor<B>,
) -> DeviceTensor<B> {
    let mut merged: Vec<(usize, bool)> = Vec::new();
    for (i, &size) in dims.iter().enumerate() {
        let reduced = places.contains(&i);
        match merged.last_mut() {
            Some((total, same)) if *same == reduced => *total *= size,
            _ => merged.push((size, reduced)),
        }
    }
    let sizes: Vec<usize> = merged.iter().map(|(size, _)| *size).collect();
    x = x.reshape(if sizes.is_empty() { &[1] } else { &sizes });
    for (axis, _) in merged.iter().enumerate().filter(|(_, (_, reduced))| *reduced) {
        x = reduce(x, axis);
    }
    x
}

fn on_host<B: Kernels>(
    reduction: &Reduction<B>,
    x: &Value<B>,
    places: &[usize],
    kept: &[usize],
) -> Option<Value<B>> {
    let (host, reduce) = (x.as_host()?, reduction.host_int?);
    if reduction.before.is_some() || reduction.after.is_some() || places.is_empty() {
        return None;
    }
    let HostData::Int(values) = host.data() else { return None };
    if !host.is_plain() {
        return None;
    }
    let mut answer: Vec<Option<i64>> = vec![None; kept.iter().product()];
    // Seen from the operand, the answer is broadcast along the reduced axes.
    let targets = crate::dims::broadcast_places(kept, host.dims());
    for (&value, target) in values.iter().zip(targets) {
        let slot = answer.get_mut(target)?;
        *slot = Some(slot.map_or(value, |sum| reduce(sum, value)));
    }
    let answer = answer.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Host::ints(host.dtype(), kept.to_vec(), answer).into())
}

fn log_sum_exp<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axes = Axes::of(args)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let places = axes.places(ctx, inputs.take_opt(1), x.rank())?;
        let (_, out) = shapes(&x.dims(), &places, axes.keep);
        if x.elements() == 0 {
            let nothing = Reduction { identity: f64::NEG_INFINITY, ..sum() };
            return Ok(vec![run(ctx, &nothing, x, &places)?.reshape(out)]);
        }
        let dtype = x.dtype();
        let x = if is_float(dtype) { x } else { x.cast(ctx, DType::F32)? };
        // The largest entry is taken out, so that exp does not overflow.
        let largest = run(ctx, &max(), x.clone(), &places)?.into_float(ctx, "the operand")?;
        let finite =
            B::float_clamp(largest, f64::from(f32::MIN).into(), f64::from(f32::MAX).into());
        let dims = burn::tensor::Shape::from(x.dims());
        let x = x.into_float(ctx, "the operand")?;
        let shifted = B::float_exp(B::float_sub(x, B::float_expand(finite.clone(), dims)));
        let shifted = Value::from(DeviceTensor::<B>::Float(shifted));
        let sums = run(ctx, &sum(), shifted, &places)?.into_float(ctx, "the sums")?;
        let answer = DeviceTensor::<B>::Float(B::float_add(B::float_log(sums), finite));
        Ok(vec![answer.reshape(&out).cast(ctx, dtype)?.into()])
    })
}

/// Integers as signed ones of 64 bits in the same order.
fn signed<B: Kernels>(ctx: &Context<B>, x: Value<B>) -> Result<Value<B>, OpError> {
    let dtype = x.dtype();
    if is_float(dtype) {
        return Ok(x);
    }
    let x = x.cast(ctx, DType::I64)?;
    if dtype != DType::U64 {
        return Ok(x);
    }
    let middle = Host::ints(DType::I64, vec![], vec![i64::MIN]);
    apply(ctx, &add(), x, middle.into())
}

fn arg<B: Kernels>(args: &Args<'_, B>, largest: bool) -> Built<B> {
    let axis = args.int("axis", 0)?;
    let keep = args.flag("keepdims", true)?;
    let last = args.flag("select_last_index", false)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let axis = axis_at(axis, dims.len())?;
        let (_, out) = shapes(&dims, &[axis], keep);
        if out.contains(&0) {
            return Ok(vec![Value::empty(DType::I64, out)]);
        }
        let size = dims.get(axis).copied().unwrap_or_default();
        if size == 0 {
            return Err(OpError::Dims { what: "the operand", dims });
        }
        let x = signed(ctx, x)?;
        let places = match x.into_device(ctx)? {
            DeviceTensor::Float(x) => {
                let x = if last { B::float_flip(x, &[axis]) } else { x };
                let find = if largest { B::float_argmax } else { B::float_argmin };
                find(x, axis, IntDType::I64)
            }
            DeviceTensor::Int(x) => {
                let x = if last { B::int_flip(x, &[axis]) } else { x };
                if largest { B::int_argmax(x, axis) } else { B::int_argmin(x, axis) }
            }
            DeviceTensor::Bool(_) => return Err(OpError::Unsupported { what: "bools" }),
        };
        let places = if last {
            B::int_add_scalar(B::int_neg(places), (size as i64 - 1).into())
        } else {
            places
        };
        let places: DeviceTensor<B> = DeviceTensor::Int(B::int_cast(places, IntDType::I64));
        Ok(vec![places.reshape(&out).into()])
    })
}

/// Ties go to the lower index.
fn top_k<B: Kernels>(args: &Args<'_, B>, fixed: Option<i64>) -> Built<B> {
    let axis = args.int("axis", -1)?;
    let largest = args.flag("largest", true)?;
    args.ignore("sorted");
    args.makes_outputs(2);
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let k = match fixed {
            Some(k) => k,
            None => inputs.take(1)?.scalar(ctx, "the number of entries")? as i64,
        };
        let mut dims = x.dims();
        let axis = axis_at(axis, dims.len())?;
        let size = dims.get(axis).copied().unwrap_or_default();
        let count = usize::try_from(k).ok().filter(|&k| k <= size);
        let count = count.ok_or(OpError::Value { what: "the number of entries", value: k })?;
        if let Some(slot) = dims.get_mut(axis) {
            *slot = count;
        }
        if dims.contains(&0) {
            let dtype = x.dtype();
            return Ok(vec![Value::empty(dtype, dims.clone()), Value::empty(DType::I64, dims)]);
        }
        let (values, places): (DeviceTensor<B>, _) = match x.into_device(ctx)? {
            DeviceTensor::Float(x) => {
                let sorted = B::float_sort_with_indices(x, axis, largest, IntDType::I64);
                (DeviceTensor::Float(sorted.0), sorted.1)
            }
            DeviceTensor::Int(x) => {
                let sorted = B::int_sort_with_indices(x, axis, largest);
                (DeviceTensor::Int(sorted.0), B::int_cast(sorted.1, IntDType::I64))
            }
            DeviceTensor::Bool(_) => return Err(OpError::Unsupported { what: "bools" }),
        };
        let places: DeviceTensor<B> = DeviceTensor::Int(places);
        Ok(vec![values.narrow(axis, 0, count).into(), places.narrow(axis, 0, count).into()])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor};

    #[test]
    fn axes_come_from_attributes_or_inputs() {
        let x = counting(&[2, 2, 2]);
        Case::of("ReduceSum", [x.clone(), i64s(&[2], &[0, -1])])
            .gives([f32s(&[1, 2, 1], &[14., 22.])]);
        Case::of("ReduceSum", [x.clone()])
            .opset(11)
            .ints("axes", &[1])
            .int("keepdims", 0)
            .gives([f32s(&[2, 2], &[4., 6., 12., 14.])]);
        Case::of("ReduceSum", [x.clone()]).gives([f32s(&[1, 1, 1], &[36.])]);
        let nothing = Case::of("ReduceSum", [x.clone(), i64s(&[0], &[])]);
        nothing.int("noop_with_empty_axes", 1).gives([x.clone()]);
        Case::of("ReduceSum", [x, i64s(&[1], &[3])]).fails("axis 3");
    }

    #[test]
    fn each_reduction_has_its_value() {
        let check = |operator: &str, wanted: [f32; 2]| {
            Case::of(operator, [f32s(&[2, 2], &[1., -2., 3., 4.])])
                .ints("axes", &[1])
                .int("keepdims", 0)
                .opset(11)
                .gives([f32s(&[2], &wanted)]);
        };
        check("ReduceMean", [-0.5, 3.5]);
        check("ReduceMax", [1., 4.]);
        check("ReduceMin", [-2., 3.]);
        check("ReduceProd", [-2., 12.]);
        check("ReduceL1", [3., 7.]);
        check("ReduceL2", [2.236_068, 5.]);
        check("ReduceSumSquare", [5., 25.]);
        check("ReduceLogSumExp", [1.048_587_3, 4.313_261_5]);
    }

    #[test]
    fn integers_stay_integers() {
        let x = i64s(&[2, 2], &[1, 2, 3, 4]);
        Case::of("ReduceProd", [x.clone()]).opset(11).gives([i64s(&[1, 1], &[24])]);
        Case::of("ReduceMax", [x]).opset(11).ints("axes", &[0]).gives([i64s(&[1, 2], &[3, 4])]);
        let large = tensor(&[2, 1000], &[2i32; 2000]);
        Case::of("ReduceSum", [large, i64s(&[1], &[1])]).gives([tensor(&[2, 1], &[2000i32; 2])]);
    }

    #[test]
    fn nothing_reduces_to_the_identity() {
        let x = f32s(&[2, 0], &[]);
        Case::of("ReduceSum", [x.clone(), i64s(&[1], &[1])]).gives([f32s(&[2, 1], &[0., 0.])]);
        Case::of("ReduceMax", [x.clone()])
            .opset(11)
            .ints("axes", &[1])
            .gives([f32s(&[2, 1], &[f32::NEG_INFINITY; 2])]);
        Case::of("ReduceSum", [x, i64s(&[1], &[0])]).gives([f32s(&[1, 0], &[])]);
    }

    #[test]
    fn the_first_or_the_last_extreme_is_found() {
        let x = f32s(&[1, 4], &[1., 5., 5., 1.]);
        let find = |operator: &str| Case::of(operator, [x.clone()]).int("axis", 1);
        find("ArgMax").gives([i64s(&[1, 1], &[1])]);
        find("ArgMin").int("keepdims", 0).gives([i64s(&[1], &[0])]);
        find("ArgMax").int("select_last_index", 1).gives([i64s(&[1, 1], &[2])]);
        find("ArgMin").int("select_last_index", 1).gives([i64s(&[1, 1], &[3])]);
    }

    #[test]
    fn the_largest_entries_come_with_their_places() {
        let x = f32s(&[1, 4], &[1., 4., 2., 4.]);
        let top = |k: i64| Case::of("TopK", [x.clone(), i64s(&[1], &[k])]);
        top(2).gives([f32s(&[1, 2], &[4., 4.]), i64s(&[1, 2], &[1, 3])]);
        top(1).int("largest", 0).gives([f32s(&[1, 1], &[1.]), i64s(&[1, 1], &[0])]);
        top(0).gives([f32s(&[1, 0], &[]), i64s(&[1, 0], &[])]);
        top(5).fails("number of entries cannot be 5");
    }
}
