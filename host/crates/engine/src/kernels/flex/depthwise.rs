//! Convolution of each channel with its own weights. There is nothing to share
//! between channels, so no product of matrices: each tap is added to a whole
//! plane at once.

use rayon::prelude::*;

use pulp::{Simd, WithSimd};

use super::activate::activate;
use super::gemm::{Finish, with_scratch};
use super::lines::copy_every;
use super::simd::dispatch;
use crate::kernels::ConvAxis;

/// Vectors of sums that are computed at a time: enough to hide how long a sum
/// takes, few enough for the registers.
const VECTORS: usize = 8;
/// As many at the end of a plane.
const SHORT: usize = 4;

/// How large a padded plane may be.
const MOST_FLOATS: usize = 1 << 22;

/// How the padded plane of a channel is laid out: cut into `stride * stride`
/// smaller planes, in which the entries that one tap meets are neighbours, with
/// `pitch` entries a row. Windows are `pitch` apart too; the ones behind the last
/// of a row are computed and dropped.
struct Planes {
    axes: [ConvAxis; 2],
    pitch: usize,
    /// The size of one plane, with room to read over its end.
    size: usize,
    /// For each tap, where the first window's entry is.
    taps: Vec<usize>,
    /// How many windows there are, with the dropped ones.
    windows: usize,
}

impl Planes {
    /// `None` where they would be too large, or cut too small.
    fn of(axes: [ConvAxis; 2]) -> Option<Self> {
        let [h, w] = axes;
        let padded = |a: &ConvAxis| {
            ((a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + a.stride).max(a.size)
        };
        padded(&h).checked_mul(padded(&w)).filter(|&floats| floats <= MOST_FLOATS)?;
        let reach = |a: &ConvAxis| (a.kernel - 1) * a.dilation / a.stride;
        let pitch = w.out + reach(&w);
        let windows = (h.out - 1) * pitch + w.out;
        let size = (h.out + reach(&h)) * pitch;
        let taps = (0..h.kernel).flat_map(|y| {
            (0..w.kernel).map(move |x| {
                let (y, x) = (y * h.dilation, x * w.dilation);
                let plane = y % h.stride * w.stride + x % w.stride;
                plane * size + y / h.stride * pitch + x / w.stride
            })
        });
        let taps = taps.collect();
        Some(Self { axes, pitch, size, taps, windows })
    }

    /// What the planes take, and what is read behind them.
    fn floats(&self) -> usize {
        let [h, w] = &self.axes;
        self.size * h.stride * w.stride + VECTORS * 16
    }

    /// Spreads a channel into the planes, where what is padding is zero already.
    #[inline(always)]
    fn fill(&self, x: &[f32], planes: &mut [f32]) {
        let [h, w] = &self.axes;
        for (row, line) in x.chunks_exact(w.size).enumerate() {
            let y = row + h.begin;
            let plane = y % h.stride * w.stride;
            let start = y / h.stride * self.pitch;
            if start >= self.size {
                return;
            }
            for phase in 0..w.stride {
                // The first entry of the line that lies in this plane.
                let first = (phase + w.stride - w.begin % w.stride) % w.stride;
                let to = (plane + phase) * self.size + start + (first + w.begin) / w.stride;
                let end = (plane + phase) * self.size + start + self.pitch;
                let to = planes.get_mut(to..end).unwrap_or_default();
                copy_every(w.stride, line.get(first..).unwrap_or_default(), to);
            }
        }
    }
}

/// The convolutions of some channels, next to each other in all images.
struct Channels<'a> {
    planes: &'a Planes,
    /// `[channels, height, width]`.
    x: &'a [f32],
    /// `[all channels of an image, maps, taps]`.
    weights: &'a [f32],
    /// `[channels, maps, windows]`.
    answer: &'a mut [f32],
    /// The maps of each channel.
    maps: usize,
    /// The first map, counted over all images.
    place: usize,
    finish: Finish<'a>,
    /// For the planes and the sums.
    scratch: &'a mut [f32],
}

impl WithSimd for Channels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { planes, x, weights, answer, maps, place, finish, scratch } = self;
        let [h, w] = &planes.axes;
        let (entries, sums) = scratch.split_at_mut(planes.floats());
        let length = planes.windows.next_multiple_of(S::F32_LANES).min(sums.len());
        let sums = sums.get_mut(..length).unwrap_or_default();
        let taps = planes.taps.len();
        let of_image = weights.len() / taps;
        let channels = x.chunks_exact(h.size * w.size);
        let answers = answer.chunks_exact_mut(maps * h.out * w.out);
        entries.fill(0.0);
        for ((x, answer), first) in channels.zip(answers).zip((place..).step_by(maps)) {
            planes.fill(x, entries);
            for (answer, place) in answer.chunks_exact_mut(h.out * w.out).zip(first..) {
                let map = place % of_image;
                let bias = finish.row_bias.and_then(|bias| bias.get(map)).copied().unwrap_or(0.0);
                let weights = weights.get(map * taps..(map + 1) * taps).unwrap_or_default();
                add_taps(simd, &Taps { entries, places: &planes.taps, weights, bias }, sums);
                for (to, from) in answer.chunks_exact_mut(w.out).zip(sums.chunks(planes.pitch)) {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = *from;
                    }
                }
                let start = place * answer.len();
                let residual = finish.residual.and_then(|r| r.get(start..start + answer.len()));
                for (to, other) in answer.iter_mut().zip(residual.unwrap_or_default()) {
                    *to += other;
                }
                if let Some(activation) = finish.activation {
                    activate(activation, answer);
                }
            }
        }
    }
}

/// The sums of all windows of a plane.
#[inline(always)]
fn add_taps<S: Simd>(simd: S, taps: &Taps<'_>, sums: &mut [f32]) {
    let whole = |length: usize, n: usize| length / (n * S::F32_LANES) * (n * S::F32_LANES);
    let long = whole(sums.len(), VECTORS);
    let (most, rest) = sums.split_at_mut(long);
    let short = whole(rest.len(), SHORT);
    let (some, rest) = rest.split_at_mut(short);
    add_taps_by::<S, VECTORS>(simd, taps, 0, most);
    add_taps_by::<S, SHORT>(simd, taps, long, some);
    add_taps_by::<S, 1>(simd, taps, long + short, rest);
}

struct Taps<'a> {
    entries: &'a [f32],
    places: &'a [usize],
    weights: &'a [f32],
    bias: f32,
}

#[inline(always)]
fn add_taps_by<S: Simd, const N: usize>(simd: S, taps: &Taps<'_>, from: usize, sums: &mut [f32]) {
    let length = N * S::F32_LANES;
    for (start, to) in (from..).step_by(length).zip(sums.chunks_exact_mut(length)) {
        let mut vectors = [simd.splat_f32s(taps.bias); N];
        for (tap, weight) in taps.places.iter().zip(taps.weights) {
            let weight = simd.splat_f32s(*weight);
            let Some(from) = taps.entries.get(start + tap..start + tap + length) else { continue };
            let Some((from, _)) = bytemuck::cast_slice(from).split_first_chunk::<N>() else {
                continue;
            };
            for (sum, from) in vectors.iter_mut().zip(from) {
                *sum = simd.mul_add_e_f32s(weight, *from, *sum);
            }
        }
        if let Some(to) = bytemuck::cast_slice_mut(to).first_chunk_mut::<N>() {
            *to = vectors;
        }
    }
}

/// Below so many multiplications the threads cost more than they save.
const WORTH_SHARING: usize = 1 << 19;

/// `x` is `[batch, channels, height, width]`, `weights` `[channels * maps, taps]`,
/// and the answer `[batch, channels * maps, windows]`. `None` where the planes of
/// the channels would be too large.
pub(super) fn convolve(
    x: &[f32],
    weights: &[f32],
    maps: usize,
    axes: [ConvAxis; 2],
    finish: Finish<'_>,
) -> Option<Vec<f32>> {
    let [h, w] = axes;
    let planes = Planes::of(axes)?;
    let (plane, out) = (h.size * w.size, h.out * w.out);
    let images = x.len() / plane;
    let mut answer = vec![0.0; images * maps * out];
    let floats = planes.floats() + planes.windows + SHORT * 16;
    let work = |(place, (x, answer)): (usize, (&[f32], &mut [f32]))| {
        with_scratch(floats, |scratch| {
            let planes = &planes;
            dispatch(Channels { planes, x, weights, answer, maps, place, finish, scratch });
        });
    };
    if images * out * maps * planes.taps.len() < WORTH_SHARING {
        work((0, (x, &mut answer)));
    } else {
        let most = images.div_ceil(rayon::current_num_threads() * 4);
        let pairs = x.par_chunks(most * plane).zip(answer.par_chunks_mut(most * maps * out));
        let places = pairs.enumerate().map(|(i, pair)| (i * most * maps, pair));
        places.with_max_len(1).for_each(work);
    }
    Some(answer)
}
