//! `ingle`: configuration → logs → runtime → serve → drain; or a command that ends.

mod app;
mod cli;
mod config;
mod listen;
mod model;
mod reload;
mod running;
mod signals;

use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;

use crate::cli::{Cli, Command, tfs_arguments};
use crate::config::Config;

/// The arguments cannot be used (sysexits.h EX_USAGE).
const EXIT_USAGE: u8 = 64;
/// A device, a port or a directory that was asked for is not there (EX_UNAVAILABLE).
const EXIT_UNAVAILABLE: u8 = 69;
/// Requests were still running when the drain's grace ended, or a second signal came
/// (EX_TEMPFAIL).
const EXIT_CUT_OFF: u8 = 75;

fn main() -> ExitCode {
    let arguments = tfs_arguments(std::env::args().collect());
    let cli = Cli::try_parse_from(&arguments.kept).unwrap_or_else(|e| exit_by_clap(&e));
    let args = match cli.command {
        Some(Command::Model(command)) => return model::main(command),
        Some(Command::Serve(args)) => *args,
        None => cli.serve,
    };
    let config = match Config::new(args) {
        Ok(config) => config,
        Err(e) => return fail(EXIT_USAGE, &e),
    };
    if let Err(e) = ingle_telemetry::init_logs(&config.log_level, config.log_format) {
        return fail(EXIT_USAGE, &anyhow::anyhow!("--log_level: {e}"));
    }
    for flag in arguments.ignored {
        tracing::info!(flag, "accepted, but it has no meaning here");
    }
    if let Some(status) = config::restart_with_larger_stacks(config.device) {
        return status;
    }
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(EXIT_UNAVAILABLE, &anyhow::anyhow!("cannot start threads: {e}")),
    };
    let ended = runtime.block_on(app::run(config));
    // Whatever still runs has nobody to answer to.
    runtime.shutdown_background();
    match ended {
        Ok(app::Drain::Complete) => ExitCode::SUCCESS,
        Ok(app::Drain::CutOff) => ExitCode::from(EXIT_CUT_OFF),
        Err(e) => fail(EXIT_UNAVAILABLE, &e),
    }
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
