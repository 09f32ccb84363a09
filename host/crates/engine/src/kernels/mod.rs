//! The seam to Burn: what the operators need of a backend beyond Burn's own
//! traits, with defaults that a backend may override with something faster.

mod activation;
mod flex;
mod ints;
mod quantize;

use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, IntTensor};
use burn::tensor::{BoolStore, DType, IntDType, Shape, TensorMetadata, get_device_settings};

pub(crate) use self::activation::Activation;
pub(crate) use self::ints::IntBinary;
pub(crate) use self::quantize::Quantizer;

/// A backend that programs can run on.
pub(crate) trait Kernels: Backend {
    /// A convolution's weights in the order in which its kernel reads them.
    type ConvWeights: Send + Sync + 'static;

    /// A matrix on the right of products in the order in which their kernel reads it.
    type MatrixWeights: Send + Sync + 'static;

    /// Whether the device computes with a dtype, and computes it right.
    fn computes(device: &Self::Device, dtype: DType) -> bool {
        Self::supports_dtype(device, dtype)
    }

    /// The largest tensor that the device can hold, in bytes.
    fn max_tensor_bytes(_: &Self::Device) -> usize {
        usize::MAX
    }

    /// What each window of `[batch, channels, size...]` is pooled to. The operand
    /// comes back where Burn's own kernels do it. No dimension of the answer is zero.
    fn pool(
        x: FloatTensor<Self>,
        _: &[ConvAxis],
        _: Pooling<'_>,
    ) -> Result<FloatTensor<Self>, FloatTensor<Self>> {
        Err(x)
    }

    /// Each entry of `[images, channels, entries]` by those of the channels beside it.
    /// The operand comes back where Burn's own kernels do it.
    fn local_response(
        x: FloatTensor<Self>,
        _: LocalResponse,
    ) -> Result<FloatTensor<Self>, FloatTensor<Self>> {
        Err(x)
    }

    /// The same tensor, in the order in which elements are read fastest.
    fn float_compact(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }

    /// A constant of a program, in memory that other programs' equal ones may use.
    fn float_constant(x: FloatTensor<Self>) -> FloatTensor<Self> {
        x
    }

    /// As [`Kernels::float_constant`].
    fn int_constant(x: IntTensor<Self>) -> IntTensor<Self> {
        x
    }

    /// Reorders weights `[maps, depth, kernel...]`, and says how many bytes they
    /// take then. `None` where Burn's own convolution takes them as they are.
    fn pack_conv(_: &FloatTensor<Self>, _groups: usize) -> Option<(Self::ConvWeights, usize)> {
        None
    }

    /// As [`Kernels::pack_conv`], once for a program: others with equal weights may
    /// hold the same ones.
    fn keep_conv(weight: &FloatTensor<Self>, groups: usize) -> Option<(Self::ConvWeights, usize)> {
        Self::pack_conv(weight, groups)
    }

    /// A convolution of `x`, `[batch, channels, size...]`, with packed weights.
    /// The channels fit the weights, and no dimension of the answer is zero. `None`
    /// where the windows reach so far that their padding would fill the memory.
    fn conv_packed(
        _: FloatTensor<Self>,
        _: &Self::ConvWeights,
        _axes: &[ConvAxis],
        _: ConvTail<Self>,
    ) -> Option<FloatTensor<Self>> {
        None
    }

    /// `softmax(scores * scale + bias)` over the last axis of
    /// `[batch, heads, rows, columns]`. Each dim of the bias is the scores' or one.
    fn attention_weights(
        scores: FloatTensor<Self>,
        scale: f64,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        composed_weights::<Self>(scores, scale, bias)
    }

    /// `scores + bias`, where each dim of the bias is the scores' or one.
    fn biased(scores: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let shape = scores.shape();
        Self::float_add(scores, Self::float_expand(bias, shape))
    }

    /// The integers that float32s are quantized to.
    fn to_quantized(
        x: FloatTensor<Self>,
        quantizer: Quantizer,
        dtype: IntDType,
    ) -> IntTensor<Self> {
        quantizer.by_parts::<Self>(x, dtype)
    }

    /// `(x - zero) * scale` of integers of 8 or 16 bits, as float32.
    fn from_quantized(x: IntTensor<Self>, zero: f32, scale: f32) -> FloatTensor<Self> {
        quantize::dequantize_by_parts::<Self>(x, zero, scale)
    }

    /// Whether products of float32 matrices, and convolutions, keep all 24 bits of
    /// each number; some devices multiply with fewer.
    fn full_floats() -> bool {
        false
    }

    /// Applies a function to each element.
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activation.apply::<Self>(x)
    }

    /// The powers of e of the entries along an axis, divided by their sum.
    fn softmax_along(x: FloatTensor<Self>, axis: usize) -> FloatTensor<Self> {
        Self::softmax(x, axis)
    }

    /// Joins tensors of one dtype whose dims differ in `axis` only.
    fn float_joined(tensors: Vec<FloatTensor<Self>>, axis: usize) -> FloatTensor<Self> {
        Self::float_cat(tensors, axis)
    }

    /// `dims` have as many elements.
    fn float_reshaped(x: FloatTensor<Self>, dims: Shape) -> FloatTensor<Self> {
        Self::float_reshape(x, dims)
    }

    /// Two integer tensors of one dtype and rank, which broadcast.
    fn int_binary(
        operation: IntBinary,
        left: IntTensor<Self>,
        right: IntTensor<Self>,
    ) -> IntTensor<Self> {
        ints::by_burn::<Self>(operation, left, right)
    }

    /// What is left of `left` divided by `right`, with the sign of `left`.
    fn float_fmod(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        let quotient = Self::float_trunc(Self::float_div(left.clone(), right.clone()));
        Self::float_sub(left, Self::float_mul(quotient, right))
    }

    /// The product of float tensors of one rank, of two or more; their leading
    /// dimensions broadcast. No dimension is zero.
    fn matmul(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(left, right)
    }

    /// Reorders a matrix `[depth, columns]`, or `[columns, depth]` where it is
    /// turned, and says how many bytes it takes then. `None` where Burn's own
    /// product takes it as it is.
    fn pack_matrix(_: &FloatTensor<Self>, _turned: bool) -> Option<(Self::MatrixWeights, usize)> {
        None
    }

    /// As [`Kernels::keep_conv`], of a matrix.
    fn keep_matrix(
        weight: &FloatTensor<Self>,
        turned: bool,
    ) -> Option<(Self::MatrixWeights, usize)> {
        Self::pack_matrix(weight, turned)
    }

    /// `x`, `[rows, depth]`, times a packed matrix, plus one number for each
    /// column, through a function. No dimension is zero.
    fn matmul_packed(
        x: FloatTensor<Self>,
        _: &Self::MatrixWeights,
        _bias: Option<FloatTensor<Self>>,
        _: Option<Activation>,
    ) -> FloatTensor<Self> {
        x
    }

    /// The smallest and the largest element, where that can be told at once.
    /// Never asked of a tensor without elements.
    fn int_range(_: &IntTensor<Self>) -> Option<(i64, i64)> {
        None
    }
}

/// [`Kernels::attention_weights`] with Burn's own kernels.
fn composed_weights<B: Kernels>(
    scores: FloatTensor<B>,
    scale: f64,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let scores = if scale == 1.0 { scores } else { B::float_mul_scalar(scores, scale.into()) };
    let scores = match bias {
        Some(bias) => B::biased(scores, bias),
        None => scores,
    };
    B::softmax_along(scores, 3)
}

/// A window along one axis of a convolution or a pooling. There are `begin` zeros before the
/// axis, and as many behind it as the last of `out` windows needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConvAxis {
    pub(crate) size: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    pub(crate) begin: usize,
    pub(crate) out: usize,
}

/// What follows a convolution's sums: bias, then residual, then activation.
pub(crate) struct ConvTail<B: Kernels> {
    /// One number for each map.
    pub(crate) bias: Option<FloatTensor<B>>,
    /// As large as the answer.
    pub(crate) residual: Option<FloatTensor<B>>,
    pub(crate) activation: Option<Activation>,
}

/// What becomes of the entries of a window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pooling<'a> {
    Max,
    /// The sum, padding as zeros, times a number for each window.
    Sum(&'a [f32]),
}

/// `x / (bias + alpha / size * s)^beta`, where s is the sum of the squares of
/// `size` channels around that of x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalResponse {
    pub(crate) size: usize,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) bias: f32,
}

/// How the device stores bools.
pub(crate) fn bool_store<B: Kernels>(device: &B::Device) -> BoolStore {
    get_device_settings::<B>(device).bool_dtype
}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda {
    type ConvWeights = std::convert::Infallible;
    type MatrixWeights = std::convert::Infallible;

    fn max_tensor_bytes(device: &Self::Device) -> usize {
        cube::max_tensor_bytes::<burn::cubecl::cuda::CudaRuntime>(device)
    }
}

#[cfg(feature = "vulkan")]
impl Kernels for burn::backend::Vulkan {
    /// Vulkan's shaders add and multiply 64-bit floats, but know neither their
    /// powers nor their logarithms: the answers would be wrong, not refused.
    fn computes(device: &Self::Device, dtype: DType) -> bool {
        dtype != DType::F64 && Self::supports_dtype(device, dtype)
    }

    type ConvWeights = std::convert::Infallible;
    type MatrixWeights = std::convert::Infallible;

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
