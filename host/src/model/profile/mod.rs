//! `ingle model profile`: where a model's time goes.

mod table;
mod trace;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use clap::Args;
use ingle_engine::{Engine, Observer, Program, StepReport};
use ingle_types::{Limits, TensorMap};

use super::args::{CommonArgs, NamedShape};
use super::failure::Failure;
use super::output::Output;
use super::source::ModelFile;
use super::{Verdict, inputs, units};

/// Says where a model's time goes, by node and by operator.
///
/// The device is waited for after each node, so the sum is above what a run takes that
/// is not watched. Operations are estimated from shapes: two for each multiplication of
/// a convolution, a product of matrices, attention or a recurrent layer, one for each
/// element of an elementwise operator, none for all else.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: ingle model profile model.onnx --shape image=1,3,224,224 --trace out.json"
)]
pub(crate) struct ProfileArgs {
    /// The model: an ONNX file, or a version directory.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The shape of an input; a size that the model leaves open is 1 otherwise.
    #[arg(long = "shape", value_name = "NAME=SIZES")]
    shapes: Vec<NamedShape>,

    /// How often to run; times are the median.
    #[arg(long, value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,

    /// How many nodes to show, the slowest first; 0 = all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,

    /// Write the last run in Chrome's trace event format, for ui.perfetto.dev.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Runs before the first one that counts: they allocate, and may compile kernels.
const WARM_UP: usize = 2;

pub(super) fn run(
    args: ProfileArgs,
    engine: &Engine,
    out: &mut Output,
) -> Result<Verdict, Failure> {
    let limits = Limits::default();
    let program = ModelFile::read(&args.file, &limits)?.program(engine, &limits)?;
    let request = inputs::synthetic(program.signature(), &args.shapes, None, &limits)?;
    for _ in 0..WARM_UP {
        program.run(&request, &[]).map_err(Failure::run)?;
    }
    let runs: Vec<_> =
        (0..args.runs).map(|_| watched(&program, &request)).collect::<Result<_, _>>()?;
    if let (Some(file), Some(last)) = (&args.trace, runs.last()) {
        fs::write(file, trace::of(last).to_string())
            .with_context(|| format!("--trace {}", file.display()))
            .map_err(Failure::no_input)?;
    }
    let table = table::Table::of(&runs);
    let shapes = inputs::shapes_text(&request);
    if out.is_json() {
        let device = engine.device().to_string();
        out.object(&table.json(&device, &shapes))?;
    } else {
        let (device, runs) = (engine.device(), args.runs);
        out.line(format_args!("{device}, {shapes}, median of {runs} runs"))?;
        table.print(out, args.top)?;
        if let Some(file) = &args.trace {
            out.line(format_args!("trace: {}, open it at ui.perfetto.dev", file.display()))?;
        }
    }
    Ok(Verdict::Yes)
}

#[derive(Default)]
struct Steps(Mutex<Vec<StepReport>>);

impl Observer for Steps {
    fn step(&self, step: StepReport) {
        if let Ok(mut steps) = self.0.lock() {
            steps.push(step);
        }
    }
}

fn watched(program: &Program, request: &TensorMap) -> Result<Vec<StepReport>, Failure> {
    let steps = Arc::new(Steps::default());
    program.run_watched(request, steps.clone()).map_err(Failure::run)?;
    Ok(steps.0.lock().map(|mut steps| std::mem::take(&mut *steps)).unwrap_or_default())
}
