//! The engine beside ONNX Runtime, over the zoo: both in one run, taking turns,
//! each with as many threads. Prints the tables of docs/benchmarks.md.
//!
//! ```text
//! tests/setup && cargo bench --bench onnxruntime [-- MODEL...]
//! ```
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingle_engine::{DeviceChoice, Engine, NoExternalData, Program};
use ingle_types::{Dim, Limits, Shape, Tensor, TensorMap, TensorSpec};

const THREADS: usize = 2;
const BATCHES: [usize; 2] = [1, 8];
/// Turns of each side; the median of their ratios counts.
const TURNS: usize = 9;
/// How long a side's turn takes.
const TURN: Duration = Duration::from_millis(120);
/// How the models of scikit-learn are named that the tests add to the zoo: trees,
/// lines and tables, whose ratios would flatter the mean of the networks'.
const SMALL: &str = "skl_";
/// Threads that wait by spinning would slow the other side's turn.
const PAUSE: Duration = Duration::from_millis(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The other side.
struct Rival {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Rival {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/rival.py");
        let mut child = Command::new(root().join("target/venv/bin/python"))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("run tests/setup first: {e}"));
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn load(&mut self, folder: &Path, batch: usize) -> Result<(), String> {
        match self.ask(&format!("load\t{}\t{batch}\t{THREADS}", folder.display())).as_str() {
            "ok" => Ok(()),
            why => Err(why.to_owned()),
        }
    }

    fn run(&mut self, count: usize) -> f64 {
        let answer = self.ask(&format!("run\t{count}"));
        answer.parse().unwrap_or_else(|_| panic!("{answer}"))
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One model on this side.
struct Ours {
    program: Program,
    inputs: TensorMap,
}

impl Ours {
    fn load(engine: &Engine, folder: &Path, batch: usize) -> Result<Self, String> {
        let model = fs::read(folder.join("model.onnx")).unwrap();
        let program = engine
            .load(&model, &NoExternalData, &Limits::default())
            .map_err(|error| error.to_string())?;
        let required = program.signature().inputs.iter().filter(|spec| !spec.optional);
        let inputs = required
            .enumerate()
            .map(|(i, spec)| {
                let path = folder.join(format!("test_data_set_0/input_{i}.pb"));
                let file = Bytes::from(fs::read(path).unwrap());
                let tensor = ingle_engine::read_tensor(&file, &Limits::default()).unwrap();
                Ok((spec.name.clone(), repeated(&tensor, spec, batch)?))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { program, inputs })
    }

    fn run(&self, count: usize) -> Result<f64, String> {
        let start = Instant::now();
        for _ in 0..count {
            self.program.run(&self.inputs, &[]).map_err(|error| error.to_string())?;
        }
        Ok(start.elapsed().as_secs_f64())
    }
}

/// A batch is the first entry along the first dimension of no fixed size, repeated.
fn repeated(tensor: &Tensor, spec: &TensorSpec, batch: usize) -> Result<Tensor, String> {
    let free = spec.shape.iter().flatten().position(|dim| *dim == Dim::Any);
    let (Some(axis), true) = (free, batch > 1) else { return Ok(tensor.clone()) };
    let mut dims = tensor.dims().to_vec();
    let entry: usize = dims[axis + 1..].iter().product();
    let size = tensor.dtype().size_bytes().ok_or("its batch would be of strings")?;
    let entry = entry * size;
    let rows = tensor.bytes().unwrap().chunks_exact(dims[axis] * entry);
    let bytes: Vec<u8> = rows.flat_map(|row| row[..entry].repeat(batch)).collect();
    dims[axis] = batch;
    Ok(Tensor::dense(tensor.dtype(), Shape::new(dims).unwrap(), bytes).unwrap())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Milliseconds of one run, here and there, and the median of the turns' ratios.
fn compare(ours: &Ours, rival: &mut Rival) -> Result<[f64; 3], String> {
    let count = |seconds: f64| (TURN.as_secs_f64() / seconds).ceil().clamp(1.0, 2000.0) as usize;
    ours.run(1)?;
    let (here, there) = (count(ours.run(2)? / 2.0), count(rival.run(2) / 2.0));
    let (mut own, mut other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        std::thread::sleep(PAUSE);
        let a = ours.run(here)? / here as f64;
        std::thread::sleep(PAUSE);
        let b = rival.run(there) / there as f64;
        own.push(a * 1e3);
        other.push(b * 1e3);
        ratios.push(a / b);
    }
    Ok([median(own), median(other), median(ratios)])
}

fn compare_all(engine: &Engine, folders: &[PathBuf]) {
    let mut rival = Rival::start();
    println!("| model | batch | Ingle, ms | ONNX Runtime, ms | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let (mut networks, mut others) = (Vec::new(), Vec::new());
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        for batch in BATCHES {
            let compared = rival.load(folder, batch).and_then(|()| {
                let ours = Ours::load(engine, folder, batch)?;
                compare(&ours, &mut rival)
            });
            match compared {
                Ok([own, other, ratio]) => {
                    println!("| {name} | {batch} | {own:.3} | {other:.3} | {ratio:.2} |");
                    let small = name.starts_with(SMALL) && name != "skl_mlp_reg";
                    if small { &mut others } else { &mut networks }.push(ratio.ln());
                }
                // Most often a model whose batch size is fixed.
                Err(why) => eprintln!("{name}, batch {batch}: {why}"),
            }
        }
    }
    for (logs, what) in [(networks, "the zoo's models"), (others, "more of scikit-learn's")] {
        let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        println!();
        println!("Geometric mean of {} ratios of {what}: {mean:.2}", logs.len());
    }
}

fn first_requests(engine: &Engine, folders: &[PathBuf]) {
    println!();
    println!("| model | load, ms | first request, ms | second, ms | first / second |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let start = Instant::now();
        let ours = Ours::load(engine, folder, 1).unwrap();
        let load = start.elapsed().as_secs_f64() * 1e3;
        let [first, second] = [0, 1].map(|_| ours.run(1).unwrap() * 1e3);
        println!("| {name} | {load:.0} | {first:.2} | {second:.2} | {:.1} |", first / second);
    }
}

fn main() {
    rayon::ThreadPoolBuilder::new().num_threads(THREADS).build_global().unwrap();
    let engine = Engine::new(DeviceChoice::Cpu).unwrap();
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let zoo = root().join("target/zoo");
    let mut folders: Vec<PathBuf> = fs::read_dir(&zoo)
        .unwrap_or_else(|e| panic!("run tests/setup first: {e}"))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.onnx").exists())
        .filter(|path| chosen.is_empty() || chosen.iter().any(|c| path.ends_with(c)))
        .collect();
    folders.sort();
    let stack = engine.worker_stack_bytes();
    let work = move || {
        first_requests(&engine, &folders);
        println!();
        compare_all(&engine, &folders);
    };
    std::thread::Builder::new().stack_size(stack).spawn(work).unwrap().join().unwrap();
}
