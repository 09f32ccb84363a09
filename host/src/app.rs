//! Assembly: the only place that knows every crate.

use std::sync::Arc;
use std::thread::available_parallelism;

use anyhow::Context;
use ingle_bundle::PluginSource;
use ingle_engine::Engine;
use ingle_plugins::{PluginHost, PluginHostConfig};
use ingle_serving::{Executors, Manager, ManagerConfig, PluginRepository, Server};
use ingle_telemetry::Metrics;
use ingle_types::Limits;
use ingle_wire::Wire;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::listen::{Listeners, Sockets};
use crate::reload::{ClientReload, follow};

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Every accepted request was answered.
    Complete,
    /// Requests were still running when the grace ended.
    CutOff,
}

/// Serves until SIGTERM or SIGINT, then drains.
pub(crate) async fn run(config: Config) -> anyhow::Result<Drain> {
    let limits = Arc::new(config.limits.clone());
    let metrics = Metrics::new();
    // Ports are taken before models load, so that one in use is told at once.
    // They listen only when the models are there: an open port means ready.
    let sockets = Sockets::bind(&config)?;
    let (cors, tensor_content) = (config.cors, config.tensor_content);
    let followed = config.followed.clone();
    let mut manager = start_manager(config, limits.clone(), metrics.clone())?;
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone())?);
    tokio::select! {
        () = manager.ready() => {}
        () = sleep(limits.startup_wait) => {
            tracing::warn!("models are still loading; those that are available are served");
        }
        () = stop.cancelled() => return Ok(Drain::Complete),
    }
    let list = manager.model_list();
    let wait = limits.startup_wait;
    if let (Some(followed), Some(list)) = (followed, list.clone()) {
        tokio::spawn(follow(followed, list, wait));
    }
    let serve = Arc::new(Server::new(manager.board()));
    let mut wire =
        Wire::new(serve, metrics, limits).with_cors(cors).with_tensor_content(tensor_content);
    if let Some(list) = list {
        wire = wire.with_reload(Arc::new(ClientReload { list, wait }));
    }
    let drain = serve_until_stopped(wire, sockets.listen()?, stop).await?;
    drop(manager);
    tracing::info!(?drain, "stopped");
    Ok(drain)
}

fn start_manager(config: Config, limits: Arc<Limits>, metrics: Metrics) -> anyhow::Result<Manager> {
    let engine = Engine::new(config.device)?.with_optimize(config.optimize);
    match engine.fallback() {
        Some(reason) => tracing::info!(device = %engine.device(), reason, "device, by fallback"),
        None => tracing::info!(device = %engine.device(), "device"),
    }
    let threads = available_parallelism().map_or(1, usize::from);
    let executors = Executors::start(limits.clone(), threads, engine.worker_stack_bytes())
        .context("cannot start worker threads")?;
    let host = PluginHost::new(PluginHostConfig {
        limits: limits.clone(),
        cache_dir: config.cache_dir,
        max_concurrent_calls: threads * 2,
        metrics: metrics.clone(),
    })?;
    let source = config.plugin_repository.map(PluginSource::new);
    let config = ManagerConfig {
        models: config.models,
        poll_interval: config.poll_interval,
        engine,
        plugins: PluginRepository::new(source, host, limits.clone()),
        executors: Arc::new(executors),
        limits,
        metrics,
    };
    Manager::start(config).context("cannot start the manager")
}

fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining: no new connections, requests in flight are finished");
        stop.cancel();
    })
}

async fn serve_until_stopped(
    wire: Wire,
    listeners: Listeners,
    stop: CancellationToken,
) -> anyhow::Result<Drain> {
    let Listeners { grpc, rest, file } = listeners;
    let mut servers = JoinSet::new();
    for listener in grpc {
        let (wire, stop) = (wire.clone(), stop.clone());
        servers.spawn(async move { wire.serve_grpc(listener, stop).await });
    }
    if let Some(listener) = rest {
        let (wire, stop) = (wire.clone(), stop.clone());
        servers.spawn(async move { wire.serve_rest(listener, stop).await });
    }
    let mut drain = Drain::Complete;
    while let Some(ended) = servers.join_next().await {
        if let Err(error) = ended.context("a listener panicked")? {
            tracing::warn!(%error, "requests were cut off");
            drain = Drain::CutOff;
        }
        // Where one listener ends by itself the other must not go on alone.
        stop.cancel();
    }
    drop(file);
    Ok(drain)
}
