//! `ingle model`: what can be asked of an ONNX file without a server.
//!
//! Each command is a module with its arguments and one function that runs it. The
//! answer goes to standard output, errors and logs to standard error.

mod args;
mod failure;
mod output;
mod preview;
mod source;
mod test;

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
    /// Runs models on inputs that come with the answers they must give.
    Test(test::TestArgs),
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
            Self::Test(args) => &args.common,
        }
    }

    fn run(self, engine: &Engine, out: &mut Output) -> Result<Verdict, Failure> {
        match self {
            Self::Test(args) => test::run(args, engine, out),
        }
    }
}

/// Runs the command and says how it ended.
pub(crate) fn main(command: ModelCommand) -> ExitCode {
    // The filter is our own.
    let _ = ingle_telemetry::init_logs(&config::log_filter("warn"), LogFormat::Text);
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
    let engine = Engine::new(command.common().device)?;
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
