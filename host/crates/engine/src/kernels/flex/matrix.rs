//! Matrices as sides of products.

use std::ops::Range;

use super::gemm::Columns;
use super::lines::copy_long;
use super::panels::Panels;
use super::simd::TileSize;

/// The right side of a product, `[depth, columns]`, in panels of a few columns.
/// Within a panel the entries of one row lie side by side.
pub(crate) struct Matrix {
    data: Vec<f32>,
    pub(super) depth: usize,
    pub(super) columns: usize,
    width: usize,
}

impl Matrix {
    pub(super) fn pack(view: &View<'_>) -> Self {
        let width = TileSize::here().width;
        let (depth, columns) = (view.rows, view.columns);
        let mut matrix = Self { data: Vec::new(), depth, columns, width };
        let ends = matrix.start_of(columns.next_multiple_of(width));
        matrix.data.resize(ends, 0.0);
        for column in (0..columns).step_by(width) {
            let (start, wide) = (matrix.start_of(column), matrix.width_at(column));
            let panel = matrix.data.get_mut(start..start + depth * wide).unwrap_or_default();
            view.pack(&(0..depth), column, wide, panel);
        }
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

impl Columns for &Matrix {
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
    /// From one row to the next, and from one column.
    pub(super) row: usize,
    pub(super) column: usize,
}

impl View<'_> {
    fn at(&self, row: usize, column: usize) -> f32 {
        self.data.get(row * self.row + column * self.column).copied().unwrap_or_default()
    }

    pub(super) fn panels(&self) -> Panels {
        Panels::pack(self.rows, self.columns, |row, column| self.at(row, column))
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
            let from = self.data.get(start..).unwrap_or_default().iter().step_by(self.row.max(1));
            let to = into.iter_mut().skip(i).step_by(width);
            for (to, from) in to.zip(from) {
                *to = *from;
            }
        }
    }
}
