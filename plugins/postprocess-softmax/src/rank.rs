//! The best classes of one row of numbers.

use std::cmp::Ordering;

/// A class among the best, and its number as the model gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ranked {
    pub(crate) class: usize,
    pub(crate) value: f32,
}

/// The `k` greatest, best first; of equals the lower class first. Without NaN.
pub(crate) fn best(row: &[f32], k: usize) -> Vec<Ranked> {
    let mut ranked: Vec<_> =
        row.iter().enumerate().map(|(class, &value)| Ranked { class, value }).collect();
    if k < ranked.len() {
        ranked.select_nth_unstable_by(k, better_first);
        ranked.truncate(k);
    }
    ranked.sort_unstable_by(better_first);
    ranked
}

fn better_first(a: &Ranked, b: &Ranked) -> Ordering {
    b.value.partial_cmp(&a.value).unwrap_or(Ordering::Equal).then(a.class.cmp(&b.class))
}

/// What turns a number of a row into its share of the row's softmax.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Softmax {
    greatest: f32,
    /// The sum of all exponentials, less the greatest.
    sum: f64,
}

impl Softmax {
    /// Of a row without NaN. An infinite greatest number shares everything with its equals.
    pub(crate) fn of(row: &[f32]) -> Self {
        let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum = row.iter().map(|&value| f64::from(exponential(value, greatest))).sum();
        Self { greatest, sum }
    }

    pub(crate) fn share(&self, value: f32) -> f32 {
        (f64::from(exponential(value, self.greatest)) / self.sum) as f32
    }
}

fn exponential(value: f32, greatest: f32) -> f32 {
    // Equal infinities have no difference.
    if value == greatest { 1.0 } else { (value - greatest).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(row: &[f32], k: usize) -> Vec<usize> {
        best(row, k).iter().map(|ranked| ranked.class).collect()
    }

    fn softmax(row: &[f32]) -> Vec<f32> {
        let softmax = Softmax::of(row);
        row.iter().map(|&value| softmax.share(value)).collect()
    }

    #[test]
    fn the_greatest_come_first_and_equals_in_order() {
        assert_eq!(classes(&[1.0, 3.0, 2.0, 3.0], 3), [1, 3, 2]);
        assert_eq!(classes(&[0.0, -0.0, 0.0], 2), [0, 1]);
        assert_eq!(classes(&[f32::NEG_INFINITY, f32::INFINITY, 0.0], 3), [1, 2, 0]);
    }

    #[test]
    fn more_than_there_are_gives_all() {
        assert_eq!(classes(&[1.0, 2.0], 5), [1, 0]);
        assert_eq!(classes(&[], 5), [0_usize; 0]);
    }

    #[test]
    fn a_partial_selection_agrees_with_a_full_sort() {
        let row: Vec<f32> = (0..1000_u32).map(|i| (i * 7919 % 101) as f32).collect();
        let all = best(&row, row.len());
        for k in [1, 5, 100, 999] {
            assert_eq!(best(&row, k), all[..k]);
        }
    }

    #[test]
    fn shares_sum_to_one_however_large_the_numbers() {
        for row in [vec![1000.0, 999.0, -1000.0], vec![0.1; 1000], vec![-1e30, -2e30]] {
            let sum: f32 = softmax(&row).iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{row:?}: {sum}");
        }
    }

    #[test]
    fn infinities_share_everything() {
        let inf = f32::INFINITY;
        assert_eq!(softmax(&[inf, 0.0, inf, -inf]), [0.5, 0.0, 0.5, 0.0]);
        assert_eq!(softmax(&[-inf, -inf]), [0.5, 0.5]);
    }
}
