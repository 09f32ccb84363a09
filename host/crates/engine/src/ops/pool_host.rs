//! Pooling that no backend knows: the largest entries over any number of axes,
//! with their places.

use ingle_types::DType;

use super::spatial::Placed;
use crate::OpError;
use crate::context::Context;
use crate::dims::product;
use crate::kernels::Kernels;
use crate::value::{DeviceTensor, Host, Value};

/// The largest entry of each window of `[batch, channels, sizes...]` and its place
/// in the whole operand. `column_major`: the first spatial axis varies fastest.
/// Where there are several, the first one; NaN is larger than any number.
pub(super) fn largest_on_host<B: Kernels>(
    ctx: &Context<B>,
    x: DeviceTensor<B>,
    placed: &Placed,
    column_major: bool,
) -> Result<(DeviceTensor<B>, DeviceTensor<B>), OpError> {
    let (dims, dtype) = (x.dims(), x.dtype());
    let lead = dims.get(..2).unwrap_or_default();
    let out = [lead, &placed.out()].concat();
    ctx.admit(DType::F64, &dims)?;
    ctx.admit(DType::F64, &out)?;
    let windows = windows(ctx, placed, column_major)?;
    let plane = product(dims.get(2..).unwrap_or_default())?;
    let x = Value::from(x).to_host(ctx)?.to_f64();
    let count = product(&out)?;
    let (mut largest, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (i, entries) in x.chunks_exact(plane.max(1)).enumerate() {
        for window in &windows {
            let mut best = (f64::NEG_INFINITY, None);
            for &(place, index) in window {
                let value = entries.get(place).copied().unwrap_or(f64::NEG_INFINITY);
                let better = value > best.0 || value.is_nan() && !best.0.is_nan();
                if better || best.1.is_none() {
                    best = (value, Some(index));
                }
            }
            largest.push(best.0);
            places.push((i * plane + best.1.unwrap_or_default()) as i64);
        }
    }
    let largest = Host::floats(dtype, out.clone(), largest);
    let places = Host::ints(DType::I64, out, places);
    Ok((DeviceTensor::upload_host(ctx, &largest)?, DeviceTensor::upload_host(ctx, &places)?))
}

/// For each window, the entries of a plane that it sees, in their order, and the
/// numbers that the answer knows them by.
fn windows<B: Kernels>(
    ctx: &Context<B>,
    placed: &Placed,
    column_major: bool,
) -> Result<Vec<Vec<(usize, usize)>>, OpError> {
    let (out, taps) = (placed.out(), placed.axes.iter().map(|axis| axis.kernel));
    let taps: Vec<usize> = taps.collect();
    ctx.admit(DType::F64, &[&out[..], &taps, &[2]].concat())?;
    let (count, taps) = (product(&out)?, product(&taps)?);
    let sizes = placed.axes.iter().map(|axis| axis.size);
    let plane: usize = sizes.product();
    let entry = |window: usize, tap: usize| {
        let (mut window, mut tap) = (window, tap);
        let (mut place, mut stride) = (0, 1);
        let (mut index, mut behind) = (0, plane);
        for axis in placed.axes.iter().rev() {
            let at = window % axis.out * axis.stride + tap % axis.kernel * axis.dilation;
            (window, tap) = (window / axis.out, tap / axis.kernel);
            let at = at.checked_sub(axis.begin).filter(|&at| at < axis.size)?;
            behind /= axis.size;
            place += at * stride;
            index += at * if column_major { behind } else { stride };
            stride *= axis.size;
        }
        Some((place, index))
    };
    let window = |window| (0..taps).filter_map(|tap| entry(window, tap)).collect();
    Ok((0..count).map(window).collect())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, counting, f32s, i64s};

    #[test]
    fn three_axes_have_places() {
        let case = || {
            Case::of("MaxPool", [counting(&[1, 2, 2, 1, 3])])
                .ints("kernel_shape", &[1, 1, 2])
                .ints("strides", &[1, 1, 2])
                .ints("pads", &[0, 0, 1, 0, 0, 0])
        };
        let values = f32s(&[1, 2, 2, 1, 2], &[1., 3., 4., 6., 7., 9., 10., 12.]);
        let places = i64s(&[1, 2, 2, 1, 2], &[0, 2, 3, 5, 6, 8, 9, 11]);
        case().gives([values.clone(), places]);
        let places = i64s(&[1, 2, 2, 1, 2], &[0, 4, 1, 5, 6, 10, 7, 11]);
        case().int("storage_order", 1).gives([values, places]);
    }
}
