//! Operators on the bits of numbers.

use ingle_types::{DType, Tensor};

use super::elementwise::{Binary, add, apply};
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::kernels::{IntBinary, Kernels};
use crate::literal::dtype_of;
use crate::number::Integer;
use crate::value::{Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("BitShift", 11.., 2..=2, bit_shift);
    r.add("BitCast", 26.., 1..=1, bit_cast);
}

fn bit_shift<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let name = "direction";
    let shift = match &*args.string(name, "")? {
        "LEFT" => Binary {
            int: |l, r| B::int_binary(IntBinary::ShiftLeft, l, r),
            host_int: i64::shifted_left,
            commutes: false,
            ..add()
        },
        "RIGHT" => Binary {
            int: |l, r| B::int_binary(IntBinary::ShiftRight, l, r),
            host_int: i64::shifted_right,
            commutes: false,
            ..add()
        },
        _ => return Err(BuildError::Value { name, reason: "neither LEFT nor RIGHT" }),
    };
    op(move |ctx, mut inputs| {
        let (x, by) = (inputs.take(0)?, inputs.take(1)?);
        let given = x.dtype();
        if is_float(given) || matches!(given, DType::Bool | DType::Bytes) {
            let expected = "an integer tensor";
            return Err(OpError::DType { what: "the operand", expected, given });
        }
        Ok(vec![apply(ctx, &shift, x, by)?])
    })
}

fn bit_cast<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let to = args.int_opt("to")?.ok_or(BuildError::Missing { name: "to" })?;
    let dtype = i32::try_from(to).ok().and_then(dtype_of);
    let dtype = dtype.ok_or(BuildError::Unsupported { what: "this element type" })?;
    op(move |ctx, mut inputs| Ok(vec![relabel(ctx, &inputs.take(0)?, dtype)?]))
}

/// The same bytes as elements of another dtype of the same size.
fn relabel<B: Kernels>(ctx: &Context<B>, x: &Value<B>, dtype: DType) -> Result<Value<B>, OpError> {
    let (left, right) = (x.dtype(), dtype);
    let tensor = x.to_tensor(ctx)?;
    let bytes = match tensor.bytes() {
        Some(bytes) if left.size_bytes() == right.size_bytes() => bytes.clone(),
        _ => return Err(OpError::DTypes { left, right }),
    };
    let what = "the bits of a bool";
    let tensor = Tensor::dense(dtype, tensor.shape().clone(), bytes)
        .map_err(|_| OpError::Unsupported { what })?;
    Value::from_tensor(ctx, &tensor)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, bools, f32s, i64s, tensor};

    #[test]
    fn bits_are_shifted_out() {
        let shift =
            |direction: &str, x, by| Case::of("BitShift", [x, by]).string("direction", direction);
        let x = || tensor(&[3], &[16u8, 4, 255]);
        shift("RIGHT", x(), tensor(&[3], &[1u8, 2, 8])).gives([tensor(&[3], &[8u8, 1, 0])]);
        shift("LEFT", x(), tensor(&[3], &[1u8, 2, 200])).gives([tensor(&[3], &[32u8, 16, 0])]);
        let most = tensor(&[2, 1], &[u64::MAX; 2]);
        shift("RIGHT", most.clone(), tensor(&[2], &[63u64, 64]))
            .gives([tensor(&[2, 2], &[1u64, 0, 1, 0])]);
        shift("LEFT", most, tensor(&[], &[63u64])).gives([tensor(&[2, 1], &[1u64 << 63; 2])]);
        let many = tensor(&[2000], &[3u16; 2000]);
        shift("LEFT", many.clone(), tensor(&[1], &[15u16]))
            .gives([tensor(&[2000], &[1u16 << 15; 2000])]);
        shift("LEFT", many, tensor(&[1], &[16u16])).gives([tensor(&[2000], &[0u16; 2000])]);
        shift("UP", x(), x()).fails("neither LEFT nor RIGHT");
        shift("LEFT", f32s(&[1], &[1.]), f32s(&[1], &[1.])).fails("integer tensor");
    }

    #[test]
    fn bits_take_another_type_of_their_size() {
        let cast = |x, to: i64| Case::of("BitCast", [x]).opset(26).int("to", to);
        cast(f32s(&[2], &[1., -2.]), 6).gives([tensor(&[2], &[0x3f80_0000i32, -0x4000_0000])]);
        cast(i64s(&[], &[-1]), 13).gives([tensor(&[], &[u64::MAX])]);
        cast(tensor(&[1, 1], &[0x3f80_0000i32]), 1).gives([f32s(&[1, 1], &[1.])]);
        cast(bools(&[2], &[1, 0]), 2).gives([tensor(&[2], &[1u8, 0])]);
        cast(tensor(&[1], &[2u8]), 9).fails("the bits of a bool");
        cast(f32s(&[1], &[1.]), 7).fails("float and int64");
        cast(f32s(&[1], &[1.]), 8).fails("float and string");
    }
}
