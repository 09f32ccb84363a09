use std::time::Duration;

use crate::{DataType, Result, Tensor, invalid_argument};

/// What a tensor must look like, without the batch dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub data_type: DataType,
    /// -1 is any size.
    pub shape: Vec<i64>,
    /// A request may leave this tensor out.
    pub optional: bool,
    pub description: String,
}

impl TensorSpec {
    pub fn new(name: impl Into<String>, data_type: DataType, shape: &[i64]) -> Self {
        Self {
            name: name.into(),
            data_type,
            shape: shape.to_vec(),
            optional: false,
            description: String::new(),
        }
    }

    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }
}

/// What a plugin says about itself. `public_spec` is the side that clients see: the request
/// tensors of a preprocessor, the response tensors of a postprocessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    pub name: String,
    pub version: String,
    pub description: String,
    pub public_spec: Vec<TensorSpec>,
}

/// A [`PluginInfo`] with the name, version and description of the package that calls it.
#[macro_export]
macro_rules! plugin_info {
    ($public_spec:expr) => {
        $crate::PluginInfo {
            name: ::std::env!("CARGO_PKG_NAME").into(),
            version: ::std::env!("CARGO_PKG_VERSION").into(),
            description: ::std::env!("CARGO_PKG_DESCRIPTION").into(),
            public_spec: $public_spec,
        }
    };
}

/// A file of the bundle that its manifest lists for this plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub content: Vec<u8>,
}

/// What a plugin is set up with. The same for every instance of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitOptions {
    /// A JSON object; see [`InitOptions::config`].
    pub config: String,
    pub files: Vec<File>,
    /// The model behind the plugin, without the batch dimension.
    pub model_inputs: Vec<TensorSpec>,
    pub model_outputs: Vec<TensorSpec>,
}

/// A value of a request's parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Flag(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// The request that a call belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestContext {
    pub request_id: String,
    pub model: String,
    pub version: u64,
    pub signature: String,
    pub parameters: Vec<(String, Value)>,
    /// Time left when the call started; `None` without a deadline.
    pub remaining: Option<Duration>,
}

/// What a preprocessor makes of one example of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The model's inputs, for each example. Usually one; several for tiles or crops, which
    /// then need a postprocessor.
    pub examples: Vec<Vec<Tensor>>,
    /// Handed to the postprocessor untouched; the model never sees it.
    pub carry: Vec<u8>,
}

impl Prepared {
    /// One example, nothing carried.
    pub fn one(inputs: Vec<Tensor>) -> Self {
        Self { examples: vec![inputs], carry: Vec::new() }
    }
}

/// Turns what clients send into what the model wants.
pub trait Preprocess: Sized {
    /// Called once for each instance, often for each request: keep it under 100 µs.
    fn init(options: InitOptions) -> Result<Self>;

    /// Asked once, after [`init`](Self::init).
    fn info(&self) -> PluginInfo;

    /// One example, without the batch dimension. An instance may serve one call or thousands:
    /// what is kept in `self` may only be scratch space.
    fn process(&mut self, context: &RequestContext, inputs: Vec<Tensor>) -> Result<Prepared>;
}

/// Turns what the model says into what clients want.
pub trait Postprocess: Sized {
    /// Called once for each instance, often for each request: keep it under 100 µs.
    fn init(options: InitOptions) -> Result<Self>;

    /// Asked once, after [`init`](Self::init).
    fn info(&self) -> PluginInfo;

    /// The model's outputs for each example that the preprocessor made of one example of the
    /// request (without a preprocessor: one), and what the preprocessor carried.
    fn process(
        &mut self,
        context: &RequestContext,
        results: Vec<Vec<Tensor>>,
        carry: Vec<u8>,
    ) -> Result<Vec<Tensor>>;
}

/// The only input of a request that must have exactly one, by name.
pub fn single_input(mut inputs: Vec<Tensor>, name: &str) -> Result<Tensor> {
    let Some(at) = inputs.iter().position(|tensor| tensor.name == name) else {
        let given: Vec<_> = inputs.iter().map(|tensor| &tensor.name).collect();
        return Err(invalid_argument!("{name}: this input is missing (given: {given:?})"));
    };
    let tensor = inputs.swap_remove(at);
    match inputs.first() {
        Some(extra) => {
            Err(invalid_argument!("{}: there is no such input, only {name:?}", extra.name))
        }
        None => Ok(tensor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str) -> Tensor {
        Tensor::dense(name, &[1], &[1_u8]).unwrap()
    }

    #[test]
    fn a_single_input_is_found_by_name() {
        assert_eq!(single_input(vec![tensor("image")], "image").unwrap().name, "image");
    }

    #[test]
    fn a_missing_input_is_named_with_what_was_given() {
        let error = single_input(vec![tensor("picture")], "image").unwrap_err();
        assert_eq!(error.message, "image: this input is missing (given: [\"picture\"])");
    }

    #[test]
    fn an_extra_input_is_named() {
        let error = single_input(vec![tensor("image"), tensor("mask")], "image").unwrap_err();
        assert_eq!(error.message, "mask: there is no such input, only \"image\"");
    }
}
