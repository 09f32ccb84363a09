//! Arithmetic whose corner cases Burn's kernels leave open: the least integer divided
//! by minus one, shifts by more than there are bits, powers, what floats leave.

use burn::tensor::ops::{IntTensor, IntTensorOps};
use burn::tensor::{DType, Element, Shape, TensorData, TensorMetadata};
use burn_flex::{Flex, FlexTensor};
use half::{bf16, f16};

use super::{Kernels, bool_store};
use crate::number::{Integer, Number};

/// What is done with two integers of one type; the answer wraps to that type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum IntBinary {
    /// Towards zero. The divisor is not zero, here and below.
    Divide,
    /// With the sign of the divisor.
    Modulo,
    /// With the sign of the dividend.
    Remainder,
    Power,
    ShiftLeft,
    ShiftRight,
}

impl IntBinary {
    pub(crate) fn function<T: Integer>(self) -> fn(T, T) -> T {
        match self {
            Self::Divide => T::divided,
            Self::Modulo => T::modulo,
            Self::Remainder => T::remainder,
            Self::Power => T::power,
            Self::ShiftLeft => T::shifted_left,
            Self::ShiftRight => T::shifted_right,
        }
    }
}

/// With Burn's own kernels.
pub(super) fn by_burn<B: Kernels>(
    operation: IntBinary,
    left: IntTensor<B>,
    right: IntTensor<B>,
) -> IntTensor<B> {
    match operation {
        IntBinary::Divide => B::int_div(left, right),
        IntBinary::Modulo => B::int_remainder(left, right),
        IntBinary::Remainder => {
            let quotient = B::int_div(left.clone(), right.clone());
            B::int_sub(left, B::int_mul(quotient, right))
        }
        IntBinary::Power => B::int_powi(left, right),
        IntBinary::ShiftLeft => shift::<B>(left, right, B::bitwise_left_shift),
        IntBinary::ShiftRight => shift::<B>(left, right, B::bitwise_right_shift),
    }
}

/// All bits are gone where there are fewer than `by` says.
fn shift<B: Kernels>(
    left: IntTensor<B>,
    by: IntTensor<B>,
    shift: fn(IntTensor<B>, IntTensor<B>) -> IntTensor<B>,
) -> IntTensor<B> {
    let last = i64::try_from(left.dtype().size() * 8 - 1).unwrap_or(63);
    let store = bool_store::<B>(&B::int_device(&left));
    let far = B::int_greater_elem(by.clone(), last.into(), store);
    let shifted = shift(left, B::int_clamp_max(by, last.into()));
    let far = B::bool_expand(far, shifted.shape());
    B::int_mask_fill(shifted, far, 0i64.into())
}

/// Exactly, on the CPU.
pub(super) fn on_cpu(operation: IntBinary, left: FlexTensor, right: FlexTensor) -> FlexTensor {
    match left.dtype() {
        DType::I64 => each::<i64>(operation.function(), left, right),
        DType::I32 => each::<i32>(operation.function(), left, right),
        DType::I16 => each::<i16>(operation.function(), left, right),
        DType::I8 => each::<i8>(operation.function(), left, right),
        DType::U64 => each::<u64>(operation.function(), left, right),
        DType::U32 => each::<u32>(operation.function(), left, right),
        DType::U16 => each::<u16>(operation.function(), left, right),
        DType::U8 => each::<u8>(operation.function(), left, right),
        _ => by_burn::<Flex>(operation, left, right),
    }
}

/// What floats leave when they are divided, with the sign of the dividend: exactly,
/// on the CPU.
pub(super) fn float_remainder(left: FlexTensor, right: FlexTensor) -> FlexTensor {
    match left.dtype() {
        DType::F64 => each::<f64>(|l, r| l % r, left, right),
        DType::F16 => each::<f16>(|l, r| l % r, left, right),
        DType::BF16 => each::<bf16>(|l, r| l % r, left, right),
        _ => each::<f32>(|l, r| l % r, left, right),
    }
}

/// The tensors have one rank and broadcast.
fn each<T: Number + Element>(
    compute: fn(T, T) -> T,
    left: FlexTensor,
    right: FlexTensor,
) -> FlexTensor {
    let (l, r) = (left.layout().shape().to_vec(), right.layout().shape().to_vec());
    let dims: Vec<usize> = l.iter().zip(&r).map(|(&l, &r)| if l == 1 { r } else { l }).collect();
    // A view, whatever the elements are.
    let spread = |tensor, dims: &[usize]| {
        Flex::int_expand(tensor, Shape::from(dims.to_vec())).to_contiguous()
    };
    let left = spread(left, &dims);
    let values: Vec<T> = if r.iter().all(|&size| size == 1) {
        let right = right.to_contiguous();
        let by = right.storage::<T>().first().copied();
        let pairs = left.storage::<T>().iter().zip(by.into_iter().cycle());
        pairs.map(|(&l, r)| compute(l, r)).collect()
    } else {
        let right = spread(right, &dims);
        let pairs = left.storage::<T>().iter().zip(right.storage::<T>());
        pairs.map(|(&l, &r)| compute(l, r)).collect()
    };
    FlexTensor::from_data(TensorData::new(values, dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [IntBinary; 6] = [
        IntBinary::Divide,
        IntBinary::Modulo,
        IntBinary::Remainder,
        IntBinary::Power,
        IntBinary::ShiftLeft,
        IntBinary::ShiftRight,
    ];

    /// Where neither overflows, a device computes the same.
    #[test]
    fn burns_kernels_agree() {
        let left = || FlexTensor::from_data(TensorData::new(vec![7i32, 9, 200, 1, 0, 6], [3, 2]));
        for operation in ALL {
            for right in [vec![3i32, 2], vec![1, 40]] {
                let right = || FlexTensor::from_data(TensorData::new(right.clone(), [1, 2]));
                let wanted = by_burn::<Flex>(operation, left(), right()).into_data();
                let given = on_cpu(operation, left(), right()).into_data();
                assert_eq!(given, wanted, "{operation:?}");
            }
        }
    }

    #[test]
    fn what_floats_leave_is_exact() {
        let left = FlexTensor::from_data(TensorData::new(vec![1e10f32, -7.5, 3.0], [3]));
        let right = FlexTensor::from_data(TensorData::new(vec![3f32, 2.0, f32::INFINITY], [3]));
        let left = float_remainder(left, right).into_data().to_vec::<f32>().unwrap();
        assert_eq!(left, [1.0, -1.5, 3.0]);
    }

    #[test]
    fn one_number_serves_all_on_either_side() {
        let many = || FlexTensor::from_data(TensorData::new(vec![1u8, 2, 9], [3]));
        let one = || FlexTensor::from_data(TensorData::new(vec![18u8], [1]));
        let given = on_cpu(IntBinary::Divide, one(), many()).into_data();
        assert_eq!(given.to_vec::<u8>().unwrap(), [18, 9, 2]);
        let given = on_cpu(IntBinary::Divide, many(), one()).into_data();
        assert_eq!(given.to_vec::<u8>().unwrap(), [0, 0, 0]);
    }
}
