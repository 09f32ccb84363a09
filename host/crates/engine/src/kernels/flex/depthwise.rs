//! Convolution of each channel with its own weights. There is nothing to share
//! between channels, so no product of matrices: each tap is added to a whole
//! plane at once.

use pulp::Simd;

use super::activate::{activate, activate_vector, is_cheap};
use super::gemm::Finish;
use super::planes::Planes;
use super::sliding::{Fold, Slide, slide};
use crate::kernels::Activation;

/// The sums of entries times weights, a map after the other.
struct Depthwise<'a> {
    /// `[channels of an image * maps, taps]`.
    weights: &'a [f32],
    /// The maps of each channel.
    maps: usize,
    finish: Finish<'a>,
}

/// One map's weights and bias.
struct Weighted<'a> {
    weights: &'a [f32],
    bias: f32,
    /// Only where nothing else comes before it.
    activation: Option<Activation>,
}

impl Fold for Weighted<'_> {
    #[inline(always)]
    fn first<S: Simd>(&self, simd: S) -> S::f32s {
        simd.splat_f32s(self.bias)
    }

    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, tap: usize) -> impl Fn(S::f32s, S::f32s) -> S::f32s {
        let weight = simd.splat_f32s(self.weights.get(tap).copied().unwrap_or_default());
        move |sum, entry| simd.mul_add_e_f32s(weight, entry, sum)
    }

    #[inline(always)]
    fn last<S: Simd>(&self, simd: S, folded: S::f32s) -> S::f32s {
        match self.activation {
            Some(activation) => activate_vector(simd, activation, folded),
            None => folded,
        }
    }
}

impl Depthwise<'_> {
    /// An activation that is applied to whole vectors before anything else.
    fn early(&self) -> Option<Activation> {
        self.finish.activation.filter(|&a| self.finish.residual.is_none() && is_cheap(a))
    }
}

impl Slide for Depthwise<'_> {
    fn maps(&self) -> usize {
        self.maps
    }

    #[inline(always)]
    fn fold(&self, place: usize, taps: usize) -> impl Fold {
        let map = place % (self.weights.len() / taps);
        let bias = self.finish.row_bias.and_then(|bias| bias.get(map)).copied().unwrap_or(0.0);
        let weights = self.weights.get(map * taps..(map + 1) * taps).unwrap_or_default();
        Weighted { weights, bias, activation: self.early() }
    }

    #[inline(always)]
    fn finish(&self, place: usize, answer: &mut [f32]) {
        let start = place * answer.len();
        let residual = self.finish.residual.and_then(|r| r.get(start..start + answer.len()));
        for (to, other) in answer.iter_mut().zip(residual.unwrap_or_default()) {
            *to += other;
        }
        if let Some(activation) = self.finish.activation.filter(|_| self.early().is_none()) {
            activate(activation, answer);
        }
    }
}

/// `x` is `[batch, channels, size...]`, `weights` `[channels * maps, taps]`, and the
/// answer `[batch, channels * maps, windows]`.
pub(super) fn convolve(
    x: &[f32],
    weights: &[f32],
    maps: usize,
    planes: &Planes,
    finish: Finish<'_>,
) -> Vec<f32> {
    slide(x, planes, &Depthwise { weights, maps, finish }, 0.0)
}
