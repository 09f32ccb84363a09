//! A streaming gRPC call on HTTP/2: messages come and go one by one, at the pace at
//! which the client reads them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use ingle_types::{BoxFuture, Code, ServeError, Stage};
use prost::Message;
use tokio::sync::mpsc;

use super::unary::{self, Encoding, PREFIX_BYTES};
use crate::Wire;
use crate::body::Reply;
use crate::call;

/// Where a call's answers go.
pub(super) struct Answers(mpsc::Sender<Bytes>);

impl Answers {
    /// Waits until the client has taken what was sent before.
    pub(super) async fn send(&self, message: &impl Message) -> Result<(), ServeError> {
        let framed = unary::encode(message)?;
        self.0.send(framed).await.map_err(|_| {
            ServeError::new(Code::Cancelled, Stage::Encode, "the client is gone")
                .with_source("body")
        })
    }
}

/// Answers with what `work` sends, then with how it ended. The work is done while the
/// answer is read, and dropped with it.
pub(super) fn respond<F>(
    wire: &Wire,
    headers: &HeaderMap,
    work: impl FnOnce(Answers) -> F,
) -> Response<Reply>
where
    F: Future<Output = Result<(), ServeError>> + Send + 'static,
{
    let deadline = match unary::asked_deadline(headers) {
        Ok(deadline) => deadline,
        Err(error) => return unary::respond(Err(error)),
    };
    let Ok(permit) = Arc::clone(&wire.streaming_calls).try_acquire_owned() else {
        return unary::respond(Err(too_many(wire.limits.streaming_calls)));
    };
    let (sender, sent) = mpsc::channel(1);
    let work = work(Answers(sender));
    let work = Box::pin(async move {
        let outcome = call::run(deadline, work).await;
        drop(permit);
        outcome
    });
    unary::grpc_response(Reply::streamed(Stream { work: Some(work), sent, end: None }))
}

fn too_many(most: usize) -> ServeError {
    let message = format!("more than {most} streaming calls at one moment");
    ServeError::new(Code::ResourceExhausted, Stage::Route, message)
}

/// The body of an answer.
struct Stream {
    /// `None` once it is done.
    work: Option<BoxFuture<'static, Result<(), ServeError>>>,
    sent: mpsc::Receiver<Bytes>,
    /// The trailers, once the work is done.
    end: Option<HeaderMap>,
}

impl Stream {
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Poll::Ready(message) = self.sent.poll_recv(context) {
                return Poll::Ready(message);
            }
            // Nothing was sent: the work goes on, and where it ends its sender is gone.
            let Some(work) = &mut self.work else { return Poll::Pending };
            match work.as_mut().poll(context) {
                Poll::Ready(outcome) => {
                    self.work = None;
                    self.end = Some(unary::trailers(outcome.as_ref().err()));
                }
                Poll::Pending => {
                    return self.sent.try_recv().map_or(Poll::Pending, |m| Poll::Ready(Some(m)));
                }
            }
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = ready!(self.poll_message(context)).map(Frame::data);
        Poll::Ready(message.or_else(|| self.end.take().map(Frame::trailers)).map(Ok))
    }
}

/// What the client sends, message by message.
pub(super) struct Requests<B> {
    body: B,
    encoding: Encoding,
    unread: BytesMut,
    /// Of one message, in bytes.
    limit: usize,
    /// Longest wait for one.
    idle: Duration,
}

impl<B> Requests<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    pub(super) fn new(request: Request<B>, wire: &Wire) -> Result<Self, ServeError> {
        let encoding = unary::encoding(request.headers())?;
        let limit = usize::try_from(wire.limits.header_bytes).unwrap_or(usize::MAX);
        let (body, idle) = (request.into_body(), wire.limits.default_deadline);
        Ok(Self { body, encoding, unread: BytesMut::new(), limit, idle })
    }

    /// The next message; `None` where the client has sent all of them.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ServeError> {
        let idle = self.idle;
        tokio::time::timeout(idle, self.read()).await.unwrap_or_else(|_| {
            let message = format!("no message came for {idle:?}");
            Err(ServeError::new(Code::DeadlineExceeded, Stage::Decode, message))
        })
    }

    async fn read(&mut self) -> Result<Option<Bytes>, ServeError> {
        loop {
            if let Some(framed) = self.framed()? {
                return unary::unframe(framed, self.encoding, self.limit).map(Some);
            }
            match self.body.frame().await {
                None if self.unread.is_empty() => return Ok(None),
                None => return Err(unary::invalid("the last message is cut short")),
                Some(frame) => {
                    let frame = frame.map_err(|cause| {
                        unary::invalid("the messages cannot be read").with_source(cause)
                    })?;
                    self.unread.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
        }
    }

    /// The first message with its prefix, if all of it is there.
    fn framed(&mut self) -> Result<Option<Bytes>, ServeError> {
        let Some([_, length @ ..]) = self.unread.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let declared = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if declared > self.limit {
            return Err(unary::too_large(self.limit));
        }
        let whole = declared.saturating_add(PREFIX_BYTES);
        Ok((self.unread.len() >= whole).then(|| self.unread.split_to(whole).freeze()))
    }
}
