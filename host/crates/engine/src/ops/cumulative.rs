//! Running sums and products.

use burn::tensor::ops::{FloatTensor, IntTensor};
use ingle_types::DType;

use super::generate::full;
use super::tensor::{join, narrow};
use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::dims::axis_at;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("CumSum", 11.., 2..=2, |a| {
        running(a, Fold { float: B::float_cumsum, int: B::int_cumsum, identity: 0 })
    });
    r.add("CumProd", 26.., 2..=2, |a| {
        running(a, Fold { float: B::float_cumprod, int: B::int_cumprod, identity: 1 })
    });
}

struct Fold<B: Kernels> {
    float: fn(FloatTensor<B>, usize) -> FloatTensor<B>,
    int: fn(IntTensor<B>, usize) -> IntTensor<B>,
    /// What comes before the first entry.
    identity: i64,
}

fn running<B: Kernels>(args: &Args<'_, B>, fold: Fold<B>) -> Built<B> {
    let (exclusive, reverse) = (args.flag("exclusive", false)?, args.flag("reverse", false)?);
    op(move |ctx, mut inputs| {
        let (x, axis) = (inputs.take(0)?, inputs.take(1)?);
        let dims = x.dims();
        let axis = axis_at(axis.scalar(ctx, "the axis")? as i64, dims.len())?;
        if dims.contains(&0) {
            return Ok(vec![x]);
        }
        let x = flipped(x.into_device(ctx)?, axis, reverse);
        let x = if exclusive { shifted(ctx, x.into(), axis, fold.identity)? } else { x };
        let answer = match x {
            DeviceTensor::Float(x) => DeviceTensor::Float((fold.float)(x, axis)),
            DeviceTensor::Int(x) => DeviceTensor::Int((fold.int)(x, axis)),
            DeviceTensor::Bool(_) => return Err(OpError::Unsupported { what: "bools" }),
        };
        Ok(vec![flipped(answer, axis, reverse).into()])
    })
}

fn flipped<B: Kernels>(x: DeviceTensor<B>, axis: usize, flip: bool) -> DeviceTensor<B> {
    match x {
        DeviceTensor::Float(x) if flip => DeviceTensor::Float(B::float_flip(x, &[axis])),
        DeviceTensor::Int(x) if flip => DeviceTensor::Int(B::int_flip(x, &[axis])),
        other => other,
    }
}

/// `x` moved by one along `axis`: `identity` comes in, the last entry drops out.
fn shifted<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    axis: usize,
    identity: i64,
) -> Result<DeviceTensor<B>, OpError> {
    let mut dims = x.dims();
    let size = dims.get(axis).copied().unwrap_or_default();
    if let Some(slot) = dims.get_mut(axis) {
        *slot = 1;
    }
    let first = Host::ints(DType::I64, vec![], vec![identity]).cast(x.dtype());
    let rest = narrow(ctx, &x, axis, 0, size.saturating_sub(1))?;
    let axis = i64::try_from(axis).unwrap_or(i64::MAX);
    join(ctx, vec![full(ctx, &first, dims)?, rest], axis)?.into_device(ctx)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor};

    #[test]
    fn running_sums_go_both_ways() {
        let sums = || Case::of("CumSum", [counting(&[3, 1]), i64s(&[], &[0])]);
        sums().gives([f32s(&[3, 1], &[1., 3., 6.])]);
        sums().int("exclusive", 1).gives([f32s(&[3, 1], &[0., 1., 3.])]);
        sums().int("reverse", 1).gives([f32s(&[3, 1], &[6., 5., 3.])]);
        sums().int("reverse", 1).int("exclusive", 1).gives([f32s(&[3, 1], &[5., 3., 0.])]);
    }

    #[test]
    fn what_is_left_out_leaves_no_trace() {
        let huge = f32s(&[3], &[1., f32::INFINITY, 2.]);
        Case::of("CumSum", [huge, i64s(&[], &[0])])
            .int("exclusive", 1)
            .gives([f32s(&[3], &[0., 1., f32::INFINITY])]);
        Case::of("CumSum", [tensor(&[1], &[5i32]), i64s(&[], &[-1])])
            .int("exclusive", 1)
            .gives([tensor(&[1], &[0i32])]);
    }

    #[test]
    fn running_products_pass_zeros() {
        let x = f32s(&[2, 3], &[2., 0., 3., -1., 4., 5.]);
        let products = |axis| Case::of("CumProd", [x.clone(), i64s(&[], &[axis])]).opset(26);
        products(-1).gives([f32s(&[2, 3], &[2., 0., 0., -1., -4., -20.])]);
        products(1).int("exclusive", 1).gives([f32s(&[2, 3], &[1., 2., 0., 1., -1., -4.])]);
        products(0).int("reverse", 1).gives([f32s(&[2, 3], &[-2., 0., 15., -1., 4., 5.])]);
        products(2).fails("axis 2");
    }
}
