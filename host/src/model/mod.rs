//! `ingle model`: what can be asked of an ONNX file without a server.
//!
//! Each command is a module with its arguments and one function that runs it. The
//! answer goes to standard output, errors and logs to standard error.

mod args;
mod bench;
mod failure;
mod inputs;
mod inspect;
mod npy;
mod operators;
mod output;
mod preview;
mod profile;
mod run;
mod source;
mod test;
mod units;

use std::process::ExitCode;
use std::thread;

use clap::Subcommand;
use ingle_engine::Engine;
use ingle_telemetry::LogFormat;

use self::failure::Failure;
use self::output::Output;
use crate::config;

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Says what a model is, needs and costs, and whether it can run.
    Inspect(inspect::InspectArgs),
    /// Runs a model once, on tensors from files.
    Run(run::RunArgs),
    /// Runs models on inputs that come with the answers they must give.
    Test(test::TestArgs),
    /// Says where a model's time goes, by node and by operator.
    Profile(profile::ProfileArgs),
    /// Measures latency and throughput.
    Bench(bench::BenchArgs),
    /// Lists the operators that models may use.
    Operators(operators::OperatorsArgs),
}

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Yes,
    /// A test failed, or the model cannot run.
    No,
}

/// The exit code of [`Verdict::No`].
const EXIT_NO: u8 = 1;

impl ModelCommand {
    fn common(&self) -> &args::CommonArgs {
        match self {
            Self::Inspect(args) => &args.common,
            Self::Run(args) => &args.common,
            Self::Test(args) => &args.common,
            Self::Profile(args) => &args.common,
            Self::Bench(args) => &args.common,
            Self::Operators(args) => &args.common,
        }
    }

    fn run(self, engine: &Engine, out: &mut Output) -> Result<Verdict, Failure> {
        match self {
            Self::Inspect(args) => inspect::run(args, engine, out),
            Self::Run(args) => run::run(args, engine, out),
            Self::Test(args) => test::run(args, engine, out),
            Self::Profile(args) => profile::run(args, engine, out),
            Self::Bench(args) => bench::run(args, engine, out),
            Self::Operators(args) => operators::run(&args, out),
        }
    }
}

/// Runs the command and says how it ended.
pub(crate) fn main(command: ModelCommand) -> ExitCode {
    // The filter is our own.
    let _ = ingle_telemetry::init_logs("warn", &config::log_filter("warn"), LogFormat::Text);
    if let Some(status) = config::restart_with_larger_stacks(command.common().device) {
        return status;
    }
    match on_worker(command) {
        Ok(Verdict::Yes) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(EXIT_NO),
        Err(failure) => failure.report(),
    }
}

/// Engines want a larger stack than the main thread may have.
fn on_worker(command: ModelCommand) -> Result<Verdict, Failure> {
    let common = command.common();
    let engine = Engine::new(common.device)?.with_optimize(common.optimize());
    // What Burn panics with is part of the engine's errors. Ours ends the thread.
    std::panic::set_hook(Box::new(|panic| tracing::debug!(%panic)));
    let stack = engine.worker_stack_bytes();
    let work = move || {
        let mut out = Output::new(command.common().format);
        let verdict = command.run(&engine, &mut out)?;
        out.flush()?;
        Ok(verdict)
    };
    let worker = thread::Builder::new().stack_size(stack).spawn(work)?;
    worker.join().unwrap_or_else(|panic| Err(Failure::bug(&*panic)))
}
