//! TensorFlow Serving's `monitoring_config_file`: a text protobuf of `MonitoringConfig`.

use prost_reflect::DescriptorError;
use prost_reflect::text_format::ParseError;

use crate::proto::tensorflow::serving as pb;
use crate::text_proto::{self, TextError};

const MESSAGE: &str = "tensorflow.serving.MonitoringConfig";

/// Where TensorFlow Serving has the metrics unless a file says otherwise.
pub const DEFAULT_PATH: &str = "/monitoring/prometheus/metrics";

/// The ways in which a file can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum MonitoringConfigError {
    #[error("Error parsing text-format tensorflow.serving.MonitoringConfig: {0}")]
    Syntax(ParseError),
    #[error("the built-in descriptors are damaged")]
    Descriptors(#[from] DescriptorError),
    #[error(
        "prometheus_config.path: {path:?} is not the path of a URL: it has to begin with / and to consist of what may stand there, with no query"
    )]
    Path { path: String },
}

/// Reads a file's text: the path at which metrics are answered, or `None` where they are
/// not.
///
/// # Errors
/// For text that is not the message, and for a path that no request can have.
pub fn parse(text: &str) -> Result<Option<String>, MonitoringConfigError> {
    let config: pb::MonitoringConfig =
        text_proto::read(MESSAGE, text).map_err(|error| match error {
            TextError::Syntax(error) => MonitoringConfigError::Syntax(error),
            TextError::Descriptors(error) => error.into(),
        })?;
    let prometheus = config.prometheus_config.unwrap_or_default();
    match prometheus {
        pb::PrometheusConfig { enable: false, .. } => Ok(None),
        pb::PrometheusConfig { path, .. } if path.is_empty() => Ok(Some(DEFAULT_PATH.to_owned())),
        pb::PrometheusConfig { path, .. } if is_path(&path) => Ok(Some(path)),
        pb::PrometheusConfig { path, .. } => Err(MonitoringConfigError::Path { path }),
    }
}

/// Whether a request can have this path, and the same one.
fn is_path(path: &str) -> bool {
    let parsed = path.parse::<http::uri::PathAndQuery>();
    path.starts_with('/') && parsed.is_ok_and(|parsed| parsed.path() == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_whether_and_where() {
        let table = [
            ("", None),
            ("prometheus_config { }", None),
            ("prometheus_config: { enable: false path: '/m' }", None),
            ("prometheus_config { enable: true }", Some(DEFAULT_PATH)),
            ("prometheus_config: < enable: true, path: \"/my/metrics\" >", Some("/my/metrics")),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (
                "prometheus_config { enabled: true }",
                "Error parsing text-format tensorflow.serving.MonitoringConfig",
            ),
            (
                "prometheus_config {",
                "Error parsing text-format tensorflow.serving.MonitoringConfig",
            ),
            (
                "prometheus_config { enable: true path: 'metrics' }",
                "prometheus_config.path: \"metrics\"",
            ),
            ("prometheus_config { enable: true path: '/a?b' }", "prometheus_config.path: \"/a?b\""),
            ("prometheus_config { enable: true path: '/a b' }", "prometheus_config.path: \"/a b\""),
            ("prometheus_config { enable: true path: '/a#b' }", "prometheus_config.path: \"/a#b\""),
        ];
        for (text, expected) in table {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
