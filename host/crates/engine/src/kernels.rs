//! The seam to Burn: what the operators need of a backend beyond Burn's own
//! traits, with defaults that a backend may override with something faster.

use burn::tensor::backend::Backend;
use burn::tensor::ops::IntTensor;
use burn::tensor::{BoolStore, get_device_settings};

/// A backend that programs can run on.
pub(crate) trait Kernels: Backend {
    /// The smallest and the largest element, where that can be told at once.
    /// Never asked of a tensor without elements.
    fn int_range(_: &IntTensor<Self>) -> Option<(i64, i64)> {
        None
    }
}

/// How the device stores bools.
pub(crate) fn bool_store<B: Kernels>(device: &B::Device) -> BoolStore {
    get_device_settings::<B>(device).bool_dtype
}

mod flex {
    use burn::tensor::DType;
    use burn_flex::{Flex, FlexTensor};
    use bytemuck::Pod;

    use super::Kernels;

    impl Kernels for Flex {
        fn int_range(tensor: &FlexTensor) -> Option<(i64, i64)> {
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
    }

    fn range<T: Pod + Ord + Into<i64>>(bytes: &[u8]) -> Option<(i64, i64)> {
        let values: &[T] = bytemuck::try_cast_slice(bytes).ok()?;
        let low = values.iter().copied().min()?;
        let high = values.iter().copied().max()?;
        Some((low.into(), high.into()))
    }
}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda {}

#[cfg(feature = "vulkan")]
impl Kernels for burn::backend::Vulkan {}
