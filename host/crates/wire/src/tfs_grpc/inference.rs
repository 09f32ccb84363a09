//! Classify and Regress; MultiInference is several of them.

use std::sync::Arc;

use bytes::Bytes;
use ingle_types::{Deadline, Limits, Servable, ServeError, Signature};
use prost::Message as _;

use super::predict::version;
use super::{multi_inference, spec, unary};
use crate::Wire;
use crate::call::{Call, offload};
use crate::inference::{Classifier, Examples, Method, Regressor, Task, UNKNOWN_SIGNATURE};
use crate::proto::tensorflow::serving as pb;
use crate::protobuf::{Fields, Merged, Value, WireError};
use crate::request_log::Kind;

/// The methods whose input is examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Classify,
    Regress,
    MultiInference,
}

impl Api {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path.strip_prefix("/tensorflow.serving.PredictionService/")? {
            "Classify" => Some(Self::Classify),
            "Regress" => Some(Self::Regress),
            "MultiInference" => Some(Self::MultiInference),
            _ => None,
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Classify => Kind::Classify,
            Self::Regress => Kind::Regress,
            Self::MultiInference => Kind::MultiInference,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Classify => "Classify",
            Self::Regress => "Regress",
            Self::MultiInference => "MultiInference",
        }
    }

    pub(super) async fn answer(
        self,
        wire: &Wire,
        call: &Call,
        deadline: Deadline,
        message: Bytes,
    ) -> Result<Bytes, ServeError> {
        match self {
            Self::Classify => {
                let (spec, result) = one(wire, call, deadline, message, Classifier::of).await?;
                let (model_spec, result) = (Some(spec), Some(result));
                unary::encode(&pb::ClassificationResponse { model_spec, result })
            }
            Self::Regress => {
                let (spec, result) = one(wire, call, deadline, message, Regressor::of).await?;
                let (model_spec, result) = (Some(spec), Some(result));
                unary::encode(&pb::RegressionResponse { model_spec, result })
            }
            Self::MultiInference => multi_inference::answer(wire, call, deadline, message).await,
        }
    }
}

async fn one<M: Method>(
    wire: &Wire,
    call: &Call,
    deadline: Deadline,
    message: Bytes,
    method: impl FnOnce(&Signature) -> Result<M, ServeError>,
) -> Result<(pb::ModelSpec, M::Answer), ServeError> {
    let (asked, input) = read(message)?;
    let (model, signature) = spec::read(asked)?;
    let servable = call.resolve(&model)?;
    let task = Task::new(&servable, signature, UNKNOWN_SIGNATURE, method)?;
    let examples = examples(&wire.limits, input).await?;
    let answer = task.run(Some(call), &examples, wire.limits.request_bytes, deadline).await?;
    call.examples(examples.len());
    Ok((answered_by(model.name, &*servable, task.name), answer))
}

/// Answers a recorded request; whichever model it names, `servable` is asked.
pub(super) async fn replay<M: Method>(
    servable: &Arc<dyn Servable>,
    limits: &Limits,
    message: Bytes,
    method: impl FnOnce(&Signature) -> Result<M, ServeError>,
) -> Result<(), ServeError> {
    let (asked, input) = read(message)?;
    let signature = asked.unwrap_or_default().signature_name;
    let task = Task::new(servable, signature, UNKNOWN_SIGNATURE, method)?;
    let examples = examples(limits, input).await?;
    task.run(None, &examples, limits.request_bytes, Deadline::NONE).await.map(drop)
}

/// The `ModelSpec` of a request and its `Input`.
fn read(message: Bytes) -> Result<(Option<pb::ModelSpec>, Bytes), ServeError> {
    let mut asked: Option<pb::ModelSpec> = None;
    let input = split(message, |spec| {
        let merged = asked.get_or_insert_default().merge(spec);
        merged.map_err(|e| unary::invalid("the ModelSpec cannot be parsed").with_source(e))
    })?;
    Ok((asked, input))
}

/// The `Input` of a request, which is its field 2; `first` gets what is in field 1.
pub(super) fn split(
    message: Bytes,
    mut first: impl FnMut(Bytes) -> Result<(), ServeError>,
) -> Result<Bytes, ServeError> {
    let parse = |error: WireError| unary::invalid(format!("the message cannot be parsed: {error}"));
    let mut input = Merged::default();
    for field in Fields::new(message) {
        match field.map_err(parse)? {
            (1, Value::Bytes(value)) => first(value)?,
            (2, Value::Bytes(part)) => input.add(part),
            _ => {}
        }
    }
    Ok(input.finish())
}

pub(super) async fn examples(limits: &Limits, input: Bytes) -> Result<Arc<Examples>, ServeError> {
    let limit = limits.request_bytes;
    let examples = offload(input.len(), move || Ok(Examples::read(input, limit)?)).await?;
    Ok(Arc::new(examples))
}

/// The `ModelSpec` of an answer.
pub(super) fn answered_by(
    model: String,
    servable: &dyn Servable,
    signature: String,
) -> pb::ModelSpec {
    pb::ModelSpec { name: model, version_choice: version(servable), signature_name: signature }
}
