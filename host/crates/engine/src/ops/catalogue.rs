//! The operators by name, for whoever wants to know what there is.

use std::ops::Bound;

use super::Registry;

/// An operator that models may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperatorInfo {
    /// Empty for ONNX's own domain.
    pub domain: &'static str,
    pub name: &'static str,
    /// The first and the last version of the domain for each meaning that is known;
    /// without a last one the meaning holds still.
    pub versions: Vec<(i64, Option<i64>)>,
}

/// Every operator that a model may have, by domain and name. All devices know the same.
pub fn operators() -> Vec<OperatorInfo> {
    let registry = Registry::<burn_flex::Flex>::new();
    let info = |(&(domain, name), entries): (&(&'static str, &'static str), &Vec<_>)| {
        let mut versions: Vec<_> = entries.iter().map(versions_of).collect();
        versions.sort_unstable();
        OperatorInfo { domain, name, versions }
    };
    let mut operators: Vec<_> =
        registry.entries.iter().map(info).filter(|info| info.domain != super::INTERNAL).collect();
    operators.sort_unstable();
    operators
}

fn versions_of(entry: &super::Entry<burn_flex::Flex>) -> (i64, Option<i64>) {
    let first = match entry.versions.0 {
        Bound::Included(first) => first,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 1,
    };
    let last = match entry.versions.1 {
        Bound::Included(last) => Some(last),
        Bound::Excluded(behind) => Some(behind.saturating_sub(1)),
        Bound::Unbounded => None,
    };
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_listed_with_their_versions() {
        let operators = operators();
        assert!(operators.is_sorted());
        let find = |name: &str| operators.iter().find(|o| o.domain.is_empty() && o.name == name);
        assert_eq!(find("If").unwrap().versions, [(1, None)]);
        let softmax = &find("Softmax").unwrap().versions;
        assert_eq!(softmax.first().unwrap().0, 1);
        assert_eq!(softmax.last().unwrap().1, None);
        // No version may have two meanings.
        for operator in &operators {
            let pairs = operator.versions.iter().zip(operator.versions.iter().skip(1));
            for ((_, last), (next, _)) in pairs {
                assert!(last.is_some_and(|last| last < *next), "{operator:?}");
            }
        }
    }
}
