use ingle_types::{Code, ServeError, Signature, Stage, Tensor, TensorMap, TensorSpec};

use super::elements::{floats, is_float, is_label, labels};
use super::{Method, output, wrong_output};
use crate::proto::tensorflow::serving as pb;
use crate::tensor_proto::data_type;

const CLASSES: &str = "classes";
const SCORES: &str = "scores";

/// Classification by a signature with the outputs `classes` and `scores`, or one of
/// them, as TensorFlow Serving names them.
///
/// Where it has neither name, the scores are its only output of floats that has rank
/// 2, and the classes its only output of strings or integers that has rank 1 or 2.
///
/// `scores` are floats `[batch, classes]` or `[batch]`, `classes` strings or integers
/// of the same shape. Where there are several scores but one class for each example,
/// as in classifiers that say the label they chose, the greatest score has the label,
/// and the others have none: their order is the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classifier {
    classes: Option<String>,
    scores: Option<String>,
}

impl Classifier {
    /// # Errors
    /// In TensorFlow Serving's words and with its codes, where the signature has no
    /// such outputs, or more than one to choose from.
    pub(crate) fn of(signature: &Signature) -> Result<Self, ServeError> {
        let named = |name: &str| signature.output(name).map(|spec| spec.name.clone());
        let (classes, scores) = (named(CLASSES), named(SCORES));
        if classes.is_some() || scores.is_some() {
            return Ok(Self { classes, scores });
        }
        let scores = |spec: &&TensorSpec| is_float(spec.dtype) && has_rank(spec, &[2]);
        let classes = |spec: &&TensorSpec| is_label(spec.dtype) && has_rank(spec, &[1, 2]);
        let scores = only(signature, scores)?;
        let classes = only(signature, classes)?;
        if classes.is_none() && scores.is_none() {
            return Err(unclear(signature));
        }
        Ok(Self { classes, scores })
    }
}

/// The name of the one output that `fits`, if there is one.
fn only(
    signature: &Signature,
    fits: impl Fn(&&TensorSpec) -> bool,
) -> Result<Option<String>, ServeError> {
    let mut found = signature.outputs.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(unclear(signature)),
        (found, _) => Ok(found.map(|spec| spec.name.clone())),
    }
}

fn has_rank(spec: &TensorSpec, ranks: &[usize]) -> bool {
    spec.shape.as_ref().is_none_or(|dims| ranks.contains(&dims.len()))
}

fn unclear(signature: &Signature) -> ServeError {
    let names = super::output_names(signature);
    let count = signature.outputs.len();
    if count == 1 || count == 2 {
        let message = format!(
            "Expected classification signature outputs to contain at least one of \"{CLASSES}\" or \"{SCORES}\". Signature has the outputs {names}"
        );
        return ServeError::new(Code::FailedPrecondition, Stage::Route, message);
    }
    let message = format!(
        "Expected one or two output Tensors, found {count}, of which none is named \"{CLASSES}\" or \"{SCORES}\": {names}"
    );
    ServeError::invalid(Stage::Route, message)
}

impl Method for Classifier {
    type Answer = pb::ClassificationResult;

    fn outputs(&self) -> Vec<String> {
        self.classes.iter().chain(&self.scores).cloned().collect()
    }

    fn answer(&self, outputs: &TensorMap, examples: usize) -> Result<Self::Answer, ServeError> {
        let tensor =
            |name: &Option<String>| name.as_ref().map(|name| output(outputs, name)).transpose();
        let classes = tensor(&self.classes)?
            .map(|tensor| Table::read(tensor, CLASSES, "DT_STRING", examples, labels))
            .transpose()?;
        let scores = tensor(&self.scores)?
            .map(|tensor| Table::read(tensor, SCORES, "DT_FLOAT", examples, floats))
            .transpose()?;
        if let (Some(classes), Some(scores)) = (&classes, &scores)
            && classes.width != scores.width
            && classes.width != 1
        {
            return Err(wrong_output(format!(
                "Tensors class and score should match in dim_size(1). Got {} vs. {}",
                classes.width, scores.width
            )));
        }
        let row = |index| pb::Classifications {
            classes: pair(
                classes.as_ref().map(|table| table.row(index)),
                scores.as_ref().map(|table| table.row(index)),
            ),
        };
        Ok(pb::ClassificationResult { classifications: (0..examples).map(row).collect() })
    }
}

/// An output's elements, so many for each example.
struct Table<T> {
    width: usize,
    elements: Vec<T>,
}

impl<T> Table<T> {
    /// `name` and `dtype` are what TensorFlow Serving expects.
    fn read(
        tensor: &Tensor,
        name: &str,
        dtype: &str,
        examples: usize,
        elements: impl FnOnce(&Tensor) -> Option<Vec<T>>,
    ) -> Result<Self, ServeError> {
        let (batch, width) = match *tensor.dims() {
            [batch, width] => (batch, width),
            [batch] => (batch, 1),
            _ => {
                return Err(wrong_output(format!(
                    "Expected Tensor shape: [batch_size num_classes] but got {}",
                    tensor.shape()
                )));
            }
        };
        let elements = elements(tensor).ok_or_else(|| {
            let given = data_type(tensor.dtype()).as_str_name();
            wrong_output(format!("Expected {name} Tensor of {dtype}. Got: {given}"))
        })?;
        if batch != examples {
            return Err(wrong_output(format!(
                "Expected {name} output batch size of {examples}. Got: {batch}"
            )));
        }
        Ok(Self { width, elements })
    }

    fn row(&self, index: usize) -> &[T] {
        let start = index.saturating_mul(self.width);
        self.elements.get(start..start.saturating_add(self.width)).unwrap_or_default()
    }
}

/// One example's classes; without labels they are empty, without scores zero.
fn pair(labels: Option<&[String]>, scores: Option<&[f32]>) -> Vec<pb::Class> {
    match (labels, scores) {
        (Some([label]), Some(scores)) if scores.len() > 1 => {
            let mut classes = unnamed(scores);
            let greatest = classes
                .iter_mut()
                .reduce(|best, class| if class.score > best.score { class } else { best });
            if let Some(greatest) = greatest {
                greatest.label.clone_from(label);
            }
            classes
        }
        (Some(labels), Some(scores)) => labels
            .iter()
            .zip(scores)
            .map(|(label, &score)| pb::Class { label: label.clone(), score })
            .collect(),
        (Some(labels), None) => {
            labels.iter().map(|label| pb::Class { label: label.clone(), score: 0.0 }).collect()
        }
        (None, Some(scores)) => unnamed(scores),
        (None, None) => Vec::new(),
    }
}

fn unnamed(scores: &[f32]) -> Vec<pb::Class> {
    scores.iter().map(|&score| pb::Class { label: String::new(), score }).collect()
}

#[cfg(test)]
mod tests;
