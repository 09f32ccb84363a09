//! What classifiers and regressors do with scores: a transform, and a label.

use bytes::Bytes;

use crate::context::Context;
use crate::kernels::Kernels;
use crate::ops::Args;
use crate::value::{Host, Value};
use crate::{BuildError, OpError};
use ingle_types::DType;

/// What becomes of a row of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    pub(super) fn read<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        Ok(match &*args.string("post_transform", "NONE")? {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            _ => return Err(Self::unknown()),
        })
    }

    pub(super) fn unknown() -> BuildError {
        BuildError::Value { name: "post_transform", reason: "no such transform" }
    }

    /// A single score is left alone, as ONNX Runtime does, except by the probit.
    pub(super) fn apply(self, row: &mut [f32]) {
        match self {
            Self::Probit => row.iter_mut().for_each(|v| *v = probit(*v)),
            _ if row.len() < 2 => {}
            Self::None => {}
            Self::Softmax => softmax(row),
            Self::Logistic => row.iter_mut().for_each(|v| *v = logistic(*v)),
            Self::SoftmaxZero => softmax_zero(row),
        }
    }
}

pub(super) fn logistic(v: f32) -> f32 {
    let positive = 1. / (1. + (-v.abs()).exp());
    if v < 0. { 1. - positive } else { positive }
}

fn probit(v: f32) -> f32 {
    std::f32::consts::SQRT_2 * erf_inverse(2. * v - 1.)
}

/// Winitzki's approximation, as in ONNX Runtime.
fn erf_inverse(x: f32) -> f32 {
    const A: f32 = 0.147;
    let sign = if x < 0. { -1. } else { 1. };
    let log = ((1. - x) * (1. + x)).ln();
    let v = 2. / (std::f32::consts::PI * A) + 0.5 * log;
    sign * ((v * v - log / A).sqrt() - v).sqrt()
}

fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::MIN, f32::max);
    row.iter_mut().for_each(|v| *v = (*v - most).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|v| *v /= sum);
}

/// A softmax in which scores of zero stay zero.
fn softmax_zero(row: &mut [f32]) {
    const ZERO: f32 = 1e-7;
    let most = row.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.;
    for v in row.iter_mut() {
        if v.abs() > ZERO {
            *v = (*v - most).exp();
            sum += *v;
        } else {
            *v *= (-most).exp();
        }
    }
    row.iter_mut().for_each(|v| *v /= sum);
}

/// The place of the largest score, the first of several.
pub(super) fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (place, score) in row.iter().enumerate() {
        if row.get(best).is_some_and(|best| score > best) {
            best = place;
        }
    }
    best
}

/// The classes of a classifier.
#[derive(Debug)]
pub(super) enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<Bytes>),
}

impl Labels {
    /// By the names of the two attributes, one of which must be given.
    pub(super) fn read<B: Kernels>(
        args: &Args<'_, B>,
        ints: &'static str,
        texts: &'static str,
    ) -> Result<Self, BuildError> {
        match (args.ints(ints)?, args.texts(texts)?) {
            (_, Some(texts)) if !texts.is_empty() => Ok(Self::Texts(texts.to_vec())),
            (Some(ints), _) if !ints.is_empty() => Ok(Self::Ints(ints.to_vec())),
            _ => Err(BuildError::Missing { name: ints }),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Texts(labels) => labels.len(),
        }
    }

    /// The labels at `places`, one for each row, as a tensor of rank 1.
    pub(super) fn pick<B: Kernels>(
        &self,
        ctx: &Context<B>,
        places: &[usize],
    ) -> Result<Value<B>, OpError> {
        let dims = vec![places.len()];
        let place = places.iter();
        Ok(match self {
            Self::Ints(labels) => {
                ctx.admit(DType::I64, &dims)?;
                let values = place.map(|&p| labels.get(p).copied().unwrap_or_default()).collect();
                Host::ints(DType::I64, dims, values).into()
            }
            Self::Texts(labels) => {
                ctx.admit(DType::Bytes, &dims)?;
                let values = place.map(|&p| labels.get(p).cloned().unwrap_or_default()).collect();
                Host::text(dims, values).into()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transformed(transform: Transform, row: &[f32]) -> Vec<f32> {
        let mut row = row.to_vec();
        transform.apply(&mut row);
        row
    }

    #[test]
    fn scores_become_probabilities() {
        let near = |given: Vec<f32>, wanted: &[f32]| {
            assert_eq!(given.len(), wanted.len());
            for (given, wanted) in given.iter().zip(wanted) {
                assert!((given - wanted).abs() < 1e-6, "{given} instead of {wanted}");
            }
        };
        let row = [0.3, 0.08, 0.14];
        near(transformed(Transform::Softmax, &row), &[0.3766957, 0.30230537, 0.3209989]);
        near(transformed(Transform::Logistic, &row), &[0.5744425, 0.5199893, 0.5349429]);
        near(transformed(Transform::Probit, &row), &[-0.5244459, -1.4051672, -1.0805041]);
        near(transformed(Transform::SoftmaxZero, &[0.1, 0., 0.]), &[1., 0., 0.]);
        near(transformed(Transform::Logistic, &[0.3]), &[0.3]);
        near(transformed(Transform::Probit, &[0.3]), &[-0.5244459]);
    }

    #[test]
    fn the_first_of_the_largest_wins() {
        assert_eq!(largest(&[1., 3., 3.]), 1);
        assert_eq!(largest(&[f32::NAN, 3.]), 0);
        assert_eq!(largest(&[]), 0);
    }
}
