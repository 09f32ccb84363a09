//! Local response normalisation.

use burn::tensor::{DType, TensorData};
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::simd::dispatch;
use super::{buffers, floats, team};
use crate::kernels::LocalResponse;

/// Entries of a channel that are computed at a time: with those of the channels
/// beside it they stay in the first cache.
const BLOCK: usize = 512;

/// Of `[images, channels, entries]`; `None` for what is not float32.
pub(super) fn normalize(x: &FlexTensor, lrn: LocalResponse) -> Option<FlexTensor> {
    let &[_, channels, entries] = x.layout().shape().as_slice() else { return None };
    if x.dtype() != DType::F32 {
        return None;
    }
    let dims = x.layout().shape().to_vec();
    let x = x.to_contiguous();
    let mut answer = buffers::take(dims.iter().product());
    let image = channels * entries;
    let some = team::SHARE.div_ceil(entries).min(channels);
    let images = floats(&x).chunks_exact(image).zip(answer.chunks_exact_mut(image));
    let parts = images.flat_map(|(x, answer)| {
        let firsts = (0..).step_by(some);
        let answers = answer.chunks_mut(some * entries);
        answers.zip(firsts).map(move |(answer, first)| Part { x, first, entries, lrn, answer })
    });
    team::for_each(parts, dispatch);
    Some(FlexTensor::from_data(TensorData::new(answer, dims)))
}

/// Some channels of one image.
struct Part<'a> {
    /// The whole image.
    x: &'a [f32],
    first: usize,
    /// Of one channel.
    entries: usize,
    lrn: LocalResponse,
    answer: &'a mut [f32],
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { x, first, entries, lrn, answer } = self;
        let channels = x.len() / entries;
        for (channel, answer) in (first..).zip(answer.chunks_exact_mut(entries)) {
            let [begin, end] = lrn.window(channel, channels);
            for (block, answer) in (0..).step_by(BLOCK).zip(answer.chunks_mut(BLOCK)) {
                let length = answer.len();
                let of = |channel: usize| {
                    let start = channel * entries + block;
                    x.get(start..start + length).unwrap_or_default()
                };
                let mut sums = [0.0_f32; BLOCK];
                for other in begin..end {
                    for (sum, x) in sums.iter_mut().zip(of(other)) {
                        *sum += x * x;
                    }
                }
                for ((y, x), sum) in answer.iter_mut().zip(of(channel)).zip(sums) {
                    *y = x / lrn.power(lrn.bias + lrn.alpha / lrn.size as f32 * sum);
                }
            }
        }
    }
}

impl LocalResponse {
    /// The channels whose squares a channel is divided by.
    fn window(&self, channel: usize, channels: usize) -> [usize; 2] {
        let before = (self.size - 1) / 2;
        let end = (channel + self.size - before).min(channels);
        [channel.saturating_sub(before), end]
    }

    /// Roots instead of powers where models use them.
    #[inline(always)]
    fn power(&self, base: f32) -> f32 {
        match self.beta {
            0.75 => base.sqrt() * base.sqrt().sqrt(),
            0.5 => base.sqrt(),
            1.0 => base,
            beta => base.powf(beta),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_beside_are_counted_in_every_size_of_tensor() {
        for (dims, size, beta) in [
            ([2, 5, 7], 3, 0.75),
            ([1, 4, 1300], 4, 0.5),
            ([2, 40, 900], 5, 1.0),
            ([1, 3, 3], 9, 0.6),
        ] {
            let count: usize = dims.iter().product();
            let values: Vec<f32> = (0..count).map(|i| (i * 37 % 101) as f32 * 0.1 - 5.0).collect();
            let lrn = LocalResponse { size, alpha: 0.3, beta, bias: 1.5 };
            let x = FlexTensor::from_data(TensorData::new(values.clone(), dims));
            let given = normalize(&x, lrn).unwrap();
            let [_, channels, entries] = dims;
            for (i, y) in given.storage::<f32>().iter().enumerate() {
                let (channel, start) = (i / entries % channels, i / (channels * entries));
                let near = (0..channels).filter(|other| {
                    let from = channel as isize - (size as isize - 1) / 2;
                    (from..from + size as isize).contains(&(*other as isize))
                });
                let square = |other: usize| {
                    let x = f64::from(values[(start * channels + other) * entries + i % entries]);
                    x * x
                };
                let sum: f64 = near.map(square).sum();
                let base = f64::from(lrn.bias) + f64::from(lrn.alpha) / size as f64 * sum;
                let wanted = f64::from(values[i]) / base.powf(beta.into());
                assert!((f64::from(*y) - wanted).abs() < 1e-5, "{dims:?} {i}: {y} {wanted}");
            }
        }
    }
}
