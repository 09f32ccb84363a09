//! Windows over signals, and filters over their frequencies.

use ingle_types::DType;

use super::fourier::size_of;
use super::{Args, Built, Registry, op};
use crate::kernels::Kernels;
use crate::literal::dtype_of;
use crate::value::{Host, Value, is_float};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("HannWindow", 17.., 1..=1, |a| window(a, |turn| 0.5 - 0.5 * turn.cos()));
    r.add("HammingWindow", 17.., 1..=1, |a| {
        window(a, |turn| 25.0 / 46.0 - 21.0 / 46.0 * turn.cos())
    });
    r.add("BlackmanWindow", 17.., 1..=1, |a| {
        window(a, |turn| 0.42 - 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
    });
    r.add("MelWeightMatrix", 17.., 5..=5, mel_weight_matrix);
}

fn output<B: Kernels>(args: &Args<'_, B>) -> Result<DType, BuildError> {
    let name = "output_datatype";
    let dtype = i32::try_from(args.int(name, 1)?).ok().and_then(dtype_of);
    dtype
        .filter(|&dtype| !matches!(dtype, DType::Bool | DType::Bytes))
        .ok_or(BuildError::Value { name, reason: "this element type is not supported" })
}

/// `shape` gives the height where a share of a turn, in radians, lies behind.
fn window<B: Kernels>(args: &Args<'_, B>, shape: fn(f64) -> f64) -> Built<B> {
    let (dtype, periodic) = (output(args)?, args.flag("periodic", true)?);
    op(move |ctx, mut inputs| {
        let value = inputs.take(0)?;
        let size = value.ints(ctx, "the size")?;
        if size == [0] {
            return Ok(vec![Value::empty(dtype, vec![0])]);
        }
        let size = size_of(ctx, &value, "the size")?;
        ctx.admit(DType::F64, &[size])?;
        // A window of one entry has its middle there.
        let period = if periodic { size } else { size - 1 };
        let at = |i: usize| match period {
            0 => 1.0,
            _ => shape(std::f64::consts::TAU * i as f64 / period as f64),
        };
        let heights = (0..size).map(at).collect();
        Ok(vec![Value::from(Host::floats(DType::F64, vec![size], heights)).cast(ctx, dtype)?])
    })
}

fn mel_weight_matrix<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let dtype = output(args)?;
    op(move |ctx, mut inputs| {
        let mut size = |i, what| size_of(ctx, &inputs.take(i)?, what);
        let bands = size(0, "the number of bands")?;
        let (length, rate) = (size(1, "the length of the transform")?, size(2, "the sample rate")?);
        let mut edge = |i| {
            let value = inputs.take(i)?;
            let given = value.dtype();
            if !is_float(given) {
                let expected = "a float tensor";
                return Err(OpError::DType { what: "a frequency", expected, given });
            }
            value.scalar(ctx, "a frequency")
        };
        let bins = length / 2 + 1;
        ctx.admit(DType::F64, &[bins, bands])?;
        ctx.admit(DType::F64, &[bands, 3])?;
        let edges = edges(bands, (length, rate), (edge(3)?, edge(4)?), bins)?;
        let weights = Host::floats(DType::F64, vec![bins, bands], triangles(&edges, bins, bands));
        Ok(vec![Value::from(weights).cast(ctx, dtype)?])
    })
}

/// The bins between which the bands lie, evenly spaced on the mel scale.
fn edges(
    bands: usize,
    (length, rate): (usize, usize),
    (low, high): (f64, f64),
    bins: usize,
) -> Result<Vec<usize>, OpError> {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let count = bands.saturating_add(2);
    let step = (mel(high) - mel(low)) / count as f64;
    let edge = |i: usize| {
        let hertz = 700.0 * (10f64.powf((i as f64 * step + mel(low)) / 2595.0) - 1.0);
        let bin = ((length as f64 + 1.0) * hertz / rate as f64).floor();
        let index = bin as i64;
        usize::try_from(index)
            .ok()
            .filter(|&place| place < bins && bin.is_finite())
            .ok_or(OpError::Index { index, size: bins })
    };
    (0..count).map(edge).collect()
}

/// A triangle over each three edges, of height one: `[bins, bands]`.
fn triangles(edges: &[usize], bins: usize, bands: usize) -> Vec<f64> {
    let mut weights = vec![0.0; bins.saturating_mul(bands)];
    for (band, edges) in edges.windows(3).enumerate() {
        let &[low, middle, high] = edges else { continue };
        let mut put = |bin: usize, weight: f64| {
            if let Some(slot) = weights.get_mut(bin * bands + band) {
                *slot = weight;
            }
        };
        let share = |part: usize, whole: usize| part as f64 / whole as f64;
        if low == middle {
            put(middle, 1.0);
        }
        for bin in low..=middle {
            if low < middle {
                put(bin, share(bin - low, middle - low));
            }
        }
        for bin in middle..high {
            put(bin, share(high - bin, high - middle));
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, i64s, tensor};

    fn window(operator: &str, size: i64) -> Case {
        Case::of(operator, [i64s(&[], &[size])])
    }

    #[test]
    fn windows_rise_and_fall() {
        window("HannWindow", 4).gives([f32s(&[4], &[0., 0.5, 1., 0.5])]);
        window("HannWindow", 3).int("periodic", 0).gives([f32s(&[3], &[0., 1., 0.])]);
        window("HammingWindow", 2).gives([f32s(&[2], &[4. / 46., 1.])]);
        window("BlackmanWindow", 4).gives([f32s(&[4], &[0., 0.34, 1., 0.34])]);
        window("BlackmanWindow", 1).int("periodic", 0).gives([f32s(&[1], &[1.])]);
        window("HannWindow", 2).int("output_datatype", 6).gives([tensor(&[2], &[0i32, 1])]);
        window("HannWindow", 0).gives([f32s(&[0], &[])]);
    }

    #[test]
    fn a_size_must_be_one() {
        window("HannWindow", -1).fails("the size cannot be -1");
        window("HannWindow", i64::MAX).fails("limit");
        window("HannWindow", 1).int("output_datatype", 8).fails("element type");
        Case::of("HannWindow", [i64s(&[2], &[1, 2])]).fails("the size cannot be");
    }

    fn mel(sizes: [i64; 3], edges: [f32; 2]) -> Case {
        let sizes = sizes.map(|v| i64s(&[], &[v]));
        let edges = edges.map(|v| f32s(&[], &[v]));
        Case::of("MelWeightMatrix", sizes.into_iter().chain(edges))
    }

    #[test]
    fn bands_are_triangles() {
        // onnxruntime's answer.
        let weights = [1., 0., 0.5, 0.5, 0., 1., 0., 0.5, 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.];
        mel([2, 16, 8000], [0., 4000.]).gives([f32s(&[9, 2], &weights)]);
    }

    #[test]
    fn frequencies_beyond_the_bins_are_refused() {
        mel([2, 8, 8000], [0., 40_000.]).fails("outside of a dimension of size 5");
        mel([2, 8, 8000], [f32::NAN, 1.]).fails("outside of a dimension of size 5");
        mel([2, 8, 8000], [-600., 1.]).fails("outside of a dimension of size 5");
        mel([0, 8, 8000], [0., 1.]).fails("the number of bands cannot be 0");
        mel([i64::MAX, 8, 8000], [0., 1.]).fails("limit");
        mel([1, i64::MAX, 8000], [0., 1.]).fails("limit");
        mel([2, 8, 8000], [3000., 10.])
            .gives([f32s(&[5, 2], &[0., 0., 0., 1., 0., 0., 0., 0., 0., 0.])]);
    }
}
