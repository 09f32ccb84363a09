//! Putting entries back to where windows took them from. Every place is written
//! by chance of the windows: the host computes.

use std::ops::Add;

use ingle_types::DType;

use super::pad::{Mode, nothing, pad};
use super::spatial::Window;
use super::{Args, Built, Registry, op};
use crate::context::Context;
use crate::dims::{product, to_sizes};
use crate::kernels::Kernels;
use crate::value::{Host, HostData, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("Col2Im", 18.., 3..=3, col2im);
    r.add("MaxUnpool", 9.., 2..=3, max_unpool);
}

fn col2im<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let window = Window::of(args)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let sizes = |value: Value<B>| to_sizes(&value.ints(ctx, "a shape")?, "a size");
        let (image, block) = (sizes(inputs.take(1)?)?, sizes(inputs.take(2)?)?);
        Ok(vec![fold(ctx, &window, &x, &image, &block)?])
    })
}

/// `x` is `[batch, channels * places of a block, blocks]`.
fn fold<B: Kernels>(
    ctx: &Context<B>,
    window: &Window,
    x: &Value<B>,
    image: &[usize],
    block: &[usize],
) -> Result<Value<B>, OpError> {
    let (dims, dtype) = (x.dims(), x.dtype());
    let taps = product(block)?;
    let placed = window.place(image, block)?;
    let blocks = product(&placed.out())?;
    let &[batch, rows, given] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the blocks", dims });
    };
    if taps == 0 || !rows.is_multiple_of(taps) || given != blocks {
        let what = "the blocks do not fit the image";
        return Err(OpError::Mismatch { what, left: dims, right: image.to_vec() });
    }
    let out = [&[batch, rows / taps][..], image].concat();
    ctx.admit(DType::F64, &out)?;
    ctx.admit(DType::F64, &dims)?;
    ctx.admit(DType::F64, &[2, taps, blocks])?;
    if out.contains(&0) {
        return Ok(Value::empty(dtype, out));
    }
    let mut targets = Vec::with_capacity(taps * blocks);
    for i in 0..taps * blocks {
        let (mut tap, mut at) = (i / blocks, i % blocks);
        let (mut target, mut stride) = (Some(0), 1);
        for axis in placed.axes.iter().rev() {
            let place = at % axis.out * axis.stride + tap % axis.kernel * axis.dilation;
            (tap, at) = (tap / axis.kernel, at / axis.out);
            let place = place.checked_sub(axis.begin).filter(|&place| place < axis.size);
            target = target.zip(place).map(|(target, place)| target + place * stride);
            stride *= axis.size;
        }
        targets.push(target);
    }
    let places = product(image)?;
    let host = x.to_host(ctx)?;
    Ok(match host.data() {
        HostData::Int(values) => {
            Host::ints(dtype, out, add_up(values, &targets, places, i64::wrapping_add))
        }
        HostData::Float(values) => {
            Host::floats(dtype, out, add_up(values, &targets, places, f64::add))
        }
        HostData::Text(_) => return Err(OpError::Unsupported { what: "a sum of strings" }),
    }
    .into())
}

/// Adds each run of values as long as `targets` into `places` entries.
fn add_up<T: Copy + Default>(
    values: &[T],
    targets: &[Option<usize>],
    places: usize,
    add: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut sums = Vec::with_capacity(values.len() / targets.len() * places);
    for run in values.chunks_exact(targets.len()) {
        let start = sums.len();
        sums.resize(start + places, T::default());
        for (&value, target) in run.iter().zip(targets) {
            if let Some(sum) = target.and_then(|target| sums.get_mut(start + target)) {
                *sum = add(*sum, value);
            }
        }
    }
    sums
}

/// The windows whose largest entries are put back.
struct Unpool {
    kernel: Vec<usize>,
    strides: Option<Vec<usize>>,
    pads: Option<Vec<usize>>,
}

fn max_unpool<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let name = "kernel_shape";
    let unpool = Unpool {
        kernel: args.sizes(name)?.ok_or(BuildError::Missing { name })?,
        strides: args.sizes("strides")?,
        pads: args.sizes("pads")?,
    };
    op(move |ctx, mut inputs| {
        let (x, indices) = (inputs.take(0)?, inputs.take(1)?);
        let dims = unpool.pooled_from(&x.dims())?;
        let unpooled = put_back(ctx, &x, &indices, dims.clone())?;
        let Some(shape) = inputs.take_opt(2) else { return Ok(vec![unpooled]) };
        let shape = to_sizes(&shape.ints(ctx, "the shape of the output")?, "a size")?;
        let fits = shape.len() == dims.len() && shape.iter().zip(&dims).all(|(s, d)| s >= d);
        if !fits {
            let what = "the output has no room for the windows";
            return Err(OpError::Mismatch { what, left: dims, right: shape });
        }
        let behind = shape.iter().zip(&dims).map(|(s, d)| i64::try_from(s - d).unwrap_or(i64::MAX));
        let pads: Vec<i64> = dims.iter().map(|_| 0).chain(behind).collect();
        let fill = nothing(unpooled.dtype());
        Ok(vec![pad(ctx, unpooled, &pads, None, (Mode::Constant, fill))?])
    })
}

impl Unpool {
    /// What dims were pooled, if no window was cut.
    fn pooled_from(&self, dims: &[usize]) -> Result<Vec<usize>, OpError> {
        let rank = self.kernel.len();
        let fail = || {
            let what = "the window does not fit the spatial dimensions";
            OpError::Mismatch { what, left: dims.to_vec(), right: self.kernel.clone() }
        };
        let fits = dims.len() == rank + 2
            && self.strides.as_ref().is_none_or(|strides| strides.len() == rank)
            && self.pads.as_ref().is_none_or(|pads| pads.len() == 2 * rank);
        if !fits {
            return Err(fail());
        }
        let at = |list: &Option<Vec<usize>>, i: usize, default: usize| {
            list.as_ref().and_then(|list| list.get(i).copied()).unwrap_or(default)
        };
        let size = |(i, (&size, &kernel)): (usize, (&usize, &usize))| {
            let steps = size.checked_sub(1)?.checked_mul(at(&self.strides, i, 1))?;
            let pads = at(&self.pads, i, 0).checked_add(at(&self.pads, rank + i, 0))?;
            steps.checked_add(kernel)?.checked_sub(pads)
        };
        let (front, sizes) = dims.split_at(2);
        let spatial: Option<Vec<usize>> =
            sizes.iter().zip(&self.kernel).enumerate().map(size).collect();
        Ok([front, &spatial.ok_or_else(fail)?].concat())
    }
}

/// Zeros of shape `dims`, in which each entry of `x` stands at its index.
fn put_back<B: Kernels>(
    ctx: &Context<B>,
    x: &Value<B>,
    indices: &Value<B>,
    dims: Vec<usize>,
) -> Result<Value<B>, OpError> {
    let dtype = x.dtype();
    if x.dims() != indices.dims() {
        let what = "one index is needed for each element";
        return Err(OpError::Mismatch { what, left: x.dims(), right: indices.dims() });
    }
    if !is_float(dtype) {
        let expected = "a float tensor";
        return Err(OpError::DType { what: "the operand", expected, given: dtype });
    }
    ctx.admit(DType::F64, &dims)?;
    ctx.admit(DType::F64, &x.dims())?;
    let size = product(&dims)?;
    let mut places = vec![0.0; size];
    let indices = indices.ints(ctx, "the indices")?;
    for (value, index) in x.to_host(ctx)?.to_f64().into_iter().zip(indices) {
        let place = usize::try_from(index).ok().and_then(|index| places.get_mut(index));
        *place.ok_or(OpError::Index { index, size })? = value;
    }
    Ok(Host::floats(dtype, dims, places).into())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    fn blocks(x: ingle_types::Tensor, image: &[i64], block: &[i64]) -> Case {
        let shapes = [i64s(&[image.len()], image), i64s(&[block.len()], block)];
        Case::of("Col2Im", [x].into_iter().chain(shapes)).opset(18)
    }

    #[test]
    fn blocks_overlap_and_add_up() {
        // Windows of two at 0 and 1: first entries 1, 2, then 3, 4.
        let x = counting(&[1, 2, 2]);
        blocks(x, &[1, 3], &[1, 2]).gives([f32s(&[1, 1, 1, 3], &[1., 5., 4.])]);
        blocks(counting(&[1, 2, 2]), &[2], &[2])
            .ints("pads", &[1, 0])
            .gives([f32s(&[1, 1, 2], &[5., 4.])]);
        blocks(i64s(&[1, 4, 1], &[1, 2, 3, 4]), &[3], &[2])
            .ints("dilations", &[2])
            .gives([i64s(&[1, 2, 3], &[1, 0, 2, 3, 0, 4])]);
    }

    #[test]
    fn blocks_must_fit_the_image() {
        let x = counting(&[1, 2, 2]);
        blocks(x.clone(), &[1, 4], &[1, 2]).fails("the blocks do not fit");
        blocks(x.clone(), &[1, 3], &[1, 3]).fails("the blocks do not fit");
        blocks(x.clone(), &[1, 3], &[1, 4]).fails("the window does not fit");
        blocks(x.clone(), &[1, 3], &[2]).fails("the window does not fit");
        blocks(x.clone(), &[1, -3], &[1, 2]).fails("a size cannot be -3");
        blocks(x.clone(), &[0, 3], &[0, 2]).fails("does not fit");
        blocks(x, &[i64::MAX, i64::MAX], &[1, 1]).fails("a tensor cannot be");
        blocks(counting(&[2, 2]), &[1, 3], &[1, 2]).fails("the blocks cannot be");
    }

    fn unpool() -> Case {
        let indices = i64s(&[1, 1, 1, 2], &[5, 3]);
        Case::of("MaxUnpool", [counting(&[1, 1, 1, 2]), indices])
            .ints("kernel_shape", &[2, 2])
            .ints("strides", &[2, 2])
    }

    #[test]
    fn entries_return_to_their_places() {
        let wanted = f32s(&[1, 1, 2, 4], &[0., 0., 0., 2., 0., 1., 0., 0.]);
        unpool().gives([wanted]);
        let indices = i64s(&[1, 1, 1], &[1]);
        Case::of("MaxUnpool", [counting(&[1, 1, 1]), indices, i64s(&[3], &[1, 1, 3])])
            .ints("kernel_shape", &[2])
            .gives([f32s(&[1, 1, 3], &[0., 1., 0.])]);
    }

    #[test]
    fn an_index_must_be_inside() {
        unpool().ints("pads", &[1, 0, 0, 1]).fails("index 5 is outside");
        unpool().ints("pads", &[2, 0, 1, 1]).fails("window does not fit");
        let (x, indices) = (counting(&[1, 1, 1]), i64s(&[1, 1, 1], &[-1]));
        Case::of("MaxUnpool", [x.clone(), indices.clone()])
            .ints("kernel_shape", &[2])
            .fails("index -1 is outside");
        Case::of("MaxUnpool", [x.clone(), indices, i64s(&[3], &[1, 1, 1])])
            .ints("kernel_shape", &[2])
            .fails("index -1");
        Case::of("MaxUnpool", [x.clone(), i64s(&[1, 1], &[0])])
            .ints("kernel_shape", &[2])
            .fails("one index is needed");
        Case::of("MaxUnpool", [x, i64s(&[1, 1, 1], &[0]), i64s(&[3], &[1, 1, 1])])
            .ints("kernel_shape", &[2])
            .fails("no room");
    }
}
