//! Reading the attributes that describe trees, in both of their forms.

use std::collections::HashMap;

use super::ensemble::{Branch, LEAF, Mode, Parts, Rule};
use crate::BuildError;
use crate::kernels::Kernels;
use crate::ops::Args;
use crate::value::Host;

/// Numbers of an attribute, which may be given as a tensor of more precise ones.
pub(super) struct Reals {
    pub(super) values: Vec<f64>,
    pub(super) wide: bool,
}

pub(super) fn reals<B: Kernels>(
    args: &Args<'_, B>,
    name: &'static str,
    tensor: &'static str,
) -> Result<Reals, BuildError> {
    if let Some(tensor) = args.tensor(tensor)? {
        let wide = tensor.dtype() == ingle_types::DType::F64;
        let what = "a list of this element type";
        let host = Host::from_tensor(tensor).ok_or(BuildError::Unsupported { what })?;
        return Ok(Reals { values: host.to_f64(), wide });
    }
    let values = args.floats(name)?.unwrap_or_default();
    Ok(Reals { values: values.iter().map(|&v| v.into()).collect(), wide: false })
}

fn same_length(name: &'static str, given: usize, wanted: usize) -> Result<(), BuildError> {
    if given == wanted {
        return Ok(());
    }
    Err(BuildError::Value { name, reason: "not as long as the lists beside it" })
}

/// A number of a node, leaf or feature, which must leave room for the leaf bit.
fn place(name: &'static str, value: i64) -> Result<u32, BuildError> {
    u32::try_from(value)
        .ok()
        .filter(|v| v & LEAF == 0)
        .ok_or(BuildError::Value { name, reason: "a number is negative or too large" })
}

fn missing_of<B: Kernels>(args: &Args<'_, B>, count: usize) -> Result<Vec<bool>, BuildError> {
    let name = "nodes_missing_value_tracks_true";
    match args.ints(name)? {
        None | Some([]) => Ok(vec![false; count]),
        Some(values) => {
            same_length(name, values.len(), count)?;
            Ok(values.iter().map(|&v| v != 0).collect())
        }
    }
}

/// How a node, named by tree and node, is spelled as a place.
type Places = HashMap<(i64, i64), u32>;

/// The lists of TreeEnsembleClassifier and TreeEnsembleRegressor, whose leaves are
/// nodes; `prefix_*` names what the leaves vote for. Also, whether they are wide.
pub(super) fn nodes_and_votes<B: Kernels>(
    args: &Args<'_, B>,
    votes: &Votes,
) -> Result<(Parts, bool), BuildError> {
    for known in ["nodes_hitrates", "nodes_hitrates_as_tensor"] {
        args.ignore(known);
    }
    let list = |name| Ok::<_, BuildError>(args.ints(name)?.unwrap_or_default());
    let modes = args.texts("nodes_modes")?.unwrap_or_default();
    let count = modes.len();
    let (trees, nodes) = (list("nodes_treeids")?, list("nodes_nodeids")?);
    let (yes, no) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
    let features = list("nodes_featureids")?;
    let splits = reals(args, "nodes_values", "nodes_values_as_tensor")?;
    same_length("nodes_treeids", trees.len(), count)?;
    same_length("nodes_nodeids", nodes.len(), count)?;
    same_length("nodes_truenodeids", yes.len(), count)?;
    same_length("nodes_falsenodeids", no.len(), count)?;
    same_length("nodes_featureids", features.len(), count)?;
    same_length("nodes_values", splits.values.len(), count)?;
    let missing = missing_of(args, count)?;
    let modes = modes.iter().map(|mode| mode_of(mode)).collect::<Result<Vec<_>, _>>()?;
    let ids = trees.iter().copied().zip(nodes.iter().copied());
    let (places, roots, leaves) = places_of(ids, &modes)?;
    let mut parts = Parts {
        branches: vec![],
        rules: vec![],
        sets: vec![],
        roots,
        leaves: vec![vec![]; leaves],
    };
    let ways = trees.iter().zip(yes).zip(no);
    let rest = features.iter().zip(&splits.values).zip(&missing);
    for ((mode, ((tree, yes), no)), ((feature, split), missing)) in modes.iter().zip(ways).zip(rest)
    {
        let Some(mode) = *mode else { continue };
        let to = |node: i64| places.get(&(*tree, node)).copied().ok_or_else(nowhere);
        let (yes, no) = (to(*yes)?, to(*no)?);
        let feature = place("nodes_featureids", *feature)?;
        parts.branches.push(Branch { split: *split, feature, yes, no });
        parts.rules.push(Rule::new(mode, *missing));
    }
    let wide = votes.add(args, &places, &mut parts)?;
    Ok((parts, wide || splits.wide))
}

fn nowhere() -> BuildError {
    BuildError::Value { name: "nodes_truenodeids", reason: "it leads to no node" }
}

/// `None` = a leaf.
fn mode_of(name: &[u8]) -> Result<Option<Mode>, BuildError> {
    Ok(Some(match name {
        b"LEAF" => return Ok(None),
        b"BRANCH_LEQ" => Mode::Leq,
        b"BRANCH_LT" => Mode::Lt,
        b"BRANCH_GTE" => Mode::Gte,
        b"BRANCH_GT" => Mode::Gt,
        b"BRANCH_EQ" => Mode::Eq,
        b"BRANCH_NEQ" => Mode::Neq,
        _ => return Err(BuildError::Value { name: "nodes_modes", reason: "no such mode" }),
    }))
}

/// Where each node is, where each tree begins (with its first node), and how many
/// leaves there are.
fn places_of(
    ids: impl Iterator<Item = (i64, i64)>,
    modes: &[Option<Mode>],
) -> Result<(Places, Vec<u32>, usize), BuildError> {
    let (mut places, mut roots) = (HashMap::new(), Vec::new());
    let mut started = std::collections::HashSet::new();
    let (mut branches, mut leaves) = (0, 0);
    for (id, mode) in ids.zip(modes) {
        let (count, leaf) = if mode.is_some() { (&mut branches, 0) } else { (&mut leaves, LEAF) };
        let at = leaf | place("nodes_nodeids", *count)?;
        *count += 1;
        if places.insert(id, at).is_some() {
            return Err(BuildError::Value { name: "nodes_nodeids", reason: "a node is twice" });
        }
        if started.insert(id.0) {
            roots.push(at);
        }
    }
    Ok((places, roots, usize::try_from(leaves).unwrap_or_default()))
}

/// The names of the attributes that say what leaves vote for.
pub(super) struct Votes {
    pub(super) trees: &'static str,
    pub(super) nodes: &'static str,
    pub(super) targets: &'static str,
    pub(super) weights: &'static str,
    pub(super) weights_tensor: &'static str,
}

impl Votes {
    /// Hands the votes to the leaves; says whether the weights are wide. Votes at
    /// branches count for nothing.
    fn add<B: Kernels>(
        &self,
        args: &Args<'_, B>,
        places: &Places,
        parts: &mut Parts,
    ) -> Result<bool, BuildError> {
        let list = |name| Ok::<_, BuildError>(args.ints(name)?.unwrap_or_default());
        let (trees, nodes, targets) = (list(self.trees)?, list(self.nodes)?, list(self.targets)?);
        let weights = reals(args, self.weights, self.weights_tensor)?;
        same_length(self.nodes, nodes.len(), trees.len())?;
        same_length(self.targets, targets.len(), trees.len())?;
        same_length(self.weights, weights.values.len(), trees.len())?;
        let ids = trees.iter().zip(nodes);
        for ((id, &target), &weight) in ids.zip(targets).zip(&weights.values) {
            let id = (*id.0, *id.1);
            let reason = "no such node";
            let at = places.get(&id).ok_or(BuildError::Value { name: self.nodes, reason })?;
            let leaf = parts.leaves.get_mut((at ^ LEAF) as usize).filter(|_| at & LEAF != 0);
            let target = place(self.targets, target)?;
            if let Some(leaf) = leaf {
                leaf.push((target, weight));
            }
        }
        Ok(weights.wide)
    }
}

/// The lists of TreeEnsemble, whose leaves are listed apart from its branches.
pub(super) fn branches_and_leaves<B: Kernels>(
    args: &Args<'_, B>,
) -> Result<(Parts, bool), BuildError> {
    args.ignore("nodes_hitrates");
    let list = |name| args.ints(name)?.ok_or(BuildError::Missing { name });
    let numbers = |name: &'static str| {
        let tensor = args.tensor(name)?.ok_or(BuildError::Missing { name })?;
        let what = "a list of this element type";
        let host = Host::from_tensor(tensor).ok_or(BuildError::Unsupported { what })?;
        Ok((host.to_f64(), tensor.dtype() == ingle_types::DType::F64))
    };
    let ((splits, wide), (modes, _)) = (numbers("nodes_splits")?, numbers("nodes_modes")?);
    let (weights, _) = numbers("leaf_weights")?;
    let (features, targets) = (list("nodes_featureids")?, list("leaf_targetids")?);
    let (yes, yes_leafs) = (list("nodes_truenodeids")?, list("nodes_trueleafs")?);
    let (no, no_leafs) = (list("nodes_falsenodeids")?, list("nodes_falseleafs")?);
    let count = modes.len();
    same_length("nodes_splits", splits.len(), count)?;
    same_length("nodes_featureids", features.len(), count)?;
    same_length("nodes_truenodeids", yes.len(), count)?;
    same_length("nodes_trueleafs", yes_leafs.len(), count)?;
    same_length("nodes_falsenodeids", no.len(), count)?;
    same_length("nodes_falseleafs", no_leafs.len(), count)?;
    same_length("leaf_weights", weights.len(), targets.len())?;
    let ways = |name: &'static str, ids: &[i64], leafs: &[i64]| {
        let way =
            |(&id, &leaf): (&i64, &i64)| Ok(place(name, id)? | if leaf == 0 { 0 } else { LEAF });
        ids.iter().zip(leafs).map(way).collect::<Result<Vec<_>, BuildError>>()
    };
    let yes = ways("nodes_truenodeids", yes, yes_leafs)?;
    let no = ways("nodes_falsenodeids", no, no_leafs)?;
    let features = features.iter().map(|&f| place("nodes_featureids", f));
    let features = features.collect::<Result<Vec<_>, _>>()?;
    let branches = splits.iter().zip(features).zip(yes.into_iter().zip(no));
    let vote =
        |(&target, &weight): (&i64, &f64)| Ok(vec![(place("leaf_targetids", target)?, weight)]);
    let roots = list("tree_roots")?.iter().map(|&root| place("tree_roots", root));
    let (rules, sets) = rules_of(args, &modes)?;
    let parts = Parts {
        branches: branches
            .map(|((&split, feature), (yes, no))| Branch { split, feature, yes, no })
            .collect(),
        rules,
        sets,
        roots: roots.collect::<Result<_, _>>()?,
        leaves: targets.iter().zip(&weights).map(vote).collect::<Result<_, BuildError>>()?,
    };
    Ok((parts, wide))
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
    let mut sets: Vec<Vec<f64>> = match args.tensor(name)? {
        None => vec![],
        Some(tensor) => {
            let what = "a list of this element type";
            let host = Host::from_tensor(tensor).ok_or(BuildError::Unsupported { what })?;
            host.to_f64().split(|v| v.is_nan()).map(<[f64]>::to_vec).collect()
        }
    };
    // Each set ends with a NaN; behind the last there is nothing.
    if sets.last().is_some_and(Vec::is_empty) {
        sets.pop();
    }
    let mut members = 0;
    let mut rule = |(&mode, &missing): (&f64, &bool)| {
        let known = MODES.get(mode as usize).filter(|_| mode >= 0.0);
        let reason = "no such mode";
        let mode = *known.ok_or(BuildError::Value { name: "nodes_modes", reason })?;
        let set = members;
        members += usize::from(mode == Mode::Member);
        Ok(Rule { set, ..Rule::new(mode, missing) })
    };
    let rules = modes.iter().zip(&missing).map(&mut rule).collect::<Result<_, BuildError>>()?;
    if members != sets.len() {
        let reason = "not one set for each branch that asks for a member";
        return Err(BuildError::Value { name, reason });
    }
    Ok((rules, sets))
}
