//! Classes from the scores of trees.

use std::collections::HashSet;

use ingle_types::DType;

use super::super::scores::{Labels, Transform, logistic};
use super::ensemble::Parts;
use super::lists::{Votes, nodes_and_votes, reals};
use super::{Aggregate, Scores, Trees, base_values, output};
use crate::BuildError;
use crate::kernels::Kernels;
use crate::ops::{Args, Built, op};

const VOTES: Votes = Votes {
    trees: "class_treeids",
    nodes: "class_nodeids",
    targets: "class_ids",
    weights: "class_weights",
    weights_tensor: "class_weights_as_tensor",
};

pub(super) fn build<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.makes_outputs(2);
    let labels = Labels::read(args, "classlabels_int64s", "classlabels_strings")?;
    let transform = Transform::read(args)?;
    let (parts, wide) = nodes_and_votes(args, &VOTES)?;
    let classes = labels.len();
    let verdict = Verdict::read(args, &parts, classes)?;
    let trees = Trees::new((parts, wide), classes)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let mut scores = trees.scores(ctx, &x, Aggregate::Sum)?;
        let dims = [scores.rows, classes];
        ctx.admit(DType::F32, &dims)?;
        let (places, scores) = verdict.pass(&mut scores, classes, transform);
        Ok(vec![labels.pick(ctx, &places)?, output(ctx, &dims, &scores)?])
    })
}

/// How scores become a class.
enum Verdict {
    /// The highest score wins.
    Highest { base: Vec<f64> },
    /// Of two classes only one is voted for: the second wins where the sum is above
    /// a half or, where there are negative weights, above zero.
    Threshold { voted: usize, base: f64, at: f64 },
}

impl Verdict {
    fn read<B: Kernels>(
        args: &Args<'_, B>,
        parts: &Parts,
        classes: usize,
    ) -> Result<Self, BuildError> {
        let votes = || parts.leaves.iter().flatten();
        let voted: HashSet<u32> = votes().map(|vote| vote.0).collect();
        let base = reals(args, "base_values", "base_values_as_tensor")?.values;
        match (voted.iter().next(), base.as_slice()) {
            (Some(&voted_class), [] | [_]) if classes == 2 && voted.len() == 1 => {
                let all_positive = votes().all(|&(_, weight)| weight >= 0.);
                // The one base value is the first class's.
                let base = base.first().copied().filter(|_| voted_class == 0).unwrap_or_default();
                let at = if all_positive { 0.5 } else { 0. };
                Ok(Self::Threshold { voted: voted_class as usize, base, at })
            }
            _ => Ok(Self::Highest { base: base_values(args, classes)? }),
        }
    }

    /// The place of each row's class, and the scores that are answered.
    fn pass(
        &self,
        scores: &mut Scores,
        classes: usize,
        transform: Transform,
    ) -> (Vec<usize>, Vec<f32>) {
        match self {
            Self::Highest { base } => {
                scores.add(base);
                if !base.is_empty() {
                    scores.seen.fill(true);
                }
                let rows = scores.values.chunks_exact(classes);
                let places = rows.zip(scores.seen.chunks_exact(classes)).map(highest).collect();
                (places, scores.transformed(classes, transform))
            }
            Self::Threshold { voted, base, at } => {
                let sums: Vec<f64> = scores
                    .values
                    .chunks_exact(classes)
                    .map(|row| row.get(*voted).copied().unwrap_or_default() + base)
                    .collect();
                let places = sums.iter().map(|&sum| usize::from(sum > *at)).collect();
                if *voted == 1 {
                    return (places, scores.transformed(classes, transform));
                }
                let both = |&sum: &f64| two_scores(sum as f32, *at > 0., transform);
                (places, sums.iter().flat_map(both).collect())
            }
        }
    }
}

/// The place of the highest score that was voted for, the first of several.
fn highest((row, seen): (&[f64], &[bool])) -> usize {
    let mut best: Option<(usize, f64)> = None;
    for (place, (&score, _)) in row.iter().zip(seen).enumerate().filter(|(_, (_, seen))| **seen) {
        if best.is_none_or(|(_, most)| score > most) {
            best = Some((place, score));
        }
    }
    best.map_or(0, |(place, _)| place)
}

/// The scores of two classes from the sum that decides between them.
fn two_scores(sum: f32, is_probability: bool, transform: Transform) -> [f32; 2] {
    match transform {
        Transform::Logistic => [logistic(-sum), logistic(sum)],
        Transform::Probit => {
            let mut both = [1. - sum, sum];
            transform.apply(&mut both);
            both
        }
        _ if is_probability => [1. - sum, sum],
        _ => [-sum, sum],
    }
}
