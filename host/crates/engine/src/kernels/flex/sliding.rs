//! Windows over each channel by itself: what all of them hold at one tap is a
//! stretch of the channel's planes, so a vector of windows is folded at once.

use pulp::{Simd, WithSimd};

use super::buffers;
use super::gemm::with_scratch;
use super::planes::{Planes, SLACK};
use super::simd::dispatch;
use super::team;

/// What becomes of the entries of a window.
pub(super) trait Fold {
    /// What there is before the first tap.
    fn first<S: Simd>(&self, simd: S) -> S::f32s;

    /// What becomes of a window when all taps are met.
    #[inline(always)]
    fn last<S: Simd>(&self, _: S, folded: S::f32s) -> S::f32s {
        folded
    }

    /// How the entries that a tap meets are added.
    fn add<S: Simd>(&self, simd: S, tap: usize) -> impl Fn(S::f32s, S::f32s) -> S::f32s;
}

/// What is computed of each channel.
pub(super) trait Slide: Sync {
    /// How many maps each channel gives.
    fn maps(&self) -> usize;

    /// For a map, counted over all images.
    fn fold(&self, place: usize, taps: usize) -> impl Fold;

    /// What follows when all windows of a map are folded.
    fn finish(&self, place: usize, answer: &mut [f32]);
}

/// Below so many entries met the threads cost more than they save.
const WORTH_SHARING: usize = 1 << 17;

/// The answer `[channels, maps, windows]` of all channels of an operand.
pub(super) fn slide(x: &[f32], planes: &Planes, work: &impl Slide, padding: f32) -> Vec<f32> {
    let (entries, windows) = (planes.entries(), planes.windows());
    let (channels, out) = (x.len() / entries, work.maps() * windows);
    let mut answer = buffers::take(channels * out);
    let floats = planes.floats() + SLACK + planes.span() + SLACK;
    let part = |(place, (x, answer)): (usize, (&[f32], &mut [f32]))| {
        with_scratch(floats, |scratch| {
            dispatch(Channels { planes, x, answer, place, work, padding, scratch });
        });
    };
    if channels * out * planes.taps.len() < WORTH_SHARING {
        part((0, (x, &mut answer)));
    } else {
        let most = channels.div_ceil(team::threads() * 4);
        let pairs = x.chunks(most * entries).zip(answer.chunks_mut(most * out));
        team::for_each(pairs.enumerate().map(|(i, pair)| (i * most * work.maps(), pair)), part);
    }
    answer
}

/// Some channels, next to each other in all images.
struct Channels<'a, W> {
    planes: &'a Planes,
    /// `[channels, size...]`.
    x: &'a [f32],
    /// `[channels, maps, windows]`.
    answer: &'a mut [f32],
    /// The first map, counted over all images.
    place: usize,
    work: &'a W,
    padding: f32,
    /// For the planes and the folded windows.
    scratch: &'a mut [f32],
}

impl<W: Slide> WithSimd for Channels<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { planes, x, answer, place, work, padding, scratch } = self;
        let (entries, folded) = scratch.split_at_mut(planes.floats() + SLACK);
        // No channel writes there.
        entries.fill(padding);
        let length = planes.span().next_multiple_of(S::F32_LANES);
        let folded = folded.get_mut(..length).unwrap_or_default();
        let windows = planes.windows();
        let channels = x.chunks_exact(planes.entries());
        let answers = answer.chunks_exact_mut(work.maps() * windows);
        let firsts = (place..).step_by(work.maps());
        for (i, ((channel, answer), first)) in channels.zip(answers).zip(firsts).enumerate() {
            let entries = match planes.within(x, i) {
                Some(entries) => entries,
                None => {
                    planes.fill(channel, entries);
                    &*entries
                }
            };
            for (answer, place) in answer.chunks_exact_mut(windows).zip(first..) {
                let fold = work.fold(place, planes.taps.len());
                fold_all(simd, &fold, &planes.taps, entries, folded);
                planes.pick(folded, answer);
                work.finish(place, answer);
            }
        }
    }
}

/// Vectors of windows that are folded at a time: enough to hide how long a step
/// takes, few enough for the registers.
const VECTORS: usize = 8;

#[inline(always)]
fn fold_all<S: Simd>(
    simd: S,
    fold: &impl Fold,
    taps: &[usize],
    entries: &[f32],
    folded: &mut [f32],
) {
    let most = VECTORS * S::F32_LANES;
    let (most, rest) = folded.split_at_mut(folded.len() / most * most);
    fold_by::<S, VECTORS>(simd, fold, taps, entries, most);
    let entries = entries.get(most.len()..).unwrap_or_default();
    match rest.len() / S::F32_LANES {
        0 => {}
        1 => fold_by::<S, 1>(simd, fold, taps, entries, rest),
        2 => fold_by::<S, 2>(simd, fold, taps, entries, rest),
        3 => fold_by::<S, 3>(simd, fold, taps, entries, rest),
        4 => fold_by::<S, 4>(simd, fold, taps, entries, rest),
        5 => fold_by::<S, 5>(simd, fold, taps, entries, rest),
        6 => fold_by::<S, 6>(simd, fold, taps, entries, rest),
        _ => fold_by::<S, 7>(simd, fold, taps, entries, rest),
    }
}

#[inline(always)]
fn fold_by<S: Simd, const N: usize>(
    simd: S,
    fold: &impl Fold,
    taps: &[usize],
    entries: &[f32],
    folded: &mut [f32],
) {
    let length = N * S::F32_LANES;
    for (start, to) in (0..).step_by(length).zip(folded.chunks_exact_mut(length)) {
        let mut vectors = [fold.first(simd); N];
        for (i, tap) in taps.iter().enumerate() {
            let add = fold.add(simd, i);
            let Some(from) = entries.get(start + tap..start + tap + length) else { continue };
            let Some((from, _)) = bytemuck::cast_slice(from).split_first_chunk::<N>() else {
                continue;
            };
            for (folded, from) in vectors.iter_mut().zip(from) {
                *folded = add(*folded, *from);
            }
        }
        if let Some(to) = bytemuck::cast_slice_mut(to).first_chunk_mut::<N>() {
            for (to, folded) in to.iter_mut().zip(vectors) {
                *to = fold.last(simd, folded);
            }
        }
    }
}
