//! Sampling at given coordinates, and grids of coordinates.

use ingle_types::DType;

use super::matmul::matmul;
use super::resize::cubic;
use super::sampling::{Line, Taps, inside};
use super::tensor::permute;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{product, to_sizes};
use crate::kernels::Kernels;
use crate::value::{Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("GridSample", 16.., 2..=2, grid_sample);
    r.add("AffineGrid", 20.., 2..=2, |args| {
        let corners = args.flag("align_corners", false)?;
        op(move |ctx, mut inputs| {
            let (theta, size) = (inputs.take(0)?, inputs.take(1)?);
            Ok(vec![affine_grid(ctx, theta, &size.ints(ctx, "the size")?, corners)?])
        })
    });
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What stands outside of the operand.
#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

#[derive(Clone, Copy)]
struct GridSample {
    mode: Mode,
    padding: Padding,
    /// Whether -1 and 1 are the centres of the outermost places, not their edges.
    corners: bool,
}

fn grid_sample<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let mode = match &*args.string("mode", "linear")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        _ => return Err(BuildError::Value { name: "mode", reason: "not a known mode" }),
    };
    let padding = match &*args.string("padding_mode", "zeros")? {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        _ => return Err(BuildError::Value { name: "padding_mode", reason: "not a known mode" }),
    };
    let sample = GridSample { mode, padding, corners: args.flag("align_corners", false)? };
    op(move |ctx, mut inputs| Ok(vec![sample.run(ctx, inputs.take(0)?, inputs.take(1)?)?]))
}

impl GridSample {
    fn run<B: Kernels>(
        self,
        ctx: &Context<B>,
        x: Value<B>,
        grid: Value<B>,
    ) -> Result<Value<B>, OpError> {
        let (dims, given, dtype) = (x.dims(), grid.dims(), x.dtype());
        let (&[batch, channels, ref sizes @ ..], &[grids, ref out @ .., axes]) =
            (dims.as_slice(), given.as_slice())
        else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        let fits = grids == batch && axes == sizes.len() && axes == out.len();
        if !fits || !(1..=3).contains(&axes) {
            let what = "the grid does not fit the operand, of up to three spatial axes";
            return Err(OpError::Mismatch { what, left: dims, right: given });
        }
        let sampled = [&[batch, channels][..], out].concat();
        ctx.admit(dtype, &sampled)?;
        if sampled.contains(&0) {
            return Ok(Value::empty(dtype, sampled));
        }
        if sizes.contains(&0) {
            return Err(OpError::Dims { what: "the operand", dims });
        }
        let (places, points) = (product(sizes)?, product(out)?);
        let taps = self.taps(ctx, &grid, (batch * places, points), sizes)?;
        let exact = self.mode == Mode::Nearest || matches!(dtype, DType::F32 | DType::F64);
        let x = if exact { x } else { x.cast(ctx, DType::F32)? };
        let sums = taps.sum(ctx, x.reshape(vec![batch, channels, places]))?;
        let sums = permute(ctx, sums.reshape(vec![batch, points, channels]), &[0, 2, 1])?;
        sums.reshape(sampled).cast(ctx, dtype)
    }

    fn taps<B: Kernels>(
        self,
        ctx: &Context<B>,
        grid: &Value<B>,
        (places, points): (usize, usize),
        sizes: &[usize],
    ) -> Result<Taps, OpError> {
        let given = grid.dtype();
        if !is_float(given) {
            return Err(OpError::DType { what: "the grid", expected: "a float tensor", given });
        }
        ctx.admit(DType::F64, &grid.dims())?;
        let along = match self.mode {
            Mode::Nearest => 1,
            Mode::Linear => 2,
            Mode::Cubic => 4usize,
        };
        let width = sizes.iter().map(|_| along).product();
        let count = grid.elements() / sizes.len().max(1);
        let mut taps = Taps::new(ctx, count, width, places)?;
        let place = sizes.iter().product::<usize>();
        let mut lines = Vec::with_capacity(sizes.len());
        let grid = grid.to_host(ctx)?.to_f64();
        for (i, point) in grid.chunks_exact(sizes.len().max(1)).enumerate() {
            lines.clear();
            // A point names the last axis first.
            let pairs = point.iter().rev().zip(sizes);
            lines.extend(pairs.map(|(&at, &size)| self.line(at, size, given == DType::F64)));
            taps.push(i / points * place, sizes, &lines, 1.0);
        }
        Ok(taps)
    }

    fn line(self, at: f64, size: usize, wide: bool) -> Line {
        let at = if wide { self.place(at, size) } else { self.place32(at as f32, size) };
        let at = if self.mode == Mode::Nearest { at.round_ties_even() } else { at };
        let (low, high) = self.bounds(size);
        let at = match self.padding {
            // Each of four places is brought inside, not the coordinate: as PyTorch does.
            _ if low <= at && at <= high || self.mode == Mode::Cubic => at,
            Padding::Border => at.clamp(0.0, size as f64 - 1.0),
            Padding::Reflection => reflect(at, low, high),
            Padding::Zeros => at,
        };
        let place = |i: i64| match self.padding {
            Padding::Zeros => inside(i, size),
            Padding::Border => Some(clamp(i, size)),
            Padding::Reflection if inside(i, size).is_some() => inside(i, size),
            Padding::Reflection => Some(clamp(reflect(i as f64, low, high) as i64, size)),
        };
        match self.mode {
            Mode::Nearest => Line::nearest(at, place),
            Mode::Linear => Line::linear(at, place),
            Mode::Cubic => Line::cubic(at, place, |distance| cubic(distance, -0.75)),
        }
    }

    /// Where a coordinate between -1 and 1 lies among the places of an axis.
    fn place(self, at: f64, size: usize) -> f64 {
        let size = size as f64;
        if self.corners { (at + 1.0) / 2.0 * (size - 1.0) } else { ((at + 1.0) * size - 1.0) / 2.0 }
    }

    /// As [`Self::place`], with the roundings that others have too: they decide
    /// which of two places is the nearest.
    fn place32(self, at: f32, size: usize) -> f64 {
        let size = size as f32;
        let at = if self.corners {
            (at + 1.0) / 2.0 * (size - 1.0)
        } else {
            ((at + 1.0) * size - 1.0) / 2.0
        };
        at.into()
    }

    /// Between what a reflection is thrown back and forth.
    fn bounds(self, size: usize) -> (f64, f64) {
        if self.corners { (0.0, size as f64 - 1.0) } else { (-0.5, size as f64 - 0.5) }
    }
}

fn clamp(i: i64, size: usize) -> usize {
    usize::try_from(i).unwrap_or(0).min(size.saturating_sub(1))
}

fn reflect(at: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 || !at.is_finite() {
        return low.max(0.0);
    }
    let distance = if at < low { low - at } else { (at - low).max(0.0) };
    let turns = (distance / range).floor();
    let rest = distance - turns * range;
    if turns % 2.0 == 0.0 { low + rest } else { high - rest }
}

fn affine_grid<B: Kernels>(
    ctx: &Context<B>,
    theta: Value<B>,
    size: &[i64],
    corners: bool,
) -> Result<Value<B>, OpError> {
    let (dtype, dims) = (theta.dtype(), theta.dims());
    let sizes = to_sizes(size, "a size")?;
    let (&[batch, _, ref spatial @ ..], &[thetas, rows, columns]) =
        (sizes.as_slice(), dims.as_slice())
    else {
        return Err(OpError::Dims { what: "the matrices", dims });
    };
    let axes = spatial.len();
    if !(2..=3).contains(&axes) || batch != thetas || rows != axes || columns != axes + 1 {
        let what = "the size does not fit the matrices";
        return Err(OpError::Mismatch { what, left: dims, right: sizes });
    }
    if !is_float(dtype) {
        let expected = "a float tensor";
        return Err(OpError::DType { what: "the matrices", expected, given: dtype });
    }
    let out = [&[batch][..], spatial, &[axes]].concat();
    ctx.admit(DType::F64, &out)?;
    ctx.admit(DType::F64, &[&[columns][..], spatial].concat())?;
    if out.contains(&0) {
        return Ok(Value::empty(dtype, out));
    }
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let points: usize = spatial.iter().product();
    let grid = Host::floats(wide, vec![points, columns], points_of(spatial, corners));
    let theta = permute(ctx, theta.cast(ctx, wide)?, &[0, 2, 1])?;
    matmul(ctx, grid.into(), theta)?.reshape(out).cast(ctx, dtype)
}

/// The coordinates of each place between -1 and 1, the last axis first, then a one.
fn points_of(sizes: &[usize], corners: bool) -> Vec<f64> {
    let at = |i: usize, size: usize| match size {
        1 if corners => 0.0,
        _ if corners => 2.0 * i as f64 / (size as f64 - 1.0) - 1.0,
        _ => (2.0 * i as f64 + 1.0) / size as f64 - 1.0,
    };
    let count: usize = sizes.iter().product();
    let mut points = Vec::with_capacity(count * (sizes.len() + 1));
    for point in 0..count {
        let mut rest = point;
        for &size in sizes.iter().rev() {
            points.push(at(rest % size, size));
            rest /= size;
        }
        points.push(1.0);
    }
    points
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor};

    /// Along the columns of `[[1, 2, 3]]`.
    fn along(coordinates: &[f32]) -> Case {
        let points: Vec<f32> = coordinates.iter().flat_map(|&at| [at, 0.0]).collect();
        let grid = f32s(&[1, 1, coordinates.len(), 2], &points);
        Case::of("GridSample", [counting(&[1, 1, 1, 3]), grid]).opset(20)
    }

    fn row(values: &[f32]) -> [ingle_types::Tensor; 1] {
        [f32s(&[1, 1, 1, values.len()], values)]
    }

    #[test]
    fn corners_are_edges_or_centres() {
        along(&[-1., 0., 1.]).gives(row(&[0.5, 2., 1.5]));
        along(&[-1., 0.5, 1.]).int("align_corners", 1).gives(row(&[1., 2.5, 3.]));
    }

    #[test]
    fn outside_are_zeros_the_border_or_a_reflection() {
        let pad = |mode: &str| along(&[-1.5, 2., 4.]).string("padding_mode", mode);
        pad("zeros").gives(row(&[0., 0., 0.]));
        pad("border").gives(row(&[1., 3., 3.]));
        pad("reflection").gives(row(&[1.25, 2., 2.]));
        pad("reflection").int("align_corners", 1).gives(row(&[1.5, 2., 2.]));
    }

    #[test]
    fn one_place_or_four_are_taken() {
        // A coordinate of 1/3 lies exactly between two places.
        along(&[-0.4, 1. / 3., 0.5]).string("mode", "nearest").gives(row(&[1., 3., 3.]));
        along(&[0., 0.25])
            .string("mode", "cubic")
            .string("padding_mode", "border")
            .gives(row(&[2., 2.470_214_8]));
        along(&[-1.2])
            .string("mode", "cubic")
            .string("padding_mode", "border")
            .gives(row(&[0.976]));
    }

    #[test]
    fn three_axes_and_other_types_work() {
        let x = counting(&[1, 1, 2, 2, 2]);
        let grid = f32s(&[1, 1, 1, 2, 3], &[0., 0., 0., 1., -1., -1.]);
        Case::of("GridSample", [x, grid])
            .opset(20)
            .int("align_corners", 1)
            .gives([f32s(&[1, 1, 1, 1, 2], &[4.5, 2.])]);
        let x = i64s(&[1, 2, 1, 2], &[1, i64::MAX, 3, 4]);
        let grid = f32s(&[1, 1, 2, 2], &[0.5, 0., 9., 0.]);
        Case::of("GridSample", [x, grid])
            .string("mode", "nearest")
            .gives([i64s(&[1, 2, 1, 2], &[i64::MAX, 0, 4, 0])]);
        let x = tensor(&[1, 1, 1, 2], &[1u8, 4]);
        let grid = f32s(&[1, 1, 1, 2], &[0., 0.]);
        Case::of("GridSample", [x, grid]).gives([tensor(&[1, 1, 1, 1], &[2u8])]);
    }

    #[test]
    fn no_coordinate_reaches_beyond_the_operand() {
        let far = [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN];
        for mode in ["nearest", "linear", "cubic"] {
            let pad = |padding| along(&far).string("mode", mode).string("padding_mode", padding);
            pad("zeros").gives(row(&[0.; 4]));
            pad("border").gives(row(&[3., 1., 3., 1.]));
            if mode != "cubic" {
                pad("reflection").gives(row(&[1.; 4]));
            }
        }
        along(&[f32::NAN]).gives(row(&[f32::NAN]));
        along(&[f32::NAN]).string("mode", "nearest").gives(row(&[1.]));
    }

    #[test]
    fn a_grid_that_does_not_fit_is_refused() {
        let x = counting(&[1, 1, 2, 2]);
        let sample = |grid| Case::of("GridSample", [x.clone(), grid]);
        sample(f32s(&[2, 1, 1, 2], &[0.; 4])).fails("the grid does not fit");
        sample(f32s(&[1, 1, 1, 3], &[0.; 3])).fails("the grid does not fit");
        sample(f32s(&[1, 1, 2], &[0.; 2])).fails("the grid does not fit");
        sample(i64s(&[1, 1, 1, 2], &[0; 2])).fails("the grid must be");
        sample(f32s(&[1, 0, 1, 2], &[])).gives([f32s(&[1, 1, 0, 1], &[])]);
        let empty = f32s(&[1, 1, 0, 2], &[]);
        Case::of("GridSample", [empty, f32s(&[1, 1, 1, 2], &[0.; 2])]).fails("the operand cannot");
    }

    #[test]
    fn a_matrix_moves_every_point() {
        let theta = f32s(&[1, 2, 3], &[2., 0., 1., 0., 1., -1.]);
        let grid = |h, w| Case::of("AffineGrid", [theta.clone(), i64s(&[4], &[1, 3, h, w])]);
        grid(1, 2).opset(20).gives([f32s(&[1, 1, 2, 2], &[0., -1., 2., -1.])]);
        grid(2, 1)
            .opset(20)
            .int("align_corners", 1)
            .gives([f32s(&[1, 2, 1, 2], &[1., -2., 1., 0.])]);
        grid(i64::MAX, 2).opset(20).fails("limit");
        grid(-1, 2).opset(20).fails("a size cannot be -1");
        Case::of("AffineGrid", [theta.clone(), i64s(&[4], &[2, 3, 1, 1])])
            .opset(20)
            .fails("the size does not fit");
        Case::of("AffineGrid", [theta, i64s(&[1], &[1])]).opset(20).fails("the matrices");
    }
}
