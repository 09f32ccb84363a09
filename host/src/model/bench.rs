//! `ingle model bench`: latency and throughput.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;
use ingle_engine::{Engine, Program};
use ingle_types::{Limits, TensorMap};
use serde_json::{Value, json};

use super::args::{CommonArgs, NamedShape, OnOff, duration};
use super::failure::Failure;
use super::output::Output;
use super::source::ModelFile;
use super::{Verdict, inputs, units};

/// What sets the size of the pool that CPU kernels share. It is read once, before the
/// first kernel runs, so that each size needs a process of its own.
const POOL_SIZE: &str = "RAYON_NUM_THREADS";

/// Measures latency and throughput of a model, one run after the other.
#[derive(Debug, Args)]
#[command(after_help = "Example: ingle model bench model.onnx --batch 1,8 --threads 1,2")]
pub(crate) struct BenchArgs {
    /// The model: an ONNX file, or a version directory.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Sizes of the first dimension of the inputs that leave it open.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..))]
    batch: Vec<u32>,

    /// Numbers of threads that CPU kernels share [default: all cores].
    #[arg(long, value_name = "N,...", value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Vec<u32>,

    /// How long to measure each combination, after a tenth of it to warm up.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    duration: Duration,

    /// The shape of an input; a size that the model leaves open is 1 otherwise.
    #[arg(long = "shape", value_name = "NAME=SIZES")]
    shapes: Vec<NamedShape>,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(super) fn run(args: BenchArgs, engine: &Engine, out: &mut Output) -> Result<Verdict, Failure> {
    if !out.is_json() {
        out.line(format_args!("{}", title()))?;
        out.flush()?;
    }
    if args.threads.is_empty() {
        measure_all(&args, engine, out)?;
        return Ok(Verdict::Yes);
    }
    for &threads in &args.threads {
        for line in in_a_process_of_its_own(&args, threads)? {
            show(out, &line)?;
        }
    }
    Ok(Verdict::Yes)
}

fn measure_all(args: &BenchArgs, engine: &Engine, out: &mut Output) -> Result<(), Failure> {
    let limits = Limits::default();
    let program = ModelFile::read(&args.file, &limits)?.program(engine, &limits)?;
    let threads = available_parallelism().map_or(1, usize::from);
    for &batch in &args.batch {
        let batch = batch as usize;
        let request = inputs::synthetic(program.signature(), &args.shapes, Some(batch), &limits)?;
        let latencies = measure(&program, &request, args.duration)?;
        let shapes = inputs::shapes_text(&request);
        let device = engine.device().to_string();
        let mut object = Summary::of(latencies).json(batch);
        if let Some(object) = object.as_object_mut() {
            object.extend([
                ("device".into(), json!(device)),
                ("threads".into(), json!(threads)),
                ("shapes".into(), json!(shapes)),
            ]);
        }
        show(out, &object)?;
    }
    Ok(())
}

/// The seconds that each run took.
fn measure(
    program: &Program,
    request: &TensorMap,
    duration: Duration,
) -> Result<Vec<f64>, Failure> {
    let run_for = |duration: Duration, least: usize| {
        let start = Instant::now();
        let mut latencies = Vec::new();
        while latencies.len() < least || start.elapsed() < duration {
            let before = Instant::now();
            program.run(request, &[]).map_err(Failure::run)?;
            latencies.push(before.elapsed().as_secs_f64());
        }
        Ok::<_, Failure>(latencies)
    };
    run_for(duration / 10, 1)?;
    run_for(duration, 3)
}

#[derive(Debug, PartialEq)]
struct Summary {
    runs: usize,
    mean: f64,
    least: f64,
    /// The 50th, 90th and 99th percentiles.
    percentiles: [f64; 3],
}

impl Summary {
    fn of(mut latencies: Vec<f64>) -> Self {
        latencies.sort_by(f64::total_cmp);
        let runs = latencies.len();
        // The smallest that at least so many of a hundred are not above.
        let percentile = |p: usize| {
            let rank = (runs * p).div_ceil(100).saturating_sub(1);
            latencies.get(rank).copied().unwrap_or_default()
        };
        Self {
            runs,
            mean: latencies.iter().sum::<f64>() / runs.max(1) as f64,
            least: latencies.first().copied().unwrap_or_default(),
            percentiles: [50, 90, 99].map(percentile),
        }
    }

    fn json(&self, batch: usize) -> Value {
        let [p50, p90, p99] = self.percentiles;
        json!({
            "batch": batch,
            "runs": self.runs,
            "mean_seconds": self.mean,
            "min_seconds": self.least,
            "p50_seconds": p50,
            "p90_seconds": p90,
            "p99_seconds": p99,
            "examples_per_second": if self.mean > 0.0 { batch as f64 / self.mean } else { 0.0 },
        })
    }
}

const COLUMNS: [(&str, &str); 5] = [
    ("min", "min_seconds"),
    ("p50", "p50_seconds"),
    ("p90", "p90_seconds"),
    ("p99", "p99_seconds"),
    ("mean", "mean_seconds"),
];

fn title() -> String {
    let times: String = COLUMNS.iter().map(|(title, _)| format!(" {title:>9}")).collect();
    format!(
        "{:>8} {:>7} {:>6} {:>7}{times} {:>12}",
        "device", "threads", "batch", "runs", "examples/s"
    )
}

fn show(out: &mut Output, object: &Value) -> Result<(), Failure> {
    if out.is_json() {
        return Ok(out.object(object)?);
    }
    let number = |key: &str| object.get(key).and_then(Value::as_f64).unwrap_or_default();
    let device = object.get("device").and_then(Value::as_str).unwrap_or_default();
    let times: String =
        COLUMNS.iter().map(|(_, key)| format!(" {:>9}", units::seconds(number(key)))).collect();
    let (threads, batch, runs) = (number("threads"), number("batch"), number("runs"));
    let rate = number("examples_per_second");
    out.line(format_args!("{device:>8} {threads:>7} {batch:>6} {runs:>7}{times} {rate:>12.1}"))?;
    Ok(out.flush()?)
}

/// Runs this very command with a pool of that size, and gives back what it measured.
fn in_a_process_of_its_own(args: &BenchArgs, threads: u32) -> Result<Vec<Value>, Failure> {
    let child = env::current_exe().and_then(|this| {
        Command::new(this)
            .args(arguments(args))
            .env(POOL_SIZE, threads.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
    });
    let child = child.with_context(|| format!("--threads {threads}")).map_err(Failure::no_input)?;
    if !child.status.success() {
        // It has said why.
        let code = child.status.code().and_then(|code| u8::try_from(code).ok());
        return Err(Failure::of_child(code, anyhow!("--threads {threads}: see above")));
    }
    let lines = child.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let objects = lines.map(|line| {
        let mut object: Value = serde_json::from_slice(line).context("--threads: no answer")?;
        if let Some(object) = object.as_object_mut() {
            object.insert("threads".into(), json!(threads));
        }
        Ok(object)
    });
    objects.collect::<anyhow::Result<_>>().map_err(Failure::data)
}

/// The same command without `--threads`.
fn arguments(args: &BenchArgs) -> Vec<OsString> {
    let batch: Vec<String> = args.batch.iter().map(u32::to_string).collect();
    let mut arguments: Vec<OsString> = vec![
        "model".into(),
        "bench".into(),
        format!("--batch={}", batch.join(",")).into(),
        format!("--duration={}ms", args.duration.as_millis()).into(),
        format!("--device={}", args.common.device).into(),
        "--format=json".into(),
    ];
    arguments.extend(args.shapes.iter().map(|shape| format!("--shape={shape}").into()));
    if args.common.optimize == OnOff::Off {
        arguments.push("--optimize=off".into());
    }
    arguments.extend(["--".into(), args.file.clone().into()]);
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let latencies: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let summary = Summary::of(latencies);
        assert_eq!((summary.runs, summary.least, summary.mean), (200, 1.0, 100.5));
        assert_eq!(summary.percentiles, [100.0, 180.0, 198.0]);
        assert_eq!(Summary::of(vec![7.0]).percentiles, [7.0; 3]);
        assert_eq!(Summary::of(Vec::new()).mean, 0.0);
    }

    #[test]
    fn the_other_process_is_told_all_but_the_threads() {
        let line = "ingle model bench -- -odd.onnx";
        let mut arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let flags = "--batch 1,8 --threads 2 --duration 500ms --shape x=1,2 --optimize off";
        arguments.splice(3..3, flags.split(' ').map(Into::into));
        let parse = |arguments: &[OsString]| match Cli::try_parse_from(arguments).unwrap().command {
            Some(crate::cli::Command::Model(crate::model::ModelCommand::Bench(args))) => args,
            _ => panic!("a benchmark was asked for"),
        };
        let args = parse(&arguments);
        let mut again = vec![OsString::from("ingle")];
        again.extend(super::arguments(&args));
        let again = parse(&again);
        assert_eq!(
            (&again.file, &again.batch, &again.shapes),
            (&args.file, &args.batch, &args.shapes)
        );
        assert_eq!((again.duration, again.threads.len()), (args.duration, 0));
        assert_eq!(again.common.optimize, OnOff::Off);
    }
}
