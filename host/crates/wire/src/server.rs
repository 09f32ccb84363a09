//! Listeners and connections: what a peer may hold, and for how long.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use ingle_telemetry::Metrics;
use ingle_types::{BoxFuture, Limits, Serve, ServeError};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Reply;
use crate::models_config::ModelConfig;
use crate::{tfs_grpc, tfs_rest};

mod listener;
mod rewound;
mod stall;
mod tls;

pub use listener::Listener;
pub use tls::Tls;

use listener::{Socket, Stream};
use rewound::Rewound;
use stall::StallTimeout;

/// What TLS clients ask for by ALPN.
const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// The protocols of one server.
#[derive(Clone)]
pub struct Wire {
    pub serve: Arc<dyn Serve>,
    pub metrics: Metrics,
    pub limits: Arc<Limits>,
    /// Whether pages of every origin may read REST answers.
    pub(crate) cors: bool,
    /// Whether Predict answers over gRPC with `tensor_content`.
    pub(crate) tensor_content: bool,
    /// Of [`Limits::streaming_calls`].
    pub(crate) streaming_calls: Arc<Semaphore>,
    /// `None` = which models there are is not for clients to say.
    pub(crate) reload: Option<Arc<dyn Reload>>,
}

/// Whoever replaces the list of models when a client asks for it.
pub trait Reload: Send + Sync + 'static {
    /// Waits until the models answer or have failed. Dropping the future does not stop
    /// the work.
    ///
    /// # Errors
    /// UNKNOWN, naming the models that did not become available.
    fn reload(&self, models: Vec<ModelConfig>) -> BoxFuture<'_, Result<(), ServeError>>;
}

/// The grace of a drain passed before the requests in flight were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{connections} connections were cut off, {grace:?} after the stop")]
pub struct DrainError {
    pub connections: usize,
    pub grace: Duration,
}

impl Wire {
    pub fn new(serve: Arc<dyn Serve>, metrics: Metrics, limits: Arc<Limits>) -> Self {
        let streaming_calls = limits.streaming_calls.min(Semaphore::MAX_PERMITS);
        let streaming_calls = Arc::new(Semaphore::new(streaming_calls));
        Self {
            serve,
            metrics,
            limits,
            cors: false,
            tensor_content: false,
            streaming_calls,
            reload: None,
        }
    }

    /// Lets pages of every origin call the REST API, or not, which is the default.
    #[must_use]
    pub fn with_cors(mut self, cors: bool) -> Self {
        self.cors = cors;
        self
    }

    /// Lets Predict answer over gRPC with bytes in `tensor_content`, or in the field of
    /// the dtype, which is the default and what most clients read.
    #[must_use]
    pub fn with_tensor_content(mut self, tensor_content: bool) -> Self {
        self.tensor_content = tensor_content;
        self
    }

    /// Lets clients replace the list of models by HandleReloadConfigRequest.
    #[must_use]
    pub fn with_reload(mut self, reload: Arc<dyn Reload>) -> Self {
        self.reload = Some(reload);
        self
    }

    /// Answers TensorFlow Serving's gRPC calls, health and reflection until `shutdown`,
    /// then says GOAWAY and waits for the calls in flight.
    ///
    /// # Errors
    /// A [`DrainError`] where [`Limits::drain_grace`] was not enough.
    pub async fn serve_grpc(
        &self,
        listener: impl Into<Listener>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let wire = self.clone();
        let serve = move |stream, stop| grpc_connection(wire.clone(), stream, stop);
        let connections = Connections::new(&self.limits, shutdown);
        connections.accept(listener.into(), HTTP_2, serve).await
    }

    /// Answers TensorFlow Serving's REST calls and the metrics page until `shutdown`,
    /// then closes idle connections and waits for the calls in flight.
    ///
    /// # Errors
    /// As [`Wire::serve_grpc`].
    pub async fn serve_rest(
        &self,
        listener: impl Into<Listener>,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let wire = self.clone();
        let serve = move |stream, stop| rest_connection(wire.clone(), stream, stop);
        let connections = Connections::new(&self.limits, shutdown);
        connections.accept(listener.into(), HTTP_1_1, serve).await
    }
}

struct Connections {
    limits: Arc<Limits>,
    shutdown: CancellationToken,
    permits: Arc<Semaphore>,
    open: TaskTracker,
}

impl Connections {
    fn new(limits: &Arc<Limits>, shutdown: CancellationToken) -> Self {
        let permits = limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            limits: limits.clone(),
            shutdown,
            permits: Arc::new(Semaphore::new(permits)),
            open: TaskTracker::new(),
        }
    }

    async fn accept<F, S>(self, listener: Listener, protocol: &[u8], serve: S) -> io::Result<()>
    where
        F: Future<Output = ()> + Send,
        S: Fn(Stream, CancellationToken) -> F + Clone + Send + 'static,
    {
        let Listener { socket, tls } = listener;
        let tls = tls.map(|tls| tls.speaking(protocol));
        let cut_off = CancellationToken::new();
        let mut pause = Pause::default();
        while let Some(next) = self.shutdown.run_until_cancelled(self.next(&socket)).await {
            let (stream, permit) = match next {
                Ok(next) => next,
                Err(error) => {
                    pause.after(&error).await;
                    continue;
                }
            };
            pause = Pause::default();
            let (serve, stop) = (serve.clone(), self.shutdown.clone());
            let (tls, limits) = (tls.clone(), self.limits.clone());
            let connection = async move {
                if let Some(stream) = secure(stream, tls, &limits, &stop).await {
                    serve(stream, stop).await;
                }
            };
            let cut_off = cut_off.clone();
            self.open.spawn(async move {
                cut_off.run_until_cancelled(connection).await;
                drop(permit);
            });
        }
        drop(socket);
        self.drain(&cut_off).await
    }

    /// Takes the permit first, so that connections beyond the limit wait in the
    /// kernel's queue and cost nothing here.
    async fn next(&self, socket: &Socket) -> io::Result<(Stream, OwnedSemaphorePermit)> {
        let permit = self.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        Ok((socket.accept().await?, permit))
    }

    async fn drain(self, cut_off: &CancellationToken) -> io::Result<()> {
        self.open.close();
        let grace = self.limits.drain_grace;
        if tokio::time::timeout(grace, self.open.wait()).await.is_ok() {
            return Ok(());
        }
        let connections = self.open.len();
        cut_off.cancel();
        Err(io::Error::new(io::ErrorKind::TimedOut, DrainError { connections, grace }))
    }
}

/// Waits after an error of accept, so that having no file descriptor left neither
/// ends the server nor keeps a core busy.
#[derive(Default)]
struct Pause {
    failures: u32,
}

impl Pause {
    async fn after(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidInput, NotConnected};
        // The peer's doing, and over.
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | InvalidInput | NotConnected)
        {
            return;
        }
        tracing::warn!(%error, "cannot accept connections");
        let wait = Duration::from_millis(10) * 2u32.pow(self.failures.min(6));
        self.failures += 1;
        tokio::time::sleep(wait).await;
    }
}

async fn rest_connection(wire: Wire, stream: Stream, stop: CancellationToken) {
    // Below it hyper refuses to be built.
    const LEAST_BUFFER: usize = 8 * 1024;
    let limits = wire.limits.clone();
    let buffer = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX).max(LEAST_BUFFER);
    let service = service_fn(move |request: Request<Incoming>| {
        let wire = wire.clone();
        async move { answered(tfs_rest::handle(&wire, request).await) }
    });
    let io = TokioIo::new(StallTimeout::new(stream, limits.default_deadline));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(buffer)
        .serve_connection(io, service);
    drive(connection, stop).await;
}

async fn grpc_connection(wire: Wire, stream: Stream, stop: CancellationToken) {
    let limits = wire.limits.clone();
    let Some(stream) = preface(stream, &limits, &stop).await else { return };
    let stopping = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (wire, stop) = (wire.clone(), stopping.clone());
        async move { answered(tfs_grpc::handle(&wire, request, &stop).await) }
    });
    let resets = usize::try_from(limits.http2_streams).unwrap_or(usize::MAX);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header_read_timeout)
        .keep_alive_timeout(limits.header_read_timeout)
        .max_concurrent_streams(limits.http2_streams)
        .max_pending_accept_reset_streams(resets)
        .max_header_list_size(limits.header_bytes)
        .serve_connection(
            TokioIo::new(StallTimeout::new(stream, limits.default_deadline)),
            service,
        );
    drive(connection, stop).await;
}

fn answered(response: Response<Reply>) -> Result<Response<Reply>, Infallible> {
    Ok(response)
}

/// Shakes hands, where connections are encrypted. A peer that is slow with it is gone in
/// time; until then it holds a connection's place and nothing else.
async fn secure(
    stream: Stream,
    tls: Option<Tls>,
    limits: &Limits,
    stop: &CancellationToken,
) -> Option<Stream> {
    let Some(tls) = tls else { return Some(stream) };
    let handshake = tokio::time::timeout(limits.header_read_timeout, tls.accept(stream));
    match stop.run_until_cancelled(handshake).await? {
        Ok(Ok(stream)) => return Some(Box::new(stream)),
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
    None
}

/// Reads what every HTTP/2 connection starts with: a peer that says nothing, or
/// another protocol, is gone in time.
async fn preface(
    mut stream: Stream,
    limits: &Limits,
    stop: &CancellationToken,
) -> Option<Rewound<Stream>> {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut start = [0; PREFACE.len()];
    let read = tokio::time::timeout(limits.header_read_timeout, stream.read_exact(&mut start));
    stop.run_until_cancelled(read).await?.ok()?.ok()?;
    if &start != PREFACE {
        return None;
    }
    Some(Rewound::new(Bytes::from_static(PREFACE), stream))
}

async fn drive<C>(connection: C, stop: CancellationToken)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection failed");
    }
}
