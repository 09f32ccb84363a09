//! `tensorflow.serving.PredictionService` and `ModelService`, and beside them what
//! every gRPC server is asked: health and reflection.

mod health;
mod inference;
mod metadata;
mod multi_inference;
mod predict;
mod reflection;
mod reload;
mod replay;
mod spec;
mod standard;
mod status;
mod streaming;
mod unary;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use ingle_types::{Code, ServeError, Stage};

pub(crate) use replay::replay;

use crate::Wire;
use crate::body::{Reply, discard};
use crate::call::{self, Call};
use crate::request_log::Kind;
use crate::server::Stop;

/// The methods of both services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Predict,
    /// Classify and what is like it.
    Inference(inference::Api),
    GetModelMetadata,
    GetModelStatus,
    HandleReloadConfigRequest,
    Unknown,
}

impl Method {
    fn of(path: &str) -> Self {
        match path {
            "/tensorflow.serving.PredictionService/Predict" => Self::Predict,
            "/tensorflow.serving.PredictionService/GetModelMetadata" => Self::GetModelMetadata,
            "/tensorflow.serving.ModelService/GetModelStatus" => Self::GetModelStatus,
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest" => {
                Self::HandleReloadConfigRequest
            }
            _ => inference::Api::of(path).map_or(Self::Unknown, Self::Inference),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Predict => "Predict",
            Self::Inference(api) => api.name(),
            Self::GetModelMetadata => "GetModelMetadata",
            Self::GetModelStatus => "GetModelStatus",
            Self::HandleReloadConfigRequest => "HandleReloadConfigRequest",
            Self::Unknown => "Unknown",
        }
    }
}

/// Answers one call. Where connections are to close, streaming calls end.
pub(crate) async fn handle<B>(wire: &Wire, request: Request<B>, stop: &Stop) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    if let Some(refusal) = unary::refuse(&request) {
        discard(request.into_body(), &wire.limits).await;
        return refusal;
    }
    if let Some(method) = standard::Method::of(request.uri().path()) {
        return method.answer(wire, request, stop).await;
    }
    let method = Method::of(request.uri().path());
    let call = Call::new(wire, method.name(), "GRPC");
    let outcome = answer(wire, &call, method, request).await;
    unary::respond(call.finish(outcome))
}

async fn answer<B>(
    wire: &Wire,
    call: &Call,
    method: Method,
    request: Request<B>,
) -> Result<Bytes, ServeError>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let deadline = match unary::deadline(request.headers(), &wire.limits) {
        Ok(deadline) => deadline,
        Err(error) => {
            discard(request.into_body(), &wire.limits).await;
            return Err(error);
        }
    };
    // What names a model and holds no tensor is bounded as headers are.
    let small = usize::try_from(wire.limits.header_bytes).unwrap_or(usize::MAX);
    let work = async {
        match method {
            Method::Predict => {
                let message = unary::message(request, wire.limits.request_bytes, &wire.limits);
                let message = message.await?;
                let answer = predict::answer(wire, call, deadline, message.clone()).await?;
                record(call, Kind::Predict, message, &answer);
                Ok(answer)
            }
            Method::Inference(api) => {
                let message = unary::message(request, wire.limits.request_bytes, &wire.limits);
                let message = message.await?;
                let answer = api.answer(wire, call, deadline, message.clone()).await?;
                record(call, api.kind(), message, &answer);
                Ok(answer)
            }
            Method::GetModelMetadata => {
                let message = unary::message(request, small, &wire.limits).await?;
                metadata::answer(call, message)
            }
            Method::GetModelStatus => {
                let message = unary::message(request, small, &wire.limits).await?;
                status::answer(wire, call, message)
            }
            Method::HandleReloadConfigRequest => {
                let most = wire.limits.request_bytes.min(reload::MOST_BYTES);
                let message = unary::message(request, most, &wire.limits).await?;
                reload::answer(wire, message).await
            }
            Method::Unknown => {
                discard(request.into_body(), &wire.limits).await;
                Err(ServeError::new(Code::Unimplemented, Stage::Route, "unknown method"))
            }
        }
    };
    call::run(deadline, work).await
}

/// Records a request that was answered, where it is to be.
fn record(call: &Call, kind: Kind, request: Bytes, framed: &Bytes) {
    if let Some(chosen) = call.choose() {
        let response = framed.slice(unary::PREFIX_BYTES.min(framed.len())..);
        call.record(chosen, kind, request, response);
    }
}
