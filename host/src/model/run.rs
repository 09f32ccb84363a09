//! `ingle model run`: one run on tensors from files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use ingle_engine::{Engine, read_tensor};
use ingle_types::{Limits, Signature, Tensor, TensorMap};
use serde_json::{Value, json};

use super::args::{CommonArgs, NamedFile};
use super::failure::Failure;
use super::output::Output;
use super::source::{self, ModelFile};
use super::{Verdict, inputs, npy, preview};

/// How many elements of an output are shown.
const SHOWN: usize = 8;

/// Runs a model once, on tensors from files.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: ingle model run model.onnx --input image=photo.npy --output-dir answers/"
)]
pub(crate) struct RunArgs {
    /// The model: an ONNX file, or a version directory.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// An input and its tensor, as np.save writes it (.npy) or as ONNX's tests keep
    /// theirs (.pb). Once for each input.
    #[arg(long = "input", value_name = "NAME=FILE")]
    inputs: Vec<NamedFile>,

    /// Write each output to NAME.npy in this folder.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(super) fn run(args: RunArgs, engine: &Engine, out: &mut Output) -> Result<Verdict, Failure> {
    let limits = Limits::default();
    let program = ModelFile::read(&args.file, &limits)?.program(engine, &limits)?;
    let request = request(program.signature(), &args.inputs, &limits)?;
    let answer = program.run(&request, &[]).map_err(Failure::run)?;
    let mut objects = Vec::new();
    let specs = program.signature().outputs.iter();
    let outputs = specs.filter_map(|spec| Some((&spec.name, answer.get(&spec.name)?)));
    for (index, (name, tensor)) in outputs.enumerate() {
        let file = match &args.output_dir {
            Some(dir) => Some(save(dir, index, name, tensor, &limits)?),
            None => None,
        };
        if out.is_json() {
            objects.push(object(name, tensor, file.as_deref()));
            continue;
        }
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        out.line(format_args!("{name}  {dtype} {shape}  {}", preview::head(tensor, SHOWN)))?;
        if let Some(file) = file {
            out.line(format_args!("  written to {}", file.display()))?;
        }
    }
    if out.is_json() {
        out.object(&json!({"outputs": objects}))?;
    }
    Ok(Verdict::Yes)
}

fn object(name: &str, tensor: &Tensor, file: Option<&Path>) -> Value {
    let count = tensor.shape().elements().min(SHOWN);
    let values: Vec<Value> = (0..count).map(|index| preview::json(tensor, index)).collect();
    json!({
        "name": name,
        "dtype": tensor.dtype().name(),
        "shape": tensor.dims(),
        "first_values": values,
        "file": file.map(|file| file.display().to_string()),
    })
}

/// The tensors of all inputs; what is missing is named with what it should be.
fn request(
    signature: &Signature,
    files: &[NamedFile],
    limits: &Limits,
) -> Result<TensorMap, Failure> {
    let mut request = TensorMap::new();
    for NamedFile { name, file } in files {
        if signature.input(name).is_none() {
            let names = inputs::names(signature);
            return Err(Failure::usage(anyhow!(
                "--input {name}: no input is called \"{name}\"; there are {names}"
            )));
        }
        if request.insert(name.clone(), tensor(file, limits)?).is_some() {
            return Err(Failure::usage(anyhow!("--input {name} is given twice")));
        }
    }
    let required = signature.inputs.iter().filter(|spec| !spec.optional);
    let missing: Vec<String> = required
        .filter(|spec| !request.contains_key(&spec.name))
        .map(|spec| {
            format!("--input {}=FILE.npy ({} {})", spec.name, spec.dtype, spec.shape_text())
        })
        .collect();
    if missing.is_empty() {
        return Ok(request);
    }
    Err(Failure::usage(anyhow!("the model needs more inputs: add {}", missing.join(" and "))))
}

/// What a header may take beside the data.
const HEADER_BYTES: u64 = 128 * 1024;

fn tensor(file: &Path, limits: &Limits) -> Result<Tensor, Failure> {
    let content = source::read(file, limits.tensor_bytes as u64 + HEADER_BYTES)?;
    let tensor = match file.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => npy::read(&content).map_err(anyhow::Error::from),
        Some("pb") => read_tensor(&content, limits).map_err(anyhow::Error::from),
        _ => Err(anyhow!("only .npy and .pb files are read; write one with np.save")),
    };
    tensor.with_context(|| file.display().to_string()).map_err(Failure::data)
}

fn save(
    dir: &Path,
    index: usize,
    name: &str,
    tensor: &Tensor,
    limits: &Limits,
) -> Result<PathBuf, Failure> {
    let file = dir.join(file_name(index, name));
    let content = npy::write(tensor, limits.tensor_bytes)
        .with_context(|| format!("output \"{name}\""))
        .map_err(Failure::data)?;
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(&file, content))
        .with_context(|| format!("--output-dir: {}", file.display()))
        .map_err(Failure::no_input)?;
    Ok(file)
}

/// A model may call its outputs what it likes: only plain names become file names as
/// they are, others are numbered too, so that no two are the same.
fn file_name(index: usize, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.len() <= 100 && name.chars().all(plain) {
        return format!("{name}.npy");
    }
    let kept: String = name.chars().map(|c| if plain(c) { c } else { '_' }).take(100).collect();
    format!("{index}.{kept}.npy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_outputs_do_not_choose_the_folder() {
        assert_eq!(file_name(0, "scores"), "scores.npy");
        assert_eq!(file_name(1, "../../etc/passwd"), "1.______etc_passwd.npy");
        assert_eq!(file_name(2, "a:0"), "2.a_0.npy");
        assert_eq!(file_name(3, ""), "3..npy");
        assert_eq!(file_name(4, &"é".repeat(500)).len(), "4..npy".len() + 100);
    }
}
