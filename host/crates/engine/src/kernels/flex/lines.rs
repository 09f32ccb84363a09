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

/// Copies `length` entries, `N` at most, as one piece of `N`. What `to` holds behind
/// them may be overwritten: to be written later.
#[inline(always)]
pub(super) fn copy_loosely<const N: usize>(from: &[f32], to: &mut [f32], length: usize) {
    match (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        (Some(from), Some(to)) => *to = *from,
        // Where either ends.
        _ => to.iter_mut().zip(from).take(length).for_each(|(to, from)| *to = *from),
    }
}

/// Copies a line of any length into another; quickly, where it is short.
#[inline(always)]
pub(super) fn copy_short(from: &[f32], to: &mut [f32]) {
    let length = from.len().min(to.len());
    match length {
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        4..8 => copy_overlapping::<4>(from, to, length),
        8..16 => copy_overlapping::<8>(from, to, length),
        _ => copy_overlapping::<16>(from, to, length),
    }
}

/// Copies in steps of `N`, the last of which may reach back over the one before.
#[inline(always)]
fn copy_overlapping<const N: usize>(from: &[f32], to: &mut [f32], length: usize) {
    let (from, to) = (from.get(..length), to.get_mut(..length));
    let (Some(from), Some(to)) = (from, to) else { return };
    for (from, to) in from.as_chunks::<N>().0.iter().zip(to.as_chunks_mut::<N>().0) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk::<N>(), to.last_chunk_mut::<N>()) {
        *to = *from;
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
