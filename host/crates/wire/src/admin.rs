//! What operators steer, on a listener of its own: JSON over HTTP/1.1.
//!
//! | request | what |
//! | --- | --- |
//! | `GET /models` | models with their versions, labels and plugins |
//! | `POST /models/NAME/load`, `.../unload` | a model |
//! | `POST /models/NAME/versions/N/load`, `.../unload` | one version of it |
//! | `POST /reload` | reads the list of models again |
//! | `POST /drain` | as SIGTERM |
//! | `GET /log-level`, `PUT /log-level` | what is logged, `{"filter": "debug"}` |
//! | `GET /metrics`, `GET /healthz/...` | as on the REST port |

mod guard;
mod route;

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Body;
use ingle_types::{BoxFuture, Code, Deadline, ServeError, Stage, Version};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::body::{BodyError, Reply, collect, discard};
use crate::server::Listener;
use crate::tfs_rest::{error, health, metrics_page, print, refuse_headers, respond};
use crate::{Wire, call};

pub use guard::{Token, TokenError};
use route::{Action, Change, Subject};

/// Whoever does what operators ask for.
pub trait Operate: Send + Sync + 'static {
    /// Every model, in the order of names.
    fn models(&self) -> Vec<Model>;

    /// Reads the list of models again, and waits until they answer or have failed.
    ///
    /// # Errors
    /// Where the list is wrong, and where models did not become available.
    fn reload(&self) -> BoxFuture<'_, Result<(), ServeError>>;

    /// Loads a model, or one version of it, that was unloaded or has failed; waits for it.
    ///
    /// # Errors
    /// NOT_FOUND for a model that is not listed; otherwise why it cannot answer.
    fn load(
        &self,
        model: String,
        version: Option<Version>,
    ) -> BoxFuture<'_, Result<(), ServeError>>;

    /// Serves a model, or one version of it, no more until it is loaded again or the list of
    /// models is.
    ///
    /// # Errors
    /// NOT_FOUND for a model that is not listed.
    fn unload(
        &self,
        model: String,
        version: Option<Version>,
    ) -> BoxFuture<'_, Result<(), ServeError>>;

    /// What is logged.
    fn log_filter(&self) -> String;

    /// # Errors
    /// For text that is no filter.
    fn set_log_filter(&self, filter: &str) -> Result<(), ServeError>;

    /// Takes no new connections, and ends when the requests in flight are answered.
    fn drain(&self);
}

/// A model as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    pub name: String,
    /// Whether a request that names no version is answered.
    pub ready: bool,
    pub labels: BTreeMap<String, String>,
    /// The highest first.
    pub versions: Vec<ModelVersion>,
}

/// A version as operators see it. Numbers are strings, as everywhere in this API's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelVersion {
    pub version: String,
    pub state: &'static str,
    pub error_code: &'static str,
    pub error_message: String,
    /// The followed plugins that it uses, with their versions.
    pub plugins: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Models {
    models: Vec<Model>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    filter: String,
}

#[derive(Serialize)]
struct Done {
    done: bool,
}

/// The operators' API of one server.
#[derive(Clone)]
pub struct Admin {
    wire: Wire,
    operate: Arc<dyn Operate>,
    token: Option<Arc<Token>>,
}

impl Admin {
    /// Without a token only requests whose Host is an address or `localhost` are answered.
    pub fn new(wire: Wire, operate: Arc<dyn Operate>, token: Option<Token>) -> Self {
        Self { wire, operate, token: token.map(Arc::new) }
    }

    /// Answers until `shutdown`, then finishes what it has begun.
    ///
    /// # Errors
    /// As [`Wire::serve_grpc`].
    pub async fn serve(
        &self,
        listener: impl Into<Listener>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        crate::server::serve_admin(self.clone(), listener.into(), shutdown).await
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// `stopping` servers are not ready.
    pub(crate) async fn handle<B>(&self, request: Request<B>, stopping: bool) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Unpin + Send,
        B::Error: Error + Send + Sync + 'static,
    {
        let (head, body) = request.into_parts();
        let limits = &self.wire.limits;
        let refusal = refuse_headers(&head.headers, limits)
            .or_else(|| guard::refuse(&head, self.token.as_deref()));
        if let Some(refusal) = refusal {
            discard(body, limits).await;
            return refusal;
        }
        let action = match Action::of(&head.method, head.uri.path()) {
            Ok(action) => action,
            Err(refusal) => {
                discard(body, limits).await;
                return refuse_route(&refusal);
            }
        };
        let text = match self.read(body).await {
            Ok(text) => text,
            Err(error) => return respond(Err(error)),
        };
        if let Action::Health = action {
            let serve = &*self.wire.serve;
            let health = health::answer(serve, &head.method, head.uri.path(), stopping);
            return health.unwrap_or_else(|| refuse_route(&route::Refusal::NotFound));
        }
        if let Action::Metrics = action {
            return metrics_page(&self.wire);
        }
        let outcome = call::run(Deadline::NONE, self.act(action, text)).await;
        if let Err(error) = &outcome {
            tracing::warn!(code = error.code().name(), message = error.message(), "admin: refused");
        }
        respond(outcome)
    }

    /// The whole of a small body.
    async fn read<B>(&self, body: B) -> Result<Bytes, ServeError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error + Send + Sync + 'static,
    {
        let limits = &self.wire.limits;
        let most = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
        let invalid = |message: String| ServeError::invalid(Stage::Decode, message);
        match tokio::time::timeout(limits.header_read_timeout, collect(body, most, None)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(BodyError::TooLarge | BodyError::Exceeded(_))) => Err(ServeError::new(
                Code::ResourceExhausted,
                Stage::Decode,
                format!("the request's body is larger than the limit of {most} bytes"),
            )),
            Ok(Err(BodyError::Broken(cause))) => {
                Err(invalid("the request's body cannot be read".into()).with_source(cause))
            }
            Err(_) => Err(invalid("the request's body did not arrive in time".into())),
        }
    }

    async fn act(&self, action: Action, text: Bytes) -> Result<Vec<u8>, ServeError> {
        match action {
            Action::Models => return print(&Models { models: self.operate.models() }),
            Action::LogLevel => return print(&LogLevel { filter: self.operate.log_filter() }),
            Action::SetLogLevel => {
                let wanted: LogLevel = serde_json::from_slice(&text).map_err(|error| {
                    let text = format!("the body is not {{\"filter\": \"...\"}}: {error}");
                    ServeError::invalid(Stage::Decode, text)
                })?;
                self.operate.set_log_filter(&wanted.filter)?;
                tracing::info!(filter = wanted.filter, "admin: log level");
                return print(&LogLevel { filter: self.operate.log_filter() });
            }
            Action::Reload => {
                tracing::info!("admin: reload");
                self.operate.reload().await?;
            }
            Action::Drain => {
                tracing::info!("admin: drain");
                self.operate.drain();
            }
            Action::Change(Subject { model, version }, change) => {
                tracing::info!(model, version, ?change, "admin: change");
                match change {
                    Change::Load => self.operate.load(model, version).await?,
                    Change::Unload => self.operate.unload(model, version).await?,
                }
            }
            // Answered before.
            Action::Metrics | Action::Health => {}
        }
        print(&Done { done: true })
    }
}

fn refuse_route(refusal: &route::Refusal) -> Response<Reply> {
    match refusal {
        route::Refusal::NotFound => error(StatusCode::NOT_FOUND, "there is nothing at this path"),
        route::Refusal::Method { allowed } => {
            let message = format!("this path takes {allowed} alone");
            let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &message);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
        route::Refusal::Version { text } => {
            let message = format!("{text:?} is not the number of a version");
            error(StatusCode::BAD_REQUEST, &message)
        }
    }
}
