//! Raw arguments and environment become a configuration that can be started. The
//! only place that reads the environment.

mod admin;
mod image;
mod stacks;

use std::env;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ingle_engine::{DeviceChoice, Optimize};
use ingle_serving::{Batching, ModelConfig, Models, ReadParameters, RetryPolicy, VersionPolicy};
use ingle_telemetry::LogFormat;
use ingle_types::{BatchingParameters, Limits};
use ingle_wire::{Tls, batching_parameters, models_config, monitoring_config, ssl_config};

pub(crate) use admin::AdminConfig;
pub(crate) use image::ImageModel;
pub(crate) use stacks::restart_with_larger_stacks;

use crate::cli::ServeArgs;

/// A file larger than this is not a configuration.
const CONFIG_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// What TensorFlow Serving takes the model of `--model_base_path` for.
const DEFAULT_PLATFORM: &str = "tensorflow";

/// Libraries that say at `info` what is meant for their own authors. What the user asks
/// for comes after, and wins where it names them.
const QUIET: &str = "cubecl_runtime=warn,cubecl_wgpu=warn,naga=warn,wgpu_core=warn,wgpu_hal=warn";

/// What to start.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) models: Models,
    /// The file that lists them.
    pub(crate) models_file: Option<PathBuf>,
    /// What it says of the log of requests.
    pub(crate) logged: Vec<models_config::ModelConfig>,
    /// Where operators are listened to; `None` = nowhere.
    pub(crate) admin: Option<AdminConfig>,
    /// The file that lists the models, where it is looked at again.
    pub(crate) followed: Option<FollowedFile>,
    pub(crate) plugin_repository: Option<PathBuf>,
    /// `None` = off.
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) rest: Option<SocketAddr>,
    pub(crate) grpc_socket: Option<PathBuf>,
    pub(crate) grpc_tls: Option<Tls>,
    pub(crate) rest_tls: Option<Tls>,
    /// Whether pages of every origin may call REST.
    pub(crate) cors: bool,
    /// Whether Predict answers over gRPC with `tensor_content`.
    pub(crate) tensor_content: bool,
    /// Where the metrics are on the REST port; `None` = nowhere.
    pub(crate) metrics_path: Option<String>,
    pub(crate) poll_interval: Option<Duration>,
    pub(crate) retry: RetryPolicy,
    /// `None` = no bound but one for each model.
    pub(crate) loads_at_once: Option<NonZeroUsize>,
    pub(crate) batching: Option<Batching>,
    /// How often each warm-up request is sent; `None` = none is.
    pub(crate) warm_up_iterations: Option<u32>,
    pub(crate) device: DeviceChoice,
    pub(crate) optimize: Optimize,
    pub(crate) cache_dir: Option<PathBuf>,
    /// As the user asked for it.
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) limits: Limits,
}

/// A file that lists models, and is followed.
#[derive(Clone, Debug)]
pub(crate) struct FollowedFile {
    pub(crate) file: PathBuf,
    /// What it said at the start.
    pub(crate) text: String,
    /// Between two looks.
    pub(crate) pause: Duration,
}

impl FollowedFile {
    fn of(args: &ServeArgs) -> anyhow::Result<Option<Self>> {
        let flag = "--model_config_file_poll_wait_seconds";
        let pause = seconds(flag, args.model_config_file_poll_wait_seconds)?;
        let file = given(args.model_config_file.as_deref());
        let (Some(pause), Some(file)) = (pause, file) else { return Ok(None) };
        // Whoever reads the file next says what is wrong with it.
        let text = config_text(file).unwrap_or_default();
        Ok(Some(Self { file: file.to_owned(), text, pause }))
    }
}

impl Config {
    pub(crate) fn new(args: ServeArgs) -> anyhow::Result<Self> {
        let address = |port: u16| (port != 0).then_some(SocketAddr::new(args.bind_address, port));
        let (grpc, rest) = (address(args.port), address(args.rest_api_port));
        let grpc_socket = given(args.grpc_socket_path.as_deref()).map(Path::to_owned);
        ensure!(
            !args.use_alts_credentials,
            "--use_alts_credentials: there is no ALTS here; --ssl_config_file encrypts gRPC"
        );
        ensure!(
            grpc.is_some() || rest.is_some() || grpc_socket.is_some(),
            "both --port and --rest_api_port are off, and there is no --grpc_socket_path"
        );
        ensure!(
            grpc.is_none() || grpc != rest,
            "--port and --rest_api_port are the same: {}",
            args.port
        );
        // Before the models: what changes in between is seen by the second look.
        let followed = FollowedFile::of(&args)?;
        let (models, plugins) = models(&args)?;
        Ok(Self {
            models,
            models_file: args.model_config_file.clone(),
            logged: args.model_config_file.as_deref().map(logged).unwrap_or_default(),
            admin: AdminConfig::of(&args)?,
            followed,
            plugin_repository: plugin_repository(&args, plugins.as_deref())?,
            grpc,
            rest,
            grpc_socket,
            grpc_tls: tls("--ssl_config_file", args.ssl_config_file.as_deref())?,
            rest_tls: tls("--rest_api_ssl_config_file", args.rest_api_ssl_config_file.as_deref())?,
            cors: args.rest_api_enable_cors_support,
            tensor_content: args.enable_serialization_as_tensor_content,
            metrics_path: metrics_path(args.monitoring_config_file.as_deref())?,
            poll_interval: seconds(
                "--file_system_poll_wait_seconds",
                args.file_system_poll_wait_seconds,
            )?,
            retry: retry(&args),
            loads_at_once: usize::try_from(args.num_load_threads).ok().and_then(NonZeroUsize::new),
            batching: batching(&args)?,
            warm_up_iterations: warm_up_iterations(&args),
            device: args.device,
            optimize: if args.engine_optimize == "off" { Optimize::Off } else { Optimize::On },
            cache_dir: match &args.cache_dir {
                Some(dir) => given(Some(dir)).map(Path::to_owned),
                None => default_cache_dir(),
            },
            log_level: args.log_level,
            log_format: if args.log_format == "json" { LogFormat::Json } else { LogFormat::Text },
            limits: Limits {
                rest_deadline: rest_deadline(args.rest_api_timeout_in_ms),
                drain_delay: args.drain_delay_seconds,
                drain_grace: args.drain_grace_seconds,
                ..limits_for(usize::try_from(args.max_request_bytes)?)
            },
        })
    }
}

/// The limits where a request may have so many bytes: a connection may hold some of them.
fn limits_for(request_bytes: usize) -> Limits {
    const AT_LEAST: usize = 4;
    let limits = Limits::default();
    let connection_bytes = limits.connection_bytes.max(request_bytes.saturating_mul(AT_LEAST));
    Limits { request_bytes, connection_bytes, ..limits }
}

/// What to log, where `level` is what the user asked for.
pub(crate) fn log_filter(level: &str) -> String {
    format!("{QUIET},{level}")
}

/// The models, and the folder beside which plugins are looked for.
fn models(args: &ServeArgs) -> anyhow::Result<(Models, Option<PathBuf>)> {
    if let Some(file) = given(args.model_config_file.as_deref()) {
        let models =
            listed(file).with_context(|| format!("--model_config_file={}", file.display()))?;
        return Ok((Models::Listed(models), None));
    }
    if let Some(base_path) = given(args.model_base_path.as_deref()) {
        ensure!(base_path.is_dir(), "--model_base_path={}: no such folder", base_path.display());
        return Ok((
            Models::Listed(vec![single(args.model_name.clone(), base_path.to_owned())]),
            None,
        ));
    }
    let repository = match (&args.repository, ImageModel::from_environment()) {
        (Some(repository), _) => repository.clone(),
        (None, Some(ImageModel { name, base_path })) => {
            ensure!(
                base_path.is_dir(),
                "{}, by MODEL_BASE_PATH and MODEL_NAME: no such folder",
                base_path.display()
            );
            return Ok((Models::Listed(vec![single(name, base_path)]), None));
        }
        (None, None) if Path::new("models").is_dir() => "models".into(),
        (None, None) => bail!(
            "nothing to serve: name a folder of models with --repository=DIR, one model with --model_name=NAME --model_base_path=DIR, or TensorFlow Serving's --model_config_file=FILE"
        ),
    };
    ensure!(repository.is_dir(), "--repository={}: no such folder", repository.display());
    Ok((Models::Repository(repository.clone()), Some(repository)))
}

fn single(name: String, base_path: PathBuf) -> ModelConfig {
    let platform = DEFAULT_PLATFORM.to_owned();
    ModelConfig { platform, ..ModelConfig::new(name, base_path) }
}

/// The models of a file whose requests are logged. What is wrong with it is told by who
/// reads its models.
fn logged(file: &Path) -> Vec<models_config::ModelConfig> {
    let models = config_text(file).ok().and_then(|text| models_config::parse(&text).ok());
    models.unwrap_or_default().into_iter().filter(|model| model.logging.is_some()).collect()
}

fn listed(file: &Path) -> anyhow::Result<Vec<ModelConfig>> {
    let configs = models_config::parse(&config_text(file)?)?;
    Ok(configs.into_iter().map(model).collect())
}

/// The text of a configuration file.
pub(crate) fn config_text(file: &Path) -> anyhow::Result<String> {
    let size = file.metadata().context("cannot be read")?.len();
    ensure!(size <= CONFIG_FILE_BYTES, "is larger than {CONFIG_FILE_BYTES} bytes");
    std::fs::read_to_string(file).context("cannot be read")
}

/// A model as such a file, or a client, lists it.
pub(crate) fn model(config: models_config::ModelConfig) -> ModelConfig {
    ModelConfig {
        name: config.name,
        // The one kind of URI that is a folder.
        base_path: config.base_path.strip_prefix("file://").unwrap_or(&config.base_path).into(),
        platform: config.platform,
        policy: match config.policy {
            models_config::VersionPolicy::Latest(count) => VersionPolicy::Latest(count as usize),
            models_config::VersionPolicy::All => VersionPolicy::All,
            models_config::VersionPolicy::Specific(versions) => {
                VersionPolicy::Specific(versions.into_iter().collect())
            }
        },
        labels: config.labels,
    }
}

/// An empty path is TensorFlow Serving's way to say that there is none.
fn given(path: Option<&Path>) -> Option<&Path> {
    path.filter(|path| !path.as_os_str().is_empty())
}

/// What encrypts a listener, if a file says so.
fn tls(flag: &str, file: Option<&Path>) -> anyhow::Result<Option<Tls>> {
    let Some(file) = given(file) else { return Ok(None) };
    let tls = || Ok::<_, anyhow::Error>(Tls::new(&ssl_config::parse(&config_text(file)?)?)?);
    tls().map(Some).with_context(|| format!("{flag}={}", file.display()))
}

/// Where the metrics are, which a file may say; an empty name is none.
fn metrics_path(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else {
        return Ok(Some(monitoring_config::DEFAULT_PATH.to_owned()));
    };
    let path = || Ok::<_, anyhow::Error>(monitoring_config::parse(&config_text(file)?)?);
    path().with_context(|| format!("--monitoring_config_file={}", file.display()))
}

fn plugin_repository(args: &ServeArgs, models: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(dir) = &args.plugin_repository {
        ensure!(dir.is_dir(), "--plugin_repository={}: no such folder", dir.display());
        return Ok(Some(dir.clone()));
    }
    let beside = models.map(|models| models.join("../plugins"));
    Ok(beside.filter(|dir| dir.is_dir()))
}

/// What TensorFlow Serving's flags say, where there are any.
fn retry(args: &ServeArgs) -> RetryPolicy {
    let default = RetryPolicy::default();
    let retries = args.max_num_load_retries.map(|count| u32::try_from(count).unwrap_or(0));
    let micros = u64::try_from(args.load_retry_interval_micros).unwrap_or(0);
    RetryPolicy {
        retries: retries.unwrap_or(default.retries),
        interval: Duration::from_micros(micros),
        every_failure: retries.is_some(),
    }
}

/// The terms of batching; an empty name is TensorFlow Serving's way to say that no file has
/// them.
fn batching(args: &ServeArgs) -> anyhow::Result<Option<Batching>> {
    const FLAG: &str = "--batching_parameters_file";
    let file = given(args.batching_parameters_file.as_deref());
    if !args.enable_batching {
        ensure!(file.is_none(), "{FLAG} is set without setting --enable_batching to true.");
        return Ok(None);
    }
    let common = match file {
        Some(file) => {
            let read = || Ok::<_, anyhow::Error>(batching_parameters::parse(&config_text(file)?)?);
            read().with_context(|| format!("{FLAG}={}", file.display()))?
        }
        None => BatchingParameters {
            thread_pool_name: "model_server_batch_threads".to_owned(),
            ..BatchingParameters::default()
        },
    };
    let read: ReadParameters = |text| batching_parameters::parse(text).map_err(|e| e.to_string());
    let per_version = args.enable_per_model_batching_parameters.then_some(read);
    Ok(Some(Batching { common, per_version }))
}

/// What a REST request may take; zero or less = any time.
fn rest_deadline(millis: i64) -> Option<Duration> {
    let millis = u64::try_from(millis).ok().filter(|&millis| millis > 0);
    millis.map(Duration::from_millis)
}

fn warm_up_iterations(args: &ServeArgs) -> Option<u32> {
    let iterations = u32::try_from(args.num_request_iterations_for_warmup).unwrap_or(0).max(1);
    args.enable_model_warmup.then_some(iterations)
}

/// The pause between two looks; zero or less = no second look.
fn seconds(flag: &str, seconds: f64) -> anyhow::Result<Option<Duration>> {
    if seconds <= 0.0 {
        return Ok(None);
    }
    let interval = Duration::try_from_secs_f64(seconds);
    interval.map(Some).with_context(|| format!("{flag}={seconds}"))
}

#[expect(clippy::disallowed_methods, reason = "this module is the one that reads the environment")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn default_cache_dir() -> Option<PathBuf> {
    let user = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = user.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
    cache.map(|dir| dir.join("ingle"))
}

#[cfg(test)]
mod tests;
