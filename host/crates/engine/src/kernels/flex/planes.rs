//! An operand laid out so that windows need no case for padding or strides: each
//! channel is cut into smaller planes, one for each place that a stride passes
//! over, with the padding written out. The entries that one tap meets in windows
//! next to each other are then neighbours, and the same distance apart for all
//! taps.

use std::borrow::Cow;

use super::lines::{copy_every, copy_loosely, fill_loosely};
use super::team;
use crate::kernels::ConvAxis;

/// How many floats may be read behind the last plane.
pub(super) const SLACK: usize = 128;

/// The planes of an operand may take so many floats, however small it is.
const FEW_FLOATS: usize = 1 << 24;

/// Elements that are worth a thread of their own.
const SHARE: usize = 1 << 15;

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
        let mut planes = Self { axes, pitch, slab, taps: Vec::new(), phases, size, same };
        let floats = channels.checked_mul(planes.floats())?;
        planes.taps = planes.all_taps();
        (same || floats <= most).then_some(planes)
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
        let mut planes = vec![0.0; channels * floats + SLACK];
        let most = SHARE.div_ceil(floats);
        let parts = x.chunks(most * self.entries()).zip(planes.chunks_mut(most * floats));
        let work = |(x, planes): (&[f32], &mut [f32])| {
            let channels = x.chunks_exact(self.entries()).zip(planes.chunks_exact_mut(floats));
            channels.for_each(|(x, planes)| self.fill(x, planes, 0.0));
        };
        if channels <= most {
            parts.for_each(work)
        } else {
            team::for_each(parts, work)
        }
        Cow::Owned(planes)
    }

    /// Spreads a channel into its planes, with `padding` where it has no entries.
    #[inline(always)]
    pub(super) fn fill(&self, x: &[f32], planes: &mut [f32], padding: f32) {
        let [by_z, by_y, by_x] = &self.phases;
        let mut planes = planes.chunks_exact_mut(self.size);
        for z in by_z {
            for y in by_y {
                for (x_phase, plane) in by_x.iter().zip(&mut planes) {
                    self.fill_plane([*z, *y, *x_phase], x, plane, padding);
                }
            }
        }
    }

    #[inline(always)]
    fn fill_plane(&self, phase: [usize; 3], x: &[f32], plane: &mut [f32], padding: f32) {
        let [d, h, w] = &self.axes;
        let span = Span::of(w, phase[2], self.pitch);
        for (z, start) in (0..self.size).step_by(self.slab).enumerate() {
            let z = place_of(d, z, phase[0]);
            for (y, start) in (start..start + self.slab).step_by(self.pitch).enumerate() {
                let Some(to) = plane.get_mut(start..) else { return };
                let line = z.zip(place_of(h, y, phase[1])).and_then(|(z, y)| {
                    let start = (z * h.size + y) * w.size;
                    x.get(start..start + w.size)
                });
                match line {
                    Some(line) => span.copy(line, to, padding),
                    None => fill_loosely(padding, to, self.pitch),
                }
            }
        }
    }

    /// Copies the windows out of all between the first and the last.
    #[inline(always)]
    pub(super) fn pick(&self, folded: &[f32], answer: &mut [f32]) {
        let [d, h, w] = self.out();
        for z in 0..d {
            for y in 0..h {
                let from = folded.get(z * self.slab + y * self.pitch..).unwrap_or_default();
                let to = answer.get_mut((z * h + y) * w..).unwrap_or_default();
                copy_loosely(from, to, w);
            }
        }
    }
}

/// Which entry along an axis a row of a plane holds, unless that is padding.
#[inline(always)]
fn place_of(axis: &ConvAxis, row: usize, phase: usize) -> Option<usize> {
    (row * axis.stride + phase).checked_sub(axis.begin).filter(|&place| place < axis.size)
}

/// Entries of a line, `stride` apart, between padding.
struct Span {
    stride: usize,
    from: usize,
    /// Padding, then entries, then padding.
    before: usize,
    inside: usize,
    behind: usize,
}

impl Span {
    #[inline(always)]
    fn of(axis: &ConvAxis, phase: usize, length: usize) -> Self {
        let stride = axis.stride;
        let before = axis.begin.saturating_sub(phase).div_ceil(stride).min(length);
        let from = (phase + before * stride).saturating_sub(axis.begin);
        let inside = axis.size.saturating_sub(from).div_ceil(stride).min(length - before);
        Self { stride, from, before, inside, behind: length - before - inside }
    }

    /// Writes a row, and may overwrite what lies behind it.
    #[inline(always)]
    fn copy(&self, line: &[f32], to: &mut [f32], padding: f32) {
        fill_loosely(padding, to, self.before);
        let from = line.get(self.from..).unwrap_or_default();
        let to = to.get_mut(self.before..).unwrap_or_default();
        if self.stride == 1 {
            copy_loosely(from, to, self.inside);
        } else {
            copy_every(self.stride, from, to.get_mut(..self.inside).unwrap_or_default());
        }
        fill_loosely(padding, to.get_mut(self.inside..).unwrap_or_default(), self.behind);
    }
}
