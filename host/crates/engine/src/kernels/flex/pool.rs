//! Pooling.

use burn::tensor::{DType, TensorData};
use burn_flex::FlexTensor;

use super::floats;
use crate::kernels::Window2d;

/// The largest entry of each window; Burn's also computes where it came from.
pub(super) fn max(x: &FlexTensor, window: &Window2d) -> Option<FlexTensor> {
    let &[n, c, height, width] = x.layout().shape().as_slice() else { return None };
    if x.dtype() != DType::F32 {
        return None;
    }
    let x = x.to_contiguous();
    let planes = floats(&x).chunks_exact(height * width);
    let out = [0, 1].map(|axis| window.out([height, width], axis));
    let mut pooled = Vec::with_capacity(n * c * out.iter().product::<usize>());
    for plane in planes {
        max_of_plane(plane, width, out, window, &mut pooled);
    }
    let [rows, columns] = out;
    Some(FlexTensor::from_data(TensorData::new(pooled, [n, c, rows, columns])))
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
    use burn::tensor::ops::ModuleOps;
    use burn_flex::Flex;

    use super::*;
    use crate::kernels::Kernels;

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
