//! Trees as flat arrays, and the walk from their roots to their leaves.

use std::ops::Add;

use crate::BuildError;

/// A place with this bit is a leaf's; others are branches'.
pub(super) const LEAF: u32 = 1 << 31;
/// Walks that are under way at once, so that one's memory access hides another's.
const LANES: usize = 8;
/// Rows that pass one tree before the next tree is fetched from memory.
const BLOCK: usize = 256;

/// What a threshold and a feature are: 32 or 64 bits.
pub(super) trait Real:
    Copy + PartialOrd + Default + Add<Output = Self> + Into<f64> + Send + Sync + 'static
{
    fn of(v: f64) -> Self;
    fn is_missing(self) -> bool;
}

impl Real for f32 {
    fn of(v: f64) -> Self {
        v as Self
    }
    fn is_missing(self) -> bool {
        self.is_nan()
    }
}

impl Real for f64 {
    fn of(v: f64) -> Self {
        v
    }
    fn is_missing(self) -> bool {
        self.is_nan()
    }
}

/// A comparison of a feature with a threshold, and where it leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch<T> {
    pub(super) split: T,
    pub(super) feature: u32,
    pub(super) yes: u32,
    pub(super) no: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    /// Whether the feature is in a set.
    Member,
}

/// How a branch compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) mode: Mode,
    /// Whether a feature that is NaN counts as a yes.
    pub(super) missing: bool,
    /// Of [`Mode::Member`]: the place of its set.
    pub(super) set: usize,
}

impl Rule {
    pub(super) fn new(mode: Mode, missing: bool) -> Self {
        Self { mode, missing, set: 0 }
    }
}

/// The parts of an ensemble, as a model lists them.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) branches: Vec<Branch<f64>>,
    /// One for each branch.
    pub(super) rules: Vec<Rule>,
    pub(super) sets: Vec<Vec<f64>>,
    pub(super) roots: Vec<u32>,
    /// What each leaf adds to which target.
    pub(super) leaves: Vec<Vec<(u32, f64)>>,
}

/// Trees in the precision in which they compare and add.
#[derive(Debug, Default)]
pub(super) struct Ensemble<T> {
    branches: Vec<Branch<T>>,
    rules: Rules,
    sets: Vec<Vec<T>>,
    roots: Vec<u32>,
    /// Where the votes of each leaf start; one more than there are leaves.
    starts: Vec<usize>,
    votes: Vec<(u32, T)>,
}

#[derive(Clone, Debug)]
enum Rules {
    /// The comparison that all branches make.
    Same(Mode),
    /// One for each branch.
    Own(Vec<Rule>),
}

impl Parts {
    /// Refuses places that do not exist, ways without an end, and votes for
    /// targets beyond `targets`.
    pub(super) fn check(&self, targets: usize) -> Result<(), BuildError> {
        let wrong = |name, reason| Err(BuildError::Value { name, reason });
        let exists = |place: u32| {
            let (index, count) = match place & LEAF {
                0 => (place, self.branches.len()),
                _ => (place ^ LEAF, self.leaves.len()),
            };
            (index as usize) < count
        };
        let ways = self.branches.iter().flat_map(|branch| [branch.yes, branch.no]);
        if !ways.chain(self.roots.iter().copied()).all(exists) {
            return wrong("nodes_truenodeids", "it leads to no node");
        }
        let mut votes = self.leaves.iter().flatten();
        if votes.any(|&(target, _)| target as usize >= targets) {
            return wrong("target_ids", "no such target");
        }
        if !self.is_forest() {
            return wrong("nodes_truenodeids", "it leads in a circle or into another tree");
        }
        Ok(())
    }

    /// Whether every way ends, and no branch is part of two trees, so that a walk
    /// through all trees takes at most as many steps as there are nodes. Within a
    /// tree, ways may meet: exporters write tests for several values so.
    fn is_forest(&self) -> bool {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            No,
            Open,
            Done(usize),
        }
        let mut seen = vec![Seen::No; self.branches.len()];
        for (tree, &root) in self.roots.iter().enumerate() {
            // Each branch is pushed to be entered, and again to be left.
            let mut stack = vec![(root, false)];
            while let Some((place, leave)) = stack.pop() {
                let index = place as usize;
                let (Some(mark), Some(branch)) = (seen.get_mut(index), self.branches.get(index))
                else {
                    continue;
                };
                match *mark {
                    Seen::Open if leave => *mark = Seen::Done(tree),
                    Seen::No => {
                        *mark = Seen::Open;
                        stack.extend([(place, true), (branch.yes, false), (branch.no, false)]);
                    }
                    Seen::Done(other) if other == tree && place != root => {}
                    Seen::Open | Seen::Done(_) => return false,
                }
            }
        }
        true
    }

    /// One more than the highest feature that is asked for.
    pub(super) fn features(&self) -> usize {
        self.branches.iter().map(|branch| branch.feature as usize + 1).max().unwrap_or(0)
    }

    pub(super) fn ensemble<T: Real>(&self) -> Ensemble<T> {
        let narrow = |b: &Branch<f64>| Branch {
            split: T::of(b.split),
            feature: b.feature,
            yes: b.yes,
            no: b.no,
        };
        let (mut starts, mut votes) = (vec![0], Vec::new());
        for leaf in &self.leaves {
            votes.extend(leaf.iter().map(|&(target, weight)| (target, T::of(weight))));
            starts.push(votes.len());
        }
        let set = |set: &Vec<f64>| set.iter().map(|&v| T::of(v)).collect();
        let first = self.rules.first().copied().unwrap_or(Rule::new(Mode::Leq, false));
        let same = !first.missing && self.rules.iter().all(|rule| *rule == first);
        let rules = match first.mode {
            mode @ (Mode::Leq | Mode::Lt) if same => Rules::Same(mode),
            _ => Rules::Own(self.rules.clone()),
        };
        Ensemble {
            branches: self.branches.iter().map(narrow).collect(),
            rules,
            sets: self.sets.iter().map(set).collect(),
            roots: self.roots.clone(),
            starts,
            votes,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::Same(Mode::Leq)
    }
}

impl Ensemble<f32> {
    /// The same trees, for features in 64 bits.
    pub(super) fn widened(&self) -> Ensemble<f64> {
        let branch = |b: &Branch<f32>| Branch {
            split: f64::from(b.split),
            feature: b.feature,
            yes: b.yes,
            no: b.no,
        };
        Ensemble {
            branches: self.branches.iter().map(branch).collect(),
            rules: self.rules.clone(),
            sets: self.sets.iter().map(|set| set.iter().map(|&v| v.into()).collect()).collect(),
            roots: self.roots.clone(),
            starts: self.starts.clone(),
            votes: self.votes.iter().map(|&(target, w)| (target, f64::from(w))).collect(),
        }
    }
}

impl<T: Real> Ensemble<T> {
    pub(super) fn trees(&self) -> usize {
        self.roots.len()
    }

    /// Calls `vote` with a row, a target and a weight for all that the rows' leaves
    /// hold; of each row in the order of the trees. `x` is `[rows, columns]`, and has
    /// as many columns as [`Parts::features`] says.
    pub(super) fn vote(&self, x: &[T], columns: usize, vote: &mut impl FnMut(usize, usize, T)) {
        match &self.rules {
            Rules::Same(Mode::Lt) => self.walk(x, columns, |_, b, v| v < b.split, vote),
            Rules::Same(_) => self.walk(x, columns, |_, b, v| v <= b.split, vote),
            Rules::Own(rules) => {
                let is_yes = |at: u32, branch: &Branch<T>, v: T| {
                    rules.get(at as usize).is_some_and(|rule| self.follows(rule, branch, v))
                };
                self.walk(x, columns, is_yes, vote);
            }
        }
    }

    fn follows(&self, rule: &Rule, branch: &Branch<T>, v: T) -> bool {
        let yes = match rule.mode {
            Mode::Leq => v <= branch.split,
            Mode::Lt => v < branch.split,
            Mode::Gte => v >= branch.split,
            Mode::Gt => v > branch.split,
            Mode::Eq => v == branch.split,
            Mode::Neq => v != branch.split,
            Mode::Member => self.sets.get(rule.set).is_some_and(|set| set.contains(&v)),
        };
        yes || rule.missing && v.is_missing()
    }

    fn walk(
        &self,
        x: &[T],
        columns: usize,
        is_yes: impl Fn(u32, &Branch<T>, T) -> bool + Copy,
        vote: &mut impl FnMut(usize, usize, T),
    ) {
        let rows: Vec<&[T]> = x.chunks_exact(columns.max(1)).collect();
        if rows.len() < LANES {
            for (number, row) in rows.iter().enumerate() {
                for roots in self.roots.chunks(LANES) {
                    let mut at = [LEAF; LANES];
                    at.iter_mut().zip(roots).for_each(|(at, root)| *at = *root);
                    self.descend(&mut at, &[*row; LANES], is_yes);
                    at.iter().zip(roots).for_each(|(at, _)| self.count(*at, number, vote));
                }
            }
            return;
        }
        for (block, rows) in rows.chunks(BLOCK).enumerate() {
            for &root in &self.roots {
                for (group, rows) in rows.chunks(LANES).enumerate() {
                    let mut at = [root; LANES];
                    let lanes = at.get_mut(..rows.len()).unwrap_or_default();
                    self.descend(lanes, rows, is_yes);
                    for (lane, at) in lanes.iter().enumerate() {
                        self.count(*at, block * BLOCK + group * LANES + lane, vote);
                    }
                }
            }
        }
    }

    /// Takes each lane to its leaf.
    #[inline]
    fn descend(
        &self,
        lanes: &mut [u32],
        rows: &[&[T]],
        is_yes: impl Fn(u32, &Branch<T>, T) -> bool,
    ) {
        loop {
            let mut walking = false;
            for (at, row) in lanes.iter_mut().zip(rows) {
                // A leaf's place is beyond all branches.
                let Some(branch) = self.branches.get(*at as usize) else { continue };
                let value = row.get(branch.feature as usize).copied().unwrap_or_default();
                *at = if is_yes(*at, branch, value) { branch.yes } else { branch.no };
                walking = true;
            }
            if !walking {
                return;
            }
        }
    }

    #[inline]
    fn count(&self, at: u32, row: usize, vote: &mut impl FnMut(usize, usize, T)) {
        let leaf = (at ^ LEAF) as usize;
        let range = self.starts.get(leaf).zip(self.starts.get(leaf + 1));
        let votes = range.and_then(|(&start, &end)| self.votes.get(start..end));
        for &(target, weight) in votes.unwrap_or_default() {
            vote(row, target as usize, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(split: f64, yes: u32, no: u32) -> Branch<f64> {
        Branch { split, feature: 0, yes, no }
    }

    /// x <= 1: leaf 0; x <= 2: leaf 1; else leaf 2, which votes twice.
    fn parts() -> Parts {
        Parts {
            branches: vec![branch(1., LEAF, 1), branch(2., LEAF | 1, LEAF | 2)],
            rules: vec![Rule::new(Mode::Leq, false); 2],
            sets: vec![],
            roots: vec![0],
            leaves: vec![vec![(0, 1.)], vec![(1, 10.)], vec![(0, 100.), (1, 1000.)]],
        }
    }

    fn votes(ensemble: &Ensemble<f32>, x: &[f32]) -> Vec<(usize, usize, f32)> {
        let mut votes = Vec::new();
        ensemble.vote(x, 1, &mut |row, target, weight| votes.push((row, target, weight)));
        votes.sort_by(|a, b| a.partial_cmp(b).unwrap());
        votes
    }

    #[test]
    fn rows_reach_their_leaves_in_any_number() {
        let ensemble = parts().ensemble();
        let few = votes(&ensemble, &[1., 1.5, f32::NAN]);
        assert_eq!(few, [(0, 0, 1.), (1, 1, 10.), (2, 0, 100.), (2, 1, 1000.)]);
        let many: Vec<f32> = (0..600u16).map(|i| f32::from(i % 2) * 1.5).collect();
        let wanted = |i: usize| if i.is_multiple_of(2) { (i, 0, 1.) } else { (i, 1, 10.) };
        assert_eq!(votes(&ensemble, &many), (0..600).map(wanted).collect::<Vec<_>>());
        assert!(votes(&ensemble, &[]).is_empty());
    }

    #[test]
    fn thresholds_compare_in_their_own_precision() {
        let mut parts = parts();
        parts.branches[0].split = 0.1;
        let mut at = Vec::new();
        parts.ensemble::<f64>().vote(&[f64::from(0.1f32)], 1, &mut |_, _, w| at.push(w));
        assert_eq!(at, [10.]);
        assert_eq!(votes(&parts.ensemble(), &[0.1]), [(0, 0, 1.)]);
    }

    #[test]
    fn every_mode_compares() {
        let mut parts = parts();
        parts.sets = vec![vec![3., 1.]];
        let yes = |mode: Mode, missing: bool| -> Vec<bool> {
            let mut parts = parts.clone();
            parts.rules[0] = Rule::new(mode, missing);
            let ensemble = parts.ensemble();
            let first = |x: f32| votes(&ensemble, &[x]) == [(0, 0, 1.)];
            [0., 1., 2., f32::NAN].map(first).to_vec()
        };
        assert_eq!(yes(Mode::Leq, false), [true, true, false, false]);
        assert_eq!(yes(Mode::Lt, false), [true, false, false, false]);
        assert_eq!(yes(Mode::Gte, false), [false, true, true, false]);
        assert_eq!(yes(Mode::Gt, false), [false, false, true, false]);
        assert_eq!(yes(Mode::Eq, false), [false, true, false, false]);
        assert_eq!(yes(Mode::Neq, false), [true, false, true, true]);
        assert_eq!(yes(Mode::Member, false), [false, true, false, false]);
        assert_eq!(yes(Mode::Lt, true), [true, false, false, true]);
    }

    #[test]
    fn ways_must_lead_to_leaves() {
        let refused = |change: fn(&mut Parts)| {
            let mut parts = parts();
            change(&mut parts);
            parts.check(2).is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|p| p.branches[1].no = 1));
        assert!(refused(|p| p.branches[1].no = 0));
        assert!(refused(|p| p.branches[1].no = 2));
        assert!(refused(|p| p.branches[1].no = LEAF | 3));
        assert!(refused(|p| p.roots.push(0)));
        assert!(refused(|p| p.roots.push(1)));
        assert!(refused(|p| p.roots.insert(0, 1)));
        assert!(refused(|p| p.roots[0] = u32::MAX));
        assert!(refused(|p| p.leaves[0][0].0 = 2));
        // Two ways that meet, and a tree that is a leaf.
        assert!(!refused(|p| p.branches[0].yes = 1));
        assert!(!refused(|p| p.roots.push(LEAF)));
    }
}
