//! What an orchestrator asks, outside of TensorFlow Serving's paths: whether the
//! process lives, whether each model can answer, and which models there are.

use http::{Method, Response, StatusCode};
use ingle_types::{ModelReadiness, Serve, ServeError, Version};
use serde::Serialize;

use super::metadata::print;
use super::{JSON, error, plain, respond, with_type};
use crate::body::Reply;

/// Names in an answer that says who is not ready; the number of all is beside them.
const MOST_NAMES: usize = 20;

#[derive(Debug, PartialEq, Eq)]
enum Question {
    Live,
    /// Of every model that is configured.
    Ready,
    Models,
    Model(String),
}

impl Question {
    fn of(path: &str) -> Option<Self> {
        match path.strip_prefix("/healthz/")? {
            "live" => Some(Self::Live),
            "ready" => Some(Self::Ready),
            "models" => Some(Self::Models),
            rest => {
                let name = rest.strip_prefix("models/")?;
                let one = !name.is_empty() && !name.contains('/');
                one.then(|| Self::Model(super::path::decode(name)))
            }
        }
    }
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stopping: bool,
    /// All that cannot answer, of which some are named.
    not_ready: usize,
    models: Vec<String>,
}

#[derive(Serialize)]
struct Models {
    models: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    name: String,
    ready: bool,
    /// The highest first, as strings, as versions are everywhere in this API's JSON.
    available_versions: Vec<String>,
}

impl From<ModelReadiness> for Model {
    fn from(model: ModelReadiness) -> Self {
        let ready = model.ready();
        let available_versions = model.available.iter().map(Version::to_string).collect();
        Self { name: model.name, ready, available_versions }
    }
}

/// Answers a path below `/healthz/`; `None` for any other.
/// A server that is `stopping` is not ready, whatever its models are.
pub(crate) fn answer(
    serve: &dyn Serve,
    method: &Method,
    path: &str,
    stopping: bool,
) -> Option<Response<Reply>> {
    let question = Question::of(path)?;
    if method != Method::GET && method != Method::HEAD {
        return Some(plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    Some(match question {
        Question::Live => say(true, print(&Live { live: true })),
        Question::Ready => ready(serve.models(), stopping),
        Question::Models => {
            let models = serve.models().into_iter().map(Model::from).collect();
            say(true, print(&Models { models }))
        }
        Question::Model(name) => match serve.models().into_iter().find(|m| m.name == name) {
            Some(model) => say(model.ready(), print(&Model::from(model))),
            None => error(StatusCode::NOT_FOUND, &format!("no model {name} is configured")),
        },
    })
}

fn ready(models: Vec<ModelReadiness>, stopping: bool) -> Response<Reply> {
    let missing: Vec<_> = models.into_iter().filter(|model| !model.ready()).collect();
    let (ready, not_ready) = (missing.is_empty() && !stopping, missing.len());
    let models = missing.into_iter().take(MOST_NAMES).map(|model| model.name).collect();
    say(ready, print(&Ready { ready, stopping, not_ready, models }))
}

fn say(ready: bool, body: Result<Vec<u8>, ServeError>) -> Response<Reply> {
    match body {
        Ok(body) if ready => with_type(StatusCode::OK, JSON, body),
        Ok(body) => with_type(StatusCode::SERVICE_UNAVAILABLE, JSON, body),
        Err(error) => respond(Err(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ask_one_question_each() {
        let model = |name: &str| Some(Question::Model(name.into()));
        let table = [
            ("/healthz/live", Some(Question::Live)),
            ("/healthz/ready", Some(Question::Ready)),
            ("/healthz/models", Some(Question::Models)),
            ("/healthz/models/m", model("m")),
            ("/healthz/models/a%2Fb", model("a/b")),
            ("/healthz/models/live", model("live")),
            ("/healthz", None),
            ("/healthz/", None),
            ("/healthz/live/", None),
            ("/healthz/models/", None),
            ("/healthz/models/a/b", None),
            ("/HEALTHZ/live", None),
        ];
        for (path, expected) in table {
            assert_eq!(Question::of(path), expected, "{path}");
        }
    }
}
