//! What is faster on the CPU than Burn's own kernels.

use burn::tensor::ops::ModuleOps;
use burn::tensor::{DType, IntDType, TensorData};
use burn_flex::{Flex, FlexTensor};
use bytemuck::Pod;

use super::{IntBinary, Kernels, Quantizer, Window2d, attention, composed_weights};

impl Kernels for Flex {
    type ConvWeights = std::convert::Infallible;

    /// Burn's also computes where each entry came from.
    fn max_pool(x: FlexTensor, window: Window2d) -> FlexTensor {
        let x = x.to_contiguous();
        let dims = x.layout().shape().to_vec();
        match (dims.as_slice(), x.dtype()) {
            (&[n, c, height, width], DType::F32) => {
                let planes = x.storage::<f32>().chunks_exact(height * width);
                let out = [0, 1].map(|axis| window.out([height, width], axis));
                let mut pooled = Vec::with_capacity(n * c * out.iter().product::<usize>());
                for plane in planes {
                    max_of_plane(plane, width, out, &window, &mut pooled);
                }
                let [rows, columns] = out;
                FlexTensor::from_data(TensorData::new(pooled, [n, c, rows, columns]))
            }
            _ => {
                let Window2d { kernel, stride, padding, dilation } = window;
                Self::max_pool2d(x, kernel, stride, padding, dilation, false)
            }
        }
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

impl Window2d {
    /// How many windows fit along an axis.
    fn out(&self, size: [usize; 2], axis: usize) -> usize {
        let at = |of: [usize; 2]| if axis == 0 { of[0] } else { of[1] };
        let reach = (at(self.kernel) - 1) * at(self.dilation) + 1;
        let padded = at(size) + 2 * at(self.padding);
        padded.checked_sub(reach).map_or(0, |last| last / at(self.stride) + 1)
    }
}

/// Appends the pooled rows of one plane. The innermost loop walks along a row,
/// which lets the compiler use vectors.
fn max_of_plane(
    plane: &[f32],
    width: usize,
    [rows, columns]: [usize; 2],
    window: &Window2d,
    pooled: &mut Vec<f32>,
) {
    let Window2d { kernel, stride, padding, dilation } = *window;
    for row in 0..rows {
        let start = pooled.len();
        pooled.resize(start + columns, f32::NEG_INFINITY);
        let Some(best) = pooled.get_mut(start..) else { return };
        for y in 0..kernel[0] {
            let from = (row * stride[0] + y * dilation[0]).checked_sub(padding[0]);
            let line = from.and_then(|y| plane.get(y * width..(y + 1) * width));
            let Some(line) = line else { continue };
            for x in 0..kernel[1] {
                let offset = x * dilation[1];
                // The first window whose tap is not in the padding.
                let first = padding[1].saturating_sub(offset).div_ceil(stride[1]);
                let Some(best) = best.get_mut(first..) else { continue };
                let Some(taps) = line.get(first * stride[1] + offset - padding[1]..) else {
                    continue;
                };
                for (best, tap) in best.iter_mut().zip(taps.iter().step_by(stride[1])) {
                    *best = if *tap > *best || tap.is_nan() { *tap } else { *best };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_entries_are_burns() {
        let values: Vec<f32> = (0..2 * 3 * 7 * 9).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
        for (kernel, stride, padding, dilation) in [
            ([2, 2], [1, 1], [0, 0], [1, 1]),
            ([3, 3], [2, 2], [1, 1], [1, 1]),
            ([3, 2], [1, 3], [2, 1], [2, 1]),
            ([7, 9], [4, 4], [3, 4], [1, 1]),
            ([1, 1], [2, 5], [0, 0], [3, 3]),
        ] {
            let x = || FlexTensor::from_data(TensorData::new(values.clone(), [2, 3, 7, 9]));
            let window = Window2d { kernel, stride, padding, dilation };
            let given = Flex::max_pool(x(), window).into_data();
            let wanted = Flex::max_pool2d(x(), kernel, stride, padding, dilation, false);
            assert_eq!(given, wanted.into_data(), "{window:?}");
        }
    }
}
