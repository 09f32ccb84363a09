//! Pooling.

use burn::tensor::{DType, TensorData};
use burn_flex::FlexTensor;
use pulp::Simd;

use super::conv::Windows;
use super::floats;
use super::sliding::{Fold, Slide, slide};
use crate::kernels::{ConvAxis, Pooling};

/// Far more than the windows that models pool have.
const MOST_TAPS: usize = 1 << 16;

/// `None` for what Burn's own kernels pool.
pub(super) fn pool(x: &FlexTensor, axes: &[ConvAxis], pooling: Pooling<'_>) -> Option<FlexTensor> {
    let &[batch, channels, ..] = x.layout().shape().as_slice() else { return None };
    if x.dtype() != DType::F32 {
        return None;
    }
    // A kernel is a number in the model, and may be any; Burn walks a large one without a list.
    let taps = axes.iter().try_fold(1_usize, |taps, axis| taps.checked_mul(axis.kernel))?;
    if taps > MOST_TAPS {
        return None;
    }
    let planes = Windows::of(axes, batch, channels)?.planes(channels)?;
    let x = x.to_contiguous();
    let answer = match pooling {
        Pooling::Max => slide(floats(&x), &planes, &Largest, f32::NEG_INFINITY),
        Pooling::Sum(factors) => slide(floats(&x), &planes, &Scaled { factors }, 0.0),
    };
    let out = axes.iter().map(|axis| axis.out);
    let dims: Vec<usize> = [batch, channels].into_iter().chain(out).collect();
    Some(FlexTensor::from_data(TensorData::new(answer, dims)))
}

struct Largest;

impl Fold for Largest {
    #[inline(always)]
    fn first<S: Simd>(&self, simd: S) -> S::f32s {
        simd.splat_f32s(f32::NEG_INFINITY)
    }

    /// NaN is larger than any number, and the last of several stays.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, _: usize) -> impl Fn(S::f32s, S::f32s) -> S::f32s {
        move |best, entry| {
            let stays = simd.less_than_or_equal_f32s(entry, best);
            let number = simd.equal_f32s(best, best);
            let best = simd.select_f32s(stays, best, entry);
            // Comparing with NaN, either is taken for the smaller one.
            simd.select_f32s(number, best, simd.splat_f32s(f32::NAN))
        }
    }
}

impl Slide for Largest {
    fn maps(&self) -> usize {
        1
    }

    #[inline(always)]
    fn fold(&self, _: usize, _: usize) -> impl Fold {
        Self
    }

    #[inline(always)]
    fn finish(&self, _: usize, _: &mut [f32]) {}
}

/// The sum of each window, padding as zeros, times its number.
struct Scaled<'a> {
    factors: &'a [f32],
}

struct Sum;

impl Fold for Sum {
    #[inline(always)]
    fn first<S: Simd>(&self, simd: S) -> S::f32s {
        simd.splat_f32s(0.0)
    }

    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, _: usize) -> impl Fn(S::f32s, S::f32s) -> S::f32s {
        move |sum, entry| simd.add_f32s(sum, entry)
    }
}

impl Slide for Scaled<'_> {
    fn maps(&self) -> usize {
        1
    }

    #[inline(always)]
    fn fold(&self, _: usize, _: usize) -> impl Fold {
        Sum
    }

    #[inline(always)]
    fn finish(&self, _: usize, answer: &mut [f32]) {
        for (value, factor) in answer.iter_mut().zip(self.factors) {
            *value *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::ModuleOps;
    use burn_flex::Flex;

    use super::*;

    const CASES: [[[usize; 2]; 4]; 5] = [
        [[2, 2], [1, 1], [0, 0], [1, 1]],
        [[3, 3], [2, 2], [1, 1], [1, 1]],
        [[3, 2], [1, 3], [1, 1], [2, 1]],
        [[7, 9], [4, 4], [3, 4], [1, 1]],
        [[1, 1], [2, 5], [0, 0], [3, 3]],
    ];

    fn axes([kernel, stride, padding, dilation]: [[usize; 2]; 4]) -> [ConvAxis; 2] {
        [(0, 7), (1, 9)].map(|(i, size)| {
            let (kernel, stride, dilation) = (kernel[i], stride[i], dilation[i]);
            let reach = (kernel - 1) * dilation + 1;
            let out = (size + 2 * padding[i] - reach) / stride + 1;
            ConvAxis { size, kernel, stride, dilation, begin: padding[i], out }
        })
    }

    fn values() -> Vec<f32> {
        (0..2 * 3 * 7 * 9).map(|i| (i * 37 % 101) as f32 - 50.0).collect()
    }

    #[test]
    fn the_largest_entries_are_burns() {
        for case @ [kernel, stride, padding, dilation] in CASES {
            let x = FlexTensor::from_data(TensorData::new(values(), [2, 3, 7, 9]));
            let given = pool(&x, &axes(case), Pooling::Max).unwrap().into_data();
            let wanted = Flex::max_pool2d(x, kernel, stride, padding, dilation, false);
            assert_eq!(given, wanted.into_data(), "{case:?}");
        }
    }

    #[test]
    fn means_are_burns() {
        for case @ [kernel, stride, padding, dilation] in CASES {
            if dilation != [1, 1] {
                continue;
            }
            let x = FlexTensor::from_data(TensorData::new(values(), [2, 3, 7, 9]));
            let share = vec![((kernel[0] * kernel[1]) as f32).recip(); 63];
            let given = pool(&x, &axes(case), Pooling::Sum(&share)).unwrap().into_data();
            let wanted = Flex::avg_pool2d(x, kernel, stride, padding, true, false).into_data();
            assert_eq!(given.shape, wanted.shape);
            for (a, b) in given.iter::<f32>().zip(wanted.iter::<f32>()) {
                assert!((a - b).abs() < 1e-4, "{case:?}: {a} instead of {b}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_the_largest_wherever_it_is() {
        let x = [1.0, f32::NAN, 2.0, 3.0, f32::NEG_INFINITY];
        let x = FlexTensor::from_data(TensorData::new(x.to_vec(), [1, 1, 5]));
        let axis = ConvAxis { size: 5, kernel: 2, stride: 1, dilation: 1, begin: 1, out: 6 };
        let pooled = pool(&x, &[axis], Pooling::Max).unwrap();
        let given = format!("{:?}", pooled.storage::<f32>());
        assert_eq!(given, "[1.0, NaN, NaN, 3.0, 3.0, -inf]");
    }
}
