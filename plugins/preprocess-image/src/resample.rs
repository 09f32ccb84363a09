//! Pillow's resampling of 8-bit pictures, bit for bit: weights in fixed point, two passes,
//! rounded to 8 bits between them. Rows are made when they are needed and few are kept, so
//! that the memory does not grow with the picture.

use crate::config::Filter;
use crate::lanes::{LANES, PRECISION, Sums};
use crate::picture::Size;

/// The source of a resize.
pub(crate) trait Rows<const C: usize> {
    /// Writes row `y`, from the left.
    fn read<'a>(&self, y: usize, out: impl Iterator<Item = &'a mut [u8; C]>);
}

/// Gives the rows of the resized picture, which must be asked for in order.
pub(crate) struct Resampler<const C: usize> {
    across: Axis,
    down: Axis,
    order: Order,
    source_height: usize,
    /// Rows on their way into a pass across: for each x, a pixel of each.
    columns: Vec<[u8; LANES]>,
    /// The same rows after it.
    passed: Vec<[u8; LANES]>,
    ring: Ring,
    /// Source rows that went into the ring.
    made: usize,
    /// A row after the pass down.
    combined: Vec<[u8; LANES]>,
    /// A row of the resized picture.
    out: Vec<[u8; C]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    AcrossFirst,
    DownFirst,
}

impl Order {
    /// What Pillow 13 chooses; earlier ones go across first, always.
    fn of(source: Size, target: Size) -> Self {
        let lost = |source: usize, target: usize| source as i64 - target as i64;
        let rows = lost(source.height, target.height);
        let columns = lost(source.width, target.width);
        if rows > 0 && rows > 2 * columns { Self::DownFirst } else { Self::AcrossFirst }
    }
}

impl<const C: usize> Resampler<C> {
    /// Source rows that are read together, so that their pixels of one x fill the lanes.
    const BAND: usize = LANES / C;

    pub(crate) fn new(source: Size, target: Size, filter: Filter) -> Self {
        let across = Axis::new(source.width, target.width, filter);
        let down = Axis::new(source.height, target.height, filter);
        let order = Order::of(source, target);
        let ring_width = match order {
            Order::AcrossFirst => target.width,
            Order::DownFirst => source.width,
        };
        let row_blocks = (ring_width * C).div_ceil(LANES);
        Self {
            columns: vec![[0; LANES]; source.width],
            passed: vec![[0; LANES]; target.width],
            ring: Ring::new(down.longest, Self::BAND, row_blocks),
            made: 0,
            combined: vec![[0; LANES]; row_blocks],
            out: vec![[0; C]; target.width],
            source_height: source.height,
            across,
            down,
            order,
        }
    }

    /// Row `y` of the resized picture.
    pub(crate) fn row(&mut self, rows: &impl Rows<C>, y: usize) -> &[[u8; C]] {
        let (start, count) = self.down.window(y);
        while self.made < start + count {
            self.read_band(rows);
        }
        self.combine(y);
        let (pixels, _) = self.combined.as_flattened().as_chunks();
        if self.order == Order::AcrossFirst {
            return pixels.get(..self.out.len()).unwrap_or_default();
        }
        for (to, from) in lane(&mut self.columns, 0).zip(pixels) {
            *to = *from;
        }
        self.across.pass(&self.columns, &mut self.passed);
        for (to, from) in self.out.iter_mut().zip(lane(&mut self.passed, 0)) {
            *to = *from;
        }
        &self.out
    }

    /// Brings the next rows of the source into the ring.
    fn read_band(&mut self, rows: &impl Rows<C>) {
        let band = self.made..self.source_height.min(self.made + Self::BAND);
        self.made += Self::BAND;
        if self.order == Order::DownFirst {
            for y in band {
                rows.read(y, self.ring.pixels_mut(y));
            }
            return;
        }
        for (at, y) in band.clone().enumerate() {
            rows.read(y, lane(&mut self.columns, at));
        }
        self.across.pass(&self.columns, &mut self.passed);
        for (at, y) in band.enumerate() {
            for (to, from) in self.ring.pixels_mut::<C>(y).zip(lane(&mut self.passed, at)) {
                *to = *from;
            }
        }
    }

    /// Passes the window of row `y` down.
    fn combine(&mut self, y: usize) {
        let (start, count) = self.down.window(y);
        let rows = (start..start + count).map(|y| self.ring.row(y));
        let window: Vec<_> = rows.zip(self.down.weights(y).iter().copied()).collect();
        for (at, block) in self.combined.iter_mut().enumerate() {
            let mut sums = Sums::new();
            for (row, weight) in &window {
                if let Some(samples) = row.get(at) {
                    sums.add(*samples, *weight);
                }
            }
            *block = sums.samples();
        }
    }
}

/// The pixels of one of the rows that lie side by side in columns.
fn lane<const C: usize>(
    columns: &mut [[u8; LANES]],
    at: usize,
) -> impl Iterator<Item = &mut [u8; C]> {
    columns.iter_mut().filter_map(move |column| column.as_chunks_mut().0.get_mut(at))
}

/// The last rows that were read; row y lies at y modulo their number.
struct Ring {
    blocks: Vec<[u8; LANES]>,
    rows: usize,
    row_blocks: usize,
}

impl Ring {
    /// Room for a window of rows. Never much more than the source takes: a window is long only
    /// where rows are lost, and then a row in the ring is no wider than in the source.
    fn new(window: usize, band: usize, row_blocks: usize) -> Self {
        // A band is read whole, so up to band - 1 rows beyond the window are kept too.
        let rows = window + band - 1;
        Self { blocks: vec![[0; LANES]; rows * row_blocks], rows, row_blocks }
    }

    fn row(&self, y: usize) -> &[[u8; LANES]] {
        let first = (y % self.rows) * self.row_blocks;
        self.blocks.get(first..first + self.row_blocks).unwrap_or_default()
    }

    fn pixels_mut<const C: usize>(&mut self, y: usize) -> impl Iterator<Item = &mut [u8; C]> {
        let first = (y % self.rows) * self.row_blocks;
        let row = self.blocks.get_mut(first..first + self.row_blocks).unwrap_or_default();
        row.as_flattened_mut().as_chunks_mut().0.iter_mut()
    }
}

/// Along one axis: which source samples make a target sample, and how much of each.
struct Axis {
    windows: Vec<Window>,
    weights: Vec<i32>,
    /// The longest window, with the zeros at its ends.
    longest: usize,
}

#[derive(Clone, Copy)]
struct Window {
    start: usize,
    /// Where its weights begin.
    first: usize,
    count: usize,
}

impl Axis {
    fn new(source: usize, target: usize, filter: Filter) -> Self {
        let scale = source as f64 / target as f64;
        // Reducing widens the filter, so that no source sample is skipped.
        let widening = scale.max(1.0);
        let support = filter.support() * widening;
        let mut axis =
            Self { windows: Vec::with_capacity(target), weights: Vec::new(), longest: 0 };
        let mut window = Vec::new();
        for x in 0..target {
            let centre = (x as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            window.clear();
            window.extend(
                (start..end).map(|at| filter.weight((at as f64 - centre + 0.5) * (1.0 / widening))),
            );
            axis.push(start, &window);
        }
        axis
    }

    /// Appends a window, normalised and in fixed point, without the zeros at its ends.
    fn push(&mut self, start: usize, window: &[f64]) {
        self.longest = self.longest.max(window.len());
        let sum: f64 = window.iter().sum();
        let one = f64::from(1 << PRECISION);
        let fixed = |weight: &f64| {
            let share = if sum == 0.0 { *weight } else { weight / sum };
            (share * one + 0.5_f64.copysign(share)) as i32
        };
        let first = self.weights.len();
        let leading = window.iter().take_while(|weight| fixed(weight) == 0).count();
        let trailing = window.iter().rev().take_while(|weight| fixed(weight) == 0).count();
        let kept = window.get(leading..window.len().saturating_sub(trailing)).unwrap_or_default();
        self.weights.extend(kept.iter().map(fixed));
        self.windows.push(Window { start: start + leading, first, count: kept.len() });
    }

    /// The first source sample of a target sample, and how many.
    fn window(&self, at: usize) -> (usize, usize) {
        self.windows.get(at).map_or((0, 0), |window| (window.start, window.count))
    }

    fn weights(&self, at: usize) -> &[i32] {
        let Some(window) = self.windows.get(at) else { return &[] };
        self.weights.get(window.first..window.first + window.count).unwrap_or_default()
    }

    /// Resamples rows that lie side by side in columns.
    fn pass(&self, columns: &[[u8; LANES]], passed: &mut [[u8; LANES]]) {
        for (window, out) in self.windows.iter().zip(passed) {
            let weights = self.weights.get(window.first..).unwrap_or_default();
            let source = columns.get(window.start..window.start + window.count);
            let mut sums = Sums::new();
            for (samples, weight) in source.unwrap_or_default().iter().zip(weights) {
                sums.add(*samples, *weight);
            }
            *out = sums.samples();
        }
    }
}

impl Filter {
    /// How far the filter reaches from its centre, in source samples.
    const fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic => bicubic(x),
        }
    }
}

/// Keys' cubic with a = -1/2, of x >= 0.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_that_keeps_its_length_copies_each_sample() {
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let axis = Axis::new(5, 5, filter);
            for at in 0..5 {
                assert_eq!(axis.window(at), (at, 1));
                assert_eq!(axis.weights(at), [1 << PRECISION]);
            }
        }
    }

    #[test]
    fn every_window_lies_in_the_source_and_adds_up_to_one() {
        for (source, target) in [(1, 7), (7, 1), (100, 33), (33, 100), (16384, 3)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let axis = Axis::new(source, target, filter);
                for at in 0..target {
                    let (start, count) = axis.window(at);
                    assert!(count > 0 && start + count <= source);
                    let sum: i64 = axis.weights(at).iter().map(|&weight| i64::from(weight)).sum();
                    let rounding = count as i64;
                    assert!((sum - (1 << PRECISION)).abs() <= rounding, "{source} to {target}");
                }
            }
        }
    }

    #[test]
    fn down_comes_first_where_twice_as_many_rows_are_lost() {
        let order = |from: [usize; 2], to: [usize; 2]| {
            let size = |[width, height]: [usize; 2]| Size { height, width };
            Order::of(size(from), size(to)) == Order::DownFirst
        };
        assert!(!order([640, 480], [224, 224]));
        assert!(!order([480, 640], [224, 224]));
        assert!(order([427, 640], [224, 224]));
        assert!(order([100, 80], [200, 79]));
        assert!(!order([100, 80], [200, 81]));
    }
}
