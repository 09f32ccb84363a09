//! `ingle model inspect`: what a model is, needs and costs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Args;
use ingle_engine::{
    DeclaredValue, Description, Engine, LoadError, Observer, Program, StepReport, describe,
};
use ingle_types::Limits;
use serde_json::{Value, json};

use super::args::{CommonArgs, NamedShape};
use super::failure::Failure;
use super::output::Output;
use super::source::ModelFile;
use super::{Verdict, inputs, units};

/// Says what a model is, needs and costs, and whether it can run.
///
/// Memory and work are found in one run on made-up inputs, in which a size that the
/// model leaves open is 1. Exits with 1 where the model cannot run, after naming all
/// that is not supported. Another framework's model, or a model's versions that hold
/// such, are answered with the command that converts them.
#[derive(Debug, Args)]
#[command(after_help = "Example: ingle model inspect model.onnx --shape image=8,3,224,224")]
pub(crate) struct InspectArgs {
    /// The model: an ONNX file, or a version directory.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The shape of an input in the run that memory and work are found in.
    #[arg(long = "shape", value_name = "NAME=SIZES")]
    shapes: Vec<NamedShape>,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(super) fn run(
    args: InspectArgs,
    engine: &Engine,
    out: &mut Output,
) -> Result<Verdict, Failure> {
    let limits = Limits::default();
    let file = ModelFile::read(&args.file, &limits)?;
    let description =
        describe(&file.model, &limits).map_err(|error| Failure::load(&file.path, error))?;
    let loaded = file.load(engine, &limits);
    let cost = match &loaded {
        Ok(program) => Some(cost(program, &args.shapes, &limits)?),
        Err(_) => None,
    };
    if out.is_json() {
        out.object(&object(&description, &loaded, cost.as_ref()))?;
    } else {
        out.line(format_args!("{}", file.path.display()))?;
        describe_text(out, &description)?;
        match (&loaded, &cost) {
            (Ok(program), Some(cost)) => cost_text(out, program, cost)?,
            (Err(error), _) => problems_text(out, error)?,
            _ => {}
        }
        if loaded.is_ok() {
            out.line(format_args!("runs on {}: yes", engine.device()))?;
        }
    }
    Ok(if loaded.is_ok() { Verdict::Yes } else { Verdict::No })
}

/// What one run took.
#[derive(Debug)]
struct Cost {
    /// The shapes of the inputs.
    shapes: String,
    /// Why it is not known, where the run failed.
    totals: Result<Totals, String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    flops: u64,
    peak_bytes: u64,
}

#[derive(Default)]
struct Watcher(Mutex<Totals>);

impl Observer for Watcher {
    fn step(&self, step: StepReport) {
        if let Ok(mut totals) = self.0.lock() {
            totals.flops = totals.flops.saturating_add(step.flops);
            totals.peak_bytes = totals.peak_bytes.max(step.live_bytes as u64);
        }
    }
}

fn cost(program: &Program, shapes: &[NamedShape], limits: &Limits) -> Result<Cost, Failure> {
    let request = match inputs::synthetic(program.signature(), shapes, None, limits) {
        Ok(request) => request,
        // What the user asked for has to be right, what was made up need not be.
        Err(failure) if !shapes.is_empty() => return Err(failure),
        Err(failure) => {
            let why = failure.into_error().to_string();
            return Ok(Cost { shapes: String::new(), totals: Err(why) });
        }
    };
    let shapes = inputs::shapes_text(&request);
    let watcher = Arc::new(Watcher::default());
    let totals = match program.run_watched(&request, watcher.clone()) {
        Ok(_) => Ok(watcher.0.lock().map(|totals| *totals).unwrap_or_default()),
        Err(error) => Err(format!("{:#}", anyhow::Error::new(error))),
    };
    Ok(Cost { shapes, totals })
}

fn describe_text(out: &mut Output, description: &Description) -> Result<(), Failure> {
    let producer = match description.producer.as_str() {
        "" => String::new(),
        producer => format!(", written by {producer}"),
    };
    out.line(format_args!("ONNX IR {}{producer}", description.ir_version))?;
    let opsets = description.opsets.iter().map(|(domain, version)| format!("{domain} {version}"));
    out.line(format_args!("opsets: {}", opsets.collect::<Vec<_>>().join(", ")))?;
    for (title, values) in [("inputs", &description.inputs), ("outputs", &description.outputs)] {
        out.line(format_args!("{title}:"))?;
        for DeclaredValue { name, kind, shape, optional } in values {
            let shape = shape.as_deref().unwrap_or("of any rank");
            let optional = if *optional { "  (has a default)" } else { "" };
            out.line(format_args!("  {name}  {kind} {shape}{optional}"))?;
        }
    }
    let nodes: usize = description.operators.values().sum();
    out.line(format_args!("operators ({nodes} nodes):"))?;
    let mut operators: Vec<_> = description.operators.iter().collect();
    operators.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (name, count) in operators {
        out.line(format_args!("  {count:>5}  {}", operator(name)))?;
    }
    let (count, bytes) = (description.parameters, description.parameter_bytes);
    out.line(format_args!("parameters: {} ({})", units::count(count), units::bytes(bytes)))?;
    Ok(())
}

fn operator((domain, name): &(String, String)) -> String {
    if domain.is_empty() { name.clone() } else { format!("{domain}.{name}") }
}

fn cost_text(out: &mut Output, program: &Program, cost: &Cost) -> Result<(), Failure> {
    let weights = units::bytes(program.weights_bytes() as u64);
    match &cost.totals {
        Ok(Totals { flops, peak_bytes }) => {
            let (peak, flops) = (units::bytes(*peak_bytes), units::count(*flops));
            let shapes = &cost.shapes;
            out.line(format_args!("memory: {weights} of weights, {peak} of activations at most"))?;
            out.line(format_args!("work: {flops} floating-point operations a run, estimated"))?;
            out.line(format_args!("  (activations and work: for {shapes}; see --shape)"))?;
        }
        Err(why) => {
            out.line(format_args!("memory: {weights} of weights, unknown for activations"))?;
            out.line(format_args!("work: unknown"))?;
            out.line(format_args!("  (a run on made-up inputs failed: {why}; see --shape)"))?;
        }
    }
    Ok(())
}

fn problems_text(out: &mut Output, error: &LoadError) -> Result<(), Failure> {
    let problems = error.problems();
    out.line(format_args!("cannot run ({}):", problems.len()))?;
    for problem in problems {
        out.line(format_args!("  {problem}"))?;
    }
    Ok(())
}

fn object(
    description: &Description,
    loaded: &Result<Program, LoadError>,
    cost: Option<&Cost>,
) -> Value {
    let value = |value: &DeclaredValue| {
        let DeclaredValue { name, kind, shape, optional } = value;
        json!({"name": name, "type": kind, "shape": shape, "optional": optional})
    };
    let values = |values: &[DeclaredValue]| values.iter().map(value).collect::<Vec<_>>();
    let operators: serde_json::Map<String, Value> =
        description.operators.iter().map(|(name, count)| (operator(name), json!(count))).collect();
    let totals = cost.and_then(|cost| cost.totals.as_ref().ok());
    json!({
        "ir_version": description.ir_version,
        "producer": description.producer,
        "opsets": description.opsets,
        "inputs": values(&description.inputs),
        "outputs": values(&description.outputs),
        "operators": operators,
        "parameters": description.parameters,
        "parameter_bytes": description.parameter_bytes,
        "runs": loaded.is_ok(),
        "problems": loaded.as_ref().err().map(LoadError::problems).unwrap_or_default(),
        "weights_bytes": loaded.as_ref().ok().map(Program::weights_bytes),
        "estimate": {
            "shapes": cost.map(|cost| &cost.shapes),
            "activation_bytes": totals.map(|totals| totals.peak_bytes),
            "flops": totals.map(|totals| totals.flops),
            "unknown_because": cost.and_then(|cost| cost.totals.as_ref().err()),
        },
    })
}
