//! Caches of keys and values that live outside of attention.

use burn::tensor::Slice;

use super::tensor::narrow;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::axis_at;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("TensorScatter", 24.., 2..=3, tensor_scatter);
}

/// Writes a stretch of each example's sequence.
fn tensor_scatter<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let axis = args.int("axis", -2)?;
    let circular = match &*args.string("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        _ => return Err(BuildError::Value { name: "mode", reason: "neither linear nor circular" }),
    };
    op(move |ctx, mut inputs| {
        let (cache, update) = (inputs.take(0)?, inputs.take(1)?);
        let (dims, given) = (cache.dims(), update.dims());
        let axis = axis_at(axis, dims.len())?;
        let fits = |(i, (cache, given)): (usize, (&usize, &usize))| {
            given == cache || i == axis && given < cache
        };
        let pairs = dims.iter().zip(&given).enumerate();
        if axis == 0 || dims.len() != given.len() || !pairs.into_iter().all(fits) {
            let what = "the update does not fit the cache";
            return Err(OpError::Mismatch { what, left: dims, right: given });
        }
        if cache.dtype() != update.dtype() {
            return Err(OpError::DTypes { left: cache.dtype(), right: update.dtype() });
        }
        let batch = dims.first().copied().unwrap_or_default();
        let starts = match inputs.take_opt(2) {
            Some(starts) if starts.dims() != [batch] => {
                return Err(OpError::Dims { what: "the write indices", dims: starts.dims() });
            }
            Some(starts) => starts.ints(ctx, "the write indices")?,
            None => vec![0; batch],
        };
        if given.contains(&0) {
            return Ok(vec![cache]);
        }
        Ok(vec![write_all(ctx, cache, &update, (axis, circular), &starts)?])
    })
}

/// Writes `update` into `cache`, from place `starts[i]` of the axis on in example
/// `i`. Their dims are equal but for the axis, where the update may be smaller.
pub(super) fn write_all<B: Kernels>(
    ctx: &Context<B>,
    cache: Value<B>,
    update: &Value<B>,
    (axis, circular): (usize, bool),
    starts: &[i64],
) -> Result<Value<B>, OpError> {
    let writes = writes(starts, [&cache.dims(), &update.dims()], axis, circular)?;
    let mut tensor = cache.into_device(ctx)?;
    for write in writes {
        tensor = write.apply(ctx, tensor, update, axis)?;
    }
    Ok(tensor.into())
}

/// `count` entries of examples `from..to`, from place `source` of the update to
/// place `target` of the cache.
#[derive(Debug, PartialEq)]
struct Write {
    from: usize,
    to: usize,
    source: usize,
    target: usize,
    count: usize,
}

/// Neighbouring examples that start at the same place are written together.
fn writes(
    starts: &[i64],
    [dims, given]: [&[usize]; 2],
    axis: usize,
    circular: bool,
) -> Result<Vec<Write>, OpError> {
    let at = |dims: &[usize]| dims.get(axis).copied().unwrap_or_default();
    let (size, count) = (at(dims), at(given));
    let place = |&start: &i64| {
        let index = if circular {
            i64::try_from(size).ok().and_then(|size| start.checked_rem_euclid(size))
        } else {
            Some(start)
        };
        let end = if circular { 1 } else { count };
        let index = index.and_then(|i| usize::try_from(i).ok());
        index.filter(|i| i + end <= size).ok_or(OpError::Index { index: start, size })
    };
    let places = starts.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    let mut writes = Vec::new();
    let mut from = 0;
    for same in places.chunk_by(PartialEq::eq) {
        let to = from + same.len();
        let target = same.first().copied().unwrap_or_default();
        let first = count.min(size - target);
        writes.push(Write { from, to, source: 0, target, count: first });
        if first < count {
            writes.push(Write { from, to, source: first, target: 0, count: count - first });
        }
        from = to;
    }
    Ok(writes)
}

impl Write {
    fn apply<B: Kernels>(
        &self,
        ctx: &Context<B>,
        cache: DeviceTensor<B>,
        update: &Value<B>,
        axis: usize,
    ) -> Result<DeviceTensor<B>, OpError> {
        let part = narrow(ctx, update, 0, self.from, self.to)?;
        let part = narrow(ctx, &part, axis, self.source, self.source + self.count)?;
        let range = |(i, size): (usize, &usize)| match i {
            0 => Slice::from(self.from..self.to),
            _ if i == axis => Slice::from(self.target..self.target + self.count),
            _ => Slice::from(0..*size),
        };
        let slices: Vec<Slice> = cache.dims().iter().enumerate().map(range).collect();
        cache.slice_assign(&slices, part.into_device(ctx)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s, tensor};

    fn case(update: &[usize], starts: &[i64]) -> Case {
        let (cache, update) = (f32s(&[2, 3, 1], &[0.; 6]), counting(update));
        let starts = i64s(&[starts.len()], starts);
        Case::of("TensorScatter", [cache, update, starts]).opset(24)
    }

    #[test]
    fn each_example_is_written_at_its_own_place() {
        case(&[2, 1, 1], &[2, 0]).gives([f32s(&[2, 3, 1], &[0., 0., 1., 2., 0., 0.])]);
        case(&[2, 2, 1], &[1, 1]).gives([f32s(&[2, 3, 1], &[0., 1., 2., 0., 3., 4.])]);
        let cache = tensor(&[1, 2], &[7i32, 8]);
        Case::of("TensorScatter", [cache, tensor(&[1, 1], &[9i32])])
            .opset(24)
            .int("axis", 1)
            .gives([tensor(&[1, 2], &[9i32, 8])]);
    }

    #[test]
    fn a_circular_cache_wraps() {
        case(&[2, 2, 1], &[2, -1])
            .string("mode", "circular")
            .gives([f32s(&[2, 3, 1], &[2., 0., 1., 4., 0., 3.])]);
    }

    #[test]
    fn nothing_is_written_outside() {
        case(&[2, 2, 1], &[0, 2]).fails("index 2");
        case(&[2, 1, 1], &[0, -1]).fails("index -1");
        case(&[2, 1, 1], &[0, i64::MAX]).fails("size 3");
        case(&[2, 1, 1], &[0]).fails("the write indices");
        case(&[2, 4, 1], &[0, 0]).fails("does not fit the cache");
        case(&[1, 1, 1], &[0, 0]).fails("does not fit the cache");
        case(&[2, 1, 1], &[0, 0]).int("axis", 0).fails("does not fit the cache");
        case(&[2, 1, 1], &[0, 0]).string("mode", "spiral").fails("neither linear nor circular");
    }
}
