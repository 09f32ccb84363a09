//! Copying parts of lines.

use super::simd::TileSize;

/// Copies as many entries as there is room for; quickly, where that is a whole
/// row of a panel.
#[inline(always)]
pub(super) fn copy_long(from: &[f32], to: &mut [f32]) {
    const WIDE: usize = TileSize::MOST_COLUMNS;
    if to.len() == WIDE
        && let (Some(to), Some(from)) = (to.first_chunk_mut::<WIDE>(), from.first_chunk::<WIDE>())
    {
        *to = *from;
    } else if let Some(from) = from.get(..to.len()) {
        to.copy_from_slice(from);
    }
}

/// Copies the entries at multiples of `stride`, as many as there is room for.
#[inline(always)]
pub(super) fn copy_every(stride: usize, from: &[f32], to: &mut [f32]) {
    match stride {
        1 => {
            let length = from.len().min(to.len());
            if let (Some(from), Some(to)) = (from.get(..length), to.get_mut(..length)) {
                to.copy_from_slice(from);
            }
        }
        2 => {
            let (pairs, last) = from.as_chunks::<2>();
            let rest = to.get_mut(pairs.len()..).and_then(<[f32]>::first_mut);
            if let (Some(to), Some(from)) = (rest, last.first()) {
                *to = *from;
            }
            for (to, [from, _]) in to.iter_mut().zip(pairs) {
                *to = *from;
            }
        }
        _ => {
            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                *to = *from;
            }
        }
    }
}
