//! Counters and histograms as TensorFlow Serving prints them, which no library for
//! OpenMetrics does: names with colons, no HELP, no `_total`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Label sets of one metric. What comes after is counted under an empty first label, which
/// is the model's, so that no list of models makes memory without end.
pub(super) const MOST_CELLS: usize = 4096;

/// What is counted for one set of label values.
pub(super) trait Cell {
    const TYPE: &'static str;

    /// Writes the sample lines of `name`, whose labels are `labels`, as `a="b",c="d"`.
    fn write(&self, text: &mut String, name: &str, labels: &str);
}

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Cell for Counter {
    const TYPE: &'static str = "counter";

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        line(text, format_args!("{name}{{{labels}}} {}", self.get()));
    }
}

#[derive(Debug)]
pub(super) struct Histogram {
    /// Upper edges, which belong to their buckets; beyond the last one there is one more.
    edges: Arc<[f64]>,
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(edges: Arc<[f64]>) -> Self {
        let counts = (0..=edges.len()).map(|_| AtomicU64::new(0)).collect();
        Self { edges, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    pub(super) fn observe(&self, value: f64) {
        let bucket = self.edges.partition_point(|edge| *edge < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Cell for Histogram {
    const TYPE: &'static str = "histogram";

    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let edges = self.edges.iter().map(|edge| significant(*edge));
        let mut count = 0;
        for (bucket, edge) in self.counts.iter().zip(edges.chain(["+Inf".to_owned()])) {
            count += bucket.load(Ordering::Relaxed);
            line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"{edge}\"}} {count}"));
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        line(text, format_args!("{name}_sum{{{labels}}} {sum}"));
        line(text, format_args!("{name}_count{{{labels}}} {count}"));
    }
}

/// Edges that begin with `first` and grow by `factor`.
pub(super) fn exponential(first: f64, factor: f64, count: i32) -> Arc<[f64]> {
    (0..count).map(|i| first * factor.powi(i)).collect()
}

/// A metric: a cell for each set of values of its `N` labels.
#[derive(Debug)]
pub(super) struct Table<C, const N: usize> {
    /// As TensorFlow writes it: `/tensorflow/serving/...`.
    pub(super) name: &'static str,
    labels: [&'static str; N],
    cells: RwLock<BTreeMap<[String; N], Arc<C>>>,
    edges: Arc<[f64]>,
}

impl<const N: usize> Table<Counter, N> {
    pub(super) fn counter(name: &'static str, labels: [&'static str; N]) -> Self {
        Self { name, labels, cells: RwLock::default(), edges: Arc::default() }
    }

    pub(super) fn add(&self, values: [&str; N], count: u64) {
        self.cell(values).add(count);
    }

    /// Of all label values together.
    pub(super) fn total(&self) -> u64 {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        cells.values().map(|counter| counter.get()).sum()
    }

    pub(super) fn cell(&self, values: [&str; N]) -> Arc<Counter> {
        self.get_or(values, Counter::default)
    }
}

impl<const N: usize> Table<Histogram, N> {
    pub(super) fn histogram(
        name: &'static str,
        labels: [&'static str; N],
        edges: Arc<[f64]>,
    ) -> Self {
        Self { name, labels, cells: RwLock::default(), edges }
    }

    pub(super) fn cell(&self, values: [&str; N]) -> Arc<Histogram> {
        self.get_or(values, || Histogram::new(self.edges.clone()))
    }
}

impl<C: Cell, const N: usize> Table<C, N> {
    fn get_or(&self, values: [&str; N], new: impl FnOnce() -> C) -> Arc<C> {
        let mut key = values.map(str::to_owned);
        // A panic elsewhere leaves the table whole.
        if let Some(cell) = self.cells.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return cell.clone();
        }
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        let full = cells.len() >= MOST_CELLS && !cells.contains_key(&key);
        if let Some(first) = key.first_mut().filter(|_| full) {
            first.clear();
        }
        cells.entry(key).or_insert_with(|| Arc::new(new())).clone()
    }

    /// Writes the metric, of which the TYPE line is there even where nothing was counted.
    pub(super) fn write(&self, text: &mut String) {
        let name = self.name.replace('/', ":");
        line(text, format_args!("# TYPE {name} {}", C::TYPE));
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        for (values, cell) in cells.iter() {
            let pairs = self.labels.iter().zip(values);
            let pairs: Vec<_> = pairs.map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            cell.write(text, &name, &pairs.join(","));
        }
    }
}

/// As TensorFlow Serving, and line ends too, which would otherwise end the sample.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Six significant digits, as C's `%g` prints them.
fn significant(value: f64) -> String {
    const DIGITS: i32 = 6;
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or_default();
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), exponent.abs())
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a `String` does not fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<C: Cell, const N: usize>(table: &Table<C, N>) -> String {
        let mut text = String::new();
        table.write(&mut text);
        text
    }

    #[test]
    fn a_counter_is_a_line_for_each_label_set() {
        let table = Table::counter("/test/path/total", ["name"]);
        assert_eq!(text(&table), "# TYPE :test:path:total counter\n");
        table.add(["abc"], 2);
        table.add(["\"abc\\\"\n"], 1);
        let expected = "# TYPE :test:path:total counter\n\
            :test:path:total{name=\"\\\"abc\\\\\\\"\\n\"} 1\n\
            :test:path:total{name=\"abc\"} 2\n";
        assert_eq!(text(&table), expected);
        assert_eq!(table.total(), 3);
        let bare = Table::<Counter, 0>::counter("/test/bare", []);
        bare.add([], 7);
        assert_eq!(text(&bare), "# TYPE :test:bare counter\n:test:bare{} 7\n");
    }

    #[test]
    fn a_histogram_counts_up_to_and_with_each_edge() {
        let table = Table::histogram("/test/h", ["status"], exponential(1.0, 2.0, 4));
        for value in [2.0, 20.0, 200.5] {
            table.cell(["good"]).observe(value);
        }
        let expected = "# TYPE :test:h histogram\n\
            :test:h_bucket{status=\"good\",le=\"1\"} 0\n\
            :test:h_bucket{status=\"good\",le=\"2\"} 1\n\
            :test:h_bucket{status=\"good\",le=\"4\"} 1\n\
            :test:h_bucket{status=\"good\",le=\"8\"} 1\n\
            :test:h_bucket{status=\"good\",le=\"+Inf\"} 3\n\
            :test:h_sum{status=\"good\"} 222.5\n\
            :test:h_count{status=\"good\"} 3\n";
        assert_eq!(text(&table), expected);
    }

    #[test]
    fn edges_have_six_significant_digits() {
        let table = [
            (0.0, "0"),
            (1.0, "1"),
            (10.0, "10"),
            (18.0, "18"),
            (32.4, "32.4"),
            (104.976, "104.976"),
            (188.9568, "188.957"),
            (999_999.4, "999999"),
            (999_999.5, "1e+06"),
            (16384.0, "16384"),
            (10.0 * 1.8f64.powi(32), "1.47476e+09"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (1e100, "1e+100"),
        ];
        for (value, expected) in table {
            assert_eq!(significant(value), expected);
        }
    }

    #[test]
    fn label_sets_have_an_end() {
        let table = Table::counter("/test/many", ["model", "status"]);
        for i in 0..MOST_CELLS + 10 {
            table.add([&format!("m{i}"), "OK"], 1);
        }
        table.add(["m0", "OK"], 1);
        let text = text(&table);
        assert!(text.contains(":test:many{model=\"\",status=\"OK\"} 10\n"));
        assert!(text.contains(":test:many{model=\"m0\",status=\"OK\"} 2\n"));
        assert_eq!(text.lines().count(), 1 + MOST_CELLS + 1);
    }
}
