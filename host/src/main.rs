//! `ingle`: configuration → logs → runtime → serve → drain; or a command that ends.

mod app;
mod cli;
mod config;
mod listen;
mod model;
mod operate;
mod reload;
mod request_log;
mod running;
mod signals;
mod tfs;

use std::process::ExitCode;

use tokio::runtime;

use crate::cli::Command;
use crate::config::{Config, ImageModel};
use crate::tfs::CommandLine;

/// A request's memory is taken on one thread and given back on another, where the C
/// library's allocator makes threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The arguments cannot be used (sysexits.h EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// A device, a port or a directory that was asked for is not there (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;
/// Requests were still running when the drain's grace ended, or a second signal came
/// (EX_TEMPFAIL).
const EXIT_CUT_OFF: u8 = 75;

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(e) => return fail(EXIT_USAGE, &e),
    };
    if CommandLine::is_version_request(&arguments) {
        println!("{}", tfs::version());
        return ExitCode::SUCCESS;
    }
    let image = ImageModel::from_environment().unwrap_or_default();
    let line = CommandLine::read(arguments, &image).unwrap_or_else(|e| exit_by_clap(&e));
    let args = match line.cli.command {
        Some(Command::Model(command)) => return model::main(command),
        Some(Command::Serve(args)) => *args,
        None => line.cli.serve,
    };
    let config = match Config::new(args) {
        Ok(config) => config,
        Err(e) => return fail(EXIT_USAGE, &e),
    };
    let filter = config::log_filter(&config.log_level);
    let logs = match ingle_telemetry::init_logs(&config.log_level, &filter, config.log_format) {
        Ok(logs) => logs,
        Err(e) => return fail(EXIT_USAGE, &anyhow::anyhow!("--log_level: {e}")),
    };
    for flag in line.ignored {
        tracing::info!(flag, "accepted, but it has no meaning here");
    }
    for argument in line.unknown {
        tracing::warn!("unknown argument: {argument}");
    }
    if let Some(status) = config::restart_with_larger_stacks(config.device) {
        return status;
    }
    let mut runtime = runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_stack_size(ingle_serving::REQUEST_STACK_BYTES);
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(EXIT_UNAVAILABLE, &anyhow::anyhow!("cannot start threads: {e}")),
    };
    let ended = runtime.block_on(app::run(config, logs));
    // Whatever still runs has nobody to answer to.
    runtime.shutdown_background();
    match ended {
        Ok(app::Drain::Complete) => ExitCode::SUCCESS,
        Ok(app::Drain::CutOff) => ExitCode::from(EXIT_CUT_OFF),
        Err(e) => fail(EXIT_UNAVAILABLE, &e),
    }
}

fn arguments() -> anyhow::Result<Vec<String>> {
    let text = |argument: std::ffi::OsString| {
        argument.into_string().map_err(|wrong| anyhow::anyhow!("{wrong:?} is not UTF-8"))
    };
    std::env::args_os().map(text).collect()
}

/// `--help` and `--version` are not errors.
fn exit_by_clap(error: &clap::Error) -> ! {
    // Where the output is closed there is nobody to tell.
    let _ = error.print();
    let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
    std::process::exit(code.into());
}

fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    eprintln!("Failed to start server. Error: {error:#}");
    ExitCode::from(code)
}
