//! `ingle model test`: models with inputs and the answers that they must give.

mod case;
mod compare;
mod find;
mod report;

use std::path::PathBuf;

use clap::Args;
use ingle_engine::Engine;
use ingle_types::Limits;

use self::compare::Tolerance;
use self::report::Report;
use super::args::CommonArgs;
use super::failure::Failure;
use super::output::Output;
use super::{Verdict, source};

/// Runs models on inputs that come with the answers they must give.
///
/// Prints a line for each test: PASS, FAIL and why, or UNSUPPORTED and what the engine
/// lacks. Exits with 1 unless all pass or, with --expect, unless those listed pass.
#[derive(Debug, Args)]
#[command(after_help = "Example: ingle model test node/ --filter conv --expect passing.txt")]
pub(crate) struct TestArgs {
    /// Folders in the layout of ONNX's own tests. Each is a test (model.onnx beside
    /// test_data_set_0/input_0.pb, output_0.pb ...) or holds tests, up to two levels down.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,

    /// Run only the tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// How far a float may be from what is wanted, as a part of the latter.
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    rtol: f64,

    /// How far a float may be from what is wanted in any case. Other types must be equal.
    #[arg(long, value_name = "X", default_value_t = 1e-7)]
    atol: f64,

    /// Names of tests, one on a line: the exit code says whether these pass.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,

    /// Write the names of the tests that pass, for --expect.
    #[arg(long, value_name = "FILE")]
    write_expect: Option<PathBuf>,

    /// Tab-separated lines of a test's name and its group, to count by group.
    #[arg(long, value_name = "FILE")]
    groups: Option<PathBuf>,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(super) fn run(args: TestArgs, engine: &Engine, out: &mut Output) -> Result<Verdict, Failure> {
    let limits = Limits::default();
    let tolerance = Tolerance { relative: args.rtol, absolute: args.atol };
    let mut report = Report::new(args.expect.as_deref(), args.groups.as_deref())?;
    for test in find::tests(&args.dirs, args.filter.as_deref())? {
        let outcome = case::run(engine, &test.folder, tolerance, &limits);
        report.add(out, test.name, outcome)?;
    }
    if let Some(file) = &args.write_expect {
        report.write_passed(file)?;
    }
    report.finish(out)
}
