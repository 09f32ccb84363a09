//! Support vector machines: libsvm's models, and liblinear's where there are no
//! support vectors.

mod pairs;

use ingle_types::DType;

use self::pairs::Pairs;
use super::scores::{Labels, Transform, largest};
use super::{DOMAIN, dot, output, rows_of, singles};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::ops::{Args, Built, Registry, op};
use crate::value::Value;
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "SVMRegressor", 1.., 1..=1, regressor);
    r.add_in(DOMAIN, "SVMClassifier", 1.., 1..=1, classifier);
}

/// How alike two rows of features are.
#[derive(Clone, Copy)]
enum Kernel {
    Linear,
    Poly { gamma: f32, coef0: f32, degree: f32 },
    Rbf { gamma: f32 },
    Sigmoid { gamma: f32, coef0: f32 },
}

impl Kernel {
    fn read<B: Kernels>(args: &Args<'_, B>) -> Result<Self, BuildError> {
        let name = "kernel_params";
        let (gamma, coef0, degree) = match args.floats(name)? {
            None | Some([]) => (0., 0., 0.),
            Some(&[gamma, coef0, degree]) => (gamma, coef0, degree),
            Some(_) => return Err(BuildError::Value { name, reason: "not three numbers" }),
        };
        Ok(match &*args.string("kernel_type", "LINEAR")? {
            "LINEAR" => Self::Linear,
            "POLY" => Self::Poly { gamma, coef0, degree },
            "RBF" => Self::Rbf { gamma },
            "SIGMOID" => Self::Sigmoid { gamma, coef0 },
            _ => {
                return Err(BuildError::Value { name: "kernel_type", reason: "no such kernel" });
            }
        })
    }

    fn of(self, left: &[f32], right: &[f32]) -> f32 {
        match self {
            Self::Linear => dot(left, right),
            Self::Poly { gamma, coef0, degree } => (gamma * dot(left, right) + coef0).powf(degree),
            Self::Rbf { gamma } => {
                let squares = left.iter().zip(right).map(|(a, b)| (a - b) * (a - b));
                (-gamma * squares.sum::<f32>()).exp()
            }
            Self::Sigmoid { gamma, coef0 } => (gamma * dot(left, right) + coef0).tanh(),
        }
    }
}

/// Rows that operands are compared with: support vectors, or plain weights.
struct Vectors {
    kernel: Kernel,
    values: Vec<f32>,
    count: usize,
}

impl Vectors {
    fn new(
        kernel: Kernel,
        values: &[f32],
        count: usize,
        name: &'static str,
    ) -> Result<Self, BuildError> {
        if values.is_empty() || count == 0 || !values.len().is_multiple_of(count) {
            return Err(BuildError::Value { name, reason: "not equally long rows" });
        }
        Ok(Self { kernel, values: values.to_vec(), count })
    }

    fn columns(&self) -> usize {
        self.values.len() / self.count
    }

    /// The rows of the operand, and how many there are.
    fn rows(&self, dims: &[usize]) -> Result<usize, OpError> {
        let [rows, columns] = rows_of(dims)?;
        if columns != self.columns() {
            let (left, right) = (dims.to_vec(), vec![self.count, self.columns()]);
            return Err(OpError::Mismatch { what: "features and vectors", left, right });
        }
        Ok(rows)
    }

    /// The kernel of `row` with each vector.
    fn kernels(&self, row: &[f32]) -> Vec<f32> {
        self.values.chunks_exact(self.columns()).map(|v| self.kernel.of(row, v)).collect()
    }
}

fn rho<B: Kernels>(args: &Args<'_, B>, least: usize) -> Result<Vec<f32>, BuildError> {
    let name = "rho";
    match args.floats(name)? {
        Some(values) if values.len() >= least => Ok(values.to_vec()),
        Some(_) => Err(BuildError::Value { name, reason: "not one for each pair of classes" }),
        None => Err(BuildError::Missing { name }),
    }
}

/// ONNX Runtime applies no transform to what a regressor gives, nor does this.
fn regressor<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    Transform::read(args)?;
    let kernel = Kernel::read(args)?;
    let one_class = args.flag("one_class", false)?;
    let rho = rho(args, 1)?.first().copied().unwrap_or_default();
    let name = "coefficients";
    let coefficients = args.floats(name)?.ok_or(BuildError::Missing { name })?.to_vec();
    let vectors = args.floats("support_vectors")?.unwrap_or_default();
    let supports = usize::try_from(args.int("n_supports", 0)?).unwrap_or_default();
    if supports > 0 && coefficients.len() != supports {
        return Err(BuildError::Value { name, reason: "not one for each support vector" });
    }
    // Without support vectors the coefficients are the weights.
    let (vectors, weights) = if supports > 0 {
        (Vectors::new(kernel, vectors, supports, "support_vectors")?, coefficients)
    } else {
        (Vectors::new(Kernel::Linear, &coefficients, 1, name)?, vec![1.])
    };
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let rows = vectors.rows(x.dims())?;
        ctx.admit(DType::F32, &[rows, 1])?;
        let score = |row: &[f32]| {
            let score = dot(&vectors.kernels(row), &weights) + rho;
            match one_class {
                true if score > 0. => 1.,
                true => -1.,
                false => score,
            }
        };
        let scores: Vec<f32> = singles(&x)?.chunks_exact(vectors.columns()).map(score).collect();
        Ok(vec![output(ctx, &[rows, 1], &scores)?])
    })
}

struct Classifier {
    labels: Labels,
    vectors: Vectors,
    transform: Transform,
    mode: Mode,
}

enum Mode {
    /// One row of weights for each class, and what is added to its product.
    Linear {
        rho: f32,
        all_positive: bool,
    },
    Pairs(Pairs),
}

fn classifier<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.makes_outputs(2);
    let labels = Labels::read(args, "classlabels_ints", "classlabels_strings")?;
    let kernel = Kernel::read(args)?;
    let transform = Transform::read(args)?;
    let name = "coefficients";
    let coefficients = args.floats(name)?.ok_or(BuildError::Missing { name })?;
    let values = args.floats("support_vectors")?.unwrap_or_default();
    let supports = args.sizes("vectors_per_class")?.unwrap_or_default();
    let sigmoid = sigmoid(args)?;
    let count = supports.iter().fold(0usize, |sum, &s| sum.saturating_add(s));
    let classifier = if count == 0 {
        let all_positive = coefficients.iter().all(|&c| c >= 0.);
        let rho = rho(args, 1)?.first().copied().unwrap_or_default();
        let vectors = Vectors::new(Kernel::Linear, coefficients, labels.len(), name)?;
        Classifier { labels, vectors, transform, mode: Mode::Linear { rho, all_positive } }
    } else {
        let vectors = Vectors::new(kernel, values, count, "support_vectors")?;
        let coefficients = coefficients.to_vec();
        let pairs = labels.len().saturating_mul(labels.len() - 1) / 2;
        let rho = rho(args, pairs)?;
        let pairs = Pairs { supports, coefficients, rho, sigmoid };
        pairs.check(labels.len(), count)?;
        Classifier { labels, vectors, transform, mode: Mode::Pairs(pairs) }
    };
    op(move |ctx, mut inputs| classifier.run(ctx, &inputs.take(0)?))
}

fn sigmoid<B: Kernels>(args: &Args<'_, B>) -> Result<Vec<(f32, f32)>, BuildError> {
    let a = args.floats("prob_a")?.unwrap_or_default();
    let b = args.floats("prob_b")?.unwrap_or_default();
    if a.len() != b.len() {
        let reason = "not as many as in prob_a";
        return Err(BuildError::Value { name: "prob_b", reason });
    }
    Ok(a.iter().copied().zip(b.iter().copied()).collect())
}

impl Classifier {
    fn run<B: Kernels>(&self, ctx: &Context<B>, x: &Value<B>) -> Result<Vec<Value<B>>, OpError> {
        let x = x.to_tensor(ctx)?;
        let dims = [self.vectors.rows(x.dims())?, self.scores()];
        ctx.admit(DType::F32, &dims)?;
        let (mut places, mut scores) = (Vec::new(), Vec::new());
        for row in singles(&x)?.chunks_exact(self.vectors.columns()) {
            let kernels = self.vectors.kernels(row);
            match &self.mode {
                Mode::Linear { rho, all_positive } => {
                    let mut row: Vec<f32> = kernels.iter().map(|k| k + rho).collect();
                    places.push(linear_class(&row, *all_positive));
                    self.transform.apply(&mut row);
                    scores.append(&mut row);
                }
                Mode::Pairs(pairs) => {
                    let (place, mut row) = pairs.decide(&kernels, self.transform);
                    places.push(place);
                    scores.append(&mut row);
                }
            }
        }
        Ok(vec![self.labels.pick(ctx, &places)?, output(ctx, &dims, &scores)?])
    }

    /// How many scores each row gets: one for each pair of classes where there
    /// are neither weights nor probabilities.
    fn scores(&self) -> usize {
        let classes = self.labels.len();
        match &self.mode {
            Mode::Pairs(pairs) if pairs.sigmoid.is_empty() && classes != 2 => {
                classes * (classes - 1) / 2
            }
            _ => classes,
        }
    }
}

/// Of two classes, the second wins by being above zero, or half where no weight
/// is negative.
fn linear_class(scores: &[f32], all_positive: bool) -> usize {
    let best = largest(scores);
    let most = scores.get(best).copied().unwrap_or_default();
    let second = if all_positive { most >= 0.5 } else { most > 0. };
    if scores.len() == 2 && second { 1 } else { best }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, i64s, texts};

    fn case(operator: &str) -> Case {
        Case::of(operator, [f32s(&[2, 2], &[1., 2., 1., -0.5])]).ml(1)
    }

    fn regressor(kernel: &str) -> Case {
        case("SVMRegressor")
            .string("kernel_type", kernel)
            .floats("kernel_params", &[0.5, 0.1, 2.])
            .floats("support_vectors", &[1., 0., 0., 1., -1., -1.])
            .int("n_supports", 3)
            .floats("coefficients", &[0.5, -0.25, -0.25])
    }

    #[test]
    fn kernels_weigh_support_vectors() {
        let near = |kernel: &str, wanted: [f32; 2]| {
            regressor(kernel).floats("rho", &[0.1]).gives([f32s(&[2, 1], &wanted)]);
        };
        near("LINEAR", [0.85, 0.85]);
        near("POLY", [-0.5125, 0.26875]);
        near("RBF", [0.07532192, 0.4621623]);
        near("SIGMOID", [0.38973793, 0.4429673]);
        let one = regressor("RBF").int("one_class", 1).floats("rho", &[-0.08]);
        one.gives([f32s(&[2, 1], &[-1., 1.])]);
        case("SVMRegressor")
            .floats("coefficients", &[0.5, -0.25])
            .floats("rho", &[0.1])
            .gives([f32s(&[2, 1], &[0.1, 0.725])]);
    }

    fn two_classes() -> Case {
        case("SVMClassifier")
            .string("kernel_type", "RBF")
            .floats("kernel_params", &[0.5, 0., 0.])
            .floats("support_vectors", &[1., 0., 0., 1., -1., -1.])
            .ints("vectors_per_class", &[2, 1])
            .floats("coefficients", &[0.5, 0.25, -0.75])
            .floats("rho", &[0.05])
            .strings("classlabels_strings", &["no", "yes"])
    }

    #[test]
    fn one_score_separates_two_classes() {
        let labels = texts(&[2], &["no", "no"]);
        let scored =
            |case: Case, scores: [f32; 4]| case.gives([labels.clone(), f32s(&[2, 2], &scores)]);
        scored(two_classes(), [-0.20850992, 0.20850992, -0.45090163, 0.45090163]);
        let logistic = two_classes().string("post_transform", "LOGISTIC");
        scored(logistic, [0.44806057, 0.5519394, 0.3891464, 0.6108536]);
        let probable = two_classes().floats("prob_a", &[-1.5]).floats("prob_b", &[0.2]);
        scored(probable, [0.52815664, 0.4718433, 0.6158751, 0.38412488]);
    }

    fn three_classes() -> Case {
        case("SVMClassifier")
            .floats("support_vectors", &[1., 0., 0., 1., -1., -1.])
            .ints("vectors_per_class", &[1, 1, 1])
            .floats("coefficients", &[0.5, -0.5, -0.25, 0.75, 0.6, -0.3])
            .ints("classlabels_ints", &[3, 4, 5])
    }

    #[test]
    fn pairs_vote_for_their_classes() {
        let case = three_classes().floats("rho", &[0.05, -0.1, 0.2]);
        let labels = i64s(&[2], &[4, 3]);
        let scores = [-0.45, 1.4, 2.3, 0.8, 0.775, 0.05];
        case.gives([labels.clone(), f32s(&[2, 3], &scores)]);
        let probable = case.floats("prob_a", &[-1.5, -1., -2.]).floats("prob_b", &[0.2, 0., 0.1]);
        let scores = [0.2774633, 0.68981636, 0.03272048, 0.5453251, 0.21540998, 0.23926504];
        probable.gives([labels, f32s(&[2, 3], &scores)]);
    }

    #[test]
    fn weights_alone_are_a_linear_machine() {
        case("SVMClassifier")
            .floats("coefficients", &[0.5, -0.5, -0.25, 0.75])
            .floats("rho", &[0.1])
            .ints("classlabels_ints", &[3, 4])
            .gives([i64s(&[2], &[4, 4]), f32s(&[2, 2], &[-0.4, 1.35, 0.85, -0.525])]);
    }

    #[test]
    fn lists_that_lie_are_refused() {
        three_classes().fails("\"rho\" is missing");
        three_classes().floats("rho", &[1.]).fails("not one for each pair of classes");
        let rho = [0.; 3];
        let half = three_classes().floats("rho", &rho).floats("prob_a", &[1.]);
        half.fails("not as many as in prob_a");
        half.floats("prob_b", &[1.]).fails("not one for each pair");
        let four = two_classes().ints("classlabels_ints", &[1, 2, 3, 4]);
        four.string("post_transform", "NO").fails("no such transform");
        regressor("RBF").fails("\"rho\" is missing");
        regressor("COSINE").floats("rho", &[0.1]).fails("no such kernel");
        let short = |name: &str| case("SVMRegressor").floats(name, &[1.; 3]).floats("rho", &[0.]);
        short("coefficients").fails("features and vectors");
        short("coefficients").int("n_supports", 2).fails("not one for each support vector");
        short("coefficients").int("n_supports", 3).fails("not equally long rows");
        short("support_vectors").fails("\"coefficients\" is missing");
    }
}
