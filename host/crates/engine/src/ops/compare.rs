//! Comparisons, and what is done with their answers.

use burn::tensor::BoolStore;
use burn::tensor::ops::{BoolTensor, FloatTensor, IntTensor};
use bytes::Bytes;
use ingle_types::DType;

use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::dims::{broadcast, broadcast_places};
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, HostData, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Equal", 1.., 2..=2, |a| compare(a, |l, r| l == r, B::float_equal, B::int_equal));
    r.add("Greater", 1.., 2..=2, |a| compare(a, |l, r| l > r, B::float_greater, B::int_greater));
    r.add("GreaterOrEqual", 12.., 2..=2, |a| {
        compare(a, |l, r| l >= r, B::float_greater_equal, B::int_greater_equal)
    });
    r.add("Less", 1.., 2..=2, |a| compare(a, |l, r| l < r, B::float_lower, B::int_lower));
    r.add("LessOrEqual", 12.., 2..=2, |a| {
        compare(a, |l, r| l <= r, B::float_lower_equal, B::int_lower_equal)
    });
    r.add("Not", 1.., 1..=1, not);
    r.add("IsNaN", 9.., 1..=1, is_nan);
    r.add("IsInf", 10.., 1..=1, is_inf);
    r.add("Where", 9.., 3..=3, select);
}

type FloatCompare<B> = fn(FloatTensor<B>, FloatTensor<B>, BoolStore) -> BoolTensor<B>;
type IntCompare<B> = fn(IntTensor<B>, IntTensor<B>, BoolStore) -> BoolTensor<B>;

fn compare<B: Kernels>(
    args: &Args<'_, B>,
    host: fn(f64, f64) -> bool,
    float: FloatCompare<B>,
    int: IntCompare<B>,
) -> Built<B> {
    args.ignore("broadcast");
    args.ignore("axis");
    op(move |ctx, mut inputs| {
        let (left, right) = (inputs.take(0)?, inputs.take(1)?);
        if left.dtype() != right.dtype() {
            return Err(OpError::DTypes { left: left.dtype(), right: right.dtype() });
        }
        let dims = broadcast(&left.dims(), &right.dims())?;
        ctx.admit(DType::Bool, &dims)?;
        if let Some(answer) = on_host(host, &left, &right, &dims) {
            return Ok(vec![answer]);
        }
        let store = ctx.bool_store();
        let left = left.expand(ctx, &dims)?.into_device(ctx)?;
        let right = right.expand(ctx, &dims)?.into_device(ctx)?;
        let answer = match (left, right) {
            (DeviceTensor::Float(l), DeviceTensor::Float(r)) => float(l, r, store),
            (DeviceTensor::Int(l), DeviceTensor::Int(r)) => int(l, r, store),
            (DeviceTensor::Bool(l), DeviceTensor::Bool(r)) if host(0.0, 0.0) => B::bool_equal(l, r),
            _ => return Err(OpError::Unsupported { what: "the order of bools" }),
        };
        Ok(vec![DeviceTensor::Bool(answer).into()])
    })
}

/// Integers of host tensors are few and small enough to compare as floats unless
/// they differ beyond 2^53, so those are compared as integers first.
fn on_host<B: Kernels>(
    compare: fn(f64, f64) -> bool,
    left: &Value<B>,
    right: &Value<B>,
    dims: &[usize],
) -> Option<Value<B>> {
    let count: usize = dims.iter().product();
    if count == 0 {
        return Some(Value::empty(DType::Bool, dims.to_vec()));
    }
    let (left, right) = (left.as_host()?, right.as_host()?);
    if !left.stays(count) {
        return None;
    }
    if !left.is_plain() {
        return None;
    }
    let places = broadcast_places(left.dims(), dims).zip(broadcast_places(right.dims(), dims));
    let values = if let (Some(l), Some(r)) = (left.as_ints(), right.as_ints()) {
        let order = |l: i64, r: i64| compare(f64::from(l.cmp(&r) as i8), 0.0);
        places.filter_map(|(i, j)| Some(order(*l.get(i)?, *r.get(j)?).into())).collect()
    } else if let (HostData::Text(l), HostData::Text(r)) = (left.data(), right.data()) {
        let order = |l: &Bytes, r: &Bytes| compare(f64::from(l.cmp(r) as i8), 0.0);
        places.filter_map(|(i, j)| Some(order(l.get(i)?, r.get(j)?).into())).collect()
    } else {
        let (l, r) = (left.to_f64(), right.to_f64());
        places.filter_map(|(i, j)| Some(compare(*l.get(i)?, *r.get(j)?).into())).collect()
    };
    Some(Host::ints(DType::Bool, dims.to_vec(), values).into())
}

fn not<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let x = inputs.take(0)?;
        if let Some(host) = x.as_host()
            && let Some(values) = host.as_ints()
        {
            let values = values.iter().map(|&v| i64::from(v == 0)).collect();
            return Ok(vec![Host::ints(DType::Bool, host.dims().to_vec(), values).into()]);
        }
        Ok(vec![DeviceTensor::Bool(B::bool_not(x.into_bool(ctx, "the operand")?)).into()])
    })
}

fn is_nan<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let x = inputs.take(0)?;
        if x.elements() == 0 {
            return Ok(vec![Value::empty(DType::Bool, x.dims())]);
        }
        let dims = x.dims();
        let x = x.into_float(ctx, "the operand")?;
        let answer: DeviceTensor<B> = DeviceTensor::Bool(B::float_is_nan(x, ctx.bool_store()));
        Ok(vec![answer.reshape(&dims).into()])
    })
}

fn is_inf<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let negative = args.flag("detect_negative", true)?;
    let positive = args.flag("detect_positive", true)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        if x.elements() == 0 {
            return Ok(vec![Value::empty(DType::Bool, x.dims())]);
        }
        let dims = x.dims();
        let x: FloatTensor<B> = x.into_float(ctx, "the operand")?;
        let store = ctx.bool_store();
        let is = |sign: f64| B::float_equal_elem(x.clone(), (sign * f64::INFINITY).into(), store);
        let answer = match (negative, positive) {
            (true, true) => B::bool_or(is(-1.0), is(1.0)),
            (true, false) => is(-1.0),
            (false, true) => is(1.0),
            (false, false) => B::bool_not(B::bool_or(
                B::float_equal(x.clone(), x.clone(), store),
                B::float_is_nan(x.clone(), store),
            )),
        };
        Ok(vec![DeviceTensor::<B>::Bool(answer).reshape(&dims).into()])
    })
}

fn select<B: Kernels>(_: &Args<'_, B>) -> Built<B> {
    op(|ctx, mut inputs| {
        let (condition, yes, no) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        Ok(vec![choose(ctx, condition, yes, no)?])
    })
}

/// `yes` where the condition holds, `no` elsewhere; all broadcast.
pub(super) fn choose<B: Kernels>(
    ctx: &Context<B>,
    condition: Value<B>,
    yes: Value<B>,
    no: Value<B>,
) -> Result<Value<B>, OpError> {
    if yes.dtype() != no.dtype() {
        return Err(OpError::DTypes { left: yes.dtype(), right: no.dtype() });
    }
    let dims = broadcast(&broadcast(&condition.dims(), &yes.dims())?, &no.dims())?;
    ctx.admit(yes.dtype(), &dims)?;
    if dims.contains(&0) {
        return Ok(Value::empty(yes.dtype(), dims));
    }
    let condition = on_hand(ctx, condition, &yes)?.expand(ctx, &dims)?;
    let (yes, no) = (yes.expand(ctx, &dims)?, no.expand(ctx, &dims)?);
    if let (Some(c), Some(y), Some(n)) = (condition.as_host(), yes.as_host(), no.as_host())
        && let Some(choice) = c.as_ints()
    {
        return Ok(y.choose(n, choice).into());
    }
    let mask = condition.into_bool(ctx, "the condition")?;
    Ok(no.into_device(ctx)?.mask_where(mask, yes.into_device(ctx)?)?.into())
}

/// An operand of an operator on `x`, read back from the device where `x` holds
/// strings, which are on the host only.
pub(super) fn on_hand<B: Kernels>(
    ctx: &Context<B>,
    operand: Value<B>,
    x: &Value<B>,
) -> Result<Value<B>, OpError> {
    if x.dtype() == DType::Bytes { Ok(operand.to_host(ctx)?.into()) } else { Ok(operand) }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, bools, f32s, i64s, texts};

    #[test]
    fn comparisons_broadcast_and_know_nan() {
        let (x, y) = (f32s(&[3], &[1., 2., f32::NAN]), f32s(&[3], &[2., 2., f32::NAN]));
        let check = |operator: &str, wanted: [u8; 3]| {
            Case::of(operator, [x.clone(), y.clone()]).gives([bools(&[3], &wanted)]);
        };
        check("Equal", [0, 1, 0]);
        check("Less", [1, 0, 0]);
        check("LessOrEqual", [1, 1, 0]);
        check("Greater", [0, 0, 0]);
        check("GreaterOrEqual", [0, 1, 0]);
        Case::of("Equal", [bools(&[2], &[1, 0]), bools(&[1], &[1])]).gives([bools(&[2], &[1, 0])]);
    }

    #[test]
    fn large_integers_compare_exactly() {
        let big = 1i64 << 60;
        Case::of("Less", [i64s(&[2], &[big, big + 1]), i64s(&[], &[big + 1])])
            .gives([bools(&[2], &[1, 0])]);
    }

    #[test]
    fn where_picks_by_condition() {
        let condition = bools(&[2, 1], &[1, 0]);
        let (yes, no) = (f32s(&[3], &[1., 2., 3.]), f32s(&[], &[9.]));
        Case::of("Where", [condition.clone(), yes, no])
            .gives([f32s(&[2, 3], &[1., 2., 3., 9., 9., 9.])]);
        Case::of("Where", [condition, i64s(&[1], &[5]), i64s(&[2, 1], &[7, 8])])
            .gives([i64s(&[2, 1], &[5, 8])]);
    }

    #[test]
    fn strings_are_compared_and_picked() {
        let x = texts(&[2, 1], &["a", "b"]);
        Case::of("Equal", [x.clone(), texts(&[2], &["b", ""])])
            .gives([bools(&[2, 2], &[0, 0, 1, 0])]);
        Case::of("Equal", [x.clone(), f32s(&[1], &[0.])]).fails("do not go together");
        Case::of("Where", [bools(&[2, 1], &[1, 0]), x, texts(&[], &["z"])])
            .gives([texts(&[2, 1], &["a", "z"])]);
        let (many, flags) = (vec!["y"; 2000], vec![1; 2000]);
        Case::of("Where", [bools(&[2000], &flags), texts(&[2000], &many), texts(&[1], &["n"])])
            .gives([texts(&[2000], &many)]);
        Case::of("Equal", [texts(&[2000], &many), texts(&[1], &["y"])])
            .gives([bools(&[2000], &flags)]);
    }

    #[test]
    fn what_is_no_number_is_found() {
        let x = f32s(&[4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.]);
        Case::of("IsNaN", [x.clone()]).gives([bools(&[4], &[1, 0, 0, 0])]);
        Case::of("IsInf", [x.clone()]).gives([bools(&[4], &[0, 1, 1, 0])]);
        Case::of("IsInf", [x]).int("detect_negative", 0).gives([bools(&[4], &[0, 1, 0, 0])]);
        Case::of("Not", [bools(&[2], &[0, 1])]).gives([bools(&[2], &[1, 0])]);
    }
}
