//! Matrix products.

use ingle_types::DType;

use super::elementwise::{add, apply};
use super::generate::zeros;
use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::dims::{broadcast, with_rank};
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("MatMul", 1.., 2..=2, |_| {
        op(|ctx, mut inputs| Ok(vec![matmul(ctx, inputs.take(0)?, inputs.take(1)?)?]))
    });
    r.add("Gemm", 1.., 2..=3, gemm);
}

/// As NumPy's matmul: vectors are promoted, leading dimensions broadcast.
pub(super) fn matmul<B: Kernels>(
    ctx: &Context<B>,
    left: Value<B>,
    right: Value<B>,
) -> Result<Value<B>, OpError> {
    let (l, r) = (left.dims(), right.dims());
    let fail = |what| OpError::Mismatch { what, left: l.clone(), right: r.clone() };
    if l.is_empty() || r.is_empty() {
        return Err(fail("a matrix product has no scalar operands"));
    }
    let dtype = left.dtype();
    if right.dtype() != dtype {
        return Err(OpError::DTypes { left: dtype, right: right.dtype() });
    }
    let (row, column) = (l.len() == 1, r.len() == 1);
    let l_dims = if row { vec![1, left.elements()] } else { l.clone() };
    let r_dims = if column { vec![right.elements(), 1] } else { r.clone() };
    let (&[ref l_batch @ .., m, k], &[ref r_batch @ .., inner, n]) =
        (l_dims.as_slice(), r_dims.as_slice())
    else {
        return Err(fail("a matrix product has no scalar operands"));
    };
    if k != inner {
        return Err(fail("the inner dimensions differ"));
    }
    let batch = broadcast(l_batch, r_batch)?;
    let mut out = batch.clone();
    if !row {
        out.push(m);
    }
    if !column {
        out.push(n);
    }
    ctx.admit(dtype, &out)?;
    if out.contains(&0) {
        return Ok(Value::empty(dtype, out));
    }
    if k == 0 {
        return zeros(ctx, dtype, out);
    }
    let (left, right) = (left.reshape(l_dims.clone()), right.reshape(r_dims.clone()));
    // A matrix that serves a whole batch: one larger product instead of many.
    if r_batch.iter().all(|&d| d == 1) && l_batch.len() >= r_batch.len() {
        let rows = l_batch.iter().product::<usize>() * m;
        let product = product(ctx, left.reshape(vec![rows, k]), right.reshape(vec![k, n]))?;
        return Ok(product.reshape(&out).into());
    }
    let rank = batch.len() + 2;
    let product = product(ctx, left.with_rank(rank), right.with_rank(rank))?;
    Ok(product.reshape(&out).into())
}

/// Both have the same rank, at least two, and no dimension of size zero.
fn product<B: Kernels>(
    ctx: &Context<B>,
    left: Value<B>,
    right: Value<B>,
) -> Result<DeviceTensor<B>, OpError> {
    let given = left.dtype();
    match (left.into_device(ctx)?, right.into_device(ctx)?) {
        (DeviceTensor::Float(l), DeviceTensor::Float(r)) => {
            Ok(DeviceTensor::Float(B::float_matmul(l, r)))
        }
        (l @ DeviceTensor::Int(_), r @ DeviceTensor::Int(_)) => integers(ctx, l, r),
        _ => Err(OpError::DType { what: "an operand", expected: "a numeric tensor", given }),
    }
}

/// In 32 or 64 bits, which is what Burn multiplies; the answer wraps to its own type.
fn integers<B: Kernels>(
    ctx: &Context<B>,
    left: DeviceTensor<B>,
    right: DeviceTensor<B>,
) -> Result<DeviceTensor<B>, OpError> {
    let dtype = left.dtype();
    let wide = if dtype == DType::I32 { DType::I32 } else { DType::I64 };
    match (left.cast(ctx, wide)?, right.cast(ctx, wide)?) {
        (DeviceTensor::Int(l), DeviceTensor::Int(r)) => {
            DeviceTensor::Int(B::int_matmul(l, r)).cast(ctx, dtype)
        }
        (l, r) => Err(OpError::DTypes { left: l.dtype(), right: r.dtype() }),
    }
}

/// `alpha * A * B + beta * C`.
pub(super) fn gemm<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.ignore("broadcast");
    let (alpha, beta) = (args.float("alpha", 1.0)?, args.float("beta", 1.0)?);
    let (turn_a, turn_b) = (args.flag("transA", false)?, args.flag("transB", false)?);
    op(move |ctx, mut inputs| {
        let (a, b) = (inputs.take(0)?, inputs.take(1)?);
        let (a, b) = (matrix(ctx, a, turn_a)?, matrix(ctx, b, turn_b)?);
        let product = scaled(ctx, matmul(ctx, a, b)?, alpha)?;
        let Some(c) = inputs.take_opt(2) else { return Ok(vec![product]) };
        if with_rank(&broadcast(&product.dims(), &c.dims())?, 2) != product.dims() {
            let what = "the bias does not broadcast to the product";
            let (left, right) = (product.dims(), c.dims());
            return Err(OpError::Mismatch { what, left, right });
        }
        let c = scaled(ctx, c, beta)?;
        Ok(vec![apply(ctx, &add(), product, c)?])
    })
}

fn matrix<B: Kernels>(ctx: &Context<B>, value: Value<B>, turn: bool) -> Result<Value<B>, OpError> {
    let dims = value.dims();
    if dims.len() != 2 {
        return Err(OpError::Dims { what: "an operand of Gemm", dims });
    }
    if turn { super::tensor::permute(ctx, value, &[1, 0]) } else { Ok(value) }
}

pub(super) fn scaled<B: Kernels>(
    ctx: &Context<B>,
    value: Value<B>,
    factor: f64,
) -> Result<Value<B>, OpError> {
    if factor == 1.0 {
        return Ok(value);
    }
    let factor = Host::floats(DType::F64, vec![], vec![factor]).cast(value.dtype());
    apply(ctx, &super::elementwise::mul(), value, factor.into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor};

    #[test]
    fn products_broadcast_over_batches() {
        let a = counting(&[2, 2]);
        let b = f32s(&[2, 2], &[0., 1., 1., 0.]);
        Case::of("MatMul", [a, b.clone()]).gives([f32s(&[2, 2], &[2., 1., 4., 3.])]);
        let batch = counting(&[2, 1, 2]);
        Case::of("MatMul", [batch.clone(), b]).gives([f32s(&[2, 1, 2], &[2., 1., 4., 3.])]);
        let many = f32s(&[2, 1, 2, 1], &[1., 1., 1., -1.]);
        Case::of("MatMul", [batch, many]).gives([f32s(&[2, 2, 1, 1], &[3., 7., -1., -1.])]);
    }

    #[test]
    fn vectors_are_promoted_and_dropped_again() {
        let (m, v) = (counting(&[2, 2]), f32s(&[2], &[1., 10.]));
        Case::of("MatMul", [m.clone(), v.clone()]).gives([f32s(&[2], &[21., 43.])]);
        Case::of("MatMul", [v.clone(), m]).gives([f32s(&[2], &[31., 42.])]);
        Case::of("MatMul", [v.clone(), v]).gives([f32s(&[], &[101.])]);
    }

    #[test]
    fn integers_multiply_exactly() {
        let a = tensor(&[1, 2], &[3i32, -4]);
        Case::of("MatMul", [a, tensor(&[2, 1], &[5i32, 6])]).gives([tensor(&[1, 1], &[-9i32])]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let a = counting(&[2, 3]);
        Case::of("MatMul", [a.clone(), counting(&[2, 2])]).fails("inner dimensions differ");
        Case::of("MatMul", [counting(&[2, 1, 1]), counting(&[3, 1, 1])]).fails("broadcast");
        Case::of("MatMul", [a.clone(), f32s(&[], &[1.])]).fails("no scalar");
        Case::of("MatMul", [a, i64s(&[3, 1], &[1; 3])]).fails("float and int64");
    }

    #[test]
    fn an_empty_inner_dimension_gives_zeros() {
        let (a, b) = (f32s(&[2, 0], &[]), f32s(&[0, 3], &[]));
        Case::of("MatMul", [a.clone(), b.clone()]).gives([f32s(&[2, 3], &[0.; 6])]);
        Case::of("Gemm", [a, b, f32s(&[3], &[1., 2., 3.])])
            .gives([f32s(&[2, 3], &[1., 2., 3., 1., 2., 3.])]);
        Case::of("Gemm", [f32s(&[0, 2], &[]), counting(&[2, 3])]).gives([f32s(&[0, 3], &[])]);
    }

    #[test]
    fn gemm_turns_scales_and_adds() {
        let (a, b) = (counting(&[2, 1]), counting(&[2, 3]));
        let c = f32s(&[1, 3], &[10., 20., 30.]);
        Case::of("Gemm", [a.clone(), b.clone(), c])
            .int("transA", 1)
            .float("alpha", 2.)
            .float("beta", 0.5)
            .gives([f32s(&[1, 3], &[23., 34., 45.])]);
        Case::of("Gemm", [b.clone(), a.clone()]).fails("inner dimensions differ");
        let wide = f32s(&[4, 1], &[0.; 4]);
        Case::of("Gemm", [a, b, wide]).int("transA", 1).fails("does not broadcast");
    }
}
