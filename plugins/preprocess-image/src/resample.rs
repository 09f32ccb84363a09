//! Pillow's resampling of 8-bit pictures, bit for bit: weights in fixed point, across first,
//! rounded to 8 bits, then down. Rows are made when they are needed and few are kept, so that
//! the memory does not grow with the picture.

use crate::config::Filter;
use crate::picture::{Refusal, Size};

/// Fraction bits of a weight: 32, less 8 of a sample and 2 of headroom for negative weights.
const PRECISION: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION - 1);

/// Source rows that one pass across works on: a weight is loaded once for all of them.
const BAND: usize = 4;

/// Bytes that a pass down works on at once.
const BLOCK: usize = 16;

/// The rows between the two passes, in bytes. Only sizes like 1 x 16384 come near.
const MAX_RING_BYTES: usize = 64 * 1024 * 1024;

/// The source of a resize.
pub(crate) trait Rows<const C: usize> {
    /// Writes row `y`, from the left.
    fn read<'a>(&self, y: usize, out: impl Iterator<Item = &'a mut [u8; C]>);
}

/// Gives the rows of the resized picture, which must be asked for in order.
pub(crate) struct Resampler<const C: usize> {
    across: Axis,
    down: Axis,
    source_height: usize,
    target_width: usize,
    /// The source rows that are being read: a column of `BAND` pixels for each x.
    columns: Vec<[[u8; C]; BAND]>,
    /// Rows after the pass across; row y lies at y modulo their number, padded to `BLOCK`.
    ring: Vec<[u8; BLOCK]>,
    ring_rows: usize,
    row_blocks: usize,
    /// Source rows that went into the ring.
    made: usize,
    out: Vec<[u8; BLOCK]>,
}

impl<const C: usize> Resampler<C> {
    pub(crate) fn new(source: Size, target: Size, filter: Filter) -> Result<Self, Refusal> {
        let across = Axis::new(source.width, target.width, filter);
        let down = Axis::new(source.height, target.height, filter);
        // A band is made whole, so up to BAND - 1 rows beyond a window are kept too.
        let ring_rows = (down.longest + BAND - 1).next_multiple_of(BAND);
        let row_blocks = (target.width * C).div_ceil(BLOCK);
        let bytes = ring_rows.saturating_mul(row_blocks).saturating_mul(BLOCK);
        if bytes > MAX_RING_BYTES {
            let limit = MAX_RING_BYTES;
            return Err(Refusal::TooMuchMemory { from: source, to: target, bytes, limit });
        }
        Ok(Self {
            across,
            down,
            source_height: source.height,
            target_width: target.width,
            columns: vec![[[0; C]; BAND]; source.width],
            ring: vec![[0; BLOCK]; ring_rows * row_blocks],
            ring_rows,
            row_blocks,
            made: 0,
            out: vec![[0; BLOCK]; row_blocks],
        })
    }

    /// Row `y` of the resized picture.
    pub(crate) fn row(&mut self, rows: &impl Rows<C>, y: usize) -> &[[u8; C]] {
        let (start, count) = self.down.window(y);
        while self.made < start + count {
            self.make_band(rows);
        }
        self.combine(y);
        let (pixels, _) = self.out.as_flattened().as_chunks();
        pixels.get(..self.target_width).unwrap_or_default()
    }

    /// Passes the next `BAND` source rows across, into the ring.
    fn make_band(&mut self, rows: &impl Rows<C>) {
        for lane in 0..BAND.min(self.source_height.saturating_sub(self.made)) {
            rows.read(self.made + lane, self.columns.iter_mut().map(|column| &mut column[lane]));
        }
        let band_blocks = BAND * self.row_blocks;
        let first = (self.made % self.ring_rows) * self.row_blocks;
        if let Some(band) = self.ring.get_mut(first..first + band_blocks) {
            let [a, b, c, d] = lines(band, self.row_blocks);
            let pixels = a.iter_mut().zip(b).zip(c).zip(d);
            for ((((a, b), c), d), x) in pixels.zip(0..self.target_width) {
                [*a, *b, *c, *d] = self.across.column(&self.columns, x);
            }
        }
        self.made += BAND;
    }

    /// Passes the window of row `y` down, into `out`.
    fn combine(&mut self, y: usize) {
        let (start, count) = self.down.window(y);
        let line = |y: usize| {
            let first = (y % self.ring_rows) * self.row_blocks;
            self.ring.get(first..first + self.row_blocks).unwrap_or_default()
        };
        let window: Vec<_> =
            (start..start + count).map(line).zip(self.down.weights(y).iter().copied()).collect();
        for (at, block) in self.out.iter_mut().enumerate() {
            let mut sums = [HALF; BLOCK];
            for (line, weight) in &window {
                let Some(samples) = line.get(at) else { continue };
                for (sum, sample) in sums.iter_mut().zip(samples) {
                    *sum += i32::from(*sample) * weight;
                }
            }
            *block = sums.map(to_sample);
        }
    }
}

/// The four rows of a band, as pixels.
fn lines<const C: usize>(band: &mut [[u8; BLOCK]], row_blocks: usize) -> [&mut [[u8; C]]; BAND] {
    let mut rows = band.chunks_exact_mut(row_blocks);
    std::array::from_fn(|_| match rows.next() {
        Some(row) => row.as_flattened_mut().as_chunks_mut().0,
        None => &mut [],
    })
}

fn to_sample(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
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

    /// Target sample `x` of `BAND` rows.
    fn column<const C: usize>(&self, columns: &[[[u8; C]; BAND]], x: usize) -> [[u8; C]; BAND] {
        let (start, count) = self.window(x);
        let mut sums = [[HALF; C]; BAND];
        let source = columns.get(start..start + count).unwrap_or_default();
        for (column, weight) in source.iter().zip(self.weights(x)) {
            for (sums, samples) in sums.iter_mut().zip(column) {
                for (sum, sample) in sums.iter_mut().zip(samples) {
                    *sum += i32::from(*sample) * weight;
                }
            }
        }
        sums.map(|sums| sums.map(to_sample))
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
