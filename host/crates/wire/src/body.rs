//! Bodies of requests and answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use ingle_types::Limits;

use crate::share::{Exceeded, Share};

/// Why a request's body is not there.
#[derive(Debug)]
pub(crate) enum BodyError<E> {
    /// More than the limit came, or was announced.
    TooLarge,
    /// The connection's requests hold too much together.
    Exceeded(Exceeded),
    /// The connection or its framing failed.
    Broken(E),
}

/// Reads a whole body of at most `limit` bytes; memory grows as bytes arrive, and is taken
/// of `share`, where there is one.
pub(crate) async fn collect<B>(
    mut body: B,
    limit: usize,
    share: Option<&Share>,
) -> Result<Bytes, BodyError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        if all.len() + first.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        share.map_or(Ok(()), |share| share.take(data.len())).map_err(BodyError::Exceeded)?;
        // A body of one frame is not copied.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads what is left of a small body that nobody wants, so that the connection can
/// serve the next request. A large or slow one ends the connection instead, or over HTTP/2
/// its stream: and where a thousand streams have ended so, the connection.
pub(crate) async fn discard<B>(body: B, limits: &Limits)
where
    B: Body<Data = Bytes> + Unpin,
{
    let most = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    let _ = tokio::time::timeout(limits.header_read_timeout, collect(body, most, None)).await;
}

/// The body of an answer: at most one piece, then perhaps trailers; or a stream that
/// has its own.
#[derive(Default)]
pub(crate) struct Reply {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    stream: Option<Stream>,
}

type Stream = Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>;

impl Reply {
    pub(crate) fn new(data: impl Into<Bytes>) -> Self {
        Self { data: Some(data.into()).filter(|data| !data.is_empty()), ..Self::default() }
    }

    pub(crate) fn streamed(
        stream: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
    ) -> Self {
        Self { stream: Some(Box::pin(stream)), ..Self::default() }
    }

    /// The one piece, where it is not read yet.
    pub(crate) fn data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    pub(crate) fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(stream) = &mut self.stream {
            return stream.as_mut().poll_frame(context);
        }
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.stream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.stream.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
