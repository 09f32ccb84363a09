//! Convolution as a product of matrices: weights `[maps, taps]` times the entries
//! that each window covers, `[taps, windows]`. The right side never exists as a
//! whole; its blocks are gathered from the operand's planes when they are needed.

use std::borrow::Cow;
use std::ops::Range;

use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::buffers;
use super::depthwise;
use super::floats;
use super::gemm::{Columns, Finish};
use super::lines::{copy_long, copy_loosely};
use super::matrix::View;
use super::panels::Panels;
use super::planes::Planes;
use super::product::{Answer, product};
use super::simd::TileSize;
use crate::kernels::ConvAxis;

/// Weights of a convolution.
pub(crate) enum Weights {
    /// A matrix for each group, of so many maps.
    Groups { groups: Vec<Panels>, maps: usize },
    /// Each channel is its own group: `[channels * maps, taps]`.
    Channels { values: Vec<f32>, channels: usize, maps: usize },
}

/// Weights `[groups * maps, depth, taps...]` of f32 as an operator gives them.
pub(super) struct Raw {
    weight: FlexTensor,
    groups: usize,
    /// Of one group.
    maps: usize,
    depth: usize,
    taps: usize,
}

impl Raw {
    /// `None` for other dtypes, and for more axes than [`Windows`] have.
    pub(super) fn of(weight: &FlexTensor, groups: usize) -> Option<Self> {
        let weight = weight.to_contiguous();
        let &[maps, depth, ref taps @ ..] = weight.layout().shape().as_slice() else { return None };
        if weight.dtype() != DType::F32 || taps.len() > 3 {
            return None;
        }
        let (maps, taps) = (maps / groups, taps.iter().product());
        Some(Self { weight, groups, maps, depth, taps })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(floats(&self.weight))
    }

    /// What else the packed weights depend on.
    pub(super) fn form(&self) -> [usize; 4] {
        [self.groups, self.maps, self.depth, self.taps]
    }

    pub(super) fn pack(&self) -> Weights {
        let Self { groups, maps, .. } = *self;
        let values = floats(&self.weight);
        if self.depth == 1 && groups > 1 {
            return Weights::Channels { values: values.to_vec(), channels: groups, maps };
        }
        let depth = self.depth * self.taps;
        let pack = |group: usize| {
            let data = values.get(group * maps * depth..).unwrap_or_default();
            Panels::of(&View { data, rows: maps, columns: depth, row: depth, column: 1 })
        };
        Weights::Groups { groups: (0..groups).map(pack).collect(), maps }
    }
}

impl Weights {
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
        // The last axis is the one with neighbours: others are only in the way there.
        all.sort_by_key(|axis| *axis != one);
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

    /// The operand's planes. `None` where the windows reach absurdly far.
    pub(super) fn planes(&self, maps: usize) -> Option<Planes> {
        Planes::of(self.axes, self.batch * self.channels, self.batch * maps)
    }
}

/// The answer, `[batch, maps, windows]`. `None` where the windows reach so far
/// that the operand's planes would be absurdly large.
pub(super) fn convolve(
    x: &[f32],
    weights: &Weights,
    windows: &Windows,
    finish: Finish<'_>,
) -> Option<Vec<f32>> {
    let planes = windows.planes(weights.maps())?;
    Some(match weights {
        Weights::Groups { groups, maps } => {
            let answer = Answer { images: windows.batch, rows: *maps, columns: planes.windows() };
            let entries = planes.lay_out(x);
            let right = |group| Gathered::of(&entries, &planes, windows, [group, groups.len()]);
            let answer = product(groups, answer, right, finish);
            if let Cow::Owned(planes) = entries {
                buffers::give_floats(planes);
            }
            answer
        }
        Weights::Channels { values, maps, .. } => {
            depthwise::convolve(x, values, *maps, &planes, finish)
        }
    })
}

/// The right side: a row for each tap of each channel, a column for each window.
struct Gathered<'a> {
    entries: &'a [f32],
    planes: &'a Planes,
    /// From one image to the next.
    image: usize,
    batch: usize,
    /// For each row, where the entry of an image's first window is.
    rows: Vec<usize>,
}

/// Windows next to each other in one row of one image.
#[derive(Clone, Copy, Default)]
struct Run {
    /// Where the first one's entries are, from those of a first window on.
    from: usize,
    /// Its place in the panel.
    at: usize,
    length: usize,
}

/// The columns of the widest panel.
const WIDE: usize = TileSize::MOST_COLUMNS;
const HALF: usize = WIDE / 2;

impl<'a> Gathered<'a> {
    fn of(
        entries: &'a [f32],
        planes: &'a Planes,
        windows: &Windows,
        [group, groups]: [usize; 2],
    ) -> Self {
        let channels = windows.channels / groups;
        let channels = group * channels..(group + 1) * channels;
        let floats = planes.floats();
        let rows = channels.flat_map(|c| planes.taps.iter().map(move |tap| c * floats + tap));
        let image = windows.channels * floats;
        Self { entries, planes, image, batch: windows.batch, rows: rows.collect() }
    }

    /// The next run from a column on.
    fn run(&self, column: usize, at: usize, most: usize) -> Run {
        let [_, h, w] = self.planes.out();
        let pixels = self.planes.windows();
        let (image, pixel) = (column / pixels, column % pixels);
        if image >= self.batch {
            return Run::default();
        }
        let (row, x) = (pixel / w, pixel % w);
        let place = row / h * self.planes.slab + row % h * self.planes.pitch + x;
        Run { from: image * self.image + place, at, length: (w - x).min(most) }
    }

    /// The runs that a panel's columns are cut into, and how many there are.
    fn runs(&self, column: usize, width: usize) -> ([Run; WIDE], usize) {
        let mut runs = [Run::default(); WIDE];
        let (mut count, mut at) = (0, 0);
        while let Some(to) = runs.get_mut(count).filter(|_| at < width) {
            *to = self.run(column + at, at, width - at);
            if to.length == 0 {
                break;
            }
            at += to.length;
            count += 1;
        }
        (runs, count)
    }

    /// Gathers the columns of several runs. What is copied behind a run, the next
    /// one overwrites.
    #[inline(always)]
    fn gather<const N: usize>(&self, runs: &[Run], rows: &[usize], width: usize, into: &mut [f32]) {
        for (row, start) in rows.iter().zip((0..into.len()).step_by(width)) {
            for run in runs {
                let from = self.entries.get(row + run.from..).unwrap_or_default();
                let to = into.get_mut(start + run.at..).unwrap_or_default();
                copy_loosely::<N>(from, to, run.length);
            }
        }
    }
}

impl Columns for Gathered<'_> {
    #[inline(always)]
    fn pack(&self, depth: &Range<usize>, column: usize, width: usize, into: &mut [f32]) {
        let (runs, count) = self.runs(column, width);
        let rows = self.rows.get(depth.clone()).unwrap_or_default();
        match runs.get(..count).unwrap_or_default() {
            [run] if run.length == width => {
                for (row, to) in rows.iter().zip(into.chunks_exact_mut(width)) {
                    copy_long(self.entries.get(row + run.from..).unwrap_or_default(), to);
                }
            }
            runs if runs.iter().all(|run| run.length <= HALF) => {
                self.gather::<HALF>(runs, rows, width, into);
            }
            runs => self.gather::<WIDE>(runs, rows, width, into),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
