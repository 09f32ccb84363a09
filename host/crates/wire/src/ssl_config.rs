//! TensorFlow Serving's `ssl_config_file`: a text protobuf of `SSLConfig`.

use std::fmt;

use prost_reflect::DescriptorError;

use crate::proto::tensorflow::serving as pb;
use crate::text_proto::{self, TextError};

const MESSAGE: &str = "tensorflow.serving.SSLConfig";

/// Keys and certificates, as PEM text.
#[derive(Clone, PartialEq, Eq)]
pub struct SslConfig {
    pub server_key: String,
    /// The server's certificate, then those that it was issued by.
    pub server_cert: String,
    /// Who issues clients' certificates.
    pub custom_ca: String,
    /// Whether a client without a certificate is refused. Where it is false, clients are
    /// not asked for one.
    pub client_verify: bool,
}

/// Says nothing of what is in it: there is a private key.
impl fmt::Debug for SslConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verify = &self.client_verify;
        f.debug_struct("SslConfig").field("client_verify", verify).finish_non_exhaustive()
    }
}

/// The ways in which a file can be wrong. None shows a part of it.
#[derive(Debug, thiserror::Error)]
pub enum SslConfigError {
    #[error(
        "Error parsing text-format tensorflow.serving.SSLConfig (what is wrong is not shown, for it may be a part of the key)"
    )]
    Syntax,
    #[error("the built-in descriptors are damaged")]
    Descriptors(#[from] DescriptorError),
    #[error("{field} is not set: the PEM text itself belongs into the file, not its path")]
    Missing { field: &'static str },
    #[error("{field} holds no {what} in PEM")]
    NotPem { field: &'static str, what: &'static str },
    #[error("client_verify needs custom_ca, the certificates of those who issue clients' own")]
    NoClientRoots,
    #[error("custom_ca cannot be used: {0}")]
    ClientRoots(String),
    #[error("server_key and server_cert cannot be used: {0}")]
    Identity(tokio_rustls::rustls::Error),
}

/// Reads a file's text. Whether keys and certificates can be used is found out by
/// [`crate::Tls::new`].
///
/// # Errors
/// For text that is not the message, and for fields that are missing.
pub fn parse(text: &str) -> Result<SslConfig, SslConfigError> {
    let config: pb::SslConfig = text_proto::read(MESSAGE, text).map_err(|error| match error {
        TextError::Syntax(_) => SslConfigError::Syntax,
        TextError::Descriptors(error) => error.into(),
    })?;
    for (field, value) in [("server_key", &config.server_key), ("server_cert", &config.server_cert)]
    {
        if value.is_empty() {
            return Err(SslConfigError::Missing { field });
        }
    }
    if config.client_verify && config.custom_ca.is_empty() {
        return Err(SslConfigError::NoClientRoots);
    }
    Ok(SslConfig {
        server_key: config.server_key,
        server_cert: config.server_cert,
        custom_ca: config.custom_ca,
        client_verify: config.client_verify,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_read() {
        let text =
            "server_key: \"k\\n\" 'ey'\nserver_cert: 'c'\ncustom_ca: 'a' client_verify: true";
        let config = parse(text).unwrap();
        assert_eq!((config.server_key.as_str(), config.server_cert.as_str()), ("k\ney", "c"));
        assert_eq!((config.custom_ca.as_str(), config.client_verify), ("a", true));
        let config = parse("server_key: 'k' server_cert: 'c'").unwrap();
        assert_eq!((config.custom_ca.as_str(), config.client_verify), ("", false));
        assert!(!format!("{config:?}").contains('k'), "{config:?}");
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_there_is_not_shown() {
        let table = [
            ("", "server_key is not set"),
            ("server_key: 'k'", "server_cert is not set"),
            (
                "server_key: 'k' server_cert: 'c' client_verify: true",
                "client_verify needs custom_ca",
            ),
            ("server_key: SECRET", "Error parsing text-format tensorflow.serving.SSLConfig"),
            ("SECRET", "Error parsing text-format tensorflow.serving.SSLConfig"),
            ("server_keys: 'SECRET'", "Error parsing text-format tensorflow.serving.SSLConfig"),
        ];
        for (text, expected) in table {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{error:?}");
        }
    }
}
