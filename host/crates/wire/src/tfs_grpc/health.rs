//! `grpc.health.v1.Health`: whether the server, or a model of it, can answer.

use bytes::Bytes;
use ingle_types::{Code, ServeError, Stage};
use tokio::time::sleep;

use super::streaming::Answers;
use super::unary;
use crate::Wire;
use crate::proto::grpc::health::v1 as pb;
use crate::server::Stop;
use pb::health_check_response::ServingStatus;

/// Names that stand for the whole server: the empty one, and its services, which
/// TensorFlow Serving registers without their package.
const SERVER: &[&str] = &[
    "",
    "ModelService",
    "PredictionService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Above this many, the protocol says, a list is not for this call.
const MOST_LISTED: usize = 100;

/// The state of the server, or of the model that `service` names.
fn status(wire: &Wire, service: &str, stop: &Stop) -> ServingStatus {
    let models = wire.serve.models();
    let ready = if SERVER.contains(&service) {
        models.iter().all(|model| model.ready())
    } else {
        match models.iter().find(|model| model.name == service) {
            Some(model) => model.ready(),
            None => return ServingStatus::ServiceUnknown,
        }
    };
    if ready && !stop.asked.is_cancelled() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

pub(super) fn check(wire: &Wire, stop: &Stop, message: Bytes) -> Result<Bytes, ServeError> {
    let request: pb::HealthCheckRequest = unary::decode(message)?;
    match status(wire, &request.service, stop) {
        ServingStatus::ServiceUnknown => {
            Err(ServeError::new(Code::NotFound, Stage::Route, "unknown service"))
        }
        status => unary::encode(&pb::HealthCheckResponse { status: status.into() }),
    }
}

/// The state of the server under each of its names, and of each model.
pub(super) fn list(wire: &Wire, stop: &Stop, message: Bytes) -> Result<Bytes, ServeError> {
    let _: pb::HealthListRequest = unary::decode(message)?;
    let models = wire.serve.models();
    let known = SERVER.len() + models.len();
    if known > MOST_LISTED {
        let message = format!("{known} names are more than the {MOST_LISTED} that are listed");
        return Err(ServeError::new(Code::ResourceExhausted, Stage::Encode, message));
    }
    let names = SERVER.iter().copied().chain(models.iter().map(|model| model.name.as_str()));
    let state = |name: &str| {
        let status = status(wire, name, stop).into();
        (name.to_owned(), pb::HealthCheckResponse { status })
    };
    unary::encode(&pb::HealthListResponse { statuses: names.map(state).collect() })
}

/// Sends the state now and each change of it, until the server stops.
pub(super) async fn watch(
    wire: &Wire,
    stop: &Stop,
    message: Bytes,
    answers: &Answers,
) -> Result<(), ServeError> {
    let request: pb::HealthCheckRequest = unary::decode(message)?;
    let mut told = None;
    loop {
        // Asked first, so that the last state is told before the end.
        let stopped = stop.closing.is_cancelled();
        let status = status(wire, &request.service, stop);
        if told != Some(status) {
            told = Some(status);
            answers.send(&pb::HealthCheckResponse { status: status.into() }).await?;
        }
        if stopped {
            return Err(unary::stopping());
        }
        let next = if stop.asked.is_cancelled() { &stop.closing } else { &stop.asked };
        next.run_until_cancelled(sleep(wire.limits.watch_interval)).await;
    }
}
