//! Integers.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use bytemuck::Pod;

/// The smallest and the largest element.
pub(super) fn range_of(tensor: &FlexTensor) -> Option<(i64, i64)> {
    let tensor = tensor.to_contiguous();
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::I64 => range::<i64>(bytes),
        DType::I32 => range::<i32>(bytes),
        DType::I16 => range::<i16>(bytes),
        DType::I8 => range::<i8>(bytes),
        DType::U32 => range::<u32>(bytes),
        DType::U16 => range::<u16>(bytes),
        DType::U8 => range::<u8>(bytes),
        // Beyond an i64 the exact value does not matter: it is large.
        DType::U64 => {
            let values: &[u64] = bytemuck::try_cast_slice(bytes).ok()?;
            let clamp = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
            let (low, high) = (values.iter().min()?, values.iter().max()?);
            Some((clamp(*low), clamp(*high)))
        }
        _ => None,
    }
}

fn range<T: Pod + Ord + Into<i64>>(bytes: &[u8]) -> Option<(i64, i64)> {
    let values: &[T] = bytemuck::try_cast_slice(bytes).ok()?;
    let low = values.iter().copied().min()?;
    let high = values.iter().copied().max()?;
    Some((low.into(), high.into()))
}
