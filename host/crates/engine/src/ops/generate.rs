//! Operators that make tensors from nothing or from a shape.

use burn::tensor::IntDType;
use ingle_types::{DType, Tensor};

use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::to_sizes;
use crate::kernels::Kernels;
use crate::literal::dtype_of;
use crate::value::{DeviceTensor, Host, HostData, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Constant", 1.., 0..=0, constant);
    r.add("ConstantOfShape", 9.., 1..=1, constant_of_shape);
    r.add("Range", 11.., 3..=3, |_| {
        op(|ctx, mut inputs| {
            let (start, limit, delta) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
            range(ctx, &start, &limit, &delta)
        })
    });
    r.add("EyeLike", 9.., 1..=1, eye_like);
    r.add("Trilu", 14.., 1..=2, trilu);
}

fn constant<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let list = |n: usize| vec![n];
    let value: Result<Host, Tensor> = if let Some(tensor) = args.tensor("value")? {
        Err(tensor.clone())
    } else if let Some(v) = args.float_opt("value_float")? {
        Ok(Host::floats(DType::F32, vec![], vec![v]))
    } else if let Some(v) = args.floats("value_floats")? {
        Ok(Host::floats(DType::F32, list(v.len()), v.iter().map(|&v| v.into()).collect()))
    } else if let Some(v) = args.int_opt("value_int")? {
        Ok(Host::ints(DType::I64, vec![], vec![v]))
    } else if let Some(v) = args.ints("value_ints")? {
        Ok(Host::ints(DType::I64, list(v.len()), v.to_vec()))
    } else {
        return Err(BuildError::Unsupported { what: "a constant of strings or sparse tensors" });
    };
    op(move |ctx, _| {
        let tensor = match &value {
            Ok(host) => host.to_tensor().map_err(|_| OpError::Unsupported { what: "it" })?,
            Err(tensor) => tensor.clone(),
        };
        Ok(vec![Value::from_tensor(ctx, &tensor)?])
    })
}

fn constant_of_shape<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let value = match args.tensor("value")? {
        None => Host::floats(DType::F32, vec![], vec![0.0]),
        Some(tensor) => Host::from_tensor(tensor)
            .filter(|host| host.elements() == 1)
            .ok_or(BuildError::Value { name: "value", reason: "not one supported element" })?
            .reshaped(vec![]),
    };
    op(move |ctx, mut inputs| {
        let dims = to_sizes(&inputs.take(0)?.ints(ctx, "the shape")?, "a size")?;
        Ok(vec![full(ctx, &value, dims)?])
    })
}

/// The one element of `value`, in every place.
pub(super) fn full<B: Kernels>(
    ctx: &Context<B>,
    value: &Host,
    dims: Vec<usize>,
) -> Result<Value<B>, OpError> {
    let dtype = value.dtype();
    ctx.admit(dtype, &dims)?;
    let count: usize = dims.iter().product();
    if count == 0 {
        return Ok(Value::empty(dtype, dims));
    }
    if !is_float(dtype) && value.stays(count) || count == 1 {
        return Ok(value.pick(dims, std::iter::repeat_n(0, count)).into());
    }
    let stored = ctx.stored(dtype)?;
    let (shape, device) = (burn::tensor::Shape::from(dims), ctx.device());
    Ok(match value.data() {
        HostData::Float(v) => {
            let v = v.first().copied().unwrap_or_default();
            DeviceTensor::Float(B::float_full(shape, v.into(), device, stored.into()))
        }
        HostData::Int(v) => {
            let v = v.first().copied().unwrap_or_default();
            if dtype == DType::Bool {
                let store = ctx.bool_store();
                DeviceTensor::Bool(if v == 0 {
                    B::bool_zeros(shape, device, store)
                } else {
                    B::bool_ones(shape, device, store)
                })
            } else {
                // A number has a sign on its way into Burn.
                let signed = if value.is_plain() { stored.into() } else { IntDType::I64 };
                let full = B::int_full(shape, v.into(), device, signed);
                DeviceTensor::Int(B::int_cast(full, stored.into()))
            }
        }
        HostData::Text(_) => return Err(OpError::DeviceDType { dtype }),
    }
    .into())
}

pub(super) fn zeros<B: Kernels>(
    ctx: &Context<B>,
    dtype: DType,
    dims: Vec<usize>,
) -> Result<Value<B>, OpError> {
    full(ctx, &Host::ints(DType::I64, vec![], vec![0]).cast(dtype), dims)
}

fn range<B: Kernels>(
    ctx: &Context<B>,
    start: &Value<B>,
    limit: &Value<B>,
    delta: &Value<B>,
) -> Result<Vec<Value<B>>, OpError> {
    let dtype = start.dtype();
    if let Some(other) = [limit, delta].into_iter().find(|v| v.dtype() != dtype) {
        return Err(OpError::DTypes { left: dtype, right: other.dtype() });
    }
    let host = if is_float(dtype) {
        let scalar = |v: &Value<B>| v.scalar(ctx, "a bound");
        let (start, limit, step) = (scalar(start)?, scalar(limit)?, scalar(delta)?);
        let count = ((limit - start) / step).ceil().max(0.0);
        if step == 0.0 || !count.is_finite() {
            return Err(OpError::Value { what: "the step", value: step as i64 });
        }
        ctx.admit(DType::F64, &[count as usize])?;
        let values = (0..count as usize).map(|i| start + i as f64 * step);
        Host::floats(dtype, vec![count as usize], values.collect())
    } else {
        let integer = |v: &Value<B>| match v.ints(ctx, "a bound")?.as_slice() {
            &[value] => Ok(value),
            _ => Err(OpError::Dims { what: "a bound", dims: v.dims() }),
        };
        let (start, limit, step) = (integer(start)?, integer(limit)?, integer(delta)?);
        if step == 0 {
            return Err(OpError::Value { what: "the step", value: 0 });
        }
        let distance = (i128::from(limit) - i128::from(start)) * i128::from(step.signum());
        let count = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs().into());
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        ctx.admit(DType::I64, &[count])?;
        let values = (0..).take(count).map(|i: i64| start.wrapping_add(i.wrapping_mul(step)));
        Host::ints(dtype, vec![count], values.collect())
    };
    Ok(vec![placed(ctx, host)?])
}

/// Moves a large host tensor to the device.
pub(super) fn placed<B: Kernels>(ctx: &Context<B>, host: Host) -> Result<Value<B>, OpError> {
    if host.stays(host.elements()) {
        return Ok(host.into());
    }
    Ok(DeviceTensor::upload_host(ctx, &host)?.into())
}

fn eye_like<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let k = args.int("k", 0)?;
    let dtype = match args.int_opt("dtype")? {
        None => None,
        Some(element) => Some(
            i32::try_from(element)
                .ok()
                .and_then(dtype_of)
                .ok_or(BuildError::Unsupported { what: "this element type" })?,
        ),
    };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let dims = x.dims();
        let &[rows, columns] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        let dtype = dtype.unwrap_or(x.dtype());
        ctx.admit(DType::I64, &dims)?;
        let on = |i: usize| {
            let (row, column) = (i / columns, i % columns);
            i64::from((row as i64).saturating_add(k) == column as i64)
        };
        let ones = Host::ints(DType::I64, dims, (0..rows * columns).map(on).collect());
        Ok(vec![placed(ctx, ones.cast(dtype))?])
    })
}

fn trilu<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let upper = args.flag("upper", true)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let k = match inputs.take_opt(1) {
            Some(k) => k.scalar(ctx, "the diagonal")? as i64,
            None => 0,
        };
        let dims = x.dims();
        let &[.., rows, columns] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        ctx.admit(DType::I64, &[rows, columns])?;
        let dropped = |i: usize| {
            let distance = (i % columns) as i64 - (i / columns) as i64;
            i64::from(if upper { distance < k } else { distance > k })
        };
        let mask = (0..rows * columns).map(dropped).collect();
        let mask: Value<B> = placed(ctx, Host::ints(DType::Bool, vec![rows, columns], mask))?;
        let mask = mask.expand(ctx, &dims)?.into_bool(ctx, "the mask")?;
        let zero = Host::ints(DType::I64, vec![], vec![0]).cast(x.dtype());
        let zeros = full(ctx, &zero, dims)?.into_device(ctx)?;
        Ok(vec![x.into_device(ctx)?.mask_where(mask, zeros)?.into()])
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor};

    #[test]
    fn constants_come_from_attributes() {
        Case::of("Constant", []).tensor("value", &counting(&[2, 2])).gives([counting(&[2, 2])]);
        Case::of("Constant", []).float("value_float", 0.5).gives([f32s(&[], &[0.5])]);
        Case::of("Constant", []).ints("value_ints", &[1, 2]).gives([i64s(&[2], &[1, 2])]);
        Case::of("Constant", []).string("value_string", "x").fails("strings");
    }

    #[test]
    fn one_value_fills_a_shape() {
        let shape = i64s(&[2], &[2, 3]);
        Case::of("ConstantOfShape", [shape.clone()]).gives([f32s(&[2, 3], &[0.; 6])]);
        Case::of("ConstantOfShape", [shape])
            .tensor("value", &i64s(&[1], &[7]))
            .gives([i64s(&[2, 3], &[7; 6])]);
        Case::of("ConstantOfShape", [i64s(&[0], &[])]).gives([f32s(&[], &[0.])]);
        Case::of("ConstantOfShape", [i64s(&[1], &[-1])]).fails("a size cannot be -1");
    }

    #[test]
    fn ranges_stop_before_their_limit() {
        let range =
            |start, limit, step| Case::of("Range", [start, limit, step].map(|v| i64s(&[], &[v])));
        range(1, 6, 2).gives([i64s(&[3], &[1, 3, 5])]);
        range(3, 0, -2).gives([i64s(&[2], &[3, 1])]);
        range(3, 0, 1).gives([i64s(&[0], &[])]);
        range(0, 1, 0).fails("the step cannot be 0");
        range(i64::MIN, i64::MAX, 1).fails("limit");
        let floats = [0., 1., 0.4].map(|v| f32s(&[], &[v]));
        Case::of("Range", floats).gives([f32s(&[3], &[0., 0.4, 0.8])]);
    }

    #[test]
    fn diagonals_are_kept() {
        let x = counting(&[2, 3]);
        Case::of("Trilu", [x.clone()]).gives([f32s(&[2, 3], &[1., 2., 3., 0., 5., 6.])]);
        Case::of("Trilu", [x.clone(), i64s(&[], &[1])])
            .int("upper", 0)
            .gives([f32s(&[2, 3], &[1., 2., 0., 4., 5., 6.])]);
        Case::of("EyeLike", [x])
            .int("k", 1)
            .int("dtype", 6)
            .gives([tensor(&[2, 3], &[0i32, 1, 0, 0, 0, 1])]);
    }
}
