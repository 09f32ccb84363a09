use std::borrow::Cow;

use ingle_plugin::{
    DataType, File, InitOptions, Result, Tensor, TensorSpec, failed_precondition, invalid_argument,
};
use serde::Deserialize;

use crate::labels::Labels;
use crate::rank::{Ranked, Softmax, best};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    input: Option<String>,
    #[serde(default = "yes")]
    softmax: bool,
    #[serde(default = "last")]
    axis: i64,
    #[serde(default = "five")]
    top_k: u32,
    labels: Option<String>,
}

const fn yes() -> bool {
    true
}

const fn last() -> i64 {
    -1
}

const fn five() -> u32 {
    5
}

/// A configuration that was checked against the model and the labels.
pub struct Plan {
    input: String,
    softmax: bool,
    /// Of the model's output, without the batch dimension.
    shape: Vec<i64>,
    axis: usize,
    top_k: usize,
    labels: Option<Labels>,
}

impl Plan {
    pub fn new(options: InitOptions) -> Result<Self> {
        let config: Config = options.config()?;
        let output = model_output(config.input.as_deref(), &options.model_outputs)?;
        let mut output = output.clone();
        if output.shape.is_empty() {
            // A model that does not say its rank: one row of classes is most likely.
            output.shape.push(-1);
        }
        let axis = checked_axis(config.axis, &output)?;
        if config.top_k == 0 {
            return Err(invalid_argument!("config key \"top_k\": it must be at least 1"));
        }
        let TensorSpec { name: input, shape, .. } = output;
        let labels = labels_file(config.labels.as_deref(), options.files)?;
        let labels = labels.map(Labels::new).transpose()?;
        let top_k = config.top_k as usize;
        let plan = Self { input, softmax: config.softmax, shape, axis, top_k, labels };
        plan.fits_labels()?;
        Ok(plan)
    }

    /// What clients get.
    pub(crate) fn public_spec(&self) -> Vec<TensorSpec> {
        let mut shape = self.shape.clone();
        if let Some(size) = shape.get_mut(self.axis) {
            *size = match (*size, &self.labels) {
                (-1, None) => -1,
                (-1, Some(labels)) => self.top_k.min(labels.len()) as i64,
                (classes, _) => classes.min(self.top_k as i64),
            };
        }
        let spec = |name, data_type, description| {
            TensorSpec::new(name, data_type, &shape).described(description)
        };
        let classes = spec("classes", DataType::Bytes, "labels of the best classes, best first");
        let mut specs = vec![
            spec("scores", DataType::Float32, "their scores"),
            spec("indices", DataType::Int64, "their positions in the model's output"),
        ];
        if self.labels.is_some() {
            specs.insert(0, classes);
        }
        specs
    }

    pub(crate) fn answer(&self, outputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let name = &self.input;
        let output = outputs
            .iter()
            .find(|output| output.name == *name)
            .ok_or_else(|| failed_precondition!("the model gave no output {name:?}"))?;
        let ranked = self.rank(output)?;
        let mut shape = output.shape.clone();
        if let Some(size) = shape.get_mut(self.axis) {
            *size = (*size).min(self.top_k as u64);
        }
        let scores: Vec<f32> = ranked.iter().map(|ranked| ranked.value).collect();
        let indices: Vec<i64> = ranked.iter().map(|ranked| ranked.class as i64).collect();
        let mut answer = Vec::with_capacity(3);
        if let Some(labels) = &self.labels {
            let label = |ranked: &Ranked| labels.get(ranked.class).unwrap_or_default().to_vec();
            let classes = ranked.iter().map(label).collect();
            answer.push(Tensor::bytes("classes", &shape, classes)?);
        }
        answer.push(Tensor::dense("scores", &shape, &scores)?);
        answer.push(Tensor::dense("indices", &shape, &indices)?);
        Ok(answer)
    }

    /// The best of each row along the axis, laid out as the answer's tensors are.
    fn rank(&self, output: &Tensor) -> Result<Vec<Ranked>> {
        let values = output.to_f32()?;
        let rows = Rows::new(output, self.axis, values.len())?;
        if let Some(labels) = &self.labels
            && labels.len() != rows.classes
        {
            return Err(self.miscounted(labels.len(), rows.classes as i64));
        }
        if let Some(at) = values.iter().position(|value| value.is_nan()) {
            let class = (at / rows.inner) % rows.classes;
            let name = &self.input;
            return Err(failed_precondition!(
                "the model's output {name:?} is NaN for class {class}"
            ));
        }
        let kept = rows.classes.min(self.top_k);
        let mut ranked = vec![Ranked { class: 0, value: 0.0 }; rows.count() * kept];
        for row in 0..rows.count() {
            let row_values = rows.row(&values, row);
            let softmax = self.softmax.then(|| Softmax::of(&row_values));
            for (place, mut one) in best(&row_values, kept).into_iter().enumerate() {
                if let Some(softmax) = softmax {
                    one.value = softmax.share(one.value);
                }
                if let Some(slot) = ranked.get_mut(rows.place(row, place, kept)) {
                    *slot = one;
                }
            }
        }
        Ok(ranked)
    }

    fn fits_labels(&self) -> Result<()> {
        match (&self.labels, self.shape.get(self.axis)) {
            (Some(labels), Some(&classes)) if classes != -1 && classes != labels.len() as i64 => {
                Err(self.miscounted(labels.len(), classes))
            }
            _ => Ok(()),
        }
    }

    fn miscounted(&self, labels: usize, classes: i64) -> ingle_plugin::Error {
        let name = &self.input;
        failed_precondition!("{labels} labels for the {classes} classes of output {name:?}")
    }
}

/// The rows along an axis of a row-major tensor: `outer` x `classes` x `inner` numbers.
struct Rows {
    outer: usize,
    classes: usize,
    inner: usize,
}

impl Rows {
    fn new(output: &Tensor, axis: usize, length: usize) -> Result<Self> {
        let product = |sizes: &[u64]| {
            sizes.iter().try_fold(1_usize, |product, &size| {
                product.checked_mul(usize::try_from(size).ok()?)
            })
        };
        let shape = &output.shape;
        let wrong = || {
            let name = &output.name;
            failed_precondition!("the model's output {name:?} is {shape:?} with {length} numbers")
        };
        let all = product(shape);
        if all != Some(length) || length == 0 {
            return Err(wrong());
        }
        let (before, rest) = shape.split_at_checked(axis).ok_or_else(wrong)?;
        let (&classes, after) = rest.split_first().ok_or_else(wrong)?;
        // No product overflows: their product is the length.
        let (outer, inner) = (product(before).unwrap_or(0), product(after).unwrap_or(0));
        Ok(Self { outer, classes: classes as usize, inner })
    }

    fn count(&self) -> usize {
        self.outer * self.inner
    }

    fn row<'a>(&self, values: &'a [f32], row: usize) -> Cow<'a, [f32]> {
        let (outer, inner) = (row / self.inner, row % self.inner);
        let block = self.classes * self.inner;
        let block = values.get(outer * block..(outer + 1) * block).unwrap_or_default();
        match self.inner {
            1 => Cow::Borrowed(block),
            _ => block.iter().skip(inner).step_by(self.inner).copied().collect(),
        }
    }

    /// Where a row's best class number `place` goes, of `kept` in each row.
    fn place(&self, row: usize, place: usize, kept: usize) -> usize {
        let (outer, inner) = (row / self.inner, row % self.inner);
        (outer * kept + place) * self.inner + inner
    }
}

fn model_output<'a>(name: Option<&str>, outputs: &'a [TensorSpec]) -> Result<&'a TensorSpec> {
    let names = || outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, outputs) {
        (None, [only]) => Ok(only),
        (None, _) => Err(invalid_argument!(
            "config key \"input\": required, as the model has {} outputs ({})",
            outputs.len(),
            names()
        )),
        (Some(name), _) => outputs.iter().find(|output| output.name == name).ok_or_else(|| {
            let names = names();
            invalid_argument!(
                "config key \"input\": the model has no output {name:?}, only: {names}"
            )
        }),
    }
}

fn checked_axis(axis: i64, output: &TensorSpec) -> Result<usize> {
    let name = &output.name;
    if !matches!(
        output.data_type,
        DataType::Float16 | DataType::Bfloat16 | DataType::Float32 | DataType::Float64
    ) {
        let data_type = output.data_type;
        return Err(failed_precondition!(
            "the model's output {name:?} is {data_type}, not a float"
        ));
    }
    let rank = output.shape.len() as i64;
    let positive = if axis < 0 { axis + rank } else { axis };
    if (0..rank).contains(&positive) {
        return Ok(positive as usize);
    }
    Err(invalid_argument!(
        "config key \"axis\": {axis} is not an axis of output {name:?} with its {rank} dimensions"
    ))
}

fn labels_file(name: Option<&str>, mut files: Vec<File>) -> Result<Option<File>> {
    let names = || files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        None if files.len() > 1 => Err(invalid_argument!(
            "config key \"labels\": required, as there are {} files ({})",
            files.len(),
            names()
        )),
        None => Ok(files.pop()),
        Some(name) => match files.iter().position(|file| file.name == name) {
            Some(at) => Ok(Some(files.swap_remove(at))),
            None => Err(invalid_argument!(
                "config key \"labels\": {name:?} is not among the files ({})",
                names()
            )),
        },
    }
}
