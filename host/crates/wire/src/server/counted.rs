use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};

use super::answers::Watch;
use super::stop::OpenRequest;
use crate::body::Reply;

/// The body of an answer, with which its request ends.
pub(super) struct Counted {
    reply: Reply,
    request: OpenRequest,
    pieces: Option<Pieces>,
}

/// An answer that is handed over in pieces: what the peer has not asked for stays here,
/// where it is seen.
struct Pieces {
    rest: Bytes,
    watch: Watch,
}

/// HTTP/2's default for a frame.
const PIECE_BYTES: usize = 16 * 1024;

impl Counted {
    pub(super) fn response(response: Response<Reply>, mut request: OpenRequest) -> Response<Self> {
        // Where there is nothing to read, nobody does.
        request.answered |= response.body().is_end_stream();
        response.map(|reply| Self { reply, request, pieces: None })
    }

    pub(super) fn watched(
        response: Response<Reply>,
        request: OpenRequest,
        watch: Watch,
    ) -> Response<Self> {
        let pieces = Some(Pieces { rest: Bytes::new(), watch });
        Self::response(response, request).map(|counted| Self { pieces, ..counted })
    }

    fn poll_reply(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = Pin::new(&mut self.reply).poll_frame(context);
        let Some(pieces) = &mut self.pieces else { return next };
        match next {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => pieces.first_of(data),
                Err(trailers) => trailers,
            }))),
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => {
                pieces.watch.rests();
                Poll::Pending
            }
        }
    }
}

impl Pieces {
    fn first_of(&mut self, mut data: Bytes) -> Frame<Bytes> {
        self.rest = data.split_off(data.len().min(PIECE_BYTES));
        self.watch.waits();
        Frame::data(data)
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| self.first_of(rest))
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let piece = this.pieces.as_mut().and_then(Pieces::next);
        let next = match piece {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => this.poll_reply(context),
        };
        if let Poll::Ready(frame) = &next {
            let last =
                frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers));
            this.request.answered |= last || this.is_end_stream();
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.pieces.as_ref().is_some_and(|pieces| !pieces.rest.is_empty());
        !rest && self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.pieces.as_ref().map_or(0, |pieces| pieces.rest.len() as u64);
        let hint = self.reply.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole
    }
}
