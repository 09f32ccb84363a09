//! An operand laid out so that windows need no case for padding or strides: each
//! channel is cut into smaller planes, one for each place that a stride passes
//! over, with the padding written out. The entries that one tap meets in windows
//! next to each other are then neighbours, and the same distance apart for all
//! taps.

use std::borrow::Cow;

use super::buffers;
use super::lines::{copy_every, copy_short};
use super::team;
use crate::kernels::ConvAxis;

/// How many floats may be read behind the last plane.
pub(super) const SLACK: usize = 128;

/// The planes of an operand may take so many floats, however small it is.
const FEW_FLOATS: usize = 1 << 24;

/// What a [`Line`] takes.
const LINE_FLOATS: usize = size_of::<Line>() / size_of::<f32>();

/// Where a channel's entries lie in its planes.
pub(super) struct Planes {
    axes: [ConvAxis; 3],
    /// From one row to the next, which is also how far apart windows are.
    pub(super) pitch: usize,
    /// From one slice of a volume to the next.
    pub(super) slab: usize,
    /// For each tap, where the entry of the first window is.
    pub(super) taps: Vec<usize>,
    /// Along each axis, the places within a stride that a plane starts at.
    phases: [Vec<usize>; 3],
    /// The size of one plane.
    size: usize,
    lines: Vec<Line>,
    /// Whether the operand itself is laid out like that.
    same: bool,
}

/// How far the last tap is from the first, in windows.
fn reach(axis: &ConvAxis) -> usize {
    (axis.kernel - 1).saturating_mul(axis.dilation) / axis.stride
}

/// The places within a stride that taps meet. They recur after as many taps.
fn phases(axis: &ConvAxis) -> Vec<usize> {
    let at = |tap: usize| tap * axis.dilation % axis.stride;
    let again = (1..axis.kernel).find(|&tap| at(tap) == 0).unwrap_or(axis.kernel);
    (0..again).map(at).collect()
}

impl Planes {
    /// For an operand of so many channels, and an answer of so many maps. `None`
    /// where the planes would take far more than either: windows can reach wide
    /// over the operand's ends.
    pub(super) fn of(axes: [ConvAxis; 3], channels: usize, maps: usize) -> Option<Self> {
        let entries = |size: fn(&ConvAxis) -> usize| axes.iter().map(size).product::<usize>();
        let known = channels * entries(|axis| axis.size) + maps * entries(|axis| axis.out);
        let most = FEW_FLOATS.max(known.saturating_mul(4));
        let same = axes
            .iter()
            .all(|axis| axis.stride == 1 && axis.begin == 0 && axis.out + reach(axis) <= axis.size);
        let rows = |axis: &ConvAxis| {
            if same { Some(axis.size) } else { axis.out.checked_add(reach(axis)) }
        };
        let [d, h, w] = &axes;
        let pitch = rows(w)?;
        let slab = rows(h)?.checked_mul(pitch)?;
        let size = rows(d)?.checked_mul(slab)?;
        channels.checked_mul(size).filter(|&floats| same || floats <= most)?;
        let phases = [phases(d), phases(h), phases(w)];
        let count = phases.iter().map(Vec::len).try_fold(size, usize::checked_mul)?;
        // Of each row there is a line for each place that the last axis' stride passes over.
        let lines = phases[2].len() * d.size * h.size;
        if !same && channels.checked_mul(count)?.max(lines.checked_mul(LINE_FLOATS)?) > most {
            return None;
        }
        let (taps, lines) = (Vec::new(), Vec::new());
        let mut planes = Self { axes, pitch, slab, taps, phases, size, lines, same };
        planes.taps = planes.all_taps();
        planes.lines = planes.all_lines();
        Some(planes)
    }

    fn all_taps(&self) -> Vec<usize> {
        let [d, h, w] = &self.axes;
        let [by_z, by_y, by_x] = &self.phases;
        // The plane of a tap along one axis, and the row in it.
        let at = |axis: &ConvAxis, phases: &[usize], tap: usize| {
            (tap % phases.len(), tap * axis.dilation / axis.stride)
        };
        let mut taps = Vec::with_capacity(d.kernel * h.kernel * w.kernel);
        for (plane_z, z) in (0..d.kernel).map(|tap| at(d, by_z, tap)) {
            for (plane_y, y) in (0..h.kernel).map(|tap| at(h, by_y, tap)) {
                for (plane_x, x) in (0..w.kernel).map(|tap| at(w, by_x, tap)) {
                    let plane = (plane_z * by_y.len() + plane_y) * by_x.len() + plane_x;
                    taps.push(plane * self.size + z * self.slab + y * self.pitch + x);
                }
            }
        }
        taps
    }

    /// What the planes of one channel take.
    pub(super) fn floats(&self) -> usize {
        self.phases.iter().map(Vec::len).product::<usize>() * self.size
    }

    /// The entries of one channel of the operand.
    pub(super) fn entries(&self) -> usize {
        self.axes.iter().map(|axis| axis.size).product()
    }

    /// How many windows a channel has.
    pub(super) fn windows(&self) -> usize {
        self.axes.iter().map(|axis| axis.out).product()
    }

    /// How many there are between the first and the last, with those behind each
    /// row that are no windows.
    pub(super) fn span(&self) -> usize {
        let [d, h, w] = &self.axes;
        (d.out - 1) * self.slab + (h.out - 1) * self.pitch + w.out
    }

    /// The windows along each axis.
    pub(super) fn out(&self) -> [usize; 3] {
        self.axes.map(|axis| axis.out)
    }

    /// All channels of an operand, each in planes, with some floats behind them.
    pub(super) fn lay_out<'a>(&self, x: &'a [f32]) -> Cow<'a, [f32]> {
        let channels = x.len() / self.entries();
        if self.same {
            // What is read behind the last channel is never used.
            return Cow::Borrowed(x);
        }
        let floats = self.floats();
        let mut planes = buffers::take(channels * floats + SLACK);
        let most = team::SHARE.div_ceil(floats);
        let parts = x.chunks(most * self.entries()).zip(planes.chunks_mut(most * floats));
        let work = |(x, planes): (&[f32], &mut [f32])| {
            let channels = x.chunks_exact(self.entries()).zip(planes.chunks_exact_mut(floats));
            for (x, planes) in channels {
                planes.fill(0.0);
                self.fill(x, planes);
            }
        };
        team::for_each(parts, work);
        Cow::Owned(planes)
    }

    /// A channel that lies in the operand as in its planes, with enough behind it to
    /// be read in whole vectors.
    pub(super) fn within<'a>(&self, x: &'a [f32], channel: usize) -> Option<&'a [f32]> {
        let entries = x.get(channel * self.size..).filter(|_| self.same)?;
        (entries.len() >= self.size + SLACK).then_some(entries)
    }

    /// Spreads a channel into its planes, which hold the padding already.
    #[inline(always)]
    pub(super) fn fill(&self, x: &[f32], planes: &mut [f32]) {
        let [_, _, w] = &self.axes;
        for line in &self.lines {
            let from = x.get(line.from..line.until);
            let to = planes.get_mut(line.to..line.to + line.length);
            let (Some(from), Some(to)) = (from, to) else { return };
            if w.stride == 1 { copy_short(from, to) } else { copy_every(w.stride, from, to) }
        }
    }

    /// The lines of all planes that are not padding alone.
    fn all_lines(&self) -> Vec<Line> {
        let [d, h, w] = &self.axes;
        let [by_z, by_y, by_x] = &self.phases;
        let mut lines = Vec::new();
        for (i, z_phase) in by_z.iter().enumerate() {
            for (j, y_phase) in by_y.iter().enumerate() {
                for (k, x_phase) in by_x.iter().enumerate() {
                    let plane = ((i * by_y.len() + j) * by_x.len() + k) * self.size;
                    let rows = places(d, *z_phase, self.size / self.slab);
                    for (z, from_z) in rows {
                        for (y, from_y) in places(h, *y_phase, self.slab / self.pitch) {
                            let start = (from_z * h.size + from_y) * w.size;
                            let to = plane + z * self.slab + y * self.pitch;
                            lines.extend(Line::of(w, *x_phase, start, to, self.pitch));
                        }
                    }
                }
            }
        }
        lines
    }

    /// Copies the windows out of all between the first and the last.
    #[inline(always)]
    pub(super) fn pick(&self, folded: &[f32], answer: &mut [f32]) {
        let [_, h, w] = self.out();
        for (z, answer) in answer.chunks_exact_mut(h * w).enumerate() {
            let slab = folded.get(z * self.slab..).unwrap_or_default();
            for (from, to) in slab.chunks(self.pitch).zip(answer.chunks_exact_mut(w)) {
                copy_short(from.get(..w).unwrap_or_default(), to);
            }
        }
    }
}

/// The rows of a plane along an axis that hold entries, and which.
fn places(axis: &ConvAxis, phase: usize, rows: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    let place = move |row: usize| (row * axis.stride + phase).checked_sub(axis.begin);
    let places = (0..rows).filter_map(move |row| Some((row, place(row)?)));
    places.filter(|(_, place)| *place < axis.size)
}

/// Entries of a line, a stride apart, and where they lie in a plane.
struct Line {
    from: usize,
    /// Where the operand's line ends.
    until: usize,
    to: usize,
    length: usize,
}

impl Line {
    /// `start` and `to`: where the operand's line starts, and that of the plane.
    fn of(axis: &ConvAxis, phase: usize, start: usize, to: usize, pitch: usize) -> Option<Self> {
        let stride = axis.stride;
        let before = axis.begin.saturating_sub(phase).div_ceil(stride).min(pitch);
        let from = (phase + before * stride).saturating_sub(axis.begin);
        let length = axis.size.saturating_sub(from).div_ceil(stride).min(pitch - before);
        let (until, from) = (start + axis.size, start + from);
        (length > 0).then_some(Self { from, until, to: to + before, length })
    }
}
