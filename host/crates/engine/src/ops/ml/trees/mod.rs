//! Ensembles of decision trees: forests and boosted trees.
//!
//! A model's lists are checked once, while it is loaded; then a row walks without
//! recursion, and no list can send it in a circle.

mod apart;
mod classifier;
mod ensemble;
mod lists;

use std::sync::OnceLock;

use half::f16;
use ingle_types::{DType, Tensor};

use self::apart::branches_and_leaves;
use self::ensemble::{Ensemble, Parts, Real};
use self::lists::{Votes, nodes_and_votes, reals};
use super::scores::Transform;
use super::{DOMAIN, doubles, output, rows_of, singles};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::ops::{Args, Built, Registry, op};
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "TreeEnsembleRegressor", 1.., 1..=1, regressor);
    r.add_in(DOMAIN, "TreeEnsembleClassifier", 1.., 1..=1, classifier::build);
    r.add_in(DOMAIN, "TreeEnsemble", 5.., 1..=1, tree_ensemble);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Aggregate {
    Average,
    Sum,
    Min,
    Max,
}

/// Checked trees, in the precision that the model has and, once features are
/// wider, in theirs.
struct Trees {
    single: Option<Ensemble<f32>>,
    double: OnceLock<Ensemble<f64>>,
    /// How many features a row must have.
    features: usize,
    targets: usize,
}

/// `[rows, targets]`.
struct Scores {
    values: Vec<f64>,
    /// Which of them a leaf has voted for.
    seen: Vec<bool>,
    rows: usize,
}

impl Trees {
    fn new((parts, wide): (Parts, bool), targets: usize) -> Result<Self, BuildError> {
        parts.check(targets)?;
        let double = OnceLock::new();
        let single = if wide {
            double.get_or_init(|| parts.ensemble());
            None
        } else {
            Some(parts.ensemble())
        };
        Ok(Self { single, double, features: parts.features(), targets })
    }

    fn scores<B: Kernels>(
        &self,
        ctx: &Context<B>,
        x: &Tensor,
        aggregate: Aggregate,
    ) -> Result<Scores, OpError> {
        let [rows, columns] = rows_of(x.dims())?;
        if columns < self.features {
            let (left, right) = (x.dims().to_vec(), vec![self.features]);
            return Err(OpError::Mismatch { what: "fewer features than asked for", left, right });
        }
        ctx.admit(DType::F64, &[rows, self.targets])?;
        let shape = [rows, columns];
        match &self.single {
            Some(trees) if x.dtype() != DType::F64 => {
                Ok(self.tally(trees, &singles(x)?, shape, aggregate))
            }
            single => {
                let widen = || single.as_ref().map(Ensemble::widened).unwrap_or_default();
                let trees = self.double.get_or_init(widen);
                Ok(self.tally(trees, &doubles(x)?, shape, aggregate))
            }
        }
    }

    /// Adds votes up, in the trees' precision.
    fn tally<T: Real>(
        &self,
        trees: &Ensemble<T>,
        x: &[T],
        [rows, columns]: [usize; 2],
        aggregate: Aggregate,
    ) -> Scores {
        let count = rows.saturating_mul(self.targets);
        let (mut values, mut seen) = (vec![T::default(); count], vec![false; count]);
        let mut merge = |row: usize, target: usize, new: &dyn Fn(T, bool) -> T| {
            let place = row * self.targets + target;
            if let (Some(value), Some(seen)) = (values.get_mut(place), seen.get_mut(place)) {
                *value = new(*value, std::mem::replace(seen, true));
            }
        };
        match aggregate {
            Aggregate::Sum | Aggregate::Average => {
                trees.vote(x, columns, &mut |row, target, w| merge(row, target, &|v, _| v + w));
            }
            Aggregate::Min => trees.vote(x, columns, &mut |row, target, w| {
                merge(row, target, &|v, seen| if seen && v <= w { v } else { w });
            }),
            Aggregate::Max => trees.vote(x, columns, &mut |row, target, w| {
                merge(row, target, &|v, seen| if seen && v >= w { v } else { w });
            }),
        }
        let divisor = if aggregate == Aggregate::Average { trees.trees().max(1) } else { 1 };
        let values = values.into_iter().map(|v| v.into() / divisor as f64).collect();
        Scores { values, seen, rows }
    }
}

impl Scores {
    /// One value for each target is added to every row.
    fn add(&mut self, base: &[f64]) {
        for row in self.values.chunks_exact_mut(base.len().max(1)) {
            row.iter_mut().zip(base).for_each(|(value, base)| *value += base);
        }
    }

    fn transformed(&self, targets: usize, transform: Transform) -> Vec<f32> {
        let mut scores: Vec<f32> = self.values.iter().map(|&v| v as f32).collect();
        if transform != Transform::None {
            scores.chunks_exact_mut(targets).for_each(|row| transform.apply(row));
        }
        scores
    }
}

/// What is added to each target: nothing, or one value for each.
fn base_values<B: Kernels>(args: &Args<'_, B>, targets: usize) -> Result<Vec<f64>, BuildError> {
    let name = "base_values";
    let base = reals(args, name, "base_values_as_tensor")?.values;
    if base.is_empty() || base.len() == targets {
        return Ok(base);
    }
    Err(BuildError::Value { name, reason: "not one for each target" })
}

fn targets_of<B: Kernels>(args: &Args<'_, B>) -> Result<usize, BuildError> {
    let reason = "not a number of targets";
    usize::try_from(args.int("n_targets", 1)?)
        .ok()
        .filter(|targets| (1..1 << 31).contains(targets))
        .ok_or(BuildError::Value { name: "n_targets", reason })
}

fn regressor<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let transform = Transform::read(args)?;
    let aggregate = match &*args.string("aggregate_function", "SUM")? {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        _ => return Err(no_such_aggregate()),
    };
    let targets = targets_of(args)?;
    let votes = Votes {
        trees: "target_treeids",
        nodes: "target_nodeids",
        targets: "target_ids",
        weights: "target_weights",
        weights_tensor: "target_weights_as_tensor",
    };
    let trees = Trees::new(nodes_and_votes(args, &votes)?, targets)?;
    let base = base_values(args, targets)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let mut scores = trees.scores(ctx, &x, aggregate)?;
        scores.add(&base);
        let dims = [scores.rows, targets];
        Ok(vec![output(ctx, &dims, &scores.transformed(targets, transform))?])
    })
}

fn no_such_aggregate() -> BuildError {
    BuildError::Value { name: "aggregate_function", reason: "no such function" }
}

fn tree_ensemble<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let transform = match args.int("post_transform", 0)? {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        _ => return Err(Transform::unknown()),
    };
    let aggregate = match args.int("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        _ => return Err(no_such_aggregate()),
    };
    let targets = targets_of(args)?;
    let trees = Trees::new(branches_and_leaves(args)?, targets)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let scores = trees.scores(ctx, &x, aggregate)?;
        Ok(vec![in_type(ctx, x.dtype(), &scores, targets, transform)?])
    })
}

/// The scores in the type of the features.
fn in_type<B: Kernels>(
    ctx: &Context<B>,
    dtype: DType,
    scores: &Scores,
    targets: usize,
    transform: Transform,
) -> Result<Value<B>, OpError> {
    let dims = [scores.rows, targets];
    if dtype == DType::F64 && transform == Transform::None {
        return output(ctx, &dims, &scores.values);
    }
    let values = scores.transformed(targets, transform);
    match dtype {
        DType::F64 => output(ctx, &dims, &values.into_iter().map(f64::from).collect::<Vec<_>>()),
        DType::F16 => {
            output(ctx, &dims, &values.into_iter().map(f16::from_f32).collect::<Vec<_>>())
        }
        _ => output(ctx, &dims, &values),
    }
}

#[cfg(test)]
mod tests;
