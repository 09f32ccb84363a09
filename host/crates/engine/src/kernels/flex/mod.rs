//! What is faster on the CPU than Burn's own kernels.

mod activate;
mod attention;
mod buffers;
mod conv;
mod copy;
mod depthwise;
mod elementwise;
mod gemm;
mod int;
mod lines;
mod lrn;
mod matmul;
mod matrix;
mod panels;
mod planes;
mod pool;
mod product;
mod shared;
mod simd;
mod sliding;
mod team;

use std::sync::Arc;

use burn::tensor::ops::{ActivationOps, FloatTensorOps};
use burn::tensor::{IntDType, Shape, TensorData};
use burn_flex::{Flex, FlexTensor};

use self::shared::Shared;
use super::composed_weights;
use super::{
    Activation, ConvAxis, ConvTail, IntBinary, Kernels, LocalResponse, Pooling, Quantizer,
};

impl Kernels for Flex {
    type ConvWeights = Arc<conv::Weights>;
    type MatrixWeights = Arc<matrix::Matrix>;

    fn float_constant(x: FlexTensor) -> FlexTensor {
        shared::constant(x)
    }

    fn int_constant(x: FlexTensor) -> FlexTensor {
        shared::constant(x)
    }

    fn pack_conv(weight: &FlexTensor, groups: usize) -> Option<(Arc<conv::Weights>, usize)> {
        let raw = conv::Raw::of(weight, groups)?;
        let weights = Arc::new(raw.pack());
        let bytes = weights.size_bytes();
        Some((weights, bytes))
    }

    fn keep_conv(weight: &FlexTensor, groups: usize) -> Option<(Arc<conv::Weights>, usize)> {
        static WEIGHTS: Shared<conv::Weights> = Shared::new();
        let raw = conv::Raw::of(weight, groups)?;
        let weights = WEIGHTS.get_or(raw.bytes(), &raw.form(), || raw.pack());
        let bytes = weights.size_bytes();
        Some((weights, bytes))
    }

    fn conv_packed(
        x: FlexTensor,
        weights: &Arc<conv::Weights>,
        axes: &[ConvAxis],
        tail: ConvTail<Self>,
    ) -> Option<FlexTensor> {
        let x = if x.is_contiguous() { x } else { x.to_contiguous() };
        let (bias, residual) = (tail.bias, tail.residual);
        let (bias, residual) =
            (bias.map(|t| t.to_contiguous()), residual.map(|t| t.to_contiguous()));
        let finish = gemm::Finish {
            row_bias: bias.as_ref().map(floats),
            residual: residual.as_ref().map(floats),
            activation: tail.activation,
            ..gemm::Finish::default()
        };
        let &[batch, channels, ..] = x.layout().shape().as_slice() else { return None };
        let windows = conv::Windows::of(axes, batch, channels)?;
        let answer = conv::convolve(floats(&x), weights, &windows, finish)?;
        let out = axes.iter().map(|axis| axis.out);
        let dims: Vec<usize> = [batch, weights.maps()].into_iter().chain(out).collect();
        buffers::give(x);
        residual.into_iter().for_each(buffers::give);
        Some(FlexTensor::from_data(TensorData::new(answer, dims)))
    }

    fn matmul(left: FlexTensor, right: FlexTensor) -> FlexTensor {
        match matmul::multiply(&left, &right) {
            Some(product) => {
                buffers::give(left);
                buffers::give(right);
                product
            }
            None => Self::float_matmul(left, right),
        }
    }

    fn pack_matrix(weight: &FlexTensor, turned: bool) -> Option<(Arc<matrix::Matrix>, usize)> {
        let raw = matmul::Raw::of(weight, turned)?;
        let matrix = Arc::new(raw.pack());
        let bytes = matrix.size_bytes();
        Some((matrix, bytes))
    }

    fn keep_matrix(weight: &FlexTensor, turned: bool) -> Option<(Arc<matrix::Matrix>, usize)> {
        static MATRICES: Shared<matrix::Matrix> = Shared::new();
        let raw = matmul::Raw::of(weight, turned)?;
        let matrix = MATRICES.get_or(raw.bytes(), &raw.form(), || raw.pack());
        let bytes = matrix.size_bytes();
        Some((matrix, bytes))
    }

    fn matmul_packed(
        x: FlexTensor,
        weights: &Arc<matrix::Matrix>,
        bias: Option<FlexTensor>,
        activation: Option<Activation>,
    ) -> FlexTensor {
        let bias = bias.map(|bias| bias.to_contiguous());
        let column_bias = bias.as_ref().map(floats);
        let finish = gemm::Finish { column_bias, activation, ..gemm::Finish::default() };
        let product = matmul::multiply_packed(&x, weights, finish);
        buffers::give(x);
        product
    }

    fn pool(
        x: FlexTensor,
        axes: &[ConvAxis],
        pooling: Pooling<'_>,
    ) -> Result<FlexTensor, FlexTensor> {
        match pool::pool(&x, axes, pooling) {
            Some(pooled) => {
                buffers::give(x);
                Ok(pooled)
            }
            None => Err(x),
        }
    }

    fn local_response(x: FlexTensor, lrn: LocalResponse) -> Result<FlexTensor, FlexTensor> {
        match lrn::normalize(&x, lrn) {
            Some(normalized) => {
                buffers::give(x);
                Ok(normalized)
            }
            None => Err(x),
        }
    }

    /// Burn reads what lies in another order one by one.
    fn float_compact(x: FlexTensor) -> FlexTensor {
        let repeated = x.layout().strides().contains(&0);
        if repeated || x.is_contiguous() { x } else { copy::contiguous(&x) }
    }

    fn to_quantized(x: FlexTensor, quantizer: Quantizer, dtype: IntDType) -> FlexTensor {
        quantizer.on_cpu(x, dtype)
    }

    fn from_quantized(x: FlexTensor, zero: f32, scale: f32) -> FlexTensor {
        super::quantize::dequantize_on_cpu(x, zero, scale)
    }

    fn full_floats() -> bool {
        true
    }

    fn activate(x: FlexTensor, activation: Activation) -> FlexTensor {
        elementwise::apply(x, activation).unwrap_or_else(|x| activation.apply::<Self>(x))
    }

    fn softmax_along(x: FlexTensor, axis: usize) -> FlexTensor {
        let behind = x.layout().shape().as_slice().get(axis + 1..).unwrap_or_default();
        let row = x.layout().shape().as_slice().get(axis).copied().unwrap_or_default();
        if behind.iter().any(|&size| size != 1) {
            return Self::softmax(x, axis);
        }
        elementwise::softmax(x, row).unwrap_or_else(|x| Self::softmax(x, axis))
    }

    fn float_joined(tensors: Vec<FlexTensor>, axis: usize) -> FlexTensor {
        match copy::join(&tensors, axis) {
            Some(joined) => {
                tensors.into_iter().for_each(buffers::give);
                joined
            }
            None => Self::float_cat(tensors, axis),
        }
    }

    fn float_reshaped(x: FlexTensor, dims: Shape) -> FlexTensor {
        match x.layout().reshape(dims.clone()) {
            Some(_) => Self::float_reshape(x, dims),
            None => Self::float_reshape(copy::contiguous(&x), dims),
        }
    }

    fn int_binary(operation: IntBinary, left: FlexTensor, right: FlexTensor) -> FlexTensor {
        super::ints::on_cpu(operation, left, right)
    }

    fn float_fmod(left: FlexTensor, right: FlexTensor) -> FlexTensor {
        super::ints::float_remainder(left, right)
    }

    /// Burn's softmax computes its powers one by one.
    fn attention_weights(
        mut scores: FlexTensor,
        scale: f64,
        bias: Option<FlexTensor>,
    ) -> FlexTensor {
        match attention::weights(&mut scores, scale, bias.as_ref()) {
            Some(()) => scores,
            None => composed_weights::<Self>(scores, scale, bias),
        }
    }

    fn int_range(tensor: &FlexTensor) -> Option<(i64, i64)> {
        int::range_of(tensor)
    }
}

/// The elements of a tensor of f32 that is contiguous.
fn floats(tensor: &FlexTensor) -> &[f32] {
    let start = tensor.layout().start_offset();
    let end = start + tensor.layout().num_elements();
    tensor.storage::<f32>().get(start..end).unwrap_or_default()
}
