//! The left side of a product, in the order in which tiles read it.

use std::ops::Range;

use super::simd::TileSize;

/// A matrix `[rows, depth]` cut into panels of a few rows. Within a panel the
/// entries of one column lie side by side.
pub(crate) struct Panels {
    data: Vec<f32>,
    rows: usize,
    depth: usize,
    count: usize,
}

impl Panels {
    /// Panels of nearly equal height, none above what a tile holds. `at` gives the
    /// entry of a row and a column.
    pub(super) fn pack(rows: usize, depth: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let count = rows.div_ceil(TileSize::here().height);
        let mut panels = Self { data: Vec::with_capacity(rows * depth), rows, depth, count };
        for panel in 0..count {
            let rows = panels.rows_of(panel);
            for column in 0..depth {
                panels.data.extend(rows.clone().map(|row| at(row, column)));
            }
        }
        panels
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many entries there are.
    pub(super) fn size(&self) -> usize {
        self.data.len()
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of_val(self.data.as_slice())
    }

    /// The rows of a panel. The first ones have one row more where they must.
    pub(super) fn rows_of(&self, panel: usize) -> Range<usize> {
        let start = |panel: usize| panel * self.rows / self.count.max(1);
        start(panel)..start(panel + 1)
    }

    /// The columns `depth` of a panel.
    pub(super) fn part(&self, panel: usize, depth: &Range<usize>) -> &[f32] {
        let rows = self.rows_of(panel);
        let start = rows.start * self.depth;
        let height = rows.len();
        let range = start + depth.start * height..start + depth.end * height;
        self.data.get(range).unwrap_or_default()
    }
}
