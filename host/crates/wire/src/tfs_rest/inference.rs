//! `:classify` and `:regress`.

use std::sync::Arc;

use ingle_types::{Deadline, ModelSpec, ServeError, Signature, Stage};
use prost::Message as _;

use super::body::Encoded;
use super::examples;
use super::float::write_f32;
use crate::Wire;
use crate::call::{Call, offload};
use crate::inference::{Classifier, Examples, Method, Regressor, Task, UNKNOWN_SIGNATURE};
use crate::json::write_string;
use crate::proto::tensorflow::serving as pb;
use crate::request_log::Kind;

pub(super) async fn classify(
    wire: &Wire,
    call: &Call,
    model: ModelSpec,
    body: Encoded,
    deadline: Deadline,
) -> Result<Vec<u8>, ServeError> {
    let (result, examples) = run(wire, call, model, body, deadline, Classifier::of).await?;
    let recorded = call.choose().map(|chosen| (chosen, result.encode_to_vec()));
    let rows = result.classifications;
    let classes: usize = rows.iter().map(|row| row.classes.len()).sum();
    let text = offload(classes * size_of::<pb::Class>(), move || classifications(&rows)).await?;
    if let Some((chosen, result)) = recorded {
        call.record_examples(chosen, Kind::Classify, &examples, result);
    }
    Ok(text)
}

pub(super) async fn regress(
    wire: &Wire,
    call: &Call,
    model: ModelSpec,
    body: Encoded,
    deadline: Deadline,
) -> Result<Vec<u8>, ServeError> {
    let (result, examples) = run(wire, call, model, body, deadline, Regressor::of).await?;
    let recorded = call.choose().map(|chosen| (chosen, result.encode_to_vec()));
    let rows = result.regressions;
    let text =
        offload(rows.len() * size_of::<pb::Regression>(), move || regressions(&rows)).await?;
    if let Some((chosen, result)) = recorded {
        call.record_examples(chosen, Kind::Regress, &examples, result);
    }
    Ok(text)
}

/// The text first, whatever the model: so does TensorFlow Serving.
async fn run<M: Method>(
    wire: &Wire,
    call: &Call,
    model: ModelSpec,
    body: Encoded,
    deadline: Deadline,
    method: impl FnOnce(&Signature) -> Result<M, ServeError>,
) -> Result<(M::Answer, Arc<Examples>), ServeError> {
    let (limits, bytes) = (wire.limits.clone(), body.len());
    let decode = move || examples::decode(&body.decode()?, &limits);
    let (signature, examples) = offload(bytes, decode).await?;
    let servable = call.resolve(&model)?;
    let task = Task::new(&servable, signature, UNKNOWN_SIGNATURE, method)?;
    let examples = Arc::new(examples);
    let answer = task.run(Some(call), &examples, wire.limits.request_bytes, deadline).await?;
    call.examples(examples.len());
    Ok((answer, examples))
}

fn classifications(rows: &[pb::Classifications]) -> Result<Vec<u8>, ServeError> {
    render(rows, "Classification", |out, row| {
        list(out, &row.classes, |out, class| {
            out.push(b'[');
            write_string(out, class.label.as_bytes());
            out.extend_from_slice(b", ");
            write_f32(out, class.score);
            out.push(b']');
        });
    })
}

fn regressions(rows: &[pb::Regression]) -> Result<Vec<u8>, ServeError> {
    render(rows, "Regression", |out, row| write_f32(out, row.value))
}

/// `kind` is for the message where there are no `rows`.
fn render<T>(
    rows: &[T],
    kind: &str,
    write: impl Fn(&mut Vec<u8>, &T),
) -> Result<Vec<u8>, ServeError> {
    if rows.is_empty() {
        let message = format!("Cannot convert empty {kind}Results to JSON");
        return Err(ServeError::invalid(Stage::Encode, message));
    }
    let mut out = b"{\n    \"results\": ".to_vec();
    list(&mut out, rows, write);
    out.extend_from_slice(b"\n}");
    Ok(out)
}

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        write(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_pairs_of_label_and_score_or_values() {
        let class = |label: &str, score| pb::Class { label: label.into(), score };
        let rows = [
            pb::Classifications { classes: vec![class("a\"b", 0.5), class("", f32::NAN)] },
            pb::Classifications::default(),
        ];
        assert_eq!(
            classifications(&rows).unwrap(),
            b"{\n    \"results\": [[[\"a\\\"b\", 0.5], [\"\", NaN]], []]\n}"
        );
        let rows = [pb::Regression { value: 3.0 }, pb::Regression { value: f32::NEG_INFINITY }];
        assert_eq!(regressions(&rows).unwrap(), b"{\n    \"results\": [3.0, -Infinity]\n}");
    }

    #[test]
    fn nothing_is_no_result() {
        let error = classifications(&[]).unwrap_err();
        assert_eq!(error.message(), "Cannot convert empty ClassificationResults to JSON");
        let error = regressions(&[]).unwrap_err();
        assert_eq!(error.message(), "Cannot convert empty RegressionResults to JSON");
    }
}
