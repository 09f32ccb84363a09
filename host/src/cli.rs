//! The command line, in TensorFlow Serving's spelling.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use ingle_engine::DeviceChoice;

use crate::model::ModelCommand;

/// Serves ONNX models with WebAssembly pre- and post-processing over the TensorFlow
/// Serving API.
#[derive(Debug, Parser)]
#[command(name = "ingle", version, args_conflicts_with_subcommands = true)]
// As in TensorFlow Serving the last one counts: images put their own flags first.
#[command(args_override_self = true)]
#[command(after_help = "Example: ingle serve --repository models/ --device auto")]
#[command(after_long_help = crate::tfs::help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve models until SIGTERM (the default).
    #[command(args_override_self = true, after_long_help = crate::tfs::help())]
    Serve(Box<ServeArgs>),
    /// Works on an ONNX file, without a server.
    #[command(subcommand)]
    Model(ModelCommand),
}

/// As [`ingle_types::Limits`] has it.
const MAX_REQUEST_BYTES: u32 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(crate) struct ServeArgs {
    /// Folder whose every sub-folder is a model [default: models, where there is one].
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model_config_file", "model_base_path"])]
    pub(crate) repository: Option<PathBuf>,

    /// Folder of plugins, DIR/NAME/VERSION/plugin.wasm [default: plugins beside the
    /// repository, where there is one].
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_repository: Option<PathBuf>,

    /// TensorFlow Serving's model configuration, a text protobuf of ModelServerConfig;
    /// --model_name and --model_base_path are then ignored.
    #[arg(long, value_name = "FILE", value_parser = path_or_none())]
    pub(crate) model_config_file: Option<PathBuf>,

    /// Seconds between two looks at --model_config_file, whose models and labels are taken
    /// when it has changed; 0 = look once.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) model_config_file_poll_wait_seconds: f64,

    /// Name of the single model of --model_base_path.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) model_name: String,

    /// Folder of a single model's versions [default: MODEL_BASE_PATH/MODEL_NAME, where the
    /// environment has one of them, which are /models and model else].
    #[arg(long, value_name = "DIR", value_parser = path_or_none())]
    pub(crate) model_base_path: Option<PathBuf>,

    /// Socket in the file system on which gRPC is answered too.
    #[arg(long, value_name = "PATH", value_parser = path_or_none())]
    pub(crate) grpc_socket_path: Option<PathBuf>,

    /// Encrypt gRPC: TensorFlow Serving's text protobuf of SSLConfig, with the server's key
    /// and certificate and, where clients are to show theirs, who issues them.
    #[arg(long, value_name = "FILE", value_parser = path_or_none())]
    pub(crate) ssl_config_file: Option<PathBuf>,

    /// Encrypt REST: a file like that of --ssl_config_file, or the same.
    #[arg(long, value_name = "FILE", value_parser = path_or_none())]
    pub(crate) rest_api_ssl_config_file: Option<PathBuf>,

    /// Google's ALTS, which this server does not have: anything but false is refused.
    #[arg(
        long,
        hide = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub(crate) use_alts_credentials: bool,

    /// Whether and where metrics are on the REST port: TensorFlow Serving's text protobuf of
    /// MonitoringConfig [default: at /monitoring/prometheus/metrics].
    #[arg(long, value_name = "FILE", value_parser = path_or_none())]
    pub(crate) monitoring_config_file: Option<PathBuf>,

    /// Port for operators: reload, load, unload, drain, log level, metrics; 0 = off.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) admin_port: u16,

    /// Address that --admin_port listens on. Any that others reach needs --admin_token_file.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) admin_bind_address: std::net::IpAddr,

    /// File with the token that operators show, as in Authorization: Bearer TOKEN.
    #[arg(long, value_name = "FILE", value_parser = path_or_none())]
    pub(crate) admin_token_file: Option<PathBuf>,

    /// gRPC port; 0 = off.
    #[arg(long, value_name = "PORT", default_value_t = 8500)]
    pub(crate) port: u16,

    /// REST port; 0 = off.
    #[arg(long, value_name = "PORT", default_value_t = 8501)]
    pub(crate) rest_api_port: u16,

    /// Seconds from SIGTERM, when the server stops being ready, to closing its ports: as long
    /// as load balancers go on sending here. May be a fraction.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = duration)]
    pub(crate) drain_delay_seconds: Duration,

    /// Seconds that requests in flight then have to finish; what is left is cut off, and the
    /// exit code is 75.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = duration)]
    pub(crate) drain_grace_seconds: Duration,

    /// Let web pages of every origin call the REST API (CORS).
    #[arg(
        long,
        visible_alias = "enable_cors_support",
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub(crate) rest_api_enable_cors_support: bool,

    /// Answer Predict over gRPC with bytes in tensor_content, not in the field of the dtype.
    #[arg(
        long,
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub(crate) enable_serialization_as_tensor_content: bool,

    /// Largest request over gRPC and REST, also when inflated, in bytes; at most 2147483647,
    /// which is TensorFlow Serving's for gRPC.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = MAX_REQUEST_BYTES,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX))
    )]
    pub(crate) max_request_bytes: u32,

    /// Take requests on the terms of TensorFlow Serving's batching: the size of the largest, how
    /// many may wait, how many run. They are not joined yet.
    #[arg(
        long,
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub(crate) enable_batching: bool,

    /// These terms, a text protobuf of BatchingParameters.
    #[arg(long, value_name = "FILE", value_parser = path_or_none())]
    pub(crate) batching_parameters_file: Option<PathBuf>,

    /// Read them from each version's batching_params.pbtxt instead, but for the number of
    /// threads; only with --enable_batching.
    #[arg(
        long,
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub(crate) enable_per_model_batching_parameters: bool,

    /// Milliseconds that a REST request may take; 0 or less = any time.
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 30_000,
        allow_negative_numbers = true
    )]
    pub(crate) rest_api_timeout_in_ms: i64,

    /// Answer the requests of a version's assets.extra/tf_serving_warmup_requests, where there
    /// is one, before it serves.
    #[arg(
        long,
        value_name = "true|false",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    pub(crate) enable_model_warmup: bool,

    /// How often each of these is answered; 0 or less = once.
    #[arg(long, value_name = "TIMES", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) num_request_iterations_for_warmup: i32,

    /// Address that both listen on.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub(crate) bind_address: std::net::IpAddr,

    /// Seconds between two looks for new versions, may be a fraction; 0 = look once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, allow_negative_numbers = true)]
    pub(crate) file_system_poll_wait_seconds: f64,

    /// How often a version that failed to load is tried again while its files are the same;
    /// without the flag 5 times, and only where the next attempt may end otherwise.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pub(crate) max_num_load_retries: Option<i32>,

    /// Microseconds between two attempts to load a version; less than 0 = none.
    #[arg(
        long,
        value_name = "MICROSECONDS",
        default_value_t = 60_000_000,
        allow_negative_numbers = true
    )]
    pub(crate) load_retry_interval_micros: i64,

    /// Versions that load at one moment, those of all models together; 0 = one of each model.
    #[arg(long, value_name = "COUNT", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) num_load_threads: i32,

    /// Where models run: auto, cpu, cuda[:N] or vulkan[:N].
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,

    /// Whether models are optimised when they are loaded: operators joined, and what does
    /// not depend on a request computed once. Answers differ by rounding alone.
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = ["on", "off"])]
    pub(crate) engine_optimize: String,

    /// Folder for compiled plugins [default: ingle in the user's cache folder]; "" = none.
    #[arg(long, value_name = "DIR", value_parser = path_or_none())]
    pub(crate) cache_dir: Option<PathBuf>,

    /// What to log: error, warn, info, debug, trace, or by module as in
    /// info,ingle_serving=debug.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log_level: String,

    /// Log lines as text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub(crate) log_format: String,
}

/// A path that may be empty, which is TensorFlow Serving's way to say that there is none.
fn path_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn duration(seconds: &str) -> Result<Duration, String> {
    let seconds: f64 = seconds.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tfs;

    fn parse(line: &str) -> Cli {
        let arguments = line.split(' ').filter(|a| !tfs::is_ignored(a));
        Cli::try_parse_from(arguments).unwrap()
    }

    #[test]
    fn a_tensorflow_serving_command_line_is_understood() {
        let cli = parse(
            "ingle --port=9000 --rest_api_port=9001 --model_name=m --model_base_path=/m --enable_profiler=false --tensorflow_session_parallelism=2",
        );
        assert_eq!((cli.serve.port, cli.serve.rest_api_port), (9000, 9001));
        assert_eq!(cli.serve.model_name, "m");
        assert!(cli.command.is_none());
    }

    #[test]
    fn the_word_serve_takes_the_same_flags() {
        let cli = parse("ingle serve --repository models --device cpu --port 0");
        let Some(Command::Serve(args)) = cli.command else { panic!("serve was asked for") };
        assert_eq!((args.repository, args.port), (Some("models".into()), 0));
    }

    #[test]
    fn a_switch_is_on_alone_or_says_what_it_is() {
        let cors = |flags: &str| {
            parse(&format!("ingle{flags} --port=1")).serve.rest_api_enable_cors_support
        };
        assert!(!cors(""));
        assert!(cors(" --rest_api_enable_cors_support"));
        assert!(cors(" --rest_api_enable_cors_support=true"));
        assert!(cors(" --enable_cors_support"));
        assert!(!cors(" --enable_cors_support=false"));
        assert!(Cli::try_parse_from(["ingle", "--enable_cors_support=1"]).is_err());
    }

    #[test]
    fn a_request_may_be_as_large_as_a_grpc_message_and_no_larger() {
        let most = |flags: &str| parse(&format!("ingle{flags} --port=1")).serve.max_request_bytes;
        assert_eq!(usize::try_from(most("")), Ok(ingle_types::Limits::default().request_bytes));
        assert_eq!(most(" --max_request_bytes=2147483647"), 2_147_483_647);
        for bad in ["0", "-1", "2147483648", "1G"] {
            let flag = format!("--max_request_bytes={bad}");
            assert!(Cli::try_parse_from(["ingle", &flag]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_may_be_empty_where_that_means_none() {
        let flags = [
            "grpc_socket_path",
            "ssl_config_file",
            "rest_api_ssl_config_file",
            "monitoring_config_file",
            "admin_token_file",
            "cache_dir",
        ];
        for flag in flags {
            assert!(Cli::try_parse_from(["ingle", &format!("--{flag}=")]).is_ok(), "{flag}");
        }
        assert_eq!(parse("ingle --cache_dir=").serve.cache_dir, Some(PathBuf::new()));
    }

    #[test]
    fn durations_are_seconds_or_fractions_of_them() {
        let args = parse("ingle --drain_delay_seconds=0.25 --drain_grace_seconds=7").serve;
        assert_eq!(args.drain_delay_seconds, Duration::from_millis(250));
        assert_eq!(args.drain_grace_seconds, Duration::from_secs(7));
        for wrong in ["", "x", "-1", "nan", "inf", "1e30"] {
            let flag = format!("--drain_grace_seconds={wrong}");
            assert!(Cli::try_parse_from(["ingle", &flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn the_drain_has_the_defaults_of_the_limits() {
        let (args, limits) = (parse("ingle --port=1").serve, ingle_types::Limits::default());
        assert_eq!(args.drain_delay_seconds, limits.drain_delay);
        assert_eq!(args.drain_grace_seconds, limits.drain_grace);
    }

    #[test]
    fn the_last_of_equal_flags_counts() {
        let cli = parse("ingle --port=1 --model_name=a --port=2 --model_name=b");
        assert_eq!((cli.serve.port, cli.serve.model_name.as_str()), (2, "b"));
        let cli = parse("ingle serve --port=1 --port=2");
        assert!(matches!(cli.command, Some(Command::Serve(args)) if args.port == 2));
    }

    #[test]
    fn contradictions_and_unknown_flags_are_refused() {
        for line in [
            "ingle --repository=a --model_base_path=/b",
            "ingle --repositry=a",
            "ingle --device=tpu",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
