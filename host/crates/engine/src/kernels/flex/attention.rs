//! From scores to weights on the CPU: one pass over each row while it is in the
//! cache, where Burn's kernels would take five over all of them.

use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};

use super::elementwise::softmax_row;
use super::simd::dispatch;
use super::team;

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
    let (some, scale) = (team::SHARE.div_ceil(columns), scale as f32);
    let parts = rows.chunks_mut(some * columns).zip((0..).step_by(some));
    let bias = bias.as_ref();
    team::for_each(parts, |(rows, first)| dispatch(Rows { rows, columns, first, scale, bias }));
    Some(())
}

/// Some rows of scores.
struct Rows<'a> {
    rows: &'a mut [f32],
    columns: usize,
    /// The number of the first one.
    first: usize,
    scale: f32,
    bias: Option<&'a Bias<'a>>,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { rows, columns, first, scale, bias } = self;
        for (row, i) in rows.chunks_exact_mut(columns).zip(first..) {
            match bias.map_or(BiasRow::None, |bias| bias.row(i)) {
                BiasRow::None => row.iter_mut().for_each(|x| *x *= scale),
                BiasRow::Same(bias) => row.iter_mut().for_each(|x| *x = *x * scale + bias),
                BiasRow::Each(bias) => {
                    row.iter_mut().zip(bias).for_each(|(x, bias)| *x = *x * scale + bias);
                }
            }
            softmax_row(row);
        }
    }
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
