//! Linear models.

use ingle_types::DType;

use super::scores::{Labels, Transform, largest, logistic};
use super::{DOMAIN, dot, output, rows_of, singles};
use crate::context::Context;
use crate::kernels::Kernels;
use crate::ops::{Args, Built, Registry, op};
use crate::{BuildError, OpError};

pub(super) fn register<B: Kernels>(r: &mut Registry<B>) {
    r.add_in(DOMAIN, "LinearRegressor", 1.., 1..=1, regressor);
    r.add_in(DOMAIN, "LinearClassifier", 1.., 1..=1, classifier);
}

/// One row of weights, and an intercept, for each target.
struct Linear {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
}

impl Linear {
    fn read<B: Kernels>(args: &Args<'_, B>, targets: usize) -> Result<Self, BuildError> {
        let name = "coefficients";
        let coefficients = args.floats(name)?.ok_or(BuildError::Missing { name })?.to_vec();
        if coefficients.is_empty() || targets == 0 || !coefficients.len().is_multiple_of(targets) {
            return Err(BuildError::Value { name, reason: "not as many for each target" });
        }
        let intercepts = match args.floats("intercepts")? {
            Some(given) if given.len() == targets => given.to_vec(),
            None | Some([]) => vec![0.; targets],
            Some(_) => {
                let reason = "not one for each target";
                return Err(BuildError::Value { name: "intercepts", reason });
            }
        };
        Ok(Self { coefficients, intercepts })
    }

    fn targets(&self) -> usize {
        self.intercepts.len()
    }

    /// `[rows, targets]` from `[rows, columns]`.
    fn scores(&self, x: &[f32], columns: usize) -> Result<Vec<f32>, OpError> {
        if columns.checked_mul(self.targets()) != Some(self.coefficients.len()) {
            return Err(OpError::Mismatch {
                what: "features and coefficients",
                left: vec![columns],
                right: vec![self.targets(), self.coefficients.len() / self.targets()],
            });
        }
        let score = |row: &[f32]| -> Vec<f32> {
            let weights = self.coefficients.chunks_exact(columns);
            weights.zip(&self.intercepts).map(|(w, bias)| dot(row, w) + bias).collect()
        };
        Ok(x.chunks_exact(columns).flat_map(score).collect())
    }
}

fn regressor<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    let transform = Transform::read(args)?;
    let targets = usize::try_from(args.int("targets", 1)?).unwrap_or_default();
    let coefficients = args.floats("coefficients")?.unwrap_or_default();
    if targets > coefficients.len() {
        let reason = "more targets than coefficients";
        return Err(BuildError::Value { name: "targets", reason });
    }
    let linear = Linear::read(args, targets)?;
    op(move |ctx, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let [rows, columns] = rows_of(x.dims())?;
        let dims = [rows, linear.targets()];
        ctx.admit(DType::F32, &dims)?;
        let mut scores = linear.scores(&singles(&x)?, columns)?;
        scores.chunks_exact_mut(linear.targets()).for_each(|row| transform.apply(row));
        Ok(vec![output(ctx, &dims, &scores)?])
    })
}

/// One set of weights may serve two classes: its score is that of the second.
fn classifier<B: Kernels>(args: &Args<'_, B>) -> Built<B> {
    args.makes_outputs(2);
    args.ignore("multi_class");
    let transform = Transform::read(args)?;
    let labels = Labels::read(args, "classlabels_ints", "classlabels_strings")?;
    let given = args.floats("intercepts")?.unwrap_or_default().len();
    let targets = if given == 0 { labels.len() } else { given };
    let paired = targets == 1 && labels.len() == 2;
    if targets != labels.len() && !paired {
        let reason = "not one for each class";
        return Err(BuildError::Value { name: "intercepts", reason });
    }
    if paired && transform == Transform::Probit {
        return Err(BuildError::Unsupported { what: "the probit of one score for two classes" });
    }
    let linear = Linear::read(args, targets)?;
    op(move |ctx: &Context<B>, mut inputs| {
        let x = inputs.take(0)?.to_tensor(ctx)?;
        let [rows, columns] = rows_of(x.dims())?;
        let dims = [rows, labels.len()];
        ctx.admit(DType::F32, &dims)?;
        let mut scores = linear.scores(&singles(&x)?, columns)?;
        let places: Vec<usize> = match linear.targets() {
            1 => scores.iter().map(|&score| usize::from(score > 0. && paired)).collect(),
            targets => scores.chunks_exact(targets).map(largest).collect(),
        };
        if paired {
            scores = scores.iter().flat_map(|&score| pair(transform, score)).collect();
        } else {
            scores.chunks_exact_mut(linear.targets()).for_each(|row| transform.apply(row));
        }
        Ok(vec![labels.pick(ctx, &places)?, output(ctx, &dims, &scores)?])
    })
}

/// Scores of two classes from that of the second.
fn pair(transform: Transform, score: f32) -> [f32; 2] {
    match transform {
        Transform::Logistic => [logistic(-score), logistic(score)],
        _ => [1. - score, score],
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Case, f32s, i64s, tensor, texts};

    fn case(operator: &str) -> Case {
        let x = f32s(&[3, 2], &[0.1, 0.2, -0.3, 0.1, 0., 0.]);
        Case::of(operator, [x]).ml(3)
    }

    #[test]
    fn a_regressor_adds_weighted_features() {
        case("LinearRegressor")
            .floats("coefficients", &[1., 0.5])
            .floats("intercepts", &[0.1])
            .gives([f32s(&[3, 1], &[0.3, -0.15, 0.1])]);
        let two = case("LinearRegressor").int("targets", 2);
        two.clone()
            .floats("coefficients", &[1., 0.5, 0.1, 0.2])
            .string("post_transform", "SOFTMAX")
            .floats("intercepts", &[0.1, 0.])
            .gives([f32s(
                &[3, 2],
                &[0.5621765, 0.4378235, 0.46505705, 0.5349429, 0.5249792, 0.47502083],
            )]);
        two.clone().floats("coefficients", &[1., 2., 3.]).fails("not as many for each target");
        two.floats("coefficients", &[1., 2.]).fails("features and coefficients");
        case("LinearRegressor").int("targets", i64::MAX).fails("more targets");
        Case::of("LinearRegressor", [i64s(&[1, 2], &[3, 4])])
            .ml(1)
            .floats("coefficients", &[1., 0.5])
            .gives([f32s(&[1, 1], &[5.])]);
    }

    #[test]
    fn a_classifier_names_the_largest_score() {
        let classes = ["a", "b", "c"];
        case("LinearClassifier")
            .floats("coefficients", &[1., 0.5, 0.2, 0.3, 0.4, 0.5])
            .floats("intercepts", &[0.1, 0., 0.])
            .strings("classlabels_strings", &classes)
            .gives([
                texts(&[3], &["a", "b", "a"]),
                f32s(&[3, 3], &[0.3, 0.08, 0.14, -0.15, -0.03, -0.07, 0.1, 0., 0.]),
            ]);
    }

    #[test]
    fn one_score_serves_two_classes() {
        let two = case("LinearClassifier")
            .floats("coefficients", &[1., 0.5])
            .floats("intercepts", &[0.1])
            .ints("classlabels_ints", &[7, 8]);
        let labels = i64s(&[3], &[8, 7, 8]);
        two.gives([labels.clone(), f32s(&[3, 2], &[0.7, 0.3, 1.15, -0.15, 0.9, 0.1])]);
        two.clone().string("post_transform", "LOGISTIC").gives([
            labels,
            f32s(&[3, 2], &[0.4255575, 0.5744425, 0.5374298, 0.4625702, 0.47502083, 0.5249792]),
        ]);
        two.string("post_transform", "PROBIT").fails("not supported");
    }

    #[test]
    fn classes_and_weights_must_fit() {
        let weights = case("LinearClassifier").floats("coefficients", &[1., 0.5]);
        weights.fails("\"classlabels_ints\" is missing");
        weights.clone().ints("classlabels_ints", &[1, 2, 3]).fails("not as many for each");
        weights
            .clone()
            .ints("classlabels_ints", &[1, 2, 3])
            .floats("intercepts", &[0., 0.])
            .fails("not one for each class");
        weights.ints("classlabels_ints", &[1]).string("post_transform", "LOUD").fails("transform");
        case("LinearClassifier").ints("classlabels_ints", &[1]).fails("is missing");
        Case::of("LinearClassifier", [tensor::<f32>(&[1, 1, 2], &[0., 0.])])
            .ml(1)
            .floats("coefficients", &[1., 0.5])
            .ints("classlabels_ints", &[1])
            .fails("the features");
    }
}
