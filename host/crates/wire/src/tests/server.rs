use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ingle_telemetry::Metrics;
use ingle_types::{Limits, Serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::http::Http;
use super::stub::Stubs;
use crate::proto::tensorflow::serving::model_service_client::ModelServiceClient;
use crate::proto::tensorflow::serving::prediction_service_client::PredictionServiceClient;
use crate::{Listener, Reload, Tls, Wire};

pub(super) fn wire(serve: impl Serve, limits: Limits) -> Wire {
    Wire::new(Arc::new(serve), Metrics::new(), Arc::new(limits))
}

/// Both protocols on free ports, until it is dropped.
pub(super) struct Server {
    pub(super) grpc: SocketAddr,
    pub(super) rest: SocketAddr,
    pub(super) wire: Wire,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::with(Stubs::echoes(), Limits::default()).await
    }

    pub(super) async fn start_with_cors(cors: bool) -> Self {
        Self::of(wire(Stubs::echoes(), Limits::default()).with_cors(cors)).await
    }

    pub(super) async fn with(serve: impl Serve, limits: Limits) -> Self {
        Self::of(wire(serve, limits)).await
    }

    pub(super) async fn with_tensor_content() -> Self {
        Self::of(wire(Stubs::echoes(), Limits::default()).with_tensor_content(true)).await
    }

    pub(super) async fn with_metrics_path(path: Option<&str>) -> Self {
        Self::of(wire(Stubs::echoes(), Limits::default()).with_metrics_path(path)).await
    }

    /// One that takes lists of models from clients.
    pub(super) async fn reloading(reload: Arc<dyn Reload>) -> Self {
        Self::of(wire(Stubs::echoes(), Limits::default()).with_reload(reload)).await
    }

    /// Both protocols with the same keys and certificates.
    pub(super) async fn with_tls(tls: Tls, limits: Limits) -> Self {
        Self::listening(wire(Stubs::echoes(), limits), Some(tls)).await
    }

    pub(super) async fn of(wire: Wire) -> Self {
        Self::listening(wire, None).await
    }

    async fn listening(wire: Wire, tls: Option<Tls>) -> Self {
        let shutdown = CancellationToken::new();
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rest = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc_at, rest_at) = (grpc.local_addr().unwrap(), rest.local_addr().unwrap());
        let grpc = Listener::from(grpc).with_tls(tls.clone());
        let rest = Listener::from(rest).with_tls(tls);
        let (one, two) = (wire.clone(), wire.clone());
        let (stop, halt) = (shutdown.clone(), shutdown.clone());
        let tasks = vec![
            tokio::spawn(async move { one.serve_grpc(grpc, stop).await }),
            tokio::spawn(async move { two.serve_rest(rest, halt).await }),
        ];
        Self { grpc: grpc_at, rest: rest_at, wire, shutdown, tasks }
    }

    pub(super) async fn http(&self) -> Http {
        Http::connect(self.rest).await
    }

    pub(super) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc));
        endpoint.unwrap().connect().await.unwrap()
    }

    pub(super) async fn predictions(&self) -> PredictionServiceClient<Channel> {
        PredictionServiceClient::new(self.channel().await)
    }

    pub(super) async fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.channel().await)
    }

    pub(super) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// How the two listeners ended: gRPC's, REST's.
    pub(super) async fn join(mut self) -> Vec<io::Result<()>> {
        self.shutdown.cancel();
        let mut ends = Vec::new();
        for task in self.tasks.drain(..) {
            ends.push(task.await.unwrap());
        }
        ends
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
