//! Matrices as sides of products.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::buffers;
use super::gemm::Columns;
use super::lines::copy_long;
use super::simd::{TileSize, dispatch};
use super::team;

/// The right side of a product, `[depth, columns]`, in panels of a few columns.
/// Within a panel the entries of one row lie side by side.
pub(crate) struct Matrix {
    data: Vec<f32>,
    pub(super) depth: usize,
    pub(super) columns: usize,
    width: usize,
}

/// Columns that are turned at a time, to stay in the cache.
const BLOCK: usize = 64;
/// Rows that are worth a step of their own.
const ROWS: usize = 256;
impl Matrix {
    /// To be kept.
    pub(super) fn of(from: &impl Columns, depth: usize, columns: usize) -> Self {
        Self::in_memory(from, depth, columns, |floats| vec![0.0; floats])
    }

    /// To be dropped by [`Matrix::give_back`].
    pub(super) fn for_now(from: &impl Columns, depth: usize, columns: usize) -> Self {
        Self::in_memory(from, depth, columns, buffers::take)
    }

    pub(super) fn give_back(self) {
        buffers::give_floats(self.data);
    }

    fn in_memory(
        from: &impl Columns,
        depth: usize,
        columns: usize,
        memory: impl Fn(usize) -> Vec<f32>,
    ) -> Self {
        let width = TileSize::here().width;
        let mut matrix = Self { data: Vec::new(), depth, columns, width };
        let mut data = memory(matrix.start_of(columns.next_multiple_of(width)));
        let panels = (0..columns).step_by(width).zip(data.chunks_mut(depth * width));
        let parts = panels.flat_map(|(column, panel)| {
            let wide = matrix.width_at(column);
            let panel = panel.get_mut(..depth * wide).unwrap_or_default();
            let rows = panel.chunks_mut(ROWS * wide).zip((0..).step_by(ROWS));
            rows.map(move |(into, row)| Part { from, row, column, width: wide, into })
        });
        team::for_each_of(depth * columns, parts, dispatch);
        matrix.data = data;
        matrix
    }

    /// The last panel may be half as wide.
    fn width_at(&self, column: usize) -> usize {
        if self.columns - column > self.width / 2 { self.width } else { self.width / 2 }
    }

    fn start_of(&self, column: usize) -> usize {
        self.depth * column
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(self.data.as_slice())
    }
}

/// Some rows of one panel.
struct Part<'a, C> {
    from: &'a C,
    row: usize,
    column: usize,
    width: usize,
    into: &'a mut [f32],
}

impl<C: Columns> WithSimd for Part<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { from, row, column, width, into } = self;
        from.pack(&(row..row + into.len() / width), column, width, into);
    }
}

impl Columns for &Matrix {
    const PACKED: bool = true;

    fn pack(&self, _: &Range<usize>, _: usize, _: usize, _: &mut [f32]) {}

    #[inline(always)]
    fn packed(&self, depth: &Range<usize>, column: usize) -> Option<&[f32]> {
        let (start, width) = (self.start_of(column), self.width_at(column));
        self.data.get(start + depth.start * width..start + depth.end * width)
    }
}

/// A matrix within a tensor.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// From one row to the next, and from one column. Not zero.
    pub(super) row: usize,
    pub(super) column: usize,
}

impl View<'_> {
    /// Writes some rows, the entries of one column side by side.
    pub(super) fn turn(&self, rows: Range<usize>, into: &mut [f32]) {
        let height = rows.len();
        let from = |start: usize| self.data.get(start..).unwrap_or_default();
        if self.row == 1 {
            for (column, to) in into.chunks_exact_mut(height).enumerate() {
                copy_long(from(column * self.column + rows.start), to);
            }
            return;
        }
        for (into, column) in into.chunks_mut(BLOCK * height).zip((0..).step_by(BLOCK)) {
            for (i, row) in rows.clone().enumerate() {
                let to = into.iter_mut().skip(i).step_by(height);
                let line = from(row * self.row + column * self.column);
                match self.column {
                    1 => to.zip(line).for_each(|(to, from)| *to = *from),
                    step => to.zip(line.iter().step_by(step)).for_each(|(to, from)| *to = *from),
                }
            }
        }
    }
}

impl Columns for View<'_> {
    #[inline(always)]
    fn pack(&self, depth: &Range<usize>, column: usize, width: usize, into: &mut [f32]) {
        let inside = width.min(self.columns - column);
        if self.column == 1 {
            for (row, to) in depth.clone().zip(into.chunks_exact_mut(width)) {
                let from = self.data.get(row * self.row + column..).unwrap_or_default();
                copy_long(from, to.get_mut(..inside).unwrap_or_default());
            }
            return;
        }
        for (i, column) in (column..column + inside).enumerate() {
            let start = depth.start * self.row + column * self.column;
            let from = self.data.get(start..).unwrap_or_default().iter().step_by(self.row);
            let to = into.iter_mut().skip(i).step_by(width);
            for (to, from) in to.zip(from) {
                *to = *from;
            }
        }
    }
}
