//! Several signatures of one version of a model, on the same examples.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ingle_types::{Code, Deadline, Limits, Servable, ServeError, Signature, Stage, TensorMap};
use pb::inference_result::Result as Answer;

use super::inference::{answered_by, examples, split};
use super::{spec, unary};
use crate::Wire;
use crate::call::Call;
use crate::inference::{Classifier, Examples, Method, Regressor, Task};
use crate::proto::tensorflow::serving as pb;

const CLASSIFY: &str = "tensorflow/serving/classify";
const REGRESS: &str = "tensorflow/serving/regress";
const UNKNOWN_SIGNATURE: &str = "Requested signature not found in model graph";

/// The version is the one that the first task asks for.
pub(super) async fn answer(
    wire: &Wire,
    call: &Call,
    deadline: Deadline,
    message: Bytes,
) -> Result<Bytes, ServeError> {
    let (asked, input) = read(message, wire.limits.tensors_per_request)?;
    let first = asked.first().and_then(|task| task.model_spec.clone());
    let (model, _) = spec::read(Some(first.unwrap_or_default()))?;
    let servable = call.resolve(&model)?;
    let tasks = tasks(&servable, asked, &model.name)?;
    let examples = examples(&wire.limits, input).await?;
    let answers = run(Some(call), tasks, &examples, &wire.limits, deadline).await?;
    call.examples(examples.len());
    let result = |(signature, answer)| {
        let spec = answered_by(model.name.clone(), &*servable, signature);
        pb::InferenceResult { model_spec: Some(spec), result: Some(answer) }
    };
    unary::encode(&pb::MultiInferenceResponse {
        results: answers.into_iter().map(result).collect(),
    })
}

/// Answers a recorded request; whichever model it names, `servable` is asked.
pub(super) async fn replay(
    servable: &Arc<dyn Servable>,
    limits: &Limits,
    message: Bytes,
) -> Result<(), ServeError> {
    let (asked, input) = read(message, limits.tensors_per_request)?;
    let first = asked.first().and_then(|task| task.model_spec.as_ref());
    let model = first.map(|spec| spec.name.clone()).unwrap_or_default();
    let tasks = tasks(servable, asked, &model)?;
    let examples = examples(limits, input).await?;
    run(None, tasks, &examples, limits, Deadline::NONE).await.map(drop)
}

/// The effective names of the signatures, and what they answer.
async fn run(
    call: Option<&Call>,
    tasks: Vec<Task<Either>>,
    examples: &Arc<Examples>,
    limits: &Limits,
    deadline: Deadline,
) -> Result<Vec<(String, Answer)>, ServeError> {
    let mut answers = Vec::new();
    for task in tasks {
        let answer = task.run(call, examples, limits.request_bytes, deadline).await?;
        answers.push((task.name, answer));
    }
    Ok(answers)
}

/// At most `most` tasks, and the input.
fn read(message: Bytes, most: usize) -> Result<(Vec<pb::InferenceTask>, Bytes), ServeError> {
    let mut tasks = Vec::new();
    let input = split(message, |task| {
        if tasks.len() == most {
            return Err(unary::invalid(format!("the request has more than {most} tasks")));
        }
        tasks.push(unary::decode(task)?);
        Ok(())
    })?;
    Ok((tasks, input))
}

/// All tasks, before the first of them runs.
fn tasks(
    servable: &Arc<dyn Servable>,
    asked: Vec<pb::InferenceTask>,
    model: &str,
) -> Result<Vec<Task<Either>>, ServeError> {
    let mut names = BTreeSet::new();
    let mut tasks = Vec::new();
    for pb::InferenceTask { model_spec, method_name } in asked {
        let spec = model_spec.unwrap_or_default();
        if spec.name.is_empty() {
            return Err(unary::invalid("Found ModelSpec with an empty model name."));
        }
        if spec.name != model {
            return Err(unary::invalid(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
            ));
        }
        let method = |signature: &Signature| Either::of(&method_name, signature);
        let task = Task::new(servable, spec.signature_name, UNKNOWN_SIGNATURE, method)?;
        if !names.insert(task.name.clone()) {
            let message = format!("Duplicate evaluation of signature: {}", task.name);
            return Err(unary::invalid(message));
        }
        tasks.push(task);
    }
    Ok(tasks)
}

/// What a task's method name says.
#[derive(Clone)]
enum Either {
    Classify(Classifier),
    Regress(Regressor),
}

impl Either {
    fn of(method_name: &str, signature: &Signature) -> Result<Self, ServeError> {
        match method_name {
            CLASSIFY => Classifier::of(signature).map(Self::Classify),
            REGRESS => Regressor::of(signature).map(Self::Regress),
            other => {
                let message = format!("Unsupported signature method_name: {other}");
                Err(ServeError::new(Code::Unimplemented, Stage::Route, message))
            }
        }
    }
}

impl Method for Either {
    type Answer = Answer;

    fn outputs(&self) -> Vec<String> {
        match self {
            Self::Classify(method) => method.outputs(),
            Self::Regress(method) => method.outputs(),
        }
    }

    fn answer(&self, outputs: &TensorMap, examples: usize) -> Result<Answer, ServeError> {
        match self {
            Self::Classify(method) => {
                method.answer(outputs, examples).map(Answer::ClassificationResult)
            }
            Self::Regress(method) => method.answer(outputs, examples).map(Answer::RegressionResult),
        }
    }
}
