//! What existing command lines of `tensorflow_model_server` expect, beyond the flags that
//! both have: its names, the arguments of its image, flags that only TensorFlow needs.

use std::ffi::OsStr;
use std::path::Path;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::config::ImageModel;

/// By what name the program was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Ingle,
    /// `tensorflow_model_server`: flags have its defaults, and one that is not known is
    /// told and left out.
    ModelServer,
    /// `tf_serving_entrypoint.sh`, the entry point of its image: as above, with the image's
    /// ports and its model by the environment before the arguments.
    Image,
}

impl Entry {
    fn of(program: &str) -> Self {
        match Path::new(program).file_name().and_then(OsStr::to_str) {
            Some("tensorflow_model_server") => Self::ModelServer,
            Some("tf_serving_entrypoint.sh") => Self::Image,
            _ => Self::Ingle,
        }
    }
}

/// A command line that was understood.
pub(crate) struct CommandLine {
    pub(crate) cli: Cli,
    /// Flags without a meaning here.
    pub(crate) ignored: Vec<String>,
    /// Arguments that nobody knows, told where TensorFlow Serving would start with them.
    pub(crate) unknown: Vec<String>,
}

impl CommandLine {
    /// Reads `arguments`, the first of which is the program's name.
    ///
    /// # Errors
    /// Where they cannot be used, and where help or the version was asked for.
    pub(crate) fn read(arguments: Vec<String>, image: &ImageModel) -> Result<Self, clap::Error> {
        let mut arguments = arguments.into_iter();
        let program = arguments.next().unwrap_or_else(|| "ingle".to_owned());
        let entry = Entry::of(&program);
        let (ignored, kept): (Vec<_>, Vec<_>) = arguments.partition(|a| is_ignored(a));
        let mut line = vec![program];
        line.extend(defaults(entry, image));
        line.extend(kept);
        if entry == Entry::Ingle {
            return Ok(Self { cli: Cli::try_parse_from(line)?, ignored, unknown: Vec::new() });
        }
        let (cli, unknown) = without_unknown(line)?;
        Ok(Self { cli, ignored, unknown })
    }

    /// What `--version` prints, for those who read it from `tensorflow_model_server`.
    pub(crate) fn is_version_request(arguments: &[String]) -> bool {
        let (program, flags) = arguments.split_first().map_or(("", &[][..]), |(p, f)| (p, f));
        let asked = |flag: &String| matches!(flag.as_str(), "--version" | "--version=true");
        Entry::of(program) != Entry::Ingle && flags.iter().any(asked)
    }
}

/// In the form of `tensorflow_model_server --version`.
pub(crate) fn version() -> String {
    format!(
        "TensorFlow ModelServer: ingle {}\nTensorFlow Library: none, ONNX on Burn",
        env!("CARGO_PKG_VERSION")
    )
}

/// What an entry has before the user's flags, which come later and so win.
fn defaults(entry: Entry, image: &ImageModel) -> Vec<String> {
    match entry {
        Entry::Ingle => Vec::new(),
        Entry::ModelServer => vec!["--rest_api_port=0".to_owned()],
        Entry::Image => vec![
            "--port=8500".to_owned(),
            "--rest_api_port=8501".to_owned(),
            format!("--model_name={}", image.name),
            format!("--model_base_path={}", image.base_path.display()),
        ],
    }
}

/// Parses; an argument that is not known is taken out and the rest parsed again.
fn without_unknown(mut line: Vec<String>) -> Result<(Cli, Vec<String>), clap::Error> {
    let mut unknown = Vec::new();
    loop {
        let error = match Cli::try_parse_from(&line) {
            Ok(cli) => return Ok((cli, unknown)),
            Err(error) => error,
        };
        let Some(position) = unknown_argument(&error, &line) else { return Err(error) };
        unknown.push(line.remove(position));
    }
}

/// Where the argument that `error` does not know stands in `line`.
fn unknown_argument(error: &clap::Error, line: &[String]) -> Option<usize> {
    let kind = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        // A word after flags is taken for a command that cannot have them.
        ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict => {
            ContextKind::InvalidSubcommand
        }
        _ => return None,
    };
    let Some(ContextValue::String(named)) = error.get(kind) else { return None };
    // The error names a flag without its value.
    let is_named = |argument: &String| {
        argument == named || argument.strip_prefix(named).is_some_and(|rest| rest.starts_with('='))
    };
    let position = line.iter().skip(1).position(is_named)?;
    Some(position + 1)
}

/// Flags that existing command lines carry and that steer parts which this server does
/// not have, or has on anyway.
const IGNORED: &[&str] = &[
    "allow_version_labels_for_unavailable_models",
    "enable_grpc_healthcheck_service",
    "enable_profiler",
    "enable_signature_method_name_check",
    "flush_filesystem_caches",
    "grpc_channel_arguments",
    "grpc_max_threads",
    "mixed_precision",
    "num_tflite_interpreters_per_pool",
    "num_tflite_pools",
    "num_unload_threads",
    "per_process_gpu_memory_fraction",
    "platform_config_file",
    "prefer_tflite_model",
    "remove_unused_fields_from_bundle_metagraph",
    "rest_api_num_threads",
    "saved_model_tags",
    "skip_initialize_tpu",
    "tensorflow_inter_op_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_session_parallelism",
    "thread_pool_factory_config_file",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
];

/// TensorFlow Serving understands `--name=value` alone, so a flag that is left out never
/// takes the next argument with it.
pub(crate) fn is_ignored(argument: &str) -> bool {
    let name = argument.strip_prefix("--").unwrap_or_default();
    IGNORED.contains(&name.split('=').next().unwrap_or_default())
}

/// The end of `--help`.
pub(crate) fn help() -> String {
    let flags: Vec<_> = IGNORED.iter().map(|name| format!("  --{name}")).collect();
    format!(
        "Flags of TensorFlow Serving that are accepted and change nothing:\n{}\n\n\
         Called tensorflow_model_server, REST is off unless --rest_api_port is given, and an unknown\n\
         argument is told and left out. Called tf_serving_entrypoint.sh, it serves\n\
         $MODEL_BASE_PATH/$MODEL_NAME as TensorFlow Serving's image does.",
        flags.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<CommandLine, clap::Error> {
        let image = ImageModel { name: "resnet".to_owned(), base_path: "/models/resnet".into() };
        CommandLine::read(line.split(' ').map(str::to_owned).collect(), &image)
    }

    #[test]
    fn the_name_of_the_program_decides_what_is_expected() {
        let kserve = "/usr/bin/tensorflow_model_server --model_name=m --port=9000 --rest_api_port=8080 --model_base_path=/mnt/models --rest_api_timeout_in_ms=60000";
        let serve = read(kserve).unwrap().cli.serve;
        assert_eq!((serve.port, serve.rest_api_port, serve.model_name.as_str()), (9000, 8080, "m"));
        let serve = read("tensorflow_model_server --model_base_path=/m").unwrap().cli.serve;
        assert_eq!((serve.port, serve.rest_api_port), (8500, 0));
        let serve = read("ingle --model_base_path=/m").unwrap().cli.serve;
        assert_eq!((serve.port, serve.rest_api_port), (8500, 8501));
    }

    #[test]
    fn the_image_serves_the_model_of_its_environment() {
        let serve = read("/usr/bin/tf_serving_entrypoint.sh --rest_api_port=1").unwrap().cli.serve;
        assert_eq!((serve.port, serve.rest_api_port), (8500, 1), "the user's flags come later");
        assert_eq!(serve.model_name, "resnet");
        assert_eq!(serve.model_base_path, Some("/models/resnet".into()));
    }

    #[test]
    fn a_model_server_starts_in_spite_of_what_it_does_not_know() {
        let line =
            read("tensorflow_model_server --port=1 --warp=9 --warp -x word --rest_api_port=2");
        let line = line.unwrap();
        assert_eq!((line.cli.serve.port, line.cli.serve.rest_api_port), (1, 2));
        assert_eq!(line.unknown, ["--warp=9", "--warp", "-x", "word"]);
        assert!(read("ingle --port=1 --warp=9").is_err());
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_by_every_name() {
        for program in ["ingle", "tensorflow_model_server", "tf_serving_entrypoint.sh"] {
            assert!(read(&format!("{program} --port=many")).is_err(), "{program}");
        }
    }

    #[test]
    fn what_only_tensorflow_needs_changes_nothing() {
        let line =
            read("ingle --enable_profiler=false --tensorflow_session_parallelism=2 --port=7");
        let line = line.unwrap();
        assert_eq!(line.ignored, ["--enable_profiler=false", "--tensorflow_session_parallelism=2"]);
        assert_eq!(line.cli.serve.port, 7);
    }
}
