//! Products of matrices, a block at a time: the right side is brought into the
//! order in which tiles read it, in pieces that stay in the cache.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::activate::{activate, activate_vector, is_cheap};
use super::panels::Panels;
use super::simd::{TileSize, dispatch};
use crate::kernels::Activation;

/// How deep a block is: so many entries of a row that is read again and again
/// for a tile after the other stay in the first cache.
const DEPTH: usize = 512;
/// How many floats a block holds: half of a usual second cache.
const BLOCK: usize = 128 * 1024;

/// The right side of a product, `[depth, columns]`.
pub(super) trait Columns: Sync {
    /// Whether all panels are in order already.
    const PACKED: bool = false;

    /// Writes the entries of `depth` rows and `width` columns from `column` on,
    /// row by row; `into` has room for exactly them. Columns behind the last one
    /// may hold anything.
    fn pack(&self, depth: &Range<usize>, column: usize, width: usize, into: &mut [f32]);

    /// A panel that is in that order already.
    fn packed(&self, _depth: &Range<usize>, _column: usize) -> Option<&[f32]> {
        None
    }
}

/// What becomes of the sums.
#[derive(Clone, Copy, Default)]
pub(super) struct Finish<'a> {
    /// One number for each row.
    pub(super) row_bias: Option<&'a [f32]>,
    /// One number for each column.
    pub(super) column_bias: Option<&'a [f32]>,
    /// As large as the answer.
    pub(super) residual: Option<&'a [f32]>,
    pub(super) activation: Option<Activation>,
}

/// The part of an answer that one task computes: some rows and columns of one
/// image, or some rows of several whole images.
pub(super) struct Part<'a> {
    /// For one image after the other, the places of each row.
    pub(super) places: Vec<&'a mut [f32]>,
    /// The panels of the left side whose rows these are.
    pub(super) panels: Range<usize>,
    /// Where each place starts in the residual.
    pub(super) residual: Vec<usize>,
    /// The first column, counted over all images.
    pub(super) column: usize,
}

struct Work<'w, 'a, C: Columns> {
    left: &'w Panels,
    right: &'w C,
    part: Part<'a>,
    finish: Finish<'w>,
    scratch: &'w mut [f32],
}

/// Computes one part of a product.
pub(super) fn multiply<C: Columns>(left: &Panels, right: &C, part: Part<'_>, finish: Finish<'_>) {
    // The memory comes first: code in a closure would not get the vectors.
    let floats = left.depth().min(DEPTH) * TileSize::MOST_COLUMNS;
    with_scratch(floats.max(BLOCK), |scratch| {
        dispatch(Work { left, right, part, finish, scratch });
    });
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Memory of this thread that starts at a cache line and holds anything.
pub(super) fn with_scratch<T>(floats: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    const LINE: usize = 16;
    let mut memory = SCRATCH.with(RefCell::take);
    if memory.len() < floats + LINE {
        memory = vec![0.0; floats + LINE];
    }
    let skip = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let answer = work(memory.get_mut(skip..skip + floats).unwrap_or_default());
    SCRATCH.set(memory);
    answer
}

impl<C: Columns> WithSimd for Work<'_, '_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let width = TileSize::of::<S>().width;
        let rows = self.rows();
        let Some(pixels) = self.part.places.first().map(|place| place.len()) else { return };
        let columns = self.part.places.len() / rows.len().max(1) * pixels;
        let depth = self.left.depth();
        let deep = DEPTH.min(depth).max(1);
        let wide = (self.scratch.len() / deep / width * width).max(width);
        for column in (0..columns).step_by(wide) {
            let block = column..columns.min(column + wide);
            for start in (0..depth).step_by(deep) {
                let part = start..depth.min(start + deep);
                let scratch = std::mem::take(&mut self.scratch);
                self.block(simd, &block, part, scratch);
                self.scratch = scratch;
            }
        }
    }
}

/// Where in a block a tile lies.
struct Tile<'t> {
    left: &'t [f32],
    right: &'t [f32],
    row: usize,
    column: usize,
    columns: usize,
    first: bool,
    last: bool,
}

impl<C: Columns> Work<'_, '_, C> {
    fn rows(&self) -> Range<usize> {
        let Range { start, end } = self.part.panels;
        self.left.rows_of(start).start..self.left.rows_of(end).start
    }

    #[inline(always)]
    fn block<S: Simd>(
        &mut self,
        simd: S,
        block: &Range<usize>,
        depth: Range<usize>,
        scratch: &mut [f32],
    ) {
        let width = TileSize::of::<S>().width;
        let size = depth.len() * width;
        let first_column = self.part.column;
        for (column, panel) in block.clone().step_by(width).zip(scratch.chunks_exact_mut(size)) {
            if self.right.packed(&depth, first_column + column).is_none() {
                let width = width_of::<S>(block.end - column);
                let panel = panel.get_mut(..depth.len() * width).unwrap_or_default();
                self.right.pack(&depth, first_column + column, width, panel);
            }
        }
        let base = self.rows().start;
        for panel in self.part.panels.clone() {
            let rows = self.left.rows_of(panel);
            let left = self.left.part(panel, &depth);
            for (column, right) in block.clone().step_by(width).zip(scratch.chunks_exact(size)) {
                let right = self.right.packed(&depth, first_column + column).unwrap_or(right);
                let tile = Tile {
                    left,
                    right,
                    row: rows.start - base,
                    column,
                    columns: width.min(block.end - column),
                    first: depth.start == 0,
                    last: depth.end == self.left.depth(),
                };
                if tile.columns > S::F32_LANES {
                    self.tile_of::<S, 2>(simd, rows.len(), &tile);
                } else {
                    self.tile_of::<S, 1>(simd, rows.len(), &tile);
                }
            }
        }
    }

    #[inline(always)]
    fn tile_of<S: Simd, const N: usize>(&mut self, simd: S, height: usize, tile: &Tile<'_>) {
        match height {
            1 => self.tile::<S, 1, N>(simd, tile),
            2 => self.tile::<S, 2, N>(simd, tile),
            3 => self.tile::<S, 3, N>(simd, tile),
            4 => self.tile::<S, 4, N>(simd, tile),
            5 => self.tile::<S, 5, N>(simd, tile),
            6 => self.tile::<S, 6, N>(simd, tile),
            7 => self.tile::<S, 7, N>(simd, tile),
            8 => self.tile::<S, 8, N>(simd, tile),
            9 => self.tile::<S, 9, N>(simd, tile),
            10 => self.tile::<S, 10, N>(simd, tile),
            11 => self.tile::<S, 11, N>(simd, tile),
            _ => self.tile::<S, 12, N>(simd, tile),
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const H: usize, const N: usize>(&mut self, simd: S, tile: &Tile<'_>) {
        let sums = sums::<S, H, N>(simd, tile.left, bytemuck::cast_slice(tile.right));
        let activation = if tile.last { self.finish.activation } else { None };
        if tile.columns == N * S::F32_LANES && activation.is_none_or(is_cheap) {
            self.store::<S, H, N>(simd, sums, tile, activation);
        } else {
            let mut buffer = [[0.0; TileSize::MOST_COLUMNS]; H];
            for (row, sums) in buffer.iter_mut().zip(&sums) {
                if let Some(row) = bytemuck::cast_slice_mut(row).first_chunk_mut::<N>() {
                    *row = *sums;
                }
            }
            Simd::vectorize(simd, Store { work: self, sums: &buffer, tile });
        }
    }

    /// Adds the sums of a whole tile to the answer, vector by vector.
    #[inline(always)]
    fn store<S: Simd, const H: usize, const N: usize>(
        &mut self,
        simd: S,
        sums: [[S::f32s; N]; H],
        tile: &Tile<'_>,
        activation: Option<Activation>,
    ) {
        let (rows, finish) = (self.rows(), self.finish);
        let Some(pixels) = self.part.places.first().map(|place| place.len()) else { return };
        let (image, pixel) = (tile.column / pixels, tile.column % pixels);
        let range = pixel..pixel + tile.columns;
        if range.end > pixels {
            let mut buffer = [[0.0; TileSize::MOST_COLUMNS]; H];
            for (row, sums) in buffer.iter_mut().zip(&sums) {
                if let Some(row) = bytemuck::cast_slice_mut(row).first_chunk_mut::<N>() {
                    *row = *sums;
                }
            }
            return Simd::vectorize(simd, Store { work: self, sums: &buffer, tile });
        }
        let first = image * rows.len() + tile.row;
        let column_bias = finish.column_bias.filter(|_| tile.last).and_then(|bias| {
            bytemuck::cast_slice(bias.get(self.part.column + tile.column..)?.get(..tile.columns)?)
                .first_chunk::<N>()
        });
        let row_bias = finish.row_bias.filter(|_| tile.first);
        let row_bias = row_bias.and_then(|bias| bias.get(rows.start + tile.row..)?.first_chunk());
        let row_bias = row_bias.copied().unwrap_or([0.0; H]);
        let starts = self.part.residual.get(first..).unwrap_or_default();
        let places = self.part.places.get_mut(first..).unwrap_or_default();
        for (i, (place, sums)) in places.iter_mut().zip(sums).enumerate() {
            let to = bytemuck::cast_slice_mut(place.get_mut(range.clone()).unwrap_or_default());
            let Some(to) = to.first_chunk_mut::<N>() else { return };
            let mut values = sums;
            for (value, old) in values.iter_mut().zip(&*to) {
                let other = if tile.first { simd.splat_f32s(row_bias[i]) } else { *old };
                *value = simd.add_f32s(*value, other);
            }
            if tile.last {
                let residual = finish.residual.and_then(|residual| {
                    let start = starts.get(i)? + pixel;
                    bytemuck::cast_slice(residual.get(start..start + tile.columns)?).first_chunk()
                });
                for other in residual.into_iter().chain(column_bias) {
                    for (value, other) in values.iter_mut().zip(other) {
                        *value = simd.add_f32s(*value, *other);
                    }
                }
                if let Some(activation) = activation {
                    for value in &mut values {
                        *value = activate_vector(simd, activation, *value);
                    }
                }
            }
            *to = values;
        }
    }

    /// Adds the sums of a tile to the answer, image by image.
    #[inline(always)]
    fn store_any(&mut self, sums: &[[f32; TileSize::MOST_COLUMNS]], tile: &Tile<'_>) {
        let rows = self.rows();
        let Some(pixels) = self.part.places.first().map(|place| place.len()) else { return };
        let mut done = 0;
        while done < tile.columns {
            let column = tile.column + done;
            let (image, pixel) = (column / pixels, column % pixels);
            let length = (pixels - pixel).min(tile.columns - done);
            for (row, sums) in (tile.row..).zip(sums) {
                let place = image * rows.len() + row;
                let Some(to) = self.part.places.get_mut(place) else { return };
                let Some(to) = to.get_mut(pixel..pixel + length) else { return };
                let Some(sums) = sums.get(done..done + length) else { return };
                if tile.first {
                    let bias = self.finish.row_bias.and_then(|bias| bias.get(rows.start + row));
                    let bias = bias.copied().unwrap_or(0.0);
                    for (to, sum) in to.iter_mut().zip(sums) {
                        *to = sum + bias;
                    }
                } else {
                    add(to, sums);
                }
                if tile.last {
                    let residual = self.finish.residual.and_then(|residual| {
                        let start = self.part.residual.get(place)? + pixel;
                        residual.get(start..start + length)
                    });
                    let start = self.part.column + column;
                    let bias = self.finish.column_bias;
                    let bias = bias.and_then(|bias| bias.get(start..start + length));
                    for other in residual.into_iter().chain(bias) {
                        add(to, other);
                    }
                    if let Some(activation) = self.finish.activation {
                        activate(activation, to);
                    }
                }
            }
            done += length;
        }
    }
}

/// How wide the panel is that holds `columns` columns or more.
fn width_of<S: Simd>(columns: usize) -> usize {
    if columns > S::F32_LANES { 2 * S::F32_LANES } else { S::F32_LANES }
}

/// Stores a tile; a function of its own, as one serves tiles of all heights.
struct Store<'s, 'w, 'a, C: Columns> {
    work: &'s mut Work<'w, 'a, C>,
    sums: &'s [[f32; TileSize::MOST_COLUMNS]],
    tile: &'s Tile<'s>,
}

impl<C: Columns> WithSimd for Store<'_, '_, '_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.work.store_any(self.sums, self.tile);
    }
}

#[inline(always)]
fn add(to: &mut [f32], other: &[f32]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to += other;
    }
}

/// Sums of products of `H` rows and `N` vectors of columns. They stay in registers.
#[inline(always)]
fn sums<S: Simd, const H: usize, const N: usize>(
    simd: S,
    left: &[f32],
    right: &[S::f32s],
) -> [[S::f32s; N]; H] {
    let mut sums = [[simd.splat_f32s(0.0); N]; H];
    for (left, right) in left.as_chunks::<H>().0.iter().zip(right.as_chunks::<N>().0) {
        for (sums, left) in sums.iter_mut().zip(left) {
            let left = simd.splat_f32s(*left);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(left, *right, *sum);
            }
        }
    }
    sums
}
