//! Products of matrices, shared among the cores.

use super::buffers;
use super::gemm::{Columns, Finish, Part, multiply};
use super::matrix::Matrix;
use super::panels::Panels;
use super::simd::TileSize;
use super::team;

/// Below so many multiplications the threads cost more than they save.
const WORTH_SHARING: usize = 1 << 20;

/// The shape of an answer: `[images, groups * rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) images: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The product of each group's left side with its right side, `[depth, images *
/// columns]`. No dimension is zero.
pub(super) fn product<C: Columns>(
    groups: &[Panels],
    answer: Answer,
    right: impl Fn(usize) -> C + Sync,
    finish: Finish<'_>,
) -> Vec<f32> {
    let grid = Grid::of(groups, &answer);
    if C::PACKED || grid.panels == 1 {
        return compute(groups, (answer, &grid), right, finish);
    }
    // Else each part would bring the same columns into order.
    let matrix = |(group, left): (usize, &Panels)| {
        Matrix::for_now(&right(group), left.depth(), answer.images * answer.columns)
    };
    let matrices: Vec<Matrix> = groups.iter().enumerate().map(matrix).collect();
    let places = compute(groups, (answer, &grid), |group| &matrices[group], finish);
    matrices.into_iter().for_each(Matrix::give_back);
    places
}

fn compute<C: Columns>(
    groups: &[Panels],
    (answer, grid): (Answer, &Grid),
    right: impl Fn(usize) -> C + Sync,
    finish: Finish<'_>,
) -> Vec<f32> {
    let floats = answer.images * groups.len() * answer.rows * answer.columns;
    let mut places = buffers::take(floats);
    let parts = grid.parts(groups, &answer, &mut places);
    let work = |(group, part): (usize, Part<'_>)| {
        let Some(left) = groups.get(group) else { return };
        let row_bias = finish.row_bias.and_then(|bias| bias.get(group * answer.rows..));
        multiply(left, &right(group), part, Finish { row_bias, ..finish });
    };
    if grid.shared {
        team::for_each(parts.into_iter(), work);
    } else {
        parts.into_iter().for_each(work);
    }
    places
}

/// How an answer is cut into parts: a grid over images, windows and panels.
struct Grid {
    images: usize,
    columns: usize,
    panels: usize,
    shared: bool,
}

impl Grid {
    fn of(groups: &[Panels], answer: &Answer) -> Self {
        let panels = groups.first().map_or(0, Panels::count);
        let weights: usize = groups.iter().map(Panels::size).sum();
        let total = weights * answer.columns * answer.images;
        let (threads, most) = (team::threads(), total / WORTH_SHARING);
        if threads == 1 || most == 0 {
            return Self { images: 1, columns: 1, panels: 1, shared: false };
        }
        let wanted = (most + 1).min(threads * 4).div_ceil(groups.len().max(1));
        let images = answer.images.min(wanted);
        let columns =
            wanted.div_ceil(images).min(answer.columns / (2 * TileSize::here().width)).max(1);
        let panels = panels.min(wanted);
        if images * columns < panels {
            // Columns too few to deal out are packed once for all.
            return Self { images: 1, columns: 1, panels, shared: true };
        }
        // A part that holds some columns only holds those of one image.
        let images = if columns > 1 { answer.images } else { images };
        Self { images, columns, panels: 1, shared: true }
    }

    /// The parts, each with its group, and the places of the answer dealt out to
    /// them.
    fn parts<'a>(
        &self,
        groups: &[Panels],
        answer: &Answer,
        places: &'a mut [f32],
    ) -> Vec<(usize, Part<'a>)> {
        let (pixels, width) = (answer.columns, TileSize::here().width);
        let columns = split(pixels.div_ceil(width), self.columns);
        let columns: Vec<usize> = columns.map(|tile| pixels.min(tile * width)).collect();
        let images: Vec<usize> = split(answer.images, self.images).collect();
        let mut parts = Vec::new();
        // For each map, the first of the parts of an image that hold its row.
        let mut owners = Vec::new();
        for image in images.iter().take(self.images) {
            owners.clear();
            for (group, left) in groups.iter().enumerate() {
                let panels: Vec<usize> = split(left.count(), self.panels).collect();
                for pair in panels.windows(2) {
                    let &[from, to] = pair else { continue };
                    let rows = left.rows_of(from).start..left.rows_of(to).start;
                    owners.extend(rows.map(|_| parts.len()));
                    for column in columns.iter().take(self.columns) {
                        let column = image * pixels + column;
                        let (places, residual) = (Vec::new(), Vec::new());
                        let part = Part { places, panels: from..to, residual, column };
                        parts.push((group, part));
                    }
                }
            }
        }
        let per_image = parts.len() / self.images;
        let mut rows = places.chunks_exact_mut(pixels).enumerate();
        for (index, pair) in images.windows(2).enumerate() {
            let &[from, to] = pair else { continue };
            for (place, row) in rows.by_ref().take((to - from) * owners.len()) {
                let owner = owners
                    .get(place % owners.len())
                    .map(|last| last % per_image + index * per_image);
                let parts = owner.and_then(|owner| parts.get_mut(owner..owner + self.columns));
                deal(place * pixels, row, &columns, parts.unwrap_or_default());
            }
        }
        parts
    }
}

/// Cuts a row of the answer that starts at `start` at `columns`.
fn deal<'a>(
    mut start: usize,
    mut row: &'a mut [f32],
    columns: &[usize],
    parts: &mut [(usize, Part<'a>)],
) {
    for (pair, (_, part)) in columns.windows(2).zip(parts) {
        let length = pair.iter().rev().copied().reduce(|to, from| to - from).unwrap_or_default();
        let (place, rest) = row.split_at_mut(length.min(row.len()));
        part.places.push(place);
        part.residual.push(start);
        start += length;
        row = rest;
    }
}

/// The starts of `parts` nearly equal parts of `count`, and the end.
fn split(count: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..=parts).map(move |i| count * i / parts)
}
