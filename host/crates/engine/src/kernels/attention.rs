//! From scores to weights on the CPU: one pass over each row while it is in the
//! cache, where Burn's kernels would take five over all of them.

use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

/// The weights, in the scores' own memory; `None` where the tensors are of a kind
/// that this does not know.
pub(super) fn weights(
    scores: &mut FlexTensor,
    scale: f64,
    bias: Option<&FlexTensor>,
) -> Option<()> {
    let dims: [usize; 4] = sizes(scores.layout().shape())?;
    let (start, end) = scores.layout().contiguous_offsets()?;
    let floats = |t: &FlexTensor| t.dtype() == DType::F32;
    if !floats(scores) || !bias.is_none_or(floats) {
        return None;
    }
    let bias = bias.map(|bias| Some((sizes(bias.layout().shape())?, bias.to_contiguous())));
    let bias = match bias {
        Some(bias) => Some(bias?),
        None => None,
    };
    let bias = bias.as_ref().map(|(given, bias)| Bias::new(bias.storage(), *given, dims));
    let rows = scores.storage_mut::<f32>().get_mut(start..end)?;
    let columns = dims.last().copied().filter(|&columns| columns > 0)?;
    for (i, row) in rows.chunks_exact_mut(columns).enumerate() {
        match &bias {
            Some(bias) => weigh(row, scale as f32, bias.row(i)),
            None => weigh(row, scale as f32, BiasRow::None),
        }
    }
    Some(())
}

fn sizes(shape: &Shape) -> Option<[usize; 4]> {
    shape.to_vec().try_into().ok()
}

/// What is added to scores of other dims.
struct Bias<'a> {
    values: &'a [f32],
    /// How many rows each head, and each example, has.
    rows: usize,
    heads: usize,
    /// How far apart rows, heads and examples of the bias are; zero where it has one.
    steps: [usize; 3],
    /// How many columns it has; one or as many as the scores.
    columns: usize,
}

enum BiasRow<'a> {
    None,
    Same(f32),
    Each(&'a [f32]),
}

impl<'a> Bias<'a> {
    fn new(values: &'a [f32], given: [usize; 4], [_, heads, rows, _]: [usize; 4]) -> Self {
        let [b, h, r, c] = given;
        let step = |size: usize, step: usize| if size == 1 { 0 } else { step };
        let steps = [step(r, c), step(h, r * c), step(b, h * r * c)];
        Self { values, rows, heads, steps, columns: c }
    }

    /// What is added to row `i` of the scores.
    fn row(&self, i: usize) -> BiasRow<'a> {
        let (row, head) = (i % self.rows, i / self.rows % self.heads);
        let example = i / self.rows / self.heads;
        let [by_row, by_head, by_example] = self.steps;
        let from = row * by_row + head * by_head + example * by_example;
        match self.values.get(from..from + self.columns) {
            Some(&[value]) => BiasRow::Same(value),
            Some(values) => BiasRow::Each(values),
            None => BiasRow::None,
        }
    }
}

/// How many numbers are reduced beside each other.
const LANES: usize = 16;

fn weigh(row: &mut [f32], scale: f32, bias: BiasRow<'_>) {
    match bias {
        BiasRow::None => row.iter_mut().for_each(|x| *x *= scale),
        BiasRow::Same(bias) => row.iter_mut().for_each(|x| *x = *x * scale + bias),
        BiasRow::Each(bias) => {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x = *x * scale + bias);
        }
    }
    let largest = reduce(row, f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    for x in row.iter_mut() {
        *x = exp(*x - largest);
    }
    let factor = reduce(row, 0.0, |a, b| a + b).recip();
    for x in row {
        *x *= factor;
    }
}

fn reduce(row: &[f32], first: f32, fold: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [first; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = fold(*lane, x);
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(first, fold)
}

/// e to a power that is not above zero, within two units in the last place; zero
/// below -87, where the last normal number is near. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding this rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LEAST: f32 = -87.0;
    let bounded = if x < LEAST { LEAST } else { x };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts, so that the rest is exact.
    let rest = bounded - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut sum = 1.987_569_2e-4;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = sum * rest + factor;
    }
    let power = sum * (rest * rest) + rest + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < LEAST { 0.0 } else { power * scale }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn tensor(dims: [usize; 4], seed: usize) -> FlexTensor {
        let count: usize = dims.iter().product();
        let values: Vec<f32> =
            (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 * 0.1 - 5.0).collect();
        FlexTensor::from_data(TensorData::new(values, dims))
    }

    #[test]
    fn powers_are_exact_to_six_digits() {
        for i in 0..87_000 {
            let x = i as f32 * -0.001;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "{x}");
        }
        assert_eq!((exp(f32::NEG_INFINITY), exp(-1000.0), exp(0.0)), (0.0, 0.0, 1.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn rows_weigh_one_with_every_kind_of_bias() {
        let dims = [2, 3, 4, 37];
        let original = tensor(dims, 0);
        for given in [[2, 3, 4, 37], [1, 1, 4, 37], [2, 1, 1, 37], [1, 3, 1, 1], [2, 3, 4, 1]] {
            let bias = tensor(given, 5);
            let mut scores = tensor(dims, 0);
            weights(&mut scores, 0.5, Some(&bias)).unwrap();
            let given_at = |at: [usize; 4]| {
                let place =
                    given.iter().zip(at).fold(0, |p, (&d, i)| p * d + if d == 1 { 0 } else { i });
                f64::from(bias.storage::<f32>()[place])
            };
            for (i, row) in scores.storage::<f32>().chunks(37).enumerate() {
                let at = |c: usize| [i / 12, i / 4 % 3, i % 4, c];
                let score = |c: usize| {
                    let x = f64::from(original.storage::<f32>()[i * 37 + c]);
                    (x * 0.5 + given_at(at(c))).exp()
                };
                let sum: f64 = (0..37).map(score).sum();
                for (c, &weight) in row.iter().enumerate() {
                    assert!((f64::from(weight) - score(c) / sum).abs() < 1e-6, "{given:?} {i} {c}");
                }
            }
        }
    }

    #[test]
    fn what_is_hidden_weighs_nothing() {
        let values = [1.0, f32::NEG_INFINITY, 1.0, f32::NAN];
        let mut scores = FlexTensor::from_data(TensorData::new(values.to_vec(), [1, 1, 2, 2]));
        weights(&mut scores, 1.0, None).unwrap();
        let weights = scores.storage::<f32>();
        assert_eq!(weights[..2], [1.0, 0.0]);
        assert!(weights[2].is_nan() && weights[3].is_nan());
    }
}
