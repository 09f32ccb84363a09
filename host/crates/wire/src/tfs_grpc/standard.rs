//! Calls that every gRPC server is asked. They are no requests of a model, so they are
//! not counted with those.

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use ingle_types::ServeError;

use super::streaming::{self, Requests};
use super::{health, reflection, unary};
use crate::Wire;
use crate::body::Reply;
use crate::call;
use crate::server::Stop;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    HealthCheck,
    HealthList,
    HealthWatch,
    Reflection,
}

impl Method {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/grpc.health.v1.Health/Check" => Some(Self::HealthCheck),
            "/grpc.health.v1.Health/List" => Some(Self::HealthList),
            "/grpc.health.v1.Health/Watch" => Some(Self::HealthWatch),
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
            | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => {
                Some(Self::Reflection)
            }
            _ => None,
        }
    }

    pub(super) async fn answer<B>(
        self,
        wire: &Wire,
        request: Request<B>,
        stop: &Stop,
    ) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (owned, headers, stop) = (wire.clone(), request.headers().clone(), stop.clone());
        match self {
            Self::HealthCheck => {
                unary::respond(once(wire, request, |asked| health::check(wire, &stop, asked)).await)
            }
            Self::HealthList => {
                unary::respond(once(wire, request, |asked| health::list(wire, &stop, asked)).await)
            }
            Self::HealthWatch => streaming::respond(wire, &headers, |answers| async move {
                let message = message(&owned, request).await?;
                health::watch(&owned, &stop, message, &answers).await
            }),
            Self::Reflection => streaming::respond(wire, &headers, |answers| async move {
                let requests = Requests::new(request, &owned)?;
                reflection::answer(requests, &stop, &answers).await
            }),
        }
    }
}

/// A call of one small message and one answer.
async fn once<B>(
    wire: &Wire,
    request: Request<B>,
    answer: impl FnOnce(Bytes) -> Result<Bytes, ServeError> + Send,
) -> Result<Bytes, ServeError>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let deadline = unary::deadline(request.headers(), &wire.limits)?;
    call::run(deadline, async { answer(message(wire, request).await?) }).await
}

/// The only message of a request that holds no tensor.
async fn message<B>(wire: &Wire, request: Request<B>) -> Result<Bytes, ServeError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let small = usize::try_from(wire.limits.header_bytes).unwrap_or(usize::MAX);
    unary::message(request, small, &wire.limits).await
}
