//! Counting n-grams of strings or integers.

use std::collections::HashMap;

use ingle_types::{DType, Tensor};

use super::{Args, Built, Registry, op};
use crate::kernels::Kernels;
use crate::value::{Host, HostData, Value};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add("TfIdfVectorizer", 9.., 1..=1, vectorizer);
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Tf,
    Idf,
    TfIdf,
}

/// Known n-grams as a tree: a step for each of their items.
struct Grams {
    /// The step from a node, by item; node 0 is where all begin.
    steps: HashMap<(usize, usize), usize>,
    /// Which n-gram ends at each node.
    ends: Vec<Option<usize>>,
}

impl Grams {
    fn insert(&mut self, items: &[usize], gram: usize) {
        let mut node = 0;
        for &item in items {
            let new = self.ends.len();
            node = *self.steps.entry((node, item)).or_insert(new);
            if node == new {
                self.ends.push(None);
            }
        }
        if let Some(end) = self.ends.get_mut(node) {
            *end = Some(gram);
        }
    }
}

struct Vectorizer {
    mode: Mode,
    /// The lengths of n-grams that count.
    lengths: (usize, usize),
    skips: usize,
    /// The number that stands for each item of the pool.
    items: Items,
    grams: Grams,
    /// The column and the weight of each n-gram.
    columns: Vec<(usize, f32)>,
    width: usize,
}

enum Items {
    Ints(HashMap<i64, usize>),
    Texts(HashMap<bytes::Bytes, usize>),
}

impl Items {
    /// The items' numbers; `None` = not in the pool.
    fn numbers(&self, x: &Host) -> Result<Vec<Option<usize>>, OpError> {
        match (self, x.data()) {
            (Self::Ints(known), HostData::Int(values)) => {
                Ok(values.iter().map(|v| known.get(v).copied()).collect())
            }
            (Self::Texts(known), HostData::Text(values)) => {
                Ok(values.iter().map(|v| known.get(v).copied()).collect())
            }
            _ => {
                let expected = "of the pool's type";
                Err(OpError::DType { what: "the operand", expected, given: x.dtype() })
            }
        }
    }
}

/// Numbers the items of a pool, equal ones alike.
fn numbered<T: Clone + Eq + std::hash::Hash>(pool: &[T]) -> (HashMap<T, usize>, Vec<usize>) {
    let mut known = HashMap::new();
    let numbers = pool.iter().map(|item| {
        let next = known.len();
        *known.entry(item.clone()).or_insert(next)
    });
    let numbers = numbers.collect();
    (known, numbers)
}

fn vectorizer<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let vectorizer = Vectorizer::read(args)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_host(ctx)?;
        let (rows, length, dims) = match *x.dims() {
            [] => (1, 1, vec![vectorizer.width]),
            [length] => (1, length, vec![vectorizer.width]),
            [rows, length] => (rows, length, vec![rows, vectorizer.width]),
            _ => return Err(OpError::Dims { what: "the operand", dims: x.dims().to_vec() }),
        };
        ctx.admit(DType::F32, &dims)?;
        let numbers = vectorizer.items.numbers(&x)?;
        let mut y = vec![0f32; rows.saturating_mul(vectorizer.width)];
        for (row, y) in y.chunks_exact_mut(vectorizer.width).enumerate() {
            let items = numbers.get(row * length..(row + 1) * length).unwrap_or_default();
            vectorizer.count(items, y);
        }
        let wrong = |_| OpError::Dims { what: "an output", dims: dims.clone() };
        let y = Tensor::from_slice(&dims, &y).map_err(wrong)?;
        Ok(vec![Value::from_tensor(ctx, &y)?])
    })
}

impl Vectorizer {
    fn read<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let required = |name| args.int_opt(name)?.ok_or(BuildError::Missing { name });
        let size = |name| {
            let reason = "not a positive number";
            usize::try_from(required(name)?).map_err(|_| BuildError::Value { name, reason })
        };
        let mode = match &*args.string("mode", "")? {
            "TF" => Mode::Tf,
            "IDF" => Mode::Idf,
            "TFIDF" => Mode::TfIdf,
            _ => return Err(BuildError::Value { name: "mode", reason: "no such mode" }),
        };
        let (least, most) = (size("min_gram_length")?, size("max_gram_length")?);
        let skips = size("max_skip_count")?;
        if least == 0 || most < least {
            let reason = "not above zero, or above the maximum";
            return Err(BuildError::Value { name: "min_gram_length", reason });
        }
        let (items, pool) = match (args.texts("pool_strings")?, args.ints("pool_int64s")?) {
            (Some(texts), None | Some([])) => {
                let (known, pool) = numbered(texts);
                (Items::Texts(known), pool)
            }
            (None | Some([]), Some(ints)) => {
                let (known, pool) = numbered(ints);
                (Items::Ints(known), pool)
            }
            _ => return Err(BuildError::Missing { name: "pool_strings" }),
        };
        let name = "ngram_counts";
        let starts = args.sizes(name)?.ok_or(BuildError::Missing { name })?;
        let (grams, count) = grams_of(&pool, &starts)?;
        let columns = columns_of(args, count)?;
        let width = columns.iter().map(|column| column.0 + 1).max().unwrap_or(1);
        Ok(Self { mode, lengths: (least, most), skips, items, grams, columns, width })
    }

    /// Adds the n-grams of one row to its columns.
    fn count(&self, items: &[Option<usize>], y: &mut [f32]) {
        let (least, most) = self.lengths;
        // Skips beyond the row find nothing.
        for step in 1..=self.skips.min(items.len()) + 1 {
            // Skipping changes nothing of single items; they count once.
            let least = if step == 1 { least } else { least.max(2) };
            for start in 0..items.len() {
                let mut node = 0;
                let walk = items.iter().skip(start).step_by(step).take(most);
                for (length, item) in (1..).zip(walk) {
                    let Some(next) = item.and_then(|item| self.grams.steps.get(&(node, item)))
                    else {
                        break;
                    };
                    node = *next;
                    if length >= least {
                        self.found(node, y);
                    }
                }
            }
        }
    }

    fn found(&self, node: usize, y: &mut [f32]) {
        let gram = self.grams.ends.get(node).copied().flatten();
        let Some(&(column, weight)) = gram.and_then(|gram| self.columns.get(gram)) else { return };
        let Some(cell) = y.get_mut(column) else { return };
        match self.mode {
            Mode::Tf => *cell += 1.,
            Mode::Idf => *cell = weight,
            Mode::TfIdf => *cell += weight,
        }
    }
}

/// Reads the pool: first all single items, then all pairs, and so on, from the
/// place that `starts` gives for each length. Also, how many n-grams there are.
fn grams_of(pool: &[usize], starts: &[usize]) -> Result<(Grams, usize), BuildError> {
    let wrong = |reason| BuildError::Value { name: "ngram_counts", reason };
    let mut grams = Grams { steps: HashMap::new(), ends: vec![None] };
    let mut count = 0;
    for (index, &start) in starts.iter().enumerate() {
        let (length, end) = (index + 1, starts.get(index + 1).copied().unwrap_or(pool.len()));
        let items = pool.get(start..end).ok_or(wrong("a start is outside of the pool"))?;
        if !items.len().is_multiple_of(length) {
            return Err(wrong("an n-gram is cut off"));
        }
        for gram in items.chunks_exact(length) {
            grams.insert(gram, count);
            count += 1;
        }
    }
    Ok((grams, count))
}

/// The column and the weight of each n-gram.
fn columns_of<B: Kernels>(
    args: &Args<'_, B>,
    count: usize,
) -> Result<Vec<(usize, f32)>, BuildError> {
    let name = "ngram_indexes";
    let columns = args.sizes(name)?.ok_or(BuildError::Missing { name })?;
    if columns.is_empty() || columns.len() < count {
        return Err(BuildError::Value { name, reason: "not one for each n-gram" });
    }
    let weights = match args.floats("weights")? {
        None | Some([]) => vec![1.; columns.len()],
        Some(weights) if weights.len() == columns.len() => weights.to_vec(),
        Some(_) => {
            return Err(BuildError::Value { name: "weights", reason: "not one for each n-gram" });
        }
    };
    Ok(columns.into_iter().zip(weights).collect())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, i64s, tensor, texts};

    /// 5 counts in column 2, 6 in column 0, and the pair of both in column 1.
    fn case(x: ingle_types::Tensor, mode: &str) -> Case {
        Case::of("TfIdfVectorizer", [x])
            .string("mode", mode)
            .int("min_gram_length", 1)
            .int("max_gram_length", 2)
            .int("max_skip_count", 1)
            .ints("ngram_counts", &[0, 2])
            .ints("ngram_indexes", &[2, 0, 1])
    }

    fn ints(x: &[i64], mode: &str) -> Case {
        case(i64s(&[x.len()], x), mode).ints("pool_int64s", &[5, 6, 5, 6])
    }

    #[test]
    fn grams_are_counted_with_skips() {
        ints(&[5, 7, 6, 5, 6], "TF").gives([f32s(&[3], &[2., 2., 2.])]);
        ints(&[], "TF").gives([f32s(&[3], &[0.; 3])]);
        case(tensor(&[2, 2], &[5i32, 6, 6, 6]), "TF")
            .ints("pool_int64s", &[5, 6, 5, 6])
            .gives([f32s(&[2, 3], &[1., 1., 1., 2., 0., 0.])]);
        case(texts(&[3], &["a", "b", "c"]), "TF")
            .strings("pool_strings", &["a", "b", "a", "c"])
            .gives([f32s(&[3], &[1., 1., 1.])]);
    }

    #[test]
    fn grams_are_weighted() {
        let weights = [0.1, 0.2, 0.3];
        ints(&[5, 5, 6], "IDF").floats("weights", &weights).gives([f32s(&[3], &[0.2, 0.3, 0.1])]);
        ints(&[5, 5, 6], "TFIDF").floats("weights", &weights).gives([f32s(&[3], &[0.2, 0.6, 0.2])]);
        ints(&[5, 5], "IDF").gives([f32s(&[3], &[0., 0., 1.])]);
    }

    #[test]
    fn pools_that_lie_are_refused() {
        let x = || i64s(&[1], &[5]);
        case(x(), "TF").fails("\"pool_strings\" is missing");
        case(x(), "TF").ints("pool_int64s", &[5, 6, 5]).fails("cut off");
        case(x(), "TF").ints("pool_int64s", &[5]).fails("outside of the pool");
        case(x(), "TF").ints("pool_int64s", &[5, 6, 5, 6, 7, 8]).fails("not one for each n-gram");
        case(x(), "TF").strings("pool_strings", &["a", "b", "a", "b"]).fails("the pool's type");
        ints(&[5], "TF-IDF").fails("no such mode");
        ints(&[5], "TF").floats("weights", &[1.]).fails("not one for each n-gram");
        case(i64s(&[1, 1, 1], &[5]), "TF")
            .ints("pool_int64s", &[5, 6, 5, 6])
            .fails("cannot be a tensor");
    }
}
