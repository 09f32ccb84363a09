//! The seam to Burn: what the operators need of a backend beyond Burn's own
//! traits, with defaults that a backend may override with something faster.

mod flex;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{BoolStore, get_device_settings};

/// A backend that programs can run on.
pub(crate) trait Kernels: Backend {
    /// The largest tensor that the device can hold, in bytes.
    fn max_tensor_bytes(_: &Self::Device) -> usize {
        usize::MAX
    }

    /// The largest entry of each window of `[batch, channels, height, width]`.
    fn max_pool(x: FloatTensor<Self>, window: Window2d) -> FloatTensor<Self> {
        let Window2d { kernel, stride, padding, dilation } = window;
        Self::max_pool2d(x, kernel, stride, padding, dilation, false)
    }

    /// The smallest and the largest element, where that can be told at once.
    /// Never asked of a tensor without elements.
    fn int_range(_: &IntTensor<Self>) -> Option<(i64, i64)> {
        None
    }
}

/// A window that slides over two axes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window2d {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Before and behind each axis; smaller than the kernel.
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
}

/// How the device stores bools.
pub(crate) fn bool_store<B: Kernels>(device: &B::Device) -> BoolStore {
    get_device_settings::<B>(device).bool_dtype
}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda {
    fn max_tensor_bytes(device: &Self::Device) -> usize {
        cube::max_tensor_bytes::<burn::cubecl::cuda::CudaRuntime>(device)
    }
}

#[cfg(feature = "vulkan")]
impl Kernels for burn::backend::Vulkan {
    fn max_tensor_bytes(device: &Self::Device) -> usize {
        cube::max_tensor_bytes::<burn::backend::wgpu::WgpuRuntime>(device)
    }
}

#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod cube {
    use burn::cubecl::Runtime;

    /// A tensor is one buffer; asking for a larger one ends CubeCL's thread.
    pub(super) fn max_tensor_bytes<R: Runtime>(device: &R::Device) -> usize {
        let bytes = R::client(device).properties().memory.max_page_size;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}
