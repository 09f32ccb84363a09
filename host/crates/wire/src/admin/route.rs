//! Paths of the operators' API.

use http::Method;
use ingle_types::Version;
use percent_encoding::percent_decode_str;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Models,
    Change(Subject, Change),
    Reload,
    Drain,
    LogLevel,
    SetLogLevel,
    Metrics,
    Health,
}

/// A model, or a version of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) model: String,
    pub(super) version: Option<Version>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Load,
    Unload,
}

/// Why there is nothing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NotFound,
    Method { allowed: &'static str },
    Version { text: String },
}

impl Action {
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, Refusal> {
        let action = match path {
            "/models" => return get(method, Self::Models),
            "/metrics" => return get(method, Self::Metrics),
            "/log-level" if method == Method::PUT => return Ok(Self::SetLogLevel),
            "/log-level" if method == Method::GET => return Ok(Self::LogLevel),
            "/log-level" => return Err(Refusal::Method { allowed: "GET, PUT" }),
            "/reload" => Self::Reload,
            "/drain" => Self::Drain,
            path if path.starts_with("/healthz/") => return get(method, Self::Health),
            path => change(path)?,
        };
        if method == Method::POST { Ok(action) } else { Err(Refusal::Method { allowed: "POST" }) }
    }
}

fn get(method: &Method, action: Action) -> Result<Action, Refusal> {
    match method == Method::GET || method == Method::HEAD {
        true => Ok(action),
        false => Err(Refusal::Method { allowed: "GET, HEAD" }),
    }
}

/// `/models/NAME[/versions/N]/(load|unload)`.
fn change(path: &str) -> Result<Action, Refusal> {
    let path = path.strip_prefix("/models/").ok_or(Refusal::NotFound)?;
    let (subject, change) = path.rsplit_once('/').ok_or(Refusal::NotFound)?;
    let change = match change {
        "load" => Change::Load,
        "unload" => Change::Unload,
        _ => return Err(Refusal::NotFound),
    };
    let mut parts = subject.split('/');
    let (name, versions, number) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let version = match (versions, number, parts.next()) {
        (None, ..) => None,
        (Some("versions"), Some(number), None) => Some(version(number)?),
        _ => return Err(Refusal::NotFound),
    };
    if name.is_empty() {
        return Err(Refusal::NotFound);
    }
    let model = percent_decode_str(name).decode_utf8_lossy().into_owned();
    Ok(Action::Change(Subject { model, version }, change))
}

fn version(text: &str) -> Result<Version, Refusal> {
    let refused = || Refusal::Version { text: text.to_owned() };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_does_one_thing_by_one_method() {
        let model = |name: &str, version, change| {
            Action::Change(Subject { model: name.into(), version }, change)
        };
        let table = [
            ("GET", "/models", Action::Models),
            ("HEAD", "/models", Action::Models),
            ("POST", "/models/m/load", model("m", None, Change::Load)),
            ("POST", "/models/a%2Fb/unload", model("a/b", None, Change::Unload)),
            ("POST", "/models/m/versions/3/unload", model("m", Some(3), Change::Unload)),
            ("POST", "/models/load/load", model("load", None, Change::Load)),
            ("POST", "/reload", Action::Reload),
            ("POST", "/drain", Action::Drain),
            ("GET", "/log-level", Action::LogLevel),
            ("PUT", "/log-level", Action::SetLogLevel),
            ("GET", "/metrics", Action::Metrics),
            ("GET", "/healthz/ready", Action::Health),
        ];
        for (method, path, expected) in table {
            assert_eq!(Action::of(&method.parse().unwrap(), path), Ok(expected), "{method} {path}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let method = |allowed| Refusal::Method { allowed };
        let version = |text: &str| Refusal::Version { text: text.into() };
        let table = [
            ("GET", "/", Refusal::NotFound),
            ("POST", "/models//load", Refusal::NotFound),
            ("POST", "/models/load", Refusal::NotFound),
            ("POST", "/models/m", Refusal::NotFound),
            ("POST", "/models/m/versions/load", Refusal::NotFound),
            ("POST", "/models/m/versions/1/2/load", Refusal::NotFound),
            ("POST", "/models/m/labels/1/load", Refusal::NotFound),
            ("POST", "/models/m/versions/x/load", version("x")),
            ("POST", "/models/m/versions/+1/load", version("+1")),
            (
                "POST",
                "/models/m/versions/99999999999999999999/load",
                version("99999999999999999999"),
            ),
            ("GET", "/reload", method("POST")),
            ("GET", "/drain", method("POST")),
            ("GET", "/models/m/load", method("POST")),
            ("POST", "/models", method("GET, HEAD")),
            ("DELETE", "/log-level", method("GET, PUT")),
        ];
        for (method, path, expected) in table {
            assert_eq!(
                Action::of(&method.parse().unwrap(), path),
                Err(expected),
                "{method} {path}"
            );
        }
    }
}
