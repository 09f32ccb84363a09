//! Assembly: the only place that knows every crate.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use ingle_bundle::PluginSource;
use ingle_engine::Engine;
use ingle_plugins::{PluginHost, PluginHostConfig};
use ingle_serving::{Executors, Manager, ManagerConfig, PluginRepository, Server};
use ingle_telemetry::{LogFilter, Metrics};
use ingle_types::{Limits, Replay};
use ingle_wire::{Admin, Tally, WarmUp, Wire};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::listen::{Listeners, Sockets};
use crate::operate::Controls;
use crate::reload::{ClientReload, follow};
use crate::request_log::RequestLogs;
use crate::running::Running;
use crate::signals::Signals;

/// What was logged is in its files by then, unless the disk is stuck.
const FLUSH: Duration = Duration::from_secs(10);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Every accepted request was answered.
    Complete,
    /// Requests were still running when the grace ended, or when a second signal came.
    CutOff,
}

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends at once.
pub(crate) async fn run(config: Config, logs: LogFilter) -> anyhow::Result<Drain> {
    // First of all: as a container's first process, what is not handled is ignored.
    let signals = Signals::new()?;
    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    tokio::spawn(signals.cancel(stop.clone(), end.clone()));
    end.run_until_cancelled(serve(config, logs, stop)).await.unwrap_or(Ok(Drain::CutOff))
}

async fn serve(
    mut config: Config,
    logs: LogFilter,
    stop: CancellationToken,
) -> anyhow::Result<Drain> {
    let limits = Arc::new(config.limits.clone());
    let metrics = Metrics::new();
    // Ports are taken before models load, so that one in use is told at once.
    // They listen only when the models are there: an open port means ready.
    let mut sockets = Sockets::bind(&config)?;
    let (cors, tensor_content) = (config.cors, config.tensor_content);
    let metrics_path = config.metrics_path.clone();
    let (followed, models_file) = (config.followed.clone(), config.models_file.clone());
    let logged_models = std::mem::take(&mut config.logged);
    let admin_token = config.admin.take().and_then(|admin| admin.token);
    let (shared, measured) = (limits.clone(), metrics.clone());
    // Looking for a device may take seconds.
    let starting = spawn_blocking(move || start_manager(config, shared, measured));
    let Some(manager) = stop.run_until_cancelled(starting).await else {
        return Ok(Drain::Complete);
    };
    let manager = manager.context("the manager panicked")??;
    let (list, board) = (manager.model_list(), manager.board());
    let (operator, wait) = (manager.operator(), limits.startup_wait);
    let mut running = Running::new(manager);
    let serve = Arc::new(Server::new(board));
    let request_logs = RequestLogs::start(&limits, metrics.clone());
    let request_logs = Arc::new(request_logs.context("cannot start a thread")?);
    request_logs.configure(&logged_models);
    let mut wire = Wire::new(serve, metrics, limits)
        .with_request_log(request_logs.clone())
        .with_cors(cors)
        .with_tensor_content(tensor_content)
        .with_metrics_path(metrics_path.as_deref());
    let mut operators = JoinSet::new();
    if let Some(listener) = sockets.listen_to_operators()? {
        let (listed, stop) = (list.clone().zip(models_file), stop.clone());
        let request_logs = request_logs.clone();
        let controls = Controls { operator, listed, logs, request_logs, stop: stop.clone(), wait };
        let admin = Admin::new(wire.clone(), Arc::new(controls), admin_token);
        operators.spawn(async move { admin.serve(listener, stop).await });
    }
    if stop.run_until_cancelled(running.loaded(wait)).await.is_none() {
        operators.join_all().await;
        return Ok(Drain::Complete);
    }
    if let (Some(followed), Some(list)) = (followed, list.clone()) {
        tokio::spawn(follow(followed, list, request_logs.clone(), wait));
    }
    if let Some(list) = list {
        wire = wire.with_reload(Arc::new(ClientReload { list, logs: request_logs.clone(), wait }));
    }
    let drain = serve_until_stopped(&wire, sockets.listen()?, stop).await?;
    // Whoever asked for the drain is answered; how that ends is no news to anybody else.
    operators.join_all().await;
    let flush = spawn_blocking(move || request_logs.flush(FLUSH));
    running.unload().await;
    flush.await.context("the log of requests panicked")?;
    let Tally { begun, answered } = wire.requests();
    tracing::info!(?drain, requests = begun, answered, "stopped");
    Ok(drain)
}

fn start_manager(config: Config, limits: Arc<Limits>, metrics: Metrics) -> anyhow::Result<Manager> {
    let engine = Engine::new(config.device)?.with_optimize(config.optimize);
    match engine.fallback() {
        Some(reason) => tracing::info!(device = %engine.device(), reason, "device, by fallback"),
        None => tracing::info!(device = %engine.device(), "device"),
    }
    let threads = available_parallelism().map_or(1, usize::from);
    let engine_threads = config.batching.as_ref().and_then(|b| b.common.num_batch_threads);
    if let Some(batching) = &config.batching {
        let (parameters, per_model) = (&batching.common, batching.per_version.is_some());
        tracing::info!(
            ?parameters,
            per_model,
            "requests are not joined yet: max_batch_size, max_enqueued_batches and num_batch_threads count, the other batching parameters have no effect"
        );
    }
    let executors = Executors::start(
        limits.clone(),
        metrics.clone(),
        engine_threads.unwrap_or(threads),
        threads,
        engine.worker_stack_bytes(),
    )
    .context("cannot start worker threads")?;
    let host = PluginHost::new(PluginHostConfig {
        limits: limits.clone(),
        cache_dir: config.cache_dir,
        max_concurrent_calls: threads * 2,
        metrics: metrics.clone(),
    })?;
    let warm_up = config.warm_up_iterations.map(|iterations| {
        let warm_up: Arc<dyn Replay> = Arc::new(WarmUp::new(limits.clone(), iterations));
        warm_up
    });
    let source = config.plugin_repository.map(PluginSource::new);
    let config = ManagerConfig {
        models: config.models,
        poll_interval: config.poll_interval,
        loads_at_once: config.loads_at_once,
        retry: config.retry,
        engine,
        plugins: PluginRepository::new(source, host, limits.clone()),
        executors: Arc::new(executors),
        batching: config.batching,
        warm_up,
        limits,
        metrics,
    };
    Manager::start(config).context("cannot start the manager")
}

async fn serve_until_stopped(
    wire: &Wire,
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
            tracing::warn!("{error}");
            drain = Drain::CutOff;
        }
        // Where one listener ends by itself the other must not go on alone.
        stop.cancel();
    }
    drop(file);
    Ok(drain)
}
