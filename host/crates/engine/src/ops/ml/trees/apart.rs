//! Reading the attributes that describe trees since version 5: branches, and leaves
//! apart from them.

use ingle_types::DType;

use super::ensemble::{Branch, LEAF, Mode, Parts, Rule};
use super::lists::{ints_of, missing_of, place, same_length};
use crate::BuildError;
use crate::kernels::Kernels;
use crate::ops::Args;
use crate::value::Host;

/// Also, whether there are 64-bit numbers.
pub(super) fn branches_and_leaves<B: Kernels>(
    args: &Args<'_, B>,
) -> Result<(Parts, bool), BuildError> {
    args.ignore("nodes_hitrates");
    let (modes, _) = required(args, "nodes_modes")?;
    let (splits, wide) = required(args, "nodes_splits")?;
    let count = modes.len();
    same_length("nodes_splits", splits.len(), count)?;
    let features = ints_of(args, "nodes_featureids", count)?;
    let yes = ways(args, ["nodes_truenodeids", "nodes_trueleafs"], count)?;
    let no = ways(args, ["nodes_falsenodeids", "nodes_falseleafs"], count)?;
    let mut branches = Vec::with_capacity(count);
    for ((&split, &feature), (yes, no)) in splits.iter().zip(features).zip(yes.into_iter().zip(no))
    {
        let feature = place("nodes_featureids", feature)?;
        branches.push(Branch { split, feature, yes, no });
    }
    let name = "tree_roots";
    let roots = args.ints(name)?.ok_or(BuildError::Missing { name })?;
    let roots = roots.iter().map(|&root| place(name, root)).collect::<Result<_, _>>()?;
    let (rules, sets) = rules_of(args, &modes)?;
    Ok((Parts { branches, rules, sets, roots, leaves: leaves(args)? }, wide))
}

fn numbers<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
) -> Result<Option<(Vec<f64>, bool)>, BuildError> {
    let Some(tensor) = args.tensor(name)? else { return Ok(None) };
    let what = "a list of this element type";
    let host = Host::from_tensor(tensor).ok_or(BuildError::Unsupported { what })?;
    Ok(Some((host.to_f64(), tensor.dtype() == DType::F64)))
}

fn required<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
) -> Result<(Vec<f64>, bool), BuildError> {
    numbers(args, name)?.ok_or(BuildError::Missing { name })
}

/// Where branches lead, and by a second list whether to leaves.
fn ways<B: Kernels>(
    args: &Args<'_, B>,
    [ids, leafs]: [&'static str; 2],
    count: usize,
) -> Result<Vec<u32>, BuildError> {
    let pairs = ints_of(args, ids, count)?.iter().zip(ints_of(args, leafs, count)?);
    let way = |(&id, &leaf): (&i64, &i64)| Ok(place(ids, id)? | if leaf == 0 { 0 } else { LEAF });
    pairs.map(way).collect()
}

/// One vote for each leaf.
fn leaves<B: Kernels>(args: &Args<'_, B>) -> Result<Vec<Vec<(u32, f64)>>, BuildError> {
    let (weights, _) = required(args, "leaf_weights")?;
    let targets = ints_of(args, "leaf_targetids", weights.len())?;
    let vote = |(&target, weight)| Ok(vec![(place("leaf_targetids", target)?, weight)]);
    targets.iter().zip(weights).map(vote).collect()
}

/// The rule of each branch, and the sets of those that ask for a member, in the
/// order of the branches.
fn rules_of<B: Kernels>(
    args: &Args<'_, B>,
    modes: &[f64],
) -> Result<(Vec<Rule>, Vec<Vec<f64>>), BuildError> {
    const MODES: [Mode; 7] =
        [Mode::Leq, Mode::Lt, Mode::Gte, Mode::Gt, Mode::Eq, Mode::Neq, Mode::Member];
    let missing = missing_of(args, modes.len())?;
    let name = "membership_values";
    let members = numbers(args, name)?.map(|(values, _)| values).unwrap_or_default();
    let mut sets: Vec<Vec<f64>> = members.split(|v| v.is_nan()).map(<[f64]>::to_vec).collect();
    // Each set ends with a NaN; behind the last there is nothing.
    if sets.last().is_some_and(Vec::is_empty) {
        sets.pop();
    }
    let mut asked = 0;
    let mut rule = |(&mode, &missing): (&f64, &bool)| {
        let known = MODES.get(mode as usize).filter(|_| mode >= 0.0);
        let reason = "no such mode";
        let mode = *known.ok_or(BuildError::Value { name: "nodes_modes", reason })?;
        let set = asked;
        asked += usize::from(mode == Mode::Member);
        Ok(Rule { set, ..Rule::new(mode, missing) })
    };
    let rules = modes.iter().zip(&missing).map(&mut rule).collect::<Result<_, BuildError>>()?;
    if asked != sets.len() {
        let reason = "not one set for each branch that asks for a member";
        return Err(BuildError::Value { name, reason });
    }
    Ok((rules, sets))
}
