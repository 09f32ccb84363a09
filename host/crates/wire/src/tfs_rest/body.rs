use std::io::Read as _;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use hyper::body::Body;
use ingle_types::{Code, Limits, ServeError, Stage};

use crate::body::{BodyError, collect};
use crate::share::Exceeded;

/// A request's body as it came.
pub(super) struct Encoded {
    bytes: Bytes,
    gzip: bool,
    limit: usize,
}

impl Encoded {
    /// A body that trickles is given up after the default deadline, whatever that of REST.
    pub(super) async fn read<B>(
        headers: &HeaderMap,
        body: B,
        limits: &Limits,
    ) -> Result<Self, ServeError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let gzip = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .any(|value| value.as_bytes().windows(4).any(|word| word == b"gzip"));
        let limit = limits.request_bytes;
        let body = tokio::time::timeout(limits.default_deadline, collect(body, limit, None));
        let body = body.await.map_err(|_| {
            let message = "the request's body did not arrive in time";
            ServeError::new(Code::DeadlineExceeded, Stage::Decode, message)
        })?;
        let bytes = body.map_err(|error| match error {
            BodyError::TooLarge => too_large(limit),
            BodyError::Exceeded(error) => exceeded(error),
            BodyError::Broken(cause) => {
                ServeError::invalid(Stage::Decode, "the request's body cannot be read")
                    .with_source(cause)
            }
        })?;
        Ok(Self { bytes, gzip, limit })
    }

    pub(super) fn len(&self) -> usize {
        if self.gzip { self.limit } else { self.bytes.len() }
    }

    /// The text. One that cannot be inflated is empty, as in TensorFlow Serving.
    pub(super) fn decode(self) -> Result<Bytes, ServeError> {
        if !self.gzip {
            return Ok(self.bytes);
        }
        let most = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
        let mut text = Vec::new();
        let mut inflater = flate2::read::GzDecoder::new(self.bytes.as_ref()).take(most);
        if inflater.read_to_end(&mut text).is_err() {
            return Ok(Bytes::new());
        }
        if text.len() > self.limit { Err(too_large(self.limit)) } else { Ok(text.into()) }
    }
}

fn too_large(limit: usize) -> ServeError {
    let message = format!("the request's body is larger than the limit of {limit} bytes");
    ServeError::new(Code::ResourceExhausted, Stage::Decode, message)
}

fn exceeded(error: Exceeded) -> ServeError {
    ServeError::new(Code::ResourceExhausted, Stage::Decode, error.to_string())
}
