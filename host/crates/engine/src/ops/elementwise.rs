//! Arithmetic of two or more tensors that broadcast to each other.

use burn::tensor::Scalar;
use burn::tensor::ops::{BoolTensor, FloatTensor, IntTensor};
use ingle_types::DType;

use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::dims::{broadcast, broadcast_places, with_rank};
use crate::kernels::{IntBinary, Kernels, bool_store};
use crate::number::Integer;
use crate::value::{DeviceTensor, HOST_INTS, Host, HostData, Value, is_float};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Add", 1.., 2..=2, |a| arithmetic(a, add()));
    r.add("Sub", 1.., 2..=2, |a| arithmetic(a, sub()));
    r.add("Mul", 1.., 2..=2, |a| arithmetic(a, mul()));
    r.add("Div", 1.., 2..=2, |a| arithmetic(a, div()));
    r.add("Mod", 10.., 2..=2, |a| {
        let like_c = a.flag("fmod", false)?;
        arithmetic(a, if like_c { fmod() } else { modulo() })
    });
    r.add("Pow", 1.., 2..=2, pow);
    r.add("Max", 1.., 1.., |a| variadic(a, max(), false));
    r.add("Min", 1.., 1.., |a| variadic(a, min(), false));
    r.add("Sum", 1.., 1.., |a| variadic(a, add(), false));
    r.add("Mean", 1.., 1.., |a| variadic(a, add(), true));
    r.add("And", 1.., 2..=2, |a| logic(a, |l, r| l & r, B::bool_and));
    r.add("Or", 1.., 2..=2, |a| logic(a, |l, r| l | r, B::bool_or));
    r.add("Xor", 1.., 2..=2, |a| logic(a, |l, r| l ^ r, B::bool_not_equal));
    r.add("BitwiseAnd", 18.., 2..=2, |a| bitwise(a, |l, r| l & r, B::bitwise_and));
    r.add("BitwiseOr", 18.., 2..=2, |a| bitwise(a, |l, r| l | r, B::bitwise_or));
    r.add("BitwiseXor", 18.., 2..=2, |a| bitwise(a, |l, r| l ^ r, B::bitwise_xor));
}

type WithScalar<B> = fn(FloatTensor<B>, Scalar) -> FloatTensor<B>;

/// An operation on two numbers, on the device and on the host.
pub(super) struct Binary<B: Kernels> {
    pub(super) float: fn(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
    /// With a single number on the right, where Burn has that.
    pub(super) scalar: Option<WithScalar<B>>,
    pub(super) int: fn(IntTensor<B>, IntTensor<B>) -> IntTensor<B>,
    pub(super) host_float: fn(f64, f64) -> f64,
    pub(super) host_int: fn(i64, i64) -> i64,
    pub(super) commutes: bool,
    /// Whether an integer zero on the right has no answer.
    pub(super) divides: bool,
}

pub(super) fn add<B: Kernels>() -> Binary<B> {
    Binary {
        float: B::float_add,
        scalar: Some(B::float_add_scalar),
        int: B::int_add,
        host_float: |l, r| l + r,
        host_int: i64::wrapping_add,
        commutes: true,
        divides: false,
    }
}

pub(super) fn sub<B: Kernels>() -> Binary<B> {
    Binary {
        float: B::float_sub,
        scalar: Some(B::float_sub_scalar),
        int: B::int_sub,
        host_float: |l, r| l - r,
        host_int: i64::wrapping_sub,
        commutes: false,
        divides: false,
    }
}

pub(super) fn mul<B: Kernels>() -> Binary<B> {
    Binary {
        float: B::float_mul,
        scalar: Some(B::float_mul_scalar),
        int: B::int_mul,
        host_float: |l, r| l * r,
        host_int: i64::wrapping_mul,
        commutes: true,
        divides: false,
    }
}

pub(super) fn div<B: Kernels>() -> Binary<B> {
    Binary {
        float: B::float_div,
        scalar: Some(B::float_div_scalar),
        int: |l, r| B::int_binary(IntBinary::Divide, l, r),
        host_float: |l, r| l / r,
        host_int: i64::divided,
        commutes: false,
        divides: true,
    }
}

/// The result has the sign of the divisor.
fn modulo<B: Kernels>() -> Binary<B> {
    Binary {
        float: B::float_remainder,
        scalar: None,
        int: |l, r| B::int_binary(IntBinary::Modulo, l, r),
        host_float: |l, r| ((l % r) + r) % r,
        host_int: i64::modulo,
        commutes: false,
        divides: true,
    }
}

/// The result has the sign of the dividend.
fn fmod<B: Kernels>() -> Binary<B> {
    Binary {
        float: B::float_fmod,
        scalar: None,
        int: |l, r| B::int_binary(IntBinary::Remainder, l, r),
        host_float: |l, r| l % r,
        host_int: i64::remainder,
        commutes: false,
        divides: true,
    }
}

pub(super) fn max<B: Kernels>() -> Binary<B> {
    Binary {
        float: |l, r| pick_float::<B>(l, r, true),
        scalar: None,
        int: |l, r| pick_int::<B>(l, r, true),
        host_float: |l, r| if r > l || r.is_nan() { r } else { l },
        host_int: i64::max,
        commutes: false,
        divides: false,
    }
}

pub(super) fn min<B: Kernels>() -> Binary<B> {
    Binary {
        float: |l, r| pick_float::<B>(l, r, false),
        scalar: None,
        int: |l, r| pick_int::<B>(l, r, false),
        host_float: |l, r| if r < l || r.is_nan() { r } else { l },
        host_int: i64::min,
        commutes: false,
        divides: false,
    }
}

/// The greater or the lesser of each pair; NaN wins.
fn pick_float<B: Kernels>(l: FloatTensor<B>, r: FloatTensor<B>, greater: bool) -> FloatTensor<B> {
    let store = bool_store::<B>(&B::float_device(&l));
    let better = if greater { B::float_greater } else { B::float_lower };
    let mask = B::bool_or(better(r.clone(), l.clone(), store), B::float_is_nan(r.clone(), store));
    B::float_mask_where(l, mask, r)
}

fn pick_int<B: Kernels>(l: IntTensor<B>, r: IntTensor<B>, greater: bool) -> IntTensor<B> {
    let store = bool_store::<B>(&B::int_device(&l));
    let better = if greater { B::int_greater } else { B::int_lower };
    let mask = better(r.clone(), l.clone(), store);
    B::int_mask_where(l, mask, r)
}

fn arithmetic<B: Kernels>(args: &Args<'_, B>, binary: Binary<B>) -> Built<B> {
    let align = LegacyBroadcast::of(args)?;
    op(move |ctx, mut inputs| {
        let (left, right) = (inputs.take(0)?, inputs.take(1)?);
        let right = align.apply(&left.dims(), right)?;
        Ok(vec![apply(ctx, &binary, left, right)?])
    })
}

fn variadic<B: Kernels>(args: &Args<'_, B>, binary: Binary<B>, mean: bool) -> Built<B> {
    let count = args.inputs() as f64;
    op(move |ctx, mut inputs| {
        let mut values = inputs.take_all()?.into_iter();
        let first = values.next().ok_or(OpError::Missing { index: 0 })?;
        let sum = values.try_fold(first, |left, right| apply(ctx, &binary, left, right))?;
        if !mean {
            return Ok(vec![sum]);
        }
        let count = Host::floats(sum.dtype(), vec![], vec![count]);
        Ok(vec![apply(ctx, &div(), sum, count.into())?])
    })
}

/// Before opset 7 the right operand was placed by an attribute.
struct LegacyBroadcast {
    axis: Option<usize>,
}

impl LegacyBroadcast {
    fn of<B: Kernels>(args: &Args<'_, B>) -> Result<Self, crate::BuildError> {
        if args.opset() >= 7 {
            return Ok(Self { axis: None });
        }
        args.ignore("broadcast");
        let axis = args.int_opt("axis")?.and_then(|axis| usize::try_from(axis).ok());
        Ok(Self { axis })
    }

    fn apply<B: Kernels>(&self, left: &[usize], right: Value<B>) -> Result<Value<B>, OpError> {
        let Some(axis) = self.axis else { return Ok(right) };
        let mut dims = right.dims();
        let behind = left.len().saturating_sub(axis).saturating_sub(dims.len());
        dims.extend(std::iter::repeat_n(1, behind));
        if dims.iter().product::<usize>() != right.elements() {
            return Err(OpError::Dims { what: "the right operand", dims });
        }
        Ok(right.reshape(dims))
    }
}

/// Computes `left ∘ right` where the operands are, or on the device.
pub(super) fn apply<B: Kernels>(
    ctx: &Context<B>,
    binary: &Binary<B>,
    left: Value<B>,
    right: Value<B>,
) -> Result<Value<B>, OpError> {
    let dtype = same_dtype(&left, &right)?;
    let dims = broadcast(&left.dims(), &right.dims())?;
    ctx.admit(dtype, &dims)?;
    let count: usize = dims.iter().product();
    if count == 0 {
        return Ok(Value::empty(dtype, dims));
    }
    if let (Some(l), Some(r)) = (left.as_host(), right.as_host())
        && l.is_plain()
        && count <= HOST_INTS
    {
        return on_host(binary, l, r, dims).map(Into::into);
    }
    if is_float(dtype) {
        return on_floats(ctx, binary, left, right, &dims);
    }
    let (left, right) = (left.with_rank(dims.len()), right.with_rank(dims.len()));
    let (left, right) = (left.into_int(ctx, "an operand")?, right.into_int(ctx, "an operand")?);
    if binary.divides {
        check_divisor::<B>(&right)?;
    }
    Ok(DeviceTensor::Int((binary.int)(left, right)).into())
}

fn same_dtype<B: Kernels>(left: &Value<B>, right: &Value<B>) -> Result<DType, OpError> {
    let (left, right) = (left.dtype(), right.dtype());
    if left == right { Ok(left) } else { Err(OpError::DTypes { left, right }) }
}

fn on_host<B: Kernels>(
    binary: &Binary<B>,
    left: &Host,
    right: &Host,
    dims: Vec<usize>,
) -> Result<Host, OpError> {
    let dtype = left.dtype();
    let pairs = broadcast_places(left.dims(), &dims).zip(broadcast_places(right.dims(), &dims));
    match (left.data(), right.data()) {
        (HostData::Int(l), HostData::Int(r)) => {
            if binary.divides && r.contains(&0) {
                return Err(OpError::DivisionByZero);
            }
            let values = pairs.filter_map(|(i, j)| Some((binary.host_int)(*l.get(i)?, *r.get(j)?)));
            let values = values.collect();
            Ok(Host::ints(dtype, dims, values))
        }
        (HostData::Float(l), HostData::Float(r)) => {
            let values =
                pairs.filter_map(|(i, j)| Some((binary.host_float)(*l.get(i)?, *r.get(j)?)));
            let values = values.collect();
            Ok(Host::floats(dtype, dims, values))
        }
        _ => Err(OpError::DTypes { left: left.dtype(), right: right.dtype() }),
    }
}

/// Integer division by zero ends a CPU's thread, and on a GPU gives garbage.
fn check_divisor<B: Kernels>(right: &IntTensor<B>) -> Result<(), OpError> {
    match B::int_range(right) {
        Some((low, high)) if low <= 0 && 0 <= high => {
            let store = bool_store::<B>(&B::int_device(right));
            let zero = B::bool_any(B::int_equal_elem(right.clone(), 0i64.into(), store));
            let ints = B::bool_into_int(zero, burn::tensor::IntDType::I64);
            match B::int_range(&ints) {
                Some((_, 0)) => Ok(()),
                _ => Err(OpError::DivisionByZero),
            }
        }
        _ => Ok(()),
    }
}

fn on_floats<B: Kernels>(
    ctx: &Context<B>,
    binary: &Binary<B>,
    left: Value<B>,
    right: Value<B>,
    dims: &[usize],
) -> Result<Value<B>, OpError> {
    let (mut left, mut right) = (left, right);
    // The left operand's memory is reused for the answer, so it should be the large one.
    if binary.commutes && left.dims() != dims && right.dims() == dims {
        std::mem::swap(&mut left, &mut right);
    }
    if let (Some(scalar), Some(host)) = (binary.scalar, right.as_host())
        && left.dims() == dims
        && let [value] = host.to_f64().as_slice()
    {
        let left = B::float_compact(left.into_float(ctx, "an operand")?);
        return Ok(DeviceTensor::Float(scalar(left, Scalar::Float(*value))).into());
    }
    let left = left.into_device(ctx)?;
    let right = right.into_device(ctx)?;
    let (l, r) = align(left, right, dims);
    let (DeviceTensor::Float(l), DeviceTensor::Float(r)) = (l, r) else {
        return Err(OpError::Unsupported { what: "arithmetic on bools" });
    };
    let (l, r) = (B::float_compact(l), B::float_compact(r));
    let answer: DeviceTensor<B> = DeviceTensor::Float((binary.float)(l, r));
    Ok(answer.reshape(dims).into())
}

/// Reshapes two operands so that the right one is repeated in one of the two
/// ways that backends are fast at: a row for all rows, or a number for each row.
fn align<B: Kernels>(
    left: DeviceTensor<B>,
    right: DeviceTensor<B>,
    dims: &[usize],
) -> (DeviceTensor<B>, DeviceTensor<B>) {
    let rank = dims.len();
    let repeated = with_rank(&right.dims(), rank);
    if left.dims() != dims || repeated == dims {
        return (left.with_rank(rank), right.with_rank(rank));
    }
    let ones_behind = repeated.iter().rev().take_while(|&&d| d == 1).count();
    let (front, back) = dims.split_at(rank - ones_behind);
    let (rows, row) = (front.iter().product::<usize>(), back.iter().product::<usize>());
    if row > 1 {
        let mut spread = front.to_vec();
        spread.extend(std::iter::repeat_n(1, ones_behind));
        let right = right.reshape(&repeated).expand(&spread).reshape(&[rows, 1]);
        return (left.reshape(&[rows, row]), right);
    }
    let ones_before = repeated.iter().take_while(|&&d| d == 1).count();
    let (front, back) = dims.split_at(ones_before);
    if repeated.get(ones_before..) == Some(back) {
        let (rows, row) = (front.iter().product::<usize>(), back.iter().product::<usize>());
        return (left.reshape(&[rows, row]), right.reshape(&[1, row]));
    }
    (left, right.reshape(&repeated))
}

/// The exponent may be of another type than the base, whose type the answer has.
fn pow<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let align = LegacyBroadcast::of(args)?;
    op(move |ctx, mut inputs| {
        let (base, exponent) = (inputs.take(0)?, inputs.take(1)?);
        let exponent = align.apply(&base.dims(), exponent)?;
        let dtype = base.dtype();
        if is_float(dtype) {
            let exponent = exponent.cast(ctx, dtype)?;
            return Ok(vec![apply(ctx, &float_pow(), base, exponent)?]);
        }
        if !is_float(exponent.dtype()) {
            let exponent = exponent.cast(ctx, dtype)?;
            return Ok(vec![apply(ctx, &int_pow(), base, exponent)?]);
        }
        let wide = exponent.dtype();
        let base = base.cast(ctx, wide)?;
        let answer = apply(ctx, &float_pow(), base, exponent)?;
        Ok(vec![answer.cast(ctx, dtype)?])
    })
}

fn float_pow<B: Kernels>() -> Binary<B> {
    Binary {
        float: B::float_powf,
        scalar: Some(|base, exponent| match exponent {
            Scalar::Float(2.0) => B::float_mul(base.clone(), base),
            Scalar::Float(0.5) => B::float_sqrt(base),
            // Burn takes a whole number for an i64, whatever its size.
            Scalar::Float(large) if large.abs() > f64::from(i32::MAX) => {
                B::float_powf_scalar_impl(base, exponent)
            }
            _ => B::float_powf_scalar(base, exponent),
        }),
        int: B::int_powi,
        host_float: f64::powf,
        host_int: |_, _| 0,
        commutes: false,
        divides: false,
    }
}

fn int_pow<B: Kernels>() -> Binary<B> {
    Binary {
        int: |l, r| B::int_binary(IntBinary::Power, l, r),
        host_int: i64::power,
        ..float_pow()
    }
}

fn logic<B: Kernels>(
    args: &Args<'_, B>,
    host: fn(i64, i64) -> i64,
    device: fn(BoolTensor<B>, BoolTensor<B>) -> BoolTensor<B>,
) -> Built<B> {
    let align = LegacyBroadcast::of(args)?;
    op(move |ctx, mut inputs| {
        let (left, right) = (inputs.take(0)?, inputs.take(1)?);
        let right = align.apply(&left.dims(), right)?;
        let dims = broadcast(&left.dims(), &right.dims())?;
        ctx.admit(DType::Bool, &dims)?;
        if let Some(answer) = ints_on_host(host, &left, &right, &dims, DType::Bool) {
            return Ok(vec![answer]);
        }
        let [left, right] = [left, right].map(|v| v.expand(ctx, &dims));
        let (left, right) =
            (left?.into_bool(ctx, "an operand")?, right?.into_bool(ctx, "an operand")?);
        Ok(vec![DeviceTensor::Bool(device(left, right)).into()])
    })
}

fn bitwise<B: Kernels>(
    _: &Args<'_, B>,
    host: fn(i64, i64) -> i64,
    device: fn(IntTensor<B>, IntTensor<B>) -> IntTensor<B>,
) -> Built<B> {
    op(move |ctx, mut inputs| {
        let (left, right) = (inputs.take(0)?, inputs.take(1)?);
        let dtype = same_dtype(&left, &right)?;
        let dims = broadcast(&left.dims(), &right.dims())?;
        ctx.admit(dtype, &dims)?;
        if let Some(answer) = ints_on_host(host, &left, &right, &dims, dtype) {
            return Ok(vec![answer]);
        }
        let [left, right] = [left, right].map(|v| v.expand(ctx, &dims));
        let (left, right) =
            (left?.into_int(ctx, "an operand")?, right?.into_int(ctx, "an operand")?);
        Ok(vec![DeviceTensor::Int(device(left, right)).into()])
    })
}

/// Integers and bools on the host, or no elements at all; `None` = to the device.
pub(super) fn ints_on_host<B: Kernels>(
    compute: fn(i64, i64) -> i64,
    left: &Value<B>,
    right: &Value<B>,
    dims: &[usize],
    dtype: DType,
) -> Option<Value<B>> {
    let count: usize = dims.iter().product();
    if count == 0 {
        return Some(Value::empty(dtype, dims.to_vec()));
    }
    if count > HOST_INTS {
        return None;
    }
    let (left, right) = (left.as_host()?, right.as_host()?);
    let (l, r) = (left.as_ints()?, right.as_ints()?);
    let values = broadcast_places(left.dims(), dims)
        .zip(broadcast_places(right.dims(), dims))
        .filter_map(|(i, j)| Some(compute(*l.get(i)?, *r.get(j)?)))
        .collect();
    Some(Host::ints(dtype, dims.to_vec(), values).into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, bools, counting, f32s, i64s, tensor};

    #[test]
    fn arithmetic_broadcasts() {
        let x = counting(&[2, 3]);
        let row = f32s(&[3], &[10., 20., 30.]);
        Case::of("Add", [x.clone(), row.clone()])
            .gives([f32s(&[2, 3], &[11., 22., 33., 14., 25., 36.])]);
        Case::of("Sub", [row, x.clone()]).gives([f32s(&[2, 3], &[9., 18., 27., 6., 15., 24.])]);
        let column = f32s(&[2, 1], &[2., 10.]);
        Case::of("Mul", [x.clone(), column.clone()])
            .gives([f32s(&[2, 3], &[2., 4., 6., 40., 50., 60.])]);
        Case::of("Div", [column, f32s(&[], &[4.])]).gives([f32s(&[2, 1], &[0.5, 2.5])]);
        Case::of("Add", [x, f32s(&[2], &[1., 2.])]).fails("do not broadcast");
    }

    #[test]
    fn a_number_for_each_channel_serves_every_example() {
        let x = counting(&[2, 2, 2, 1]);
        let channels = f32s(&[2, 1, 1], &[10., 20.]);
        Case::of("Add", [x, channels])
            .gives([f32s(&[2, 2, 2, 1], &[11., 12., 23., 24., 15., 16., 27., 28.])]);
    }

    #[test]
    fn integers_divide_towards_zero_and_not_by_zero() {
        let x = i64s(&[4], &[-7, 7, -8, 9]);
        Case::of("Div", [x.clone(), i64s(&[], &[2])]).gives([i64s(&[4], &[-3, 3, -4, 4])]);
        Case::of("Div", [x, i64s(&[], &[0])]).fails("division by zero");
        let large = tensor(&[2000], &vec![5i32; 2000]);
        let mut divisors = vec![2i32; 2000];
        Case::of("Div", [large.clone(), tensor(&[2000], &divisors)])
            .gives([tensor(&[2000], &vec![2i32; 2000])]);
        divisors[1999] = 0;
        Case::of("Div", [large, tensor(&[2000], &divisors)]).fails("division by zero");
    }

    #[test]
    fn the_two_kinds_of_modulo_differ_in_sign() {
        let (x, y) = (i64s(&[4], &[-4, 7, 5, 4]), i64s(&[4], &[3, -3, 8, 3]));
        Case::of("Mod", [x.clone(), y.clone()]).gives([i64s(&[4], &[2, -2, 5, 1])]);
        Case::of("Mod", [x, y]).int("fmod", 1).gives([i64s(&[4], &[-1, 1, 5, 1])]);
        let (x, y) = (f32s(&[2], &[-4.3, 7.2]), f32s(&[2], &[2.1, -3.4]));
        Case::of("Mod", [x, y]).int("fmod", 1).gives([f32s(&[2], &[-0.1, 0.4])]);
    }

    #[test]
    fn the_power_has_the_type_of_its_base() {
        let base = f32s(&[2, 1, 1], &[2., -3.]);
        Case::of("Pow", [base.clone(), i64s(&[], &[3])]).gives([f32s(&[2, 1, 1], &[8., -27.])]);
        Case::of("Pow", [base, f32s(&[], &[2.])]).gives([f32s(&[2, 1, 1], &[4., 9.])]);
        Case::of("Pow", [i64s(&[2], &[2, 3]), f32s(&[], &[3.])]).gives([i64s(&[2], &[8, 27])]);
        let edge = [f32s(&[3, 1], &[0.5, 1., 2.]), f32s(&[], &[1e30])];
        Case::of("Pow", edge).gives([f32s(&[3, 1], &[0., 1., f32::INFINITY])]);
    }

    #[test]
    fn many_operands_fold_from_the_left() {
        let inputs =
            [f32s(&[3], &[3., 0., 2.]), f32s(&[3], &[1., f32::NAN, 4.]), f32s(&[1], &[2.])];
        Case::of("Max", inputs.clone()).gives([f32s(&[3], &[3., f32::NAN, 4.])]);
        Case::of("Min", inputs).gives([f32s(&[3], &[1., f32::NAN, 2.])]);
        let inputs = [f32s(&[2], &[1., 2.]), f32s(&[2], &[3., 4.]), f32s(&[1], &[5.])];
        Case::of("Sum", inputs.clone()).gives([f32s(&[2], &[9., 11.])]);
        Case::of("Mean", inputs).gives([f32s(&[2], &[3., 11. / 3.])]);
    }

    #[test]
    fn bools_and_bits_combine() {
        let (x, y) = (bools(&[4], &[0, 0, 1, 1]), bools(&[4], &[0, 1, 0, 1]));
        Case::of("And", [x.clone(), y.clone()]).gives([bools(&[4], &[0, 0, 0, 1])]);
        Case::of("Or", [x.clone(), y.clone()]).gives([bools(&[4], &[0, 1, 1, 1])]);
        Case::of("Xor", [x, y]).gives([bools(&[4], &[0, 1, 1, 0])]);
        let bits = [i64s(&[2], &[6, -1]), i64s(&[], &[3])];
        Case::of("BitwiseAnd", bits).opset(18).gives([i64s(&[2], &[2, 3])]);
    }

    #[test]
    fn operands_of_different_types_are_refused() {
        Case::of("Add", [f32s(&[1], &[1.]), i64s(&[1], &[1])]).fails("float and int64");
    }

    #[test]
    fn before_opset_7_an_axis_places_the_right_operand() {
        let x = counting(&[2, 3, 2]);
        Case::of("Add", [x, f32s(&[3], &[10., 20., 30.])])
            .opset(6)
            .int("broadcast", 1)
            .int("axis", 1)
            .gives([f32s(
                &[2, 3, 2],
                &[11., 12., 23., 24., 35., 36., 17., 18., 29., 30., 41., 42.],
            )]);
    }
}
