//! Listeners and connections: what a peer may hold, and for how long.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ingle_telemetry::Metrics;
use ingle_types::{BoxFuture, Limits, Serve, ServeError};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::body::Reply;
use crate::models_config::ModelConfig;
use crate::request_log::RequestLog;
use crate::share::{Allowance, Share};
use crate::{monitoring_config, tfs_grpc, tfs_rest};

mod answers;
mod arrivals;
mod counted;
mod listener;
mod rewound;
mod stall;
mod stop;
mod streams;
mod tls;

pub use listener::Listener;
pub(crate) use stop::Stop;
pub use stop::{DrainError, Tally};
pub use tls::Tls;

use answers::{Answers, Watch};
use arrivals::{Arrivals, Watched};
use counted::Counted;
use listener::{Socket, Stream};
use rewound::Rewound;
use stall::StallTimeout;
use stop::Requests;
use streams::{Accepted, Streams};

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
    /// Where the metrics are on the REST port; `None` = nowhere.
    pub(crate) metrics_path: Option<Arc<str>>,
    /// Of [`Limits::streaming_calls`].
    pub(crate) streaming_calls: Arc<Semaphore>,
    /// `None` = no requests are logged.
    pub(crate) request_log: Option<Arc<dyn RequestLog>>,
    /// `None` = which models there are is not for clients to say.
    pub(crate) reload: Option<Arc<dyn Reload>>,
    requests: Arc<Requests>,
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

impl Wire {
    pub fn new(serve: Arc<dyn Serve>, metrics: Metrics, limits: Arc<Limits>) -> Self {
        let streaming_calls = limits.streaming_calls.min(Semaphore::MAX_PERMITS);
        let streaming_calls = Arc::new(Semaphore::new(streaming_calls));
        let metrics_path = Some(monitoring_config::DEFAULT_PATH.into());
        Self {
            serve,
            metrics,
            limits,
            cors: false,
            tensor_content: false,
            metrics_path,
            streaming_calls,
            request_log: None,
            reload: None,
            requests: Arc::default(),
        }
    }

    /// Lets pages of every origin call the REST API, or not, which is the default.
    #[must_use]
    pub fn with_cors(mut self, cors: bool) -> Self {
        self.cors = cors;
        self
    }

    /// Answers with the metrics at this path of the REST port, or nowhere. Without a word
    /// they are where TensorFlow Serving has them.
    #[must_use]
    pub fn with_metrics_path(mut self, path: Option<&str>) -> Self {
        self.metrics_path = path.map(Into::into);
        self
    }

    /// Lets Predict answer over gRPC with bytes in `tensor_content`, or in the field of
    /// the dtype, which is the default and what most clients read.
    #[must_use]
    pub fn with_tensor_content(mut self, tensor_content: bool) -> Self {
        self.tensor_content = tensor_content;
        self
    }

    /// Has requests that were answered recorded.
    #[must_use]
    pub fn with_request_log(mut self, log: Arc<dyn RequestLog>) -> Self {
        self.request_log = Some(log);
        self
    }

    /// Lets clients replace the list of models by HandleReloadConfigRequest.
    #[must_use]
    pub fn with_reload(mut self, reload: Arc<dyn Reload>) -> Self {
        self.reload = Some(reload);
        self
    }

    /// The requests since the start.
    pub fn requests(&self) -> Tally {
        self.requests.tally()
    }

    /// Answers TensorFlow Serving's gRPC calls, health and reflection until `shutdown`:
    /// from then on the server is not ready, and [`Limits::drain_delay`] later it says
    /// GOAWAY and waits for the calls in flight.
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
        let connections = Connections::new(self, shutdown);
        connections.accept(listener.into(), HTTP_2, serve).await
    }

    /// Answers TensorFlow Serving's REST calls and the metrics page until `shutdown`:
    /// from then on the server is not ready and closes each connection with the next
    /// answer, and [`Limits::drain_delay`] later it closes idle connections and waits for
    /// the calls in flight.
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
        let connections = Connections::new(self, shutdown);
        connections.accept(listener.into(), HTTP_1_1, serve).await
    }
}

struct Connections {
    limits: Arc<Limits>,
    requests: Arc<Requests>,
    stop: Stop,
    permits: Arc<Semaphore>,
    open: TaskTracker,
    cut_off: CancellationToken,
}

/// What the kernel holds when serving ends, be it a connection or the start of a
/// request, is there within this time.
const SETTLE: Duration = Duration::from_millis(10);

impl Connections {
    fn new(wire: &Wire, shutdown: CancellationToken) -> Self {
        let permits = wire.limits.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            limits: wire.limits.clone(),
            requests: wire.requests.clone(),
            stop: Stop::new(shutdown),
            permits: Arc::new(Semaphore::new(permits)),
            open: TaskTracker::new(),
            cut_off: CancellationToken::new(),
        }
    }

    async fn accept<F, S>(self, listener: Listener, protocol: &[u8], serve: S) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(Stream, Stop) -> F + Clone + Send + 'static,
    {
        let Listener { socket, tls } = listener;
        let tls = tls.map(|tls| tls.speaking(protocol));
        let (asked, delay) = (self.stop.asked.clone(), self.limits.drain_delay);
        let closing = async move {
            asked.cancelled().await;
            tokio::time::sleep(delay).await;
        };
        let mut closing = pin!(closing);
        loop {
            let next = tokio::select! {
                biased;
                () = closing.as_mut() => break,
                next = self.next(&socket) => next,
            };
            self.spawn(next, tls.clone(), serve.clone());
        }
        self.stop.closing.cancel();
        let settled = Instant::now() + SETTLE;
        while let Ok(next) = timeout_at(settled, self.next(&socket)).await {
            self.spawn(next, tls.clone(), serve.clone());
        }
        drop(socket);
        self.drain().await
    }

    fn spawn<F, S>(&self, next: (Stream, OwnedSemaphorePermit), tls: Option<Tls>, serve: S)
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(Stream, Stop) -> F + Send + 'static,
    {
        let (stream, permit) = next;
        let (stop, limits, cut_off) =
            (self.stop.clone(), self.limits.clone(), self.cut_off.clone());
        let connection = async move {
            if let Some(stream) = secure(stream, tls, &limits, &stop).await {
                serve(stream, stop).await;
            }
        };
        self.open.spawn(async move {
            cut_off.run_until_cancelled(connection).await;
            drop(permit);
        });
    }

    /// Takes the permit first, so that connections beyond the limit wait in the
    /// kernel's queue and cost nothing here.
    async fn next(&self, socket: &Socket) -> (Stream, OwnedSemaphorePermit) {
        let mut pause = Pause::default();
        loop {
            let next = async {
                let permit =
                    self.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
                Ok((socket.accept().await?, permit))
            };
            match next.await {
                Ok(next) => return next,
                Err(error) => pause.after(&error).await,
            }
        }
    }

    async fn drain(self) -> io::Result<()> {
        self.open.close();
        let grace = self.limits.drain_grace;
        if tokio::time::timeout(grace, self.open.wait()).await.is_ok() {
            return Ok(());
        }
        let (connections, requests) = (self.open.len(), self.requests.open());
        self.cut_off.cancel();
        if requests == 0 {
            // Clients that neither answer nor go away wait for nothing.
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, DrainError { connections, requests, grace }))
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

async fn rest_connection(wire: Wire, stream: Stream, stop: Stop) {
    let served = wire.clone();
    let answer = move |request, asked: CancellationToken| {
        let wire = served.clone();
        async move { tfs_rest::handle(&wire, request, &asked).await }
    };
    http1_connection(wire, stream, stop, answer).await;
}

/// Answers operators until `shutdown`.
pub(crate) async fn serve_admin(
    admin: Admin,
    listener: Listener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let connections = Connections::new(admin.wire(), shutdown);
    let serve = move |stream, stop| {
        let (admin, wire) = (admin.clone(), admin.wire().clone());
        let answer = move |request, asked: CancellationToken| {
            let admin = admin.clone();
            async move { admin.handle(request, asked.is_cancelled()).await }
        };
        http1_connection(wire, stream, stop, answer)
    };
    connections.accept(listener, HTTP_1_1, serve).await
}

/// `answer` is told when the server is not ready any more.
async fn http1_connection<A, F>(wire: Wire, stream: Stream, stop: Stop, answer: A)
where
    A: Fn(Request<Incoming>, CancellationToken) -> F,
    F: Future<Output = Response<Reply>>,
{
    // Below it hyper refuses to be built.
    const LEAST_BUFFER: usize = 8 * 1024;
    let limits = wire.limits.clone();
    let buffer = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX).max(LEAST_BUFFER);
    let arrivals = Arrivals::default();
    let (asked, arriving) = (stop.asked.clone(), arrivals.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let asked = asked.clone();
        let mut open = wire.requests.begin(arriving.clone());
        // Nobody reads the body of its answer.
        open.answered = request.method() == Method::HEAD;
        let answer = answer(request, asked.clone());
        async move {
            let mut response = answer.await;
            if asked.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(Counted::response(response, open))
        }
    });
    let stream = Watched::new(stream, arrivals.clone());
    let io = TokioIo::new(StallTimeout::new(stream, limits.default_deadline));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_buf_size(buffer)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    if let Some(ended) = until_closing(connection.as_mut(), &stop).await {
        return log_end(ended);
    }
    if let Ok(ended) = timeout_at(Instant::now() + SETTLE, connection.as_mut()).await {
        return log_end(ended);
    }
    // A request of which a part was read is answered, and its answer closes.
    if !arrivals.part_of_next() {
        connection.as_mut().graceful_shutdown();
    }
    log_end(connection.await);
}

async fn grpc_connection(wire: Wire, stream: Stream, stop: Stop) {
    let (answers, limit) = (Answers::default(), wire.limits.default_deadline);
    tokio::select! {
        () = speak_grpc(wire, stream, stop, answers.clone()) => {}
        () = answers.stalled(limit) => {
            tracing::debug!(?limit, "the peer takes nothing of an answer: connection closed");
        }
    }
}

async fn speak_grpc(wire: Wire, stream: Stream, stop: Stop, answers: Answers) {
    let limits = wire.limits.clone();
    let Some(stream) = preface(stream, &limits, &stop).await else { return };
    let stopping = stop.clone();
    let allowance = Allowance::new(limits.connection_bytes);
    // HTTP/2 tells by itself which streams have begun.
    let arrivals = Arrivals::default();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (wire, stop) = (wire.clone(), stopping.clone());
        let open = wire.requests.begin(arrivals.clone());
        let watch = Watch::new(answers.clone());
        let share = Share::of(&allowance);
        request.extensions_mut().insert(share.clone());
        async move {
            let response = tfs_grpc::handle(&wire, request, &stop).await;
            drop(share);
            Ok::<_, Infallible>(Counted::watched(response, open, watch))
        }
    });
    let resets = usize::try_from(limits.http2_streams).unwrap_or(usize::MAX);
    let accepted = Accepted::default();
    let connection = http2::Builder::new(accepted.clone())
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
    let connection = async {
        let mut connection = pin!(connection);
        if let Some(ended) = until_closing(connection.as_mut(), &stop).await {
            return ended;
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    tokio::select! {
        biased;
        ended = connection => log_end(ended),
        () = Streams::of(accepted) => {}
    }
}

/// How the connection ended, if it did before connections are to close.
async fn until_closing<C>(connection: Pin<&mut C>, stop: &Stop) -> Option<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>>,
{
    tokio::select! {
        ended = connection => Some(ended),
        () = stop.closing.cancelled() => None,
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection failed");
    }
}

/// Shakes hands, where connections are encrypted. A peer that is slow with it is gone in
/// time; until then it holds a connection's place and nothing else.
async fn secure(stream: Stream, tls: Option<Tls>, limits: &Limits, stop: &Stop) -> Option<Stream> {
    let Some(tls) = tls else { return Some(stream) };
    let handshake = tokio::time::timeout(limits.header_read_timeout, tls.accept(stream));
    match stop.closing.run_until_cancelled(handshake).await? {
        Ok(Ok(stream)) => return Some(Box::new(stream)),
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
    None
}

/// Reads what every HTTP/2 connection starts with: a peer that says nothing, or
/// another protocol, is gone in time.
async fn preface(mut stream: Stream, limits: &Limits, stop: &Stop) -> Option<Rewound<Stream>> {
    const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut start = [0; PREFACE.len()];
    let read = tokio::time::timeout(limits.header_read_timeout, stream.read_exact(&mut start));
    stop.closing.run_until_cancelled(read).await?.ok()?.ok()?;
    if &start != PREFACE {
        return None;
    }
    Some(Rewound::new(Bytes::from_static(PREFACE), stream))
}
