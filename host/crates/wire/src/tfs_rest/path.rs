//! Paths: what TensorFlow Serving's regular expressions match, by hand.

use ingle_types::{ModelSpec, ServeError, Stage, Version, VersionChoice};
use percent_encoding::percent_decode_str;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Predict(ModelSpec),
    Classify(ModelSpec),
    Regress(ModelSpec),
    Metadata(ModelSpec),
    /// A label in the path does not count.
    Status {
        model: String,
        version: Option<Version>,
    },
}

impl Route {
    /// The model that the path names.
    pub(super) fn model(&self) -> &str {
        match self {
            Self::Predict(model)
            | Self::Classify(model)
            | Self::Regress(model)
            | Self::Metadata(model) => &model.name,
            Self::Status { model, .. } => model,
        }
    }

    pub(super) const fn api(&self) -> &'static str {
        match self {
            Self::Predict(_) => "Predict",
            Self::Classify(_) => "Classify",
            Self::Regress(_) => "Regress",
            Self::Metadata(_) => "GetModelMetadata",
            Self::Status { .. } => "GetModelStatus",
        }
    }
}

/// Why a path leads nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    #[error("Malformed request: {method} {path}")]
    Malformed { method: String, path: String },
    #[error("Failed to convert version: {digits} to numeric.")]
    Version { digits: String },
    #[error("Missing model name in request.")]
    MissingModel,
}

impl From<PathError> for ServeError {
    fn from(error: PathError) -> Self {
        Self::invalid(Stage::Route, error.to_string())
    }
}

/// `path` with its query.
pub(super) fn route(method: &str, path: &str) -> Result<Route, PathError> {
    let malformed = || PathError::Malformed { method: method.into(), path: path.into() };
    let rest = strip_word(path, "/v1/models").ok_or_else(malformed)?;
    match method {
        "POST" => {
            let (parts, verb) = inference(rest).ok_or_else(malformed)?;
            let model = parts.model()?;
            match verb {
                "predict" => Ok(Route::Predict(model)),
                "classify" => Ok(Route::Classify(model)),
                "regress" => Ok(Route::Regress(model)),
                _ => Err(malformed()),
            }
        }
        "GET" => {
            let (parts, metadata) = inspection(rest).ok_or_else(malformed)?;
            let model = parts.model()?;
            if model.name.is_empty() {
                return Err(PathError::MissingModel);
            }
            Ok(if metadata { Route::Metadata(model) } else { status(model) })
        }
        _ => Err(malformed()),
    }
}

fn status(model: ModelSpec) -> Route {
    let version = match model.version {
        VersionChoice::Specific(version) => Some(version),
        VersionChoice::Latest | VersionChoice::Label(_) => None,
    };
    Route::Status { model: model.name, version }
}

/// The pieces of a path, still percent-encoded.
#[derive(Clone, Copy, Debug, Default)]
struct Parts<'a> {
    name: &'a str,
    version: Option<&'a str>,
    label: Option<&'a str>,
}

impl Parts<'_> {
    fn model(self) -> Result<ModelSpec, PathError> {
        let version = match (self.version, self.label) {
            (Some(digits), _) => {
                // The wire's versions are signed.
                let number: Option<i64> = digits.parse().ok();
                let number = number.and_then(|n| Version::try_from(n).ok());
                let digits = digits.to_owned();
                VersionChoice::Specific(number.ok_or(PathError::Version { digits })?)
            }
            (None, Some(label)) => VersionChoice::Label(decode(label)),
            (None, None) => VersionChoice::Latest,
        };
        Ok(ModelSpec { name: decode(self.name), version })
    }
}

pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// `/NAME[/versions/N|/labels/L]:VERB`, where the verb's case is checked later.
fn inference(rest: &str) -> Option<(Parts<'_>, &str)> {
    let (parts, verb) = rest.rsplit_once(':')?;
    let (parts, rest) = model(parts)?;
    rest.is_empty().then_some((parts, verb))
}

/// `[/NAME][/versions/N|/labels/L][/metadata]`: the name is taken where it can be.
fn inspection(rest: &str) -> Option<(Parts<'_>, bool)> {
    let named = model(rest).and_then(finish);
    named.or_else(|| finish(choice(Parts::default(), rest)))
}

fn finish<'a>((parts, rest): (Parts<'a>, &'a str)) -> Option<(Parts<'a>, bool)> {
    match rest {
        "" => Some((parts, false)),
        // Another case matches too, but is then not this word.
        _ => strip_word(rest, "/metadata")?.is_empty().then_some((parts, rest == "/metadata")),
    }
}

fn model(text: &str) -> Option<(Parts<'_>, &str)> {
    let (name, rest) = segment(text.strip_prefix('/')?)?;
    Some(choice(Parts { name, ..Parts::default() }, rest))
}

/// A version or a label, if there is one.
fn choice<'a>(parts: Parts<'a>, text: &'a str) -> (Parts<'a>, &'a str) {
    if let Some((digits, rest)) = strip_word(text, "/versions/").and_then(segment)
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        return (Parts { version: Some(digits), ..parts }, rest);
    }
    if let Some((label, rest)) = strip_word(text, "/labels/").and_then(segment) {
        return (Parts { label: Some(label), ..parts }, rest);
    }
    (parts, text)
}

/// One or more characters other than `/` and `:`.
fn segment(text: &str) -> Option<(&str, &str)> {
    let end = text.find(['/', ':']).unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

/// Removes `word` from the front, in any case.
fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, version: VersionChoice) -> ModelSpec {
        ModelSpec { name: name.into(), version }
    }

    #[test]
    fn inference_paths_name_a_model_and_perhaps_a_version_or_label() {
        let latest = || spec("m", VersionChoice::Latest);
        let table = [
            ("/v1/models/m:predict", Route::Predict(latest())),
            ("/V1/MODELS/m:predict", Route::Predict(latest())),
            ("/v1/models/m:classify", Route::Classify(latest())),
            ("/v1/models/m:regress", Route::Regress(latest())),
            (
                "/v1/models/m/versions/0:predict",
                Route::Predict(spec("m", VersionChoice::Specific(0))),
            ),
            (
                "/v1/models/m/VERSIONS/007:predict",
                Route::Predict(spec("m", VersionChoice::Specific(7))),
            ),
            (
                "/v1/models/m/labels/a%20b:predict",
                Route::Predict(spec("m", VersionChoice::Label("a b".into()))),
            ),
            ("/v1/models/a%2Fb%3A:predict", Route::Predict(spec("a/b:", VersionChoice::Latest))),
            (
                "/v1/models/versions:predict",
                Route::Predict(spec("versions", VersionChoice::Latest)),
            ),
        ];
        for (path, expected) in table {
            assert_eq!(route("POST", path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn inspection_paths_take_a_name_where_they_can() {
        let status = |model: &str, version| Ok(Route::Status { model: model.into(), version });
        let table = [
            ("/v1/models/m", status("m", None)),
            ("/v1/models/m/versions/5", status("m", Some(5))),
            ("/v1/models/m/labels/nope", status("m", None)),
            ("/v1/models/metadata", status("metadata", None)),
            ("/v1/models/m/METADATA", status("m", None)),
            ("/v1/models/m?x=1", status("m?x=1", None)),
            ("/v1/models/m/metadata", Ok(Route::Metadata(spec("m", VersionChoice::Latest)))),
            (
                "/v1/models/m/labels/l/metadata",
                Ok(Route::Metadata(spec("m", VersionChoice::Label("l".into())))),
            ),
            ("/v1/models", Err(PathError::MissingModel)),
            ("/v1/models/versions/5", Err(PathError::MissingModel)),
            ("/v1/models/labels/x/metadata", Err(PathError::MissingModel)),
        ];
        for (path, expected) in table {
            assert_eq!(route("GET", path), expected, "{path}");
        }
    }

    #[test]
    fn everything_else_is_malformed() {
        let table = [
            ("GET", "/v1/foo"),
            ("POST", "/v1/foo"),
            ("POST", "/v1/models"),
            ("POST", "/v1/models/m"),
            ("GET", "/v1/models/m:predict"),
            ("GET", "/v1/models/debug/model_name"),
            ("POST", "/v1/models/m/version/50:regress"),
            ("POST", "/v1/models/m/versions/HELLO:regress"),
            ("POST", "/v1/models/m/versions/:regress"),
            ("POST", "/v1/models/m/labels/:regress"),
            ("POST", "/v1/models/m/metadata"),
            ("POST", "/v1/models/m/versions/50/labels/s:regress"),
            ("POST", "/V1/Models/m:Predict"),
            ("POST", "/v1/models/m:predict?x=1"),
            ("POST", "/v1/models/m:predict/"),
            ("POST", "/v1/models/:predict"),
            ("POST", "/v1/models/a:b:predict"),
            ("POST", "/v1/modelsm:predict"),
            ("GET", "/v1/models/m/"),
            ("GET", "/v1/models/"),
            ("GET", "/v1/models//metadata"),
            ("GET", "/v1/models/m/versions/5/versions/6"),
            ("GET", "/v1/models/m/versions/x"),
            ("GET", "/v1/models/m/metadata/"),
            ("GET", "/v1/modéls"),
            ("PUT", "/v1/models/m:predict"),
            ("DELETE", "/v1/models/m"),
            ("PATCH", "/v1/models/m"),
            ("HEAD", "/v1/models/m"),
        ];
        for (method, path) in table {
            let expected = format!("Malformed request: {method} {path}");
            assert_eq!(route(method, path).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_version_beyond_64_bits_is_named() {
        for digits in ["18446744073709551615", "9223372036854775808", "99999999999999999999999"] {
            let error = route("POST", &format!("/v1/models/m/versions/{digits}:regress"));
            let expected = format!("Failed to convert version: {digits} to numeric.");
            assert_eq!(error.unwrap_err().to_string(), expected);
        }
    }
}
