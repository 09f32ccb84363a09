use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a connection has read a part of a request that has not begun: such a one is
/// not idle, though hyper takes it for idle until the whole head is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals(Arc<State>);

#[derive(Debug, Default)]
struct State {
    in_request: AtomicBool,
    part_of_next: AtomicBool,
}

impl Arrivals {
    pub(super) fn request_begins(&self) {
        self.0.in_request.store(true, Ordering::Release);
        self.0.part_of_next.store(false, Ordering::Release);
    }

    pub(super) fn request_ended(&self) {
        self.0.in_request.store(false, Ordering::Release);
    }

    pub(super) fn part_of_next(&self) -> bool {
        self.0.part_of_next.load(Ordering::Acquire)
    }

    fn bytes_came(&self) {
        if !self.0.in_request.load(Ordering::Acquire) {
            self.0.part_of_next.store(true, Ordering::Release);
        }
    }
}

/// A stream that tells what arrives.
pub(super) struct Watched<S> {
    stream: S,
    arrivals: Arrivals,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, arrivals: Arrivals) -> Self {
        Self { stream, arrivals }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.arrivals.bytes_came();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
