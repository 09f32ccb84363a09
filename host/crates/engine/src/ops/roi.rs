//! Pooling of regions of interest. Regions are irregular and few: the host computes.

use ingle_types::DType;

use super::tensor::permute;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::product;
use crate::kernels::Kernels;
use crate::value::{Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("RoiAlign", 10.., 3..=3, roi_align);
    r.add("MaxRoiPool", 1.., 2..=2, max_roi_pool);
}

struct RoiAlign {
    out: [usize; 2],
    max: bool,
    /// Whether the centre of the first place is at 0.5.
    half_pixel: bool,
    /// Samples along each axis of a bin; 0 = as many as the bin has places.
    samples: usize,
    scale: f32,
}

fn size<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
    least: i64,
) -> Result<usize, BuildError> {
    let value = args.int(name, least)?;
    usize::try_from(value)
        .ok()
        .filter(|_| (least..=1 << 16).contains(&value))
        .ok_or(BuildError::Value { name, reason: "a size is out of range" })
}

fn roi_align<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let name = "coordinate_transformation_mode";
    let default = if args.opset() < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match &*args.string(name, default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        _ => return Err(BuildError::Value { name, reason: "not a known mode" }),
    };
    let max = match &*args.string("mode", "avg")? {
        "avg" => false,
        "max" => true,
        _ => return Err(BuildError::Value { name: "mode", reason: "not a known mode" }),
    };
    let align = RoiAlign {
        out: [size(args, "output_height", 1)?, size(args, "output_width", 1)?],
        max,
        half_pixel,
        samples: size(args, "sampling_ratio", 0)?,
        scale: args.float("spatial_scale", 1.0)? as f32,
    };
    op(move |ctx, mut inputs| {
        let (x, regions, batches) = (inputs.take(0)?, inputs.take(1)?, inputs.take(2)?);
        let map = Map::of(ctx, &x, &regions, 4)?;
        let batches = batches.ints(ctx, "the batch indices")?;
        if batches.len() != map.regions.len() / 4 {
            let what = "one batch index is needed for each region";
            let (left, right) = (regions.dims(), vec![batches.len()]);
            return Err(OpError::Mismatch { what, left, right });
        }
        let bins: Vec<Bins> = map.regions.chunks_exact(4).map(|r| align.bins(r)).collect();
        align.check(ctx, &bins)?;
        let regions: Vec<(usize, Bins)> = map.batches(&batches)?.into_iter().zip(bins).collect();
        map.pool(ctx, align.out, &regions, |image, bins, [row, column], pooled| {
            let lines = [bins.line(0, row, map.sizes), bins.line(1, column, map.sizes)];
            if align.max { max_of(image, &lines, pooled) } else { mean_of(image, &lines, pooled) }
        })
    })
}

/// A feature map on the host, channels last, and the numbers of the regions.
struct Map {
    dtype: DType,
    values: Vec<f64>,
    batch: usize,
    channels: usize,
    sizes: [usize; 2],
    regions: Vec<f64>,
}

/// The places of one image, each of `channels` numbers.
#[derive(Clone, Copy)]
struct Image<'a> {
    values: &'a [f64],
    width: usize,
    channels: usize,
}

impl<'a> Image<'a> {
    fn at(self, row: usize, column: usize) -> &'a [f64] {
        let start = (row * self.width + column) * self.channels;
        self.values.get(start..start + self.channels).unwrap_or_default()
    }
}

impl Map {
    /// `x` is `[batch, channels, height, width]`, `regions` `[regions, numbers]`.
    fn of<B: Kernels>(
        ctx: &Context<B>,
        x: &Value<B>,
        regions: &Value<B>,
        numbers: usize,
    ) -> Result<Self, OpError> {
        let (dtype, dims, given) = (x.dtype(), x.dims(), regions.dims());
        let &[batch, channels, height, width] = dims.as_slice() else {
            return Err(OpError::Dims { what: "the operand", dims });
        };
        if !matches!(given.as_slice(), &[_, n] if n == numbers) {
            return Err(OpError::Dims { what: "the regions", dims: given });
        }
        if !is_float(dtype) || regions.dtype() != dtype {
            return Err(OpError::DTypes { left: dtype, right: regions.dtype() });
        }
        ctx.admit(DType::F64, &dims)?;
        ctx.admit(DType::F64, &given)?;
        let values = permute(ctx, x.clone(), &[0, 2, 3, 1])?.to_host(ctx)?.to_f64();
        let regions = regions.to_host(ctx)?.to_f64();
        Ok(Self { dtype, values, batch, channels, sizes: [height, width], regions })
    }

    fn batches(&self, indices: &[i64]) -> Result<Vec<usize>, OpError> {
        let place = |&index: &i64| {
            let inside = usize::try_from(index).ok().filter(|&i| i < self.batch);
            inside.ok_or(OpError::Index { index, size: self.batch })
        };
        indices.iter().map(place).collect()
    }

    /// `bin` writes what one bin of a region holds: a number for each channel,
    /// which are zeros before.
    fn pool<B: Kernels, R>(
        &self,
        ctx: &Context<B>,
        out: [usize; 2],
        regions: &[(usize, R)],
        bin: impl Fn(Image<'_>, &R, [usize; 2], &mut [f64]),
    ) -> Result<Vec<Value<B>>, OpError> {
        let ([rows, columns], channels) = (out, self.channels);
        let dims = vec![regions.len(), channels, rows, columns];
        ctx.admit(DType::F64, &dims)?;
        if dims.contains(&0) {
            return Ok(vec![Value::empty(self.dtype, dims)]);
        }
        let [height, width] = self.sizes;
        let size = product(&[height, width, channels])?;
        let mut pooled = vec![0.0; product(&dims)?];
        let places = pooled.chunks_exact_mut(channels);
        for (i, pooled) in places.enumerate() {
            let (region, place) = (i / (rows * columns), i % (rows * columns));
            let Some((batch, region)) = regions.get(region) else { continue };
            let values = self.values.get(batch * size..(batch + 1) * size).unwrap_or_default();
            let image = Image { values, width, channels };
            bin(image, region, [place / columns, place % columns], pooled);
        }
        let pooled =
            Host::floats(self.dtype, vec![regions.len(), rows * columns, channels], pooled);
        let pooled = Value::from(Value::<B>::from(pooled).into_device(ctx)?);
        Ok(vec![permute(ctx, pooled, &[0, 2, 1])?.reshape(dims)])
    }
}

/// The bins of a region, along rows and columns.
struct Bins {
    start: [f32; 2],
    size: [f32; 2],
    samples: [usize; 2],
}

/// Between which two places a sample lies, and how near to the second; `None`
/// for one beyond the map.
type Sample = Option<(usize, usize, f64)>;

impl Bins {
    /// The samples of one bin along an axis.
    fn line(&self, axis: usize, bin: usize, sizes: [usize; 2]) -> Vec<Sample> {
        let at = |pair: [f32; 2]| if axis == 0 { pair[0] } else { pair[1] };
        let (start, size) = (at(self.start), at(self.size));
        let (samples, places) =
            if axis == 0 { (self.samples[0], sizes[0]) } else { (self.samples[1], sizes[1]) };
        let sample = |i: usize| {
            let share = (i as f32 + 0.5) * size / samples as f32;
            between(f64::from(start + bin as f32 * size + share), places)
        };
        (0..samples).map(sample).collect()
    }
}

fn between(at: f64, size: usize) -> Sample {
    if !(-1.0..=size as f64).contains(&at) {
        return None;
    }
    let last = size.checked_sub(1)?;
    let at = at.max(0.0);
    let low = at as usize;
    if low >= last { Some((last, last, 0.0)) } else { Some((low, low + 1, at - low as f64)) }
}

impl RoiAlign {
    /// Computed as floats of 32 bits, whose roundings decide how many samples are taken.
    fn bins(&self, region: &[f64]) -> Bins {
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let number = |i: usize| region.get(i).copied().unwrap_or_default() as f32;
        let edge = |i: usize| number(i) * self.scale - offset;
        let axis = |low: usize, out: usize| {
            let length = edge(low + 2) - edge(low);
            let length = if self.half_pixel { length } else { length.max(1.0) };
            let size = length / out as f32;
            let samples = match self.samples {
                0 => size.ceil().max(0.0) as usize,
                samples => samples,
            };
            (edge(low), size, samples)
        };
        let [rows, columns] = self.out;
        let (y, x) = (axis(1, rows), axis(0, columns));
        Bins { start: [y.0, x.0], size: [y.1, x.1], samples: [y.2, x.2] }
    }

    /// Refuses regions that would take longer than a tensor of the allowed size.
    fn check<B: Kernels>(&self, ctx: &Context<B>, bins: &[Bins]) -> Result<(), OpError> {
        let [rows, columns] = self.out;
        let samples = |bins: &Bins| {
            let [y, x] = bins.samples;
            y.saturating_mul(x).saturating_mul(rows * columns)
        };
        let total = bins.iter().map(samples).fold(0, usize::saturating_add);
        let longest = bins.iter().flat_map(|b| b.samples).max().unwrap_or(0);
        ctx.admit(DType::F64, &[total])?;
        ctx.admit(DType::F64, &[longest, 3])
    }
}

fn corners<'a>(
    image: Image<'a>,
    (top, bottom, down): (usize, usize, f64),
    (left, right, along): (usize, usize, f64),
) -> [(f64, &'a [f64]); 4] {
    [
        ((1.0 - down) * (1.0 - along), image.at(top, left)),
        ((1.0 - down) * along, image.at(top, right)),
        (down * (1.0 - along), image.at(bottom, left)),
        (down * along, image.at(bottom, right)),
    ]
}

fn mean_of(image: Image<'_>, [rows, columns]: &[Vec<Sample>; 2], pooled: &mut [f64]) {
    for &row in rows.iter().flatten() {
        for &column in columns.iter().flatten() {
            for (weight, place) in corners(image, row, column) {
                for (sum, value) in pooled.iter_mut().zip(place) {
                    *sum += weight * value;
                }
            }
        }
    }
    let count = (rows.len() * columns.len()).max(1) as f64;
    pooled.iter_mut().for_each(|sum| *sum /= count);
}

/// The largest of the weighted places, not of what is sampled: so it is defined.
fn max_of(image: Image<'_>, [rows, columns]: &[Vec<Sample>; 2], pooled: &mut [f64]) {
    let mut first = true;
    let meet = |channel: usize, value: f64, pooled: &mut [f64], first: bool| {
        if let Some(best) = pooled.get_mut(channel) {
            *best = if first { value } else { best.max(value) };
        }
    };
    for row in rows {
        for column in columns {
            let Some((row, column)) = row.zip(*column) else {
                (0..pooled.len()).for_each(|channel| meet(channel, 0.0, pooled, first));
                first = false;
                continue;
            };
            for (weight, place) in corners(image, row, column) {
                for (channel, value) in place.iter().enumerate() {
                    meet(channel, weight * value, pooled, first);
                }
                first = false;
            }
        }
    }
}

fn max_roi_pool<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let name = "pooled_shape";
    let shape = args.sizes(name)?.ok_or(BuildError::Missing { name })?;
    let &[rows, columns] = shape.as_slice() else {
        return Err(BuildError::Value { name, reason: "not two sizes" });
    };
    if !(1..=1 << 16).contains(&rows) || !(1..=1 << 16).contains(&columns) {
        return Err(BuildError::Value { name, reason: "a size is out of range" });
    }
    let scale = args.float("spatial_scale", 1.0)? as f32;
    op(move |ctx, mut inputs| {
        let (x, regions) = (inputs.take(0)?, inputs.take(1)?);
        let map = Map::of(ctx, &x, &regions, 5)?;
        let batches: Vec<i64> =
            map.regions.chunks_exact(5).filter_map(|r| Some(*r.first()? as i64)).collect();
        let bounds = map.regions.chunks_exact(5).map(|region| {
            let edge = |i: usize| {
                let at = region.get(i).copied().unwrap_or_default() as f32 * scale;
                f64::from(at.round())
            };
            let axis = |low: usize| (edge(low), (edge(low + 2) - edge(low) + 1.0).max(1.0));
            [axis(2), axis(1)]
        });
        let regions: Vec<_> = map.batches(&batches)?.into_iter().zip(bounds).collect();
        let [height, width] = map.sizes;
        map.pool(ctx, [rows, columns], &regions, |image, [y, x], [row, column], pooled| {
            let lines = (bin_of(*y, row, rows, height), bin_of(*x, column, columns, width));
            let mut places = lines.0.flat_map(|row| lines.1.clone().map(move |c| image.at(row, c)));
            let Some(first) = places.next() else { return };
            pooled.copy_from_slice(first);
            for place in places {
                for (best, &value) in pooled.iter_mut().zip(place) {
                    *best = best.max(value);
                }
            }
        })
    })
}

/// The places that bin `bin` of `bins` covers, of a region that starts at a place
/// and has a length.
fn bin_of(
    (start, length): (f64, f64),
    bin: usize,
    bins: usize,
    size: usize,
) -> std::ops::Range<usize> {
    let each = length / bins as f64;
    let edge = |at: f64| (at + start).clamp(0.0, size as f64) as usize;
    edge((bin as f64 * each).floor())..edge(((bin + 1) as f64 * each).ceil())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    fn align(region: &[f32]) -> Case {
        let x = counting(&[1, 1, 4, 4]);
        Case::of("RoiAlign", [x, f32s(&[1, 4], region), i64s(&[1], &[0])]).opset(16)
    }

    fn one(value: f32) -> [ingle_types::Tensor; 1] {
        [f32s(&[1, 1, 1, 1], &[value])]
    }

    #[test]
    fn samples_of_a_bin_are_averaged() {
        // Two samples along each axis: at 0 and 1, then at 0.5 and 1.5.
        align(&[0., 0., 2., 2.]).gives(one(3.5));
        align(&[0., 0., 2., 2.])
            .string("coordinate_transformation_mode", "output_half_pixel")
            .gives(one(6.));
        let halves = align(&[0., 0., 4., 8.]).float("spatial_scale", 0.5);
        halves.clone().int("sampling_ratio", 1).gives(one(7.5));
        halves
            .int("output_height", 2)
            .int("sampling_ratio", 1)
            .gives([f32s(&[1, 1, 2, 1], &[3.5, 11.5])]);
    }

    #[test]
    fn the_largest_weighted_place_of_a_bin() {
        let case = align(&[0.5, 0.5, 1.5, 1.5]).string("mode", "max");
        // One sample in the middle of 1, 2, 5 and 6.
        case.int("sampling_ratio", 1).gives(one(1.5));
    }

    #[test]
    fn every_region_has_its_image() {
        let x = f32s(&[2, 2, 1, 1], &[1., 2., 3., 4.]);
        let regions = f32s(&[2, 4], &[0., 0., 1., 1., 0., 0., 1., 1.]);
        Case::of("RoiAlign", [x.clone(), regions.clone(), i64s(&[2], &[1, 0])])
            .opset(16)
            .gives([f32s(&[2, 2, 1, 1], &[3., 4., 1., 2.])]);
        let case = |indices| Case::of("RoiAlign", [x.clone(), regions.clone(), indices]);
        case(i64s(&[2], &[0, 2])).fails("index 2 is outside");
        case(i64s(&[2], &[0, -1])).fails("index -1 is outside");
        case(i64s(&[1], &[0])).fails("one batch index");
        case(f32s(&[2], &[0.; 2])).fails("integer");
    }

    #[test]
    fn no_region_takes_for_ever_or_reads_outside() {
        align(&[0., 0., 1e9, 1e9]).fails("limit");
        align(&[0., 0., f32::INFINITY, 1.]).fails("limit");
        align(&[f32::NAN; 4]).gives(one(0.));
        align(&[100., 100., 101., 101.]).gives(one(0.));
        align(&[3., 3., 1., 1.]).gives(one(0.));
        align(&[0.; 4]).int("output_height", 0).fails("out of range");
        align(&[0.; 4]).int("sampling_ratio", -1).fails("out of range");
    }

    #[test]
    fn places_of_a_bin_are_compared() {
        let pool = |region: &[f32]| {
            let x = counting(&[1, 1, 4, 4]);
            Case::of("MaxRoiPool", [x, f32s(&[1, region.len()], region)])
                .ints("pooled_shape", &[2, 1])
        };
        pool(&[0., 0., 1., 1., 3.]).gives([f32s(&[1, 1, 2, 1], &[10., 14.])]);
        pool(&[0., 2., 2., 9., 9.]).gives([f32s(&[1, 1, 2, 1], &[16., 0.])]);
        pool(&[0., 0., 0., f32::INFINITY, f32::NAN]).gives([f32s(&[1, 1, 2, 1], &[4., 4.])]);
        pool(&[1., 0., 0., 1., 1.]).fails("index 1 is outside");
        pool(&[0., 0., 0., 1.]).fails("the regions");
    }
}
