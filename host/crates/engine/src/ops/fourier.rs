//! Fourier transforms. Short ones are products with a matrix, on the device; long
//! ones are computed by the host.

use ingle_types::DType;

use super::fft::Transform;
use super::gather::checked_indices;
use super::matmul::matmul;
use super::tensor::{narrow, permute};
use super::{Args, Built, Registry, op};
use crate::OpError;
use crate::context::Context;
use crate::dims::{axis_at, product};
use crate::kernels::Kernels;
use crate::value::{Host, Value, is_float};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("DFT", 17..=19, 1..=2, dft);
    r.add("DFT", 20.., 1..=3, dft);
    r.add("STFT", 17.., 2..=4, stft);
}

/// The longest transform that is a product with a matrix.
const LONGEST_MATRIX: usize = 1024;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Forward,
    /// Only the half of the frequencies that tells those of a real signal.
    Half,
    Inverse,
    /// From half of the frequencies to a real signal.
    ToReal,
}

fn dft<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let kind = match (args.flag("inverse", false)?, args.flag("onesided", false)?) {
        (false, false) => Kind::Forward,
        (false, true) => Kind::Half,
        (true, false) => Kind::Inverse,
        (true, true) => Kind::ToReal,
    };
    let axis = if args.opset() < 20 { args.int("axis", 1)? } else { -2 };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let length = inputs.take_opt(1).map(|v| size_of(ctx, &v, "the length")).transpose()?;
        let axis = match inputs.take_opt(2) {
            Some(axis) => axis.scalar(ctx, "the axis")? as i64,
            None => axis,
        };
        let rank = x.rank();
        let axis = axis_at(axis, rank)?;
        if axis + 1 == rank {
            return Err(OpError::Axis { axis: axis as i64, rank });
        }
        Ok(vec![along_axis(ctx, x, axis, length, kind)?])
    })
}

/// A positive size that a tensor tells.
pub(super) fn size_of<B: Kernels>(
    ctx: &Context<B>,
    value: &Value<B>,
    what: &'static str,
) -> Result<usize, OpError> {
    let ints = value.ints(ctx, what)?;
    let &[value] = ints.as_slice() else {
        return Err(OpError::Dims { what, dims: value.dims() });
    };
    usize::try_from(value).ok().filter(|&v| v > 0).ok_or(OpError::Value { what, value })
}

/// Transforms one axis of `[..., 1 or 2]`.
fn along_axis<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    axis: usize,
    length: Option<usize>,
    kind: Kind,
) -> Result<Value<B>, OpError> {
    let last = x.rank().saturating_sub(1);
    let mut order: Vec<usize> = (0..last).filter(|&a| a != axis).collect();
    order.extend([axis, last]);
    let mut back = vec![0; order.len()];
    for (place, &a) in order.iter().enumerate() {
        if let Some(slot) = back.get_mut(a) {
            *slot = place;
        }
    }
    let x = permute(ctx, x, &order)?;
    let dims = x.dims();
    let (&[ref front @ .., size, parts], dtype) = (dims.as_slice(), x.dtype()) else {
        return Err(OpError::Dims { what: "the signal", dims });
    };
    check_signal(dtype, &dims)?;
    let length = length.unwrap_or(match kind {
        Kind::ToReal => size.saturating_sub(1).saturating_mul(2),
        _ => size,
    });
    let answer = [front, &kind.answer(length)].concat();
    ctx.admit(DType::F64, &answer)?;
    if answer.contains(&0) {
        return permute(ctx, Value::empty(dtype, answer), &back);
    }
    let rows = product(front)?;
    let used = size.min(kind.used(length));
    if used == 0 {
        return Err(OpError::Dims { what: "the signal", dims });
    }
    let x = narrow(ctx, &x, front.len(), 0, used)?.reshape(vec![rows, used, parts]);
    let y = if length <= LONGEST_MATRIX {
        by_matrix(ctx, x, kind, length, None)?
    } else {
        on_host(ctx, &x, kind, length)?
    };
    permute(ctx, y.reshape(answer), &back)
}

fn check_signal(dtype: DType, dims: &[usize]) -> Result<(), OpError> {
    if !is_float(dtype) {
        let expected = "a float tensor";
        return Err(OpError::DType { what: "the signal", expected, given: dtype });
    }
    match dims.last() {
        Some(1 | 2) => Ok(()),
        _ => Err(OpError::Dims { what: "the signal", dims: dims.to_vec() }),
    }
}

impl Kind {
    /// The last two dims of what a transform of this length gives.
    fn answer(self, length: usize) -> [usize; 2] {
        match self {
            Self::Forward | Self::Inverse => [length, 2],
            Self::Half => [length / 2 + 1, 2],
            Self::ToReal => [length, 1],
        }
    }

    /// How many entries a transform of this length reads.
    fn used(self, length: usize) -> usize {
        if self == Self::ToReal { length / 2 + 1 } else { length }
    }
}

/// `x` is `[rows, entries, parts]`; the answer has the dims that [`Kind::answer`]
/// says, behind the rows. Each entry is multiplied by that of the window.
fn by_matrix<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    kind: Kind,
    length: usize,
    window: Option<&[f64]>,
) -> Result<Value<B>, OpError> {
    let (dims, dtype) = (x.dims(), x.dtype());
    let &[rows, entries, parts] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the signal", dims });
    };
    let [bins, out] = kind.answer(length);
    ctx.admit(DType::F64, &[entries, parts, bins, out])?;
    let mut matrix = Vec::with_capacity(entries * parts * bins * out);
    let turns = Turns::new(length);
    for entry in 0..entries {
        let weight = window.map_or(1.0, |window| window.get(entry).copied().unwrap_or_default());
        for part in 0..parts {
            let cell = |bin| turns.cell(kind, entry, bin, part == 1);
            for (re, im) in (0..bins).map(cell) {
                matrix.push(re * weight);
                if out == 2 {
                    matrix.push(im * weight);
                }
            }
        }
    }
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let matrix = Host::floats(wide, vec![entries * parts, bins * out], matrix);
    let x = x.cast(ctx, wide)?.reshape(vec![rows, entries * parts]);
    matmul(ctx, x, matrix.into())?.reshape(vec![rows, bins, out]).cast(ctx, dtype)
}

/// Cosine and sine of every share of a turn of the unit circle.
struct Turns {
    table: Vec<(f64, f64)>,
}

impl Turns {
    fn new(length: usize) -> Self {
        let angle = |i: usize| std::f64::consts::TAU * i as f64 / length as f64;
        let pair = |i: usize| (angle(i).cos(), angle(i).sin());
        Self { table: (0..length).map(pair).collect() }
    }

    /// What an entry, or its imaginary part, adds to the parts of a bin.
    fn cell(&self, kind: Kind, entry: usize, bin: usize, imaginary: bool) -> (f64, f64) {
        let length = self.table.len();
        let (cos, sin) = self.table.get(entry * bin % length).copied().unwrap_or_default();
        let (cos, sin) = match kind {
            Kind::Forward | Kind::Half => (cos, -sin),
            Kind::Inverse | Kind::ToReal => (cos / length as f64, sin / length as f64),
        };
        // The frequencies that are left out mirror those between the first and the last.
        let twice = kind == Kind::ToReal && entry > 0 && 2 * entry != length;
        let (cos, sin) = if twice { (2.0 * cos, 2.0 * sin) } else { (cos, sin) };
        if imaginary { (-sin, cos) } else { (cos, sin) }
    }
}

/// As [`by_matrix`], for lengths whose matrix would be too large.
fn on_host<B: Kernels>(
    ctx: &Context<B>,
    x: &Value<B>,
    kind: Kind,
    length: usize,
) -> Result<Value<B>, OpError> {
    let (dims, dtype) = (x.dims(), x.dtype());
    let &[rows, entries, parts] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the signal", dims });
    };
    let [bins, out] = kind.answer(length);
    ctx.admit(DType::F64, &dims)?;
    // The room of the transform itself, which is at most four times as long.
    ctx.admit(DType::F64, &[length, 16])?;
    let transform = Transform::new(length);
    let mut answer = Vec::with_capacity(rows * bins * out);
    for row in x.to_host(ctx)?.to_f64().chunks_exact(entries * parts) {
        let pair = |p: &[f64]| {
            (p.first().copied().unwrap_or_default(), p.get(1).copied().unwrap_or_default())
        };
        let mut signal: Vec<(f64, f64)> = row.chunks_exact(parts).map(pair).collect();
        if kind == Kind::ToReal {
            mirror(&mut signal, length);
        }
        signal.resize(length, (0.0, 0.0));
        let inverse = matches!(kind, Kind::Inverse | Kind::ToReal);
        let bins = transform.run(&signal, inverse).into_iter().take(bins);
        answer.extend(bins.flat_map(|(re, im)| [re, im].into_iter().take(out)));
    }
    Ok(Host::floats(dtype, vec![rows, bins, out], answer).into())
}

/// Adds the frequencies that a real signal need not tell.
fn mirror(half: &mut Vec<(f64, f64)>, length: usize) {
    half.resize(length / 2 + 1, (0.0, 0.0));
    // These two have no imaginary part, whatever is told.
    for i in [Some(0), length.is_multiple_of(2).then_some(length / 2)].into_iter().flatten() {
        if let Some(value) = half.get_mut(i) {
            value.1 = 0.0;
        }
    }
    let rest: Vec<_> = (length / 2 + 1..length)
        .filter_map(|i| half.get(length - i).map(|&(re, im)| (re, -im)))
        .collect();
    half.extend(rest);
}

fn stft<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let kind = if args.flag("onesided", true)? { Kind::Half } else { Kind::Forward };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?;
        let step = size_of(ctx, &inputs.take(1)?, "the step of the frames")?;
        let window = inputs.take_opt(2);
        let length = inputs.take_opt(3);
        let length = length.map(|v| size_of(ctx, &v, "the length of a frame")).transpose()?;
        Ok(vec![frames(ctx, x, window, (step, length), kind)?])
    })
}

/// Transforms frames of `[batch, entries, 1 or 2]`, each a step behind the one before.
fn frames<B: Kernels>(
    ctx: &Context<B>,
    x: Value<B>,
    window: Option<Value<B>>,
    (step, length): (usize, Option<usize>),
    kind: Kind,
) -> Result<Value<B>, OpError> {
    let (dims, dtype) = (x.dims(), x.dtype());
    check_signal(dtype, &dims)?;
    let &[batch, entries, parts] = dims.as_slice() else {
        return Err(OpError::Dims { what: "the signal", dims });
    };
    let given = window.as_ref().map(Value::elements);
    let length = length.or(given).unwrap_or(entries);
    if length == 0 || length > entries || given.is_some_and(|given| given != length) {
        let what = "the frames do not fit the signal or the window";
        let right = [&[length][..], given.as_slice()].concat();
        return Err(OpError::Mismatch { what, left: dims, right });
    }
    let window = match window {
        Some(window) if window.dtype() != dtype => {
            return Err(OpError::DTypes { left: dtype, right: window.dtype() });
        }
        Some(window) => Some(window.to_host(ctx)?.to_f64()),
        None => None,
    };
    let count = (entries - length) / step + 1;
    let [bins, out] = kind.answer(length);
    let answer = vec![batch, count, bins, out];
    ctx.admit(DType::F64, &answer)?;
    ctx.admit(DType::F64, &[batch, count, length, parts])?;
    if batch == 0 {
        return Ok(Value::empty(dtype, answer));
    }
    let starts = (0..count).map(|frame| frame * step);
    let places = starts.flat_map(|start| (start..start + length).map(|place| place as i64));
    let places: Value<B> = Host::ints(DType::I64, vec![count * length], places.collect()).into();
    let places = checked_indices(ctx, places, entries)?;
    let framed = x.into_device(ctx)?.select(1, places);
    let framed = Value::from(framed.reshape(&[batch * count, length, parts]));
    Ok(by_matrix(ctx, framed, kind, length, window.as_deref())?.reshape(answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Case, counting, f32s, i64s};
    use ingle_types::Tensor;

    fn case(x: Tensor) -> Case {
        Case::of("DFT", [x])
    }

    #[test]
    fn real_and_complex_signals_are_transformed() {
        let x = counting(&[1, 4, 1]);
        case(x.clone()).gives([f32s(&[1, 4, 2], &[10., 0., -2., 2., -2., 0., -2., -2.])]);
        case(x).int("onesided", 1).gives([f32s(&[1, 3, 2], &[10., 0., -2., 2., -2., 0.])]);
        let z = f32s(&[1, 4, 2], &[10., 0., -2., 2., -2., 0., -2., -2.]);
        case(z).int("inverse", 1).gives([f32s(&[1, 4, 2], &[1., 0., 2., 0., 3., 0., 4., 0.])]);
        let half = f32s(&[1, 3, 2], &[10., 9., -2., 2., -2., 9.]);
        let back = case(half).int("inverse", 1).int("onesided", 1);
        back.gives([f32s(&[1, 4, 1], &[1., 2., 3., 4.])]);
    }

    #[test]
    fn any_axis_but_the_last_and_any_length() {
        let x = counting(&[2, 1, 1]);
        case(x.clone()).int("axis", 0).gives([f32s(&[2, 1, 2], &[3., 0., -1., 0.])]);
        Case::of("DFT", [x.clone(), i64s(&[], &[0])])
            .without(1)
            .opset(20)
            .gives([f32s(&[2, 1, 2], &[3., 0., -1., 0.])]);
        let length = |n: i64| Case::of("DFT", [counting(&[1, 3, 1]), i64s(&[], &[n])]);
        length(2).gives([f32s(&[1, 2, 2], &[3., 0., -1., 0.])]);
        length(4).gives([f32s(&[1, 4, 2], &[6., 0., -2., -2., 2., 0., -2., 2.])]);
        length(0).fails("the length cannot be 0");
        length(i64::MAX).fails("limit");
        case(x).int("axis", 2).fails("axis 2 is outside");
        case(counting(&[1, 2, 3])).fails("the signal cannot be");
        case(i64s(&[1, 1, 1], &[1])).fails("the signal must be");
    }

    #[test]
    fn the_host_and_the_matrix_agree() {
        let ctx = Context::<burn_flex::Flex>::new(Default::default(), &Default::default());
        for (length, parts) in [(8, 1), (8, 2), (12, 2), (7, 2), (9, 1), (1, 2), (2, 2)] {
            for kind in [Kind::Forward, Kind::Half, Kind::Inverse, Kind::ToReal] {
                let used = kind.used(length);
                let values: Vec<f64> =
                    (0..2 * used * parts).map(|i| (i * 7 % 11) as f64 - 4.0).collect();
                let x: Value<_> = Host::floats(DType::F64, vec![2, used, parts], values).into();
                let numbers = |y: Value<_>| y.to_host(&ctx).unwrap().to_f64();
                let one = numbers(by_matrix(&ctx, x.clone(), kind, length, None).unwrap());
                let other = numbers(on_host(&ctx, &x, kind, length).unwrap());
                assert_eq!(one.len(), other.len());
                let near = one.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-9);
                assert!(near, "{length} {parts}: {one:?} {other:?}");
            }
        }
    }

    #[test]
    fn long_transforms_are_right() {
        let length = 3000;
        let at = |i: usize, k: f64| (std::f64::consts::TAU * k * i as f64 / 3000.).cos() as f32;
        let values: Vec<f32> = (0..length).map(|i| at(i, 5.0)).collect();
        let mut wanted = vec![0.0f32; 1501 * 2];
        wanted[10] = 1500.0;
        // Each number of the signal is rounded to a float, so zeros are not quite zeros.
        let spectrum = Case::of("DFT", [f32s(&[1, length, 1], &values)]).int("onesided", 1);
        let given = spectrum.answer();
        let given = given.as_slice::<f32>().unwrap();
        assert_eq!(given.len(), wanted.len());
        assert!(given.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-3));
    }

    #[test]
    fn frames_overlap_and_are_weighted() {
        let signal = counting(&[1, 4, 1]);
        let stft = |x: Tensor, step: i64| [x, i64s(&[], &[step])];
        Case::of("STFT", stft(signal.clone(), 1).into_iter().chain([i64s(&[], &[2])]))
            .without(2)
            .gives([f32s(&[1, 3, 2, 2], &[3., 0., -1., 0., 5., 0., -1., 0., 7., 0., -1., 0.])]);
        Case::of("STFT", stft(signal.clone(), 2).into_iter().chain([f32s(&[2], &[1., 2.])]))
            .gives([f32s(&[1, 2, 2, 2], &[5., 0., -3., 0., 11., 0., -5., 0.])]);
        let case = |step, length| {
            let inputs = stft(signal.clone(), step).into_iter().chain([i64s(&[], &[length])]);
            Case::of("STFT", inputs).without(2)
        };
        case(0, 2).fails("the step of the frames cannot be 0");
        case(1, 5).fails("the frames do not fit");
        case(1, -1).fails("cannot be -1");
        Case::of("STFT", stft(signal.clone(), 1).into_iter().chain([i64s(&[2], &[1, 2])]))
            .fails("float and int64");
        Case::of("STFT", stft(counting(&[4, 1]), 1)).fails("the signal cannot be");
    }
}
