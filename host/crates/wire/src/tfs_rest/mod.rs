//! TensorFlow Serving's REST API, and beside it health and the metrics page.

mod body;
mod column;
mod compress;
mod cors;
mod decode;
mod examples;
mod fill;
mod float;
pub(crate) mod health;
mod inference;
mod metadata;
mod path;
mod predict;
mod render;
#[cfg(test)]
mod round_trip;
mod row;
mod status;
mod value;

use std::error::Error;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;
use ingle_types::{Deadline, Limits, ServeError};
use tokio_util::sync::CancellationToken;

use crate::Wire;
use crate::body::{Reply, discard};
use crate::call::{self, Call, http_status};
use crate::json::write_string;
pub(crate) use metadata::print;
use path::Route;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers one call. Once `stop` is cancelled, the server is not ready.
pub(crate) async fn handle<B>(
    wire: &Wire,
    request: Request<B>,
    stop: &CancellationToken,
) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Error + Send + Sync + 'static,
{
    let (head, body) = request.into_parts();
    let gzip = compress::accepted(&head.headers);
    let cors = wire.cors && is_api(head.uri.path());
    let mut response = match beside_the_api(wire, &head, stop) {
        Some(response) => {
            discard(body, &wire.limits).await;
            response
        }
        None => api_call(wire, &head, body).await,
    };
    if cors {
        cors::allow(&mut response);
    }
    if gzip { compress::compress(response).await } else { response }
}

/// A call of the API.
async fn api_call<B>(wire: &Wire, head: &Parts, body: B) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Error + Send + Sync + 'static,
{
    // The query is part of the path, as in TensorFlow Serving.
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    let route = path::route(head.method.as_str(), target);
    let api = route.as_ref().map_or("Unknown", Route::api);
    let call = Call::new(wire, api, "REST");
    let outcome = match route {
        Ok(route) => {
            call.asks(route.model());
            answer(wire, &call, route, &head.headers, body).await
        }
        Err(error) => {
            discard(body, &wire.limits).await;
            Err(error.into())
        }
    };
    respond(call.finish(outcome))
}

/// What is not a call of the API.
fn beside_the_api(wire: &Wire, head: &Parts, stop: &CancellationToken) -> Option<Response<Reply>> {
    if let Some(refusal) = refuse_headers(&head.headers, &wire.limits) {
        return Some(refusal);
    }
    let path = head.uri.path();
    if wire.metrics_path.as_deref() == Some(path) {
        Some(metrics(wire, &head.method, head.uri.path_and_query()))
    } else if !is_api(path) {
        let health = health::answer(&*wire.serve, &head.method, path, stop.is_cancelled());
        Some(health.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "not found")))
    } else if head.method == Method::OPTIONS {
        Some(cors::preflight(&head.headers))
    } else {
        None
    }
}

async fn answer<B>(
    wire: &Wire,
    call: &Call,
    route: Route,
    headers: &HeaderMap,
    body: B,
) -> Result<Vec<u8>, ServeError>
where
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Error + Send + Sync + 'static,
{
    let deadline = wire.limits.rest_deadline.map_or(Deadline::NONE, Deadline::after);
    let work = async {
        match route {
            Route::Predict(model) => {
                let body = body::Encoded::read(headers, body, &wire.limits).await?;
                predict::answer(wire, call, model, body, deadline).await
            }
            Route::Classify(model) => {
                let body = body::Encoded::read(headers, body, &wire.limits).await?;
                inference::classify(wire, call, model, body, deadline).await
            }
            Route::Regress(model) => {
                let body = body::Encoded::read(headers, body, &wire.limits).await?;
                inference::regress(wire, call, model, body, deadline).await
            }
            Route::Metadata(model) => {
                discard(body, &wire.limits).await;
                metadata::answer(wire, call, &model)
            }
            Route::Status { model, version } => {
                discard(body, &wire.limits).await;
                status::answer(wire, &model, version)
            }
        }
    };
    call::run(deadline, work).await
}

/// Refuses what hyper's buffer lets through where it may not be as small as the limit.
pub(crate) fn refuse_headers(headers: &HeaderMap, limits: &Limits) -> Option<Response<Reply>> {
    const SEPARATORS: usize = ": \r\n".len();
    let bytes: usize = headers.iter().map(|(k, v)| k.as_str().len() + v.len() + SEPARATORS).sum();
    let limit = limits.header_bytes;
    if bytes <= usize::try_from(limit).unwrap_or(usize::MAX) {
        return None;
    }
    let message = format!("the request's headers are larger than the limit of {limit} bytes");
    Some(error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &message))
}

fn is_api(path: &str) -> bool {
    path.get(.."/v1/".len()).is_some_and(|start| start.eq_ignore_ascii_case("/v1/"))
}

pub(crate) fn respond(outcome: Result<Vec<u8>, ServeError>) -> Response<Reply> {
    match outcome {
        Ok(body) => with_type(StatusCode::OK, JSON, body),
        Err(failure) => error(http_status(failure.code(), failure.stage()), failure.message()),
    }
}

pub(crate) fn error(status: StatusCode, message: &str) -> Response<Reply> {
    let mut body = b"{\n    \"error\": ".to_vec();
    write_string(&mut body, message.as_bytes());
    body.extend_from_slice(b"\n}");
    with_type(status, JSON, body)
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Reply> {
    with_type(status, TEXT, text)
}

fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Reply> {
    let mut response = Response::new(Reply::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn metrics(wire: &Wire, method: &Method, target: Option<&PathAndQuery>) -> Response<Reply> {
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    }
    let known = wire.metrics_path.as_deref();
    match target.map(PathAndQuery::as_str) {
        Some(other) if Some(other) != known => {
            let text = format!("Unexpected path: {other}. Should be {}", known.unwrap_or_default());
            plain(StatusCode::BAD_REQUEST, text)
        }
        _ => metrics_page(wire),
    }
}

pub(crate) fn metrics_page(wire: &Wire) -> Response<Reply> {
    with_type(StatusCode::OK, METRICS, wire.metrics.render())
}
