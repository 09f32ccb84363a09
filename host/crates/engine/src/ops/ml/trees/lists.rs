//! Reading the attributes that describe trees in the first versions: nodes, of
//! which some are leaves, and votes at them.

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

/// A list that must have `count` numbers.
pub(super) fn ints_of<'a, B: Kernels>(
    args: &Args<'a, B>,
    name: &'static str,
    count: usize,
) -> Result<&'a [i64], BuildError> {
    let values = args.ints(name)?.unwrap_or_default();
    same_length(name, values.len(), count)?;
    Ok(values)
}

pub(super) fn same_length(
    name: &'static str,
    given: usize,
    wanted: usize,
) -> Result<(), BuildError> {
    if given == wanted {
        return Ok(());
    }
    Err(BuildError::Value { name, reason: "not as long as the lists beside it" })
}

/// A number of a node, leaf or feature, which must leave room for the leaf bit.
pub(super) fn place(name: &'static str, value: i64) -> Result<u32, BuildError> {
    u32::try_from(value)
        .ok()
        .filter(|v| v & LEAF == 0)
        .ok_or(BuildError::Value { name, reason: "a number is negative or too large" })
}

pub(super) fn missing_of<B: Kernels>(
    args: &Args<'_, B>,
    count: usize,
) -> Result<Vec<bool>, BuildError> {
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
/// nodes, and what `votes` names. Also, whether there are 64-bit numbers.
pub(super) fn nodes_and_votes<B: Kernels>(
    args: &Args<'_, B>,
    votes: &Votes,
) -> Result<(Parts, bool), BuildError> {
    for known in ["nodes_hitrates", "nodes_hitrates_as_tensor"] {
        args.ignore(known);
    }
    let modes = args.texts("nodes_modes")?.unwrap_or_default();
    let modes = modes.iter().map(|mode| mode_of(mode)).collect::<Result<Vec<_>, _>>()?;
    let trees = ints_of(args, "nodes_treeids", modes.len())?;
    let nodes = ints_of(args, "nodes_nodeids", modes.len())?;
    let (places, roots, leaves) = places_of(trees.iter().zip(nodes), &modes)?;
    let leaves = vec![vec![]; leaves];
    let mut parts = Parts { branches: vec![], rules: vec![], sets: vec![], roots, leaves };
    let wide_splits = add_branches(args, trees, &modes, &places, &mut parts)?;
    let wide_votes = votes.add(args, &places, &mut parts)?;
    Ok((parts, wide_splits || wide_votes))
}

/// Adds the nodes that are no leaves; says whether their thresholds are wide.
fn add_branches<B: Kernels>(
    args: &Args<'_, B>,
    trees: &[i64],
    modes: &[Option<Mode>],
    places: &Places,
    parts: &mut Parts,
) -> Result<bool, BuildError> {
    let count = modes.len();
    let yes = ints_of(args, "nodes_truenodeids", count)?;
    let no = ints_of(args, "nodes_falsenodeids", count)?;
    let features = ints_of(args, "nodes_featureids", count)?;
    let splits = reals(args, "nodes_values", "nodes_values_as_tensor")?;
    same_length("nodes_values", splits.values.len(), count)?;
    let missing = missing_of(args, count)?;
    let ways = trees.iter().zip(yes).zip(no);
    let tests = features.iter().zip(&splits.values).zip(missing);
    for ((mode, ((&tree, &yes), &no)), ((&feature, &split), missing)) in
        modes.iter().zip(ways).zip(tests)
    {
        let Some(mode) = *mode else { continue };
        let to = |node: i64| places.get(&(tree, node)).copied().ok_or_else(nowhere);
        let feature = place("nodes_featureids", feature)?;
        parts.branches.push(Branch { split, feature, yes: to(yes)?, no: to(no)? });
        parts.rules.push(Rule::new(mode, missing));
    }
    Ok(splits.wide)
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
fn places_of<'a>(
    ids: impl Iterator<Item = (&'a i64, &'a i64)>,
    modes: &[Option<Mode>],
) -> Result<(Places, Vec<u32>, usize), BuildError> {
    let (mut places, mut roots) = (HashMap::new(), Vec::new());
    let mut started = std::collections::HashSet::new();
    let (mut branches, mut leaves) = (0, 0);
    for ((&tree, &node), mode) in ids.zip(modes) {
        let (count, leaf) = if mode.is_some() { (&mut branches, 0) } else { (&mut leaves, LEAF) };
        let at = leaf | place("nodes_nodeids", *count)?;
        *count += 1;
        if places.insert((tree, node), at).is_some() {
            return Err(BuildError::Value { name: "nodes_nodeids", reason: "a node is twice" });
        }
        if started.insert(tree) {
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
