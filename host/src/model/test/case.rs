//! One test: its model, run on each of its data sets.

use std::path::Path;

use anyhow::anyhow;
use ingle_engine::{Engine, LiteralError, LoadError, Program, RunError, read_tensor};
use ingle_types::{Code, Limits, Tensor, TensorMap};

use super::compare::{Tolerance, compare};
use super::find::{MODEL, data_sets};
use super::{Failure, source};

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    Fail(String),
    /// The engine lacks what is named.
    Unsupported(String),
}

/// Why a test did not pass.
struct Why {
    code: Code,
    error: anyhow::Error,
}

impl Why {
    fn wrong(error: anyhow::Error) -> Self {
        Self { code: Code::InvalidArgument, error }
    }
}

impl From<LoadError> for Why {
    fn from(error: LoadError) -> Self {
        Self { code: error.code(), error: error.into() }
    }
}

impl From<RunError> for Why {
    fn from(error: RunError) -> Self {
        Self { code: error.code(), error: error.into() }
    }
}

impl From<Failure> for Why {
    fn from(failure: Failure) -> Self {
        Self::wrong(failure.into_error())
    }
}

pub(super) fn run(
    engine: &Engine,
    folder: &Path,
    tolerance: Tolerance,
    limits: &Limits,
) -> Outcome {
    match attempt(engine, folder, tolerance, limits) {
        Ok(()) => Outcome::Pass,
        Err(Why { code, error }) => {
            let text = format!("{error:#}").replace('\n', " ");
            match code {
                Code::Unimplemented => Outcome::Unsupported(text),
                _ => Outcome::Fail(text),
            }
        }
    }
}

fn attempt(
    engine: &Engine,
    folder: &Path,
    tolerance: Tolerance,
    limits: &Limits,
) -> Result<(), Why> {
    let program = source::ModelFile::read(&folder.join(MODEL), limits)?.load(engine, limits)?;
    let sets = data_sets(folder);
    if sets.is_empty() {
        return Err(Why::wrong(anyhow!("it has no test_data_set_0")));
    }
    for set in &sets {
        let answer = program.run(&inputs(&program, set, limits)?, &[])?;
        for (index, spec) in program.signature().outputs.iter().enumerate() {
            let file = set.join(format!("output_{index}.pb"));
            let wanted = stored(&file, limits)?
                .ok_or_else(|| Why::wrong(anyhow!("{} is missing", in_set(&file))))?;
            let given = answer
                .get(&spec.name)
                .ok_or_else(|| Why::wrong(anyhow!("output \"{}\" was not given", spec.name)))?;
            compare(given, &wanted, tolerance)
                .map_err(|difference| difference.context(format!("output \"{}\"", spec.name)))
                .map_err(Why::wrong)?;
        }
    }
    Ok(())
}

/// Initializers have no file. An input without one is left out.
fn inputs(program: &Program, set: &Path, limits: &Limits) -> Result<TensorMap, Why> {
    let mut inputs = TensorMap::new();
    let required = program.signature().inputs.iter().filter(|spec| !spec.optional);
    for (index, spec) in required.enumerate() {
        if let Some(tensor) = stored(&set.join(format!("input_{index}.pb")), limits)? {
            inputs.insert(spec.name.clone(), tensor);
        }
    }
    Ok(inputs)
}

/// A stored tensor; `None` where there is no such file.
fn stored(file: &Path, limits: &Limits) -> Result<Option<Tensor>, Why> {
    if !file.exists() {
        return Ok(None);
    }
    let content = source::read(file, limits.tensor_bytes as u64)?;
    let named = |error: LiteralError| {
        let code = error.code();
        Why { code, error: anyhow::Error::new(error).context(in_set(file)) }
    };
    read_tensor(&content, limits).map(Some).map_err(named)
}

/// `test_data_set_0/input_1.pb`.
fn in_set(file: &Path) -> String {
    let tail: Vec<_> = file.iter().rev().take(2).map(|p| p.to_string_lossy()).collect();
    tail.into_iter().rev().collect::<Vec<_>>().join("/")
}
