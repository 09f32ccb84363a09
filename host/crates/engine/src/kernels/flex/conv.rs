//! Convolution as a product of matrices: weights `[maps, taps]` times the entries
//! that each window covers, `[taps, windows]`. The right side never exists as a
//! whole; its blocks are gathered from the operand when they are needed.

use std::ops::Range;

use super::depthwise;
use super::gemm::{Columns, Finish};
use super::lines::{copy_every, copy_long};
use super::panels::Panels;
use super::product::{Answer, product};
use crate::kernels::ConvAxis;

/// Weights of a convolution.
pub(crate) enum Weights {
    /// A matrix for each group, of so many maps.
    Groups { groups: Vec<Panels>, maps: usize },
    /// Each channel is its own group: `[channels * maps, taps]`.
    Channels { values: Vec<f32>, channels: usize, maps: usize },
}

impl Weights {
    /// From `[groups * maps, depth, taps]` in row-major order.
    pub(super) fn pack(
        values: &[f32],
        groups: usize,
        maps: usize,
        [depth, taps]: [usize; 2],
    ) -> Self {
        if depth == 1 && groups > 1 {
            return Self::Channels { values: values.to_vec(), channels: groups, maps };
        }
        Self::Groups { groups: Self::panels(values, groups, maps, depth * taps), maps }
    }

    fn panels(values: &[f32], groups: usize, maps: usize, depth: usize) -> Vec<Panels> {
        let pack = |group: usize| {
            let start = group * maps * depth;
            let at = |row: usize, column: usize| values.get(start + row * depth + column);
            Panels::pack(maps, depth, |row, column| at(row, column).copied().unwrap_or_default())
        };
        (0..groups).map(pack).collect()
    }

    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Groups { groups, .. } => groups.iter().map(Panels::size_bytes).sum(),
            Self::Channels { values, .. } => size_of_val(values.as_slice()),
        }
    }

    pub(super) fn maps(&self) -> usize {
        match self {
            Self::Groups { groups, maps } => groups.len() * maps,
            Self::Channels { channels, maps, .. } => channels * maps,
        }
    }
}

/// Where windows lie on an operand `[batch, channels, size...]`.
pub(super) struct Windows {
    axes: [ConvAxis; 3],
    channels: usize,
    batch: usize,
}

impl Windows {
    /// With ones in front, so that there are always three axes. `None` for more.
    pub(super) fn of(axes: &[ConvAxis], batch: usize, channels: usize) -> Option<Self> {
        let one = ConvAxis { size: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, out: 1 };
        let mut all = [one; 3];
        let last = all.len().checked_sub(axes.len()).and_then(|first| all.get_mut(first..))?;
        last.copy_from_slice(axes);
        Some(Self { axes: all, channels, batch }.flattened())
    }

    /// Windows of one entry, next to each other, are one long row.
    fn flattened(mut self) -> Self {
        let plain =
            |a: &ConvAxis| a.kernel == 1 && a.stride == 1 && a.begin == 0 && a.size == a.out;
        if self.axes.iter().all(plain) {
            let size = self.axes.iter().map(|axis| axis.size).product();
            let one = ConvAxis { size: 1, out: 1, ..self.axes[0] };
            self.axes = [one, one, ConvAxis { size, out: size, ..one }];
        }
        self
    }

    /// The windows on one image.
    fn count(&self) -> usize {
        self.axes.iter().map(|axis| axis.out).product()
    }

    /// The entries of one channel.
    fn plane(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }
}

/// The answer, `[batch, maps, windows]`.
pub(super) fn convolve(
    x: &[f32],
    weights: &Weights,
    windows: &Windows,
    finish: Finish<'_>,
) -> Vec<f32> {
    match weights {
        Weights::Groups { groups, maps } => by_groups(x, (groups, *maps), windows, finish),
        Weights::Channels { values, channels, maps } => {
            let [d, h, w] = windows.axes;
            let flat = d.kernel == 1 && d.size == 1 && d.out == 1;
            let answer = flat.then(|| depthwise::convolve(x, values, *maps, [h, w], finish));
            answer.flatten().unwrap_or_else(|| {
                let depth = values.len() / (channels * maps);
                let groups = Weights::panels(values, *channels, *maps, depth);
                by_groups(x, (&groups, *maps), windows, finish)
            })
        }
    }
}

fn by_groups(
    x: &[f32],
    (groups, maps): (&[Panels], usize),
    windows: &Windows,
    finish: Finish<'_>,
) -> Vec<f32> {
    let channels = windows.channels / groups.len();
    let right = |group: usize| {
        let first = group * channels * windows.plane();
        Gathered { x, windows, first }
    };
    let answer = Answer { images: windows.batch, rows: maps, columns: windows.count() };
    product(groups, answer, right, finish)
}

/// The right side: a row for each tap of each channel, a column for each window.
struct Gathered<'a> {
    x: &'a [f32],
    windows: &'a Windows,
    /// Where the group's first channel starts in an image.
    first: usize,
}

/// Windows next to each other in one row of one image.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Where the image's first channel starts in the operand.
    image: usize,
    /// Where the first window starts along each axis, with the padding before it.
    start: [usize; 3],
    length: usize,
}

impl Gathered<'_> {
    /// The next run from a column on.
    fn run(&self, column: usize, most: usize) -> Run {
        let Windows { axes: [d, h, w], channels, batch } = self.windows;
        let pixels = self.windows.count();
        let (image, pixel) = (column / pixels, column % pixels);
        if image >= *batch {
            return Run::default();
        }
        let (row, x) = (pixel / w.out, pixel % w.out);
        let start = [row / h.out * d.stride, row % h.out * h.stride, x * w.stride];
        let image = image * channels * self.windows.plane() + self.first;
        Run { image, start, length: (w.out - x).min(most) }
    }

    /// Gathers a run's entries, a row for each tap. `at` is the run's place in it.
    #[inline(always)]
    fn gather(&self, run: &Run, depth: &Range<usize>, at: usize, width: usize, into: &mut [f32]) {
        let [_, _, w] = &self.windows.axes;
        for tap in 0..w.kernel {
            // What is copied for a tap is the same for all lines.
            let span = Span::of(w, run.start[2] + tap * w.dilation, run.length);
            let first = depth.start.next_multiple_of(w.kernel) + tap;
            let first = if first >= depth.start + w.kernel { first - w.kernel } else { first };
            let rows = into.chunks_exact_mut(width).skip(first - depth.start).step_by(w.kernel);
            let lines = Lines::from(self, run, first / w.kernel);
            for (line, row) in lines.zip(rows) {
                let Some(to) = row.get_mut(at..at + run.length) else { return };
                match line {
                    Some(line) => span.copy(line, to),
                    None => to.fill(0.0),
                }
            }
        }
    }
}

/// The lines of the operand that a run's taps lie in, one for each tap that
/// differs in more than the last axis; `None` in the padding.
struct Lines<'a> {
    x: &'a [f32],
    windows: &'a Windows,
    start: [usize; 3],
    channel: usize,
    z: usize,
    y: usize,
}

impl<'a> Lines<'a> {
    #[inline(always)]
    fn from(gathered: &Gathered<'a>, run: &Run, line: usize) -> Self {
        let Gathered { x, windows, .. } = *gathered;
        let [d, h, _] = &windows.axes;
        let (channel, line) = (line / (d.kernel * h.kernel), line % (d.kernel * h.kernel));
        let channel = run.image + channel * windows.plane();
        Self { x, windows, start: run.start, channel, z: line / h.kernel, y: line % h.kernel }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Option<&'a [f32]>;

    #[inline(always)]
    fn next(&mut self) -> Option<Option<&'a [f32]>> {
        let [d, h, w] = &self.windows.axes;
        let line = line_of(d, self.start[0], self.z).zip(line_of(h, self.start[1], self.y));
        let line = line.and_then(|(z, y)| {
            let start = self.channel + (z * h.size + y) * w.size;
            self.x.get(start..start + w.size)
        });
        self.y += 1;
        if self.y == h.kernel {
            self.y = 0;
            self.z += 1;
            if self.z == d.kernel {
                self.z = 0;
                self.channel += self.windows.plane();
            }
        }
        Some(line)
    }
}

/// Where a tap lies along an axis, unless it is in the padding.
#[inline(always)]
fn line_of(axis: &ConvAxis, start: usize, tap: usize) -> Option<usize> {
    (start + tap * axis.dilation).checked_sub(axis.begin).filter(|&place| place < axis.size)
}

/// Entries of a line, `stride` apart, with zeros where there is padding.
struct Span {
    stride: usize,
    /// Zeros, then entries, then zeros.
    before: usize,
    inside: usize,
    from: usize,
}

impl Span {
    /// `start` counts the padding before the line.
    #[inline(always)]
    fn of(axis: &ConvAxis, start: usize, length: usize) -> Self {
        let stride = axis.stride;
        let before = axis.begin.saturating_sub(start).div_ceil(stride).min(length);
        let from = (start + before * stride).saturating_sub(axis.begin);
        let inside = axis.size.saturating_sub(from).div_ceil(stride).min(length - before);
        Self { stride, before, inside, from }
    }

    #[inline(always)]
    fn copy(&self, line: &[f32], to: &mut [f32]) {
        let from = line.get(self.from..).unwrap_or_default();
        if self.inside == to.len() && self.stride == 1 {
            copy_long(from, to);
            return;
        }
        let (before, to) = to.split_at_mut(self.before);
        before.fill(0.0);
        let (to, behind) = to.split_at_mut(self.inside);
        behind.fill(0.0);
        copy_every(self.stride, from, to);
    }
}

impl Columns for Gathered<'_> {
    #[inline(always)]
    fn pack(&self, depth: &Range<usize>, column: usize, width: usize, into: &mut [f32]) {
        let mut at = 0;
        while at < width {
            let run = self.run(column + at, width - at);
            if run.length == 0 {
                return;
            }
            self.gather(&run, depth, at, width, into);
            at += run.length;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
