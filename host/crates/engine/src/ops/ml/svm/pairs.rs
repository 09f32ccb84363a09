//! Support vector machines for pairs of classes, and what their decisions say of
//! all classes together.

use super::super::dot;
use super::super::scores::{Transform, largest, logistic};
use crate::BuildError;

/// One decision for each pair of classes.
pub(super) struct Pairs {
    /// How many support vectors each class has.
    pub(super) supports: Vec<usize>,
    /// `[classes - 1, vectors]`, in libsvm's arrangement.
    pub(super) coefficients: Vec<f32>,
    pub(super) rho: Vec<f32>,
    /// Platt's A and B of each pair, where probabilities are wanted.
    pub(super) sigmoid: Vec<(f32, f32)>,
}

impl Pairs {
    pub(super) fn check(&self, classes: usize, vectors: usize) -> Result<(), BuildError> {
        if self.supports.len() != classes {
            let reason = "not one for each class";
            return Err(BuildError::Value { name: "vectors_per_class", reason });
        }
        if (classes - 1).checked_mul(vectors) != Some(self.coefficients.len()) {
            let reason = "not one for each support vector and other class";
            return Err(BuildError::Value { name: "coefficients", reason });
        }
        let pairs = classes * (classes - 1) / 2;
        if !self.sigmoid.is_empty() && self.sigmoid.len() < pairs {
            let reason = "not one for each pair of classes";
            return Err(BuildError::Value { name: "prob_a", reason });
        }
        Ok(())
    }

    /// The place of the winning class, and the scores that are answered.
    pub(super) fn decide(&self, kernels: &[f32], transform: Transform) -> (usize, Vec<f32>) {
        let classes = self.supports.len();
        let (mut votes, mut scores) = (vec![0f32; classes], Vec::new());
        for (index, (i, j)) in pairs_of(classes).enumerate() {
            let score = self.score(kernels, index, i, j);
            if let Some(votes) = votes.get_mut(if score > 0. { i } else { j }) {
                *votes += 1.;
            }
            scores.push(score as f32);
        }
        if !self.sigmoid.is_empty() {
            scores = self.probabilities(&scores, classes);
            transform.apply(&mut scores);
        } else if let &[score] = scores.as_slice() {
            scores = two_scores(transform, score);
        } else {
            transform.apply(&mut scores);
        }
        (largest(&votes), scores)
    }

    /// How much class `i` is preferred to class `j`: each one's support vectors,
    /// with their coefficients against the other.
    fn score(&self, kernels: &[f32], pair: usize, i: usize, j: usize) -> f64 {
        let vectors = kernels.len();
        let part = |class: usize, row: usize| -> f64 {
            let start: usize = self.supports.iter().take(class).sum();
            let end = start + self.supports.get(class).copied().unwrap_or_default();
            let coefficients = self.coefficients.get(row * vectors..).unwrap_or_default();
            let coefficients = coefficients.get(start..end).unwrap_or_default();
            let kernels = kernels.get(start..end).unwrap_or_default();
            coefficients.iter().zip(kernels).map(|(c, k)| f64::from(c * k)).sum()
        };
        let rho = self.rho.get(pair).copied().unwrap_or_default();
        part(i, j - 1) + part(j, i) + f64::from(rho)
    }

    /// Of each class, from the scores of the pairs.
    fn probabilities(&self, scores: &[f32], classes: usize) -> Vec<f32> {
        const LEAST: f32 = 1e-7;
        let mut wins = vec![0f32; classes * classes];
        for (((i, j), score), (a, b)) in pairs_of(classes).zip(scores).zip(&self.sigmoid) {
            let win = (1. - logistic(score * a + b)).clamp(LEAST, 1. - LEAST);
            for (place, value) in [(i * classes + j, win), (j * classes + i, 1. - win)] {
                if let Some(cell) = wins.get_mut(place) {
                    *cell = value;
                }
            }
        }
        coupled(&wins, classes)
    }
}

/// Every two classes, in the order in which libsvm compares them.
fn pairs_of(classes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..classes).flat_map(move |i| (i + 1..classes).map(move |j| (i, j)))
}

/// The scores of two classes from the one that separates them, which is positive
/// for the first; in ONNX Runtime's order and signs.
fn two_scores(transform: Transform, score: f32) -> Vec<f32> {
    match transform {
        Transform::None => vec![-score, score],
        Transform::Logistic => vec![logistic(-score), logistic(score)],
        _ => vec![1. - score, score],
    }
}

/// Probabilities that agree best with those of all pairs: the second method of
/// Wu, Lin and Weng, "Probability estimates for multi-class classification by
/// pairwise coupling" (2004), with libsvm's bounds on the search. `wins` holds at
/// `[i, j]` how likely i is if it is one of i and j.
fn coupled(wins: &[f32], classes: usize) -> Vec<f32> {
    const ROUNDS: usize = 100;
    let at = |i: usize, j: usize| wins.get(i * classes + j).copied().unwrap_or_default();
    let q: Vec<Vec<f32>> = (0..classes)
        .map(|i| {
            let cell = |j: usize| match i == j {
                true => (0..classes).filter(|&k| k != i).map(|k| at(k, i) * at(k, i)).sum(),
                false => -at(j, i) * at(i, j),
            };
            (0..classes).map(cell).collect()
        })
        .collect();
    let mut p = vec![1. / classes as f32; classes];
    for _ in 0..ROUNDS {
        let mut qp: Vec<f32> = q.iter().map(|row| dot(row, &p)).collect();
        let mut pqp = dot(&p, &qp);
        let error = qp.iter().map(|v| (v - pqp).abs()).fold(0., f32::max);
        if error < 0.005 / classes as f32 {
            break;
        }
        for (i, row) in q.iter().enumerate() {
            let (own, weight) =
                (qp.get(i).copied().unwrap_or_default(), row.get(i).copied().unwrap_or(1.));
            let step = (pqp - own) / weight;
            if let Some(p) = p.get_mut(i) {
                *p += step;
            }
            let scale = 1. + step;
            pqp = (pqp + step * (step * weight + 2. * own)) / scale / scale;
            for ((qp, q), p) in qp.iter_mut().zip(row).zip(&mut p) {
                *qp = (*qp + step * q) / scale;
                *p /= scale;
            }
        }
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_of_pairs_are_coupled() {
        let p = coupled(&[0., 0.7, 0.3, 0.], 2);
        assert!((p[0] - 0.7).abs() < 5e-3 && (p[1] - 0.3).abs() < 5e-3, "{p:?}");
        let equal = coupled(&[0., 0.5, 0.5, 0.5, 0., 0.5, 0.5, 0.5, 0.], 3);
        assert_eq!(equal, [1. / 3.; 3]);
    }
}
