//! Models of other frameworks where an ONNX file should be: recognised by their files, so
//! that their refusal says how to convert them.
//!
//! Only names are looked at; of a SavedModel the tags and signatures are read too, since
//! its conversion may have to name them. Nothing of a pickle is ever loaded.

mod saved_model;
mod shell;

use std::fmt;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use ingle_types::DEFAULT_SIGNATURE;

use crate::directory;
use crate::manifest::is_name;

/// The newest opset that tf2onnx writes; the engine has all of it.
const OPSET: u32 = 18;

/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// A SavedModel's graph, in bytes, that is looked into; of a larger one the message does
/// not name tags and signatures.
const MAX_GRAPH_BYTES: u64 = 64 * 1024 * 1024;

/// What another framework's model is kept as, the plainest first: a directory may hold
/// several files of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    SavedModel,
    TfLite,
    FrozenGraph,
    Keras,
    PyTorch,
    Pickle,
}

/// A directory, or a file, that holds another framework's model. Displayed, it says what
/// that is and how to convert it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignModel {
    format: Format,
    directory: PathBuf,
    file: String,
    /// Where the ONNX file should be.
    output: PathBuf,
    choice: Choice,
}

/// What the conversion of a SavedModel has to be told besides its folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    /// Where it is not the usual `serve`; empty = a graph without tags.
    tag: Option<String>,
    /// Where there are several; or, with `named`, the only one.
    signature: Option<String>,
    /// Whether clients know the signature by a name of its own.
    named: bool,
    others: Vec<String>,
    /// There is no signature at all.
    without: bool,
}

impl ForeignModel {
    /// Looks for one at `path`, a directory that holds no `model_file`. Signatures that
    /// `is_declared` knows need no mention.
    pub(crate) fn find(
        dir: &Dir,
        path: &Path,
        model_file: &str,
        is_declared: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let names = dir.entries().ok()?.take(MAX_ENTRIES);
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let files = names.filter_map(|name| Some((Format::of(&name)?, name)));
        let (format, file) = files.filter(|(_, name)| dir.is_file(name)).min()?;
        let choice = match format {
            Format::SavedModel => Choice::read(dir, &file, is_declared),
            _ => Choice::default(),
        };
        Some(Self { format, directory: path.into(), file, output: path.join(model_file), choice })
    }

    /// What the file at `path` is by its name, where no ONNX file has such a one: some
    /// are called `.pb`, as TensorFlow's graphs are.
    #[must_use]
    pub fn of_file(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?.to_owned();
        let format = Format::of(&file).filter(|format| *format != Format::FrozenGraph)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new(".")).to_owned();
        let choice = match (format, directory::open_ambient(&directory)) {
            (Format::SavedModel, Ok(dir)) => Choice::read(&dir, &file, |_| false),
            _ => Choice::default(),
        };
        let output = directory.join("model.onnx");
        Some(Self { format, directory, file, output, choice })
    }

    fn command(&self, f: &mut fmt::Formatter<'_>, source: fmt::Arguments<'_>) -> fmt::Result {
        let output = shell::path(&self.output);
        write!(f, "python -m tf2onnx.convert {source} --output {output} --opset {OPSET}")
    }

    fn saved_model(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = shell::path(&self.directory);
        self.command(f, format_args!("--saved-model {directory}"))?;
        let Choice { tag, signature, named, others, without } = &self.choice;
        if let Some(tag) = tag {
            write!(f, " --tag {}", shell::word(tag.as_bytes()))?;
        }
        if let Some(signature) = signature.as_ref().filter(|_| !others.is_empty()) {
            write!(f, " --signature_def {}", shell::word(signature.as_bytes()))?;
        }
        if *without {
            write!(f, " --concrete_function 0")?;
        }
        if let Some(signature) = signature.as_ref().filter(|name| *named && is_name(name)) {
            let manifest = shell::path(&self.directory.join(crate::MANIFEST_FILE));
            let table = if signature.contains('.') {
                format!("signatures.\"{signature}\"")
            } else {
                format!("signatures.{signature}")
            };
            write!(f, "; clients name its signature {signature}, which {manifest} keeps with")?;
            write!(f, " [{table}] and default = true")?;
        }
        if !others.is_empty() {
            write!(f, "; it has other signatures, each a model of its own: {}", listed(others))?;
        }
        Ok(())
    }
}

impl fmt::Display for ForeignModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.directory.join(&self.file);
        let output = shell::python(&self.output);
        let what = self.format.what();
        write!(f, "holds {what} ({}), ", shell::word(self.file.as_bytes()))?;
        write!(f, "which has to be converted to ONNX first: ")?;
        match self.format {
            Format::SavedModel => self.saved_model(f)?,
            Format::TfLite => {
                self.command(f, format_args!("--tflite {}", shell::path(&file)))?;
            }
            Format::FrozenGraph => {
                let graph = shell::path(&file);
                self.command(
                    f,
                    format_args!("--graphdef {graph} --inputs INPUT:0 --outputs OUTPUT:0"),
                )?;
            }
            Format::Keras => {
                let exported = self.directory.join("saved_model");
                let (file, folder) = (shell::python(&file), shell::python(&exported));
                write!(f, "in Python, keras.saving.load_model({file}).export({folder}); then ")?;
                self.command(f, format_args!("--saved-model {}", shell::path(&exported)))?;
            }
            Format::PyTorch => {
                write!(f, "in Python, torch.onnx.export(model, example_inputs, {output})")?;
            }
            Format::Pickle => write!(
                f,
                "in Python, for scikit-learn, skl2onnx.to_onnx(model, X[:1], target_opset={OPSET}) written to {output}"
            )?,
        }
        write!(f, " ({}; see docs/guide/{}.md)", self.format.tools(), self.format.guide())
    }
}

/// At most so many, and each short: names come from a file.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<_> = names.iter().take(SHOWN).map(|n| shell::word(n.as_bytes())).collect();
    if names.len() > SHOWN {
        text.push("...".into());
    }
    text.join(", ")
}

impl Format {
    fn of(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let (stem, extension) = lower.rsplit_once('.')?;
        match extension {
            _ if stem.is_empty() => None,
            "pb" | "pbtxt" if stem == "saved_model" => Some(Self::SavedModel),
            // What TensorFlow writes beside a SavedModel's graph.
            "pb" if ["fingerprint", "keras_metadata"].contains(&stem) => None,
            "pb" => Some(Self::FrozenGraph),
            "tflite" => Some(Self::TfLite),
            "keras" | "h5" | "hdf5" => Some(Self::Keras),
            "pt" | "pth" | "pt2" => Some(Self::PyTorch),
            "pkl" | "pickle" | "joblib" => Some(Self::Pickle),
            _ => None,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::SavedModel => "a TensorFlow SavedModel",
            Self::TfLite => "a TensorFlow Lite model",
            Self::FrozenGraph => "a TensorFlow graph",
            Self::Keras => "a Keras model",
            Self::PyTorch => "a PyTorch model",
            Self::Pickle => "a pickled Python model",
        }
    }

    /// What has to be installed for the conversion.
    fn tools(self) -> &'static str {
        match self {
            Self::SavedModel | Self::TfLite | Self::FrozenGraph => {
                "pip install tensorflow-cpu tf2onnx"
            }
            Self::Keras => "pip install keras tensorflow-cpu tf2onnx",
            Self::PyTorch => "pip install torch onnx",
            Self::Pickle => "pip install scikit-learn skl2onnx",
        }
    }

    fn guide(self) -> &'static str {
        match self {
            Self::SavedModel | Self::TfLite | Self::FrozenGraph => "from-tensorflow",
            Self::Keras => "from-keras",
            Self::PyTorch => "from-pytorch",
            Self::Pickle => "from-scikit-learn",
        }
    }
}

impl Choice {
    /// What can be said without TensorFlow; nothing of a text file or of a large one.
    fn read(dir: &Dir, file: &str, is_declared: impl Fn(&str) -> bool) -> Self {
        let binary = file.ends_with(".pb");
        let content = directory::read(dir, file, MAX_GRAPH_BYTES);
        let graphs =
            content.ok().filter(|_| binary).and_then(|content| saved_model::read(&content));
        graphs.map(|graphs| Self::of(graphs, is_declared)).unwrap_or_default()
    }

    fn of(graphs: Vec<saved_model::Graph>, is_declared: impl Fn(&str) -> bool) -> Self {
        let serve = |graph: &saved_model::Graph| graph.tags == ["serve"];
        // tf2onnx takes one tag or none; a graph with more is told of by its own error.
        let Some(graph) = graphs.iter().find(|g| serve(g)).or(graphs.first()) else {
            return Self::default();
        };
        let mut names: Vec<_> =
            graph.signatures.iter().filter(|name| !name.starts_with('_')).cloned().collect();
        names.sort_unstable();
        let usual = names.iter().position(|name| name == DEFAULT_SIGNATURE).unwrap_or(0);
        let signature = (usual < names.len()).then(|| names.remove(usual));
        Self {
            tag: (!serve(graph)).then(|| graph.tags.first().cloned().unwrap_or_default()),
            named: signature.as_ref().is_some_and(|s| s != DEFAULT_SIGNATURE && !is_declared(s)),
            without: signature.is_none(),
            signature,
            others: names,
        }
    }
}

#[cfg(test)]
mod tests;
