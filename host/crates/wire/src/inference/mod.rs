//! Classify, Regress and MultiInference: what both protocols share.
//!
//! TensorFlow Serving hands serialized examples to a graph that parses them. An ONNX
//! graph has no such parser, so the examples become tensors here:
//!
//! - A feature is the input of its name; a feature that no input has is ignored, one
//!   that the context has too counts as the example has it.
//! - The values of a feature are one row of the input `[batch, ...]`, in the shape of
//!   what follows the batch dimension, of which one dimension may be unknown. Of an
//!   input of unknown rank they are `[batch, values]`.
//! - `float_list` goes into inputs of floats, `int64_list` into those of integers and
//!   bools that can hold it, `bytes_list` into strings; TensorFlow's own parser
//!   converts no further either.
//! - A signature whose only input is `inputs`, strings of shape `[batch]`, gets the
//!   serialized examples themselves, as in TensorFlow Serving: the way for a plugin,
//!   or a graph, that parses by itself.
//!
//! Which outputs make the answer: [`Classifier`] and [`Regressor`].

mod classify;
mod column;
mod elements;
mod examples;
mod feature;
mod regress;

use std::sync::Arc;

use ingle_types::{
    Code, Deadline, PredictRequest, Servable, ServeError, Signature, Stage, Tensor, TensorMap,
};

use crate::call::{Call, ask, offload};
pub(crate) use classify::Classifier;
pub(crate) use examples::Examples;
pub(crate) use regress::Regressor;

/// What precedes the name of a signature that is not there, in Classify and Regress.
pub(crate) const UNKNOWN_SIGNATURE: &str = "No signature was found with the name";

/// How the outputs of a signature become an answer.
pub(crate) trait Method: Clone + Send + Sync + 'static {
    type Answer: Send + 'static;

    /// The outputs to ask the model for.
    fn outputs(&self) -> Vec<String>;

    /// # Errors
    /// In TensorFlow Serving's words, where the outputs are not as the method needs
    /// them for so many examples.
    fn answer(&self, outputs: &TensorMap, examples: usize) -> Result<Self::Answer, ServeError>;
}

/// One inference on one version of a model.
pub(crate) struct Task<M> {
    servable: Arc<dyn Servable>,
    /// The effective name of the signature.
    pub(crate) name: String,
    signature: Arc<Signature>,
    method: M,
}

impl<M: Method> Task<M> {
    /// `method` finds the outputs of the signature that is named, or the default one.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an unknown signature: `unknown` and its name.
    pub(crate) fn new(
        servable: &Arc<dyn Servable>,
        name: String,
        unknown: &str,
        method: impl FnOnce(&Signature) -> Result<M, ServeError>,
    ) -> Result<Self, ServeError> {
        let name = effective(&**servable, name);
        let signature = servable
            .signatures()
            .get(&name)
            .ok_or_else(|| ServeError::invalid(Stage::Route, format!("{unknown}: {name}")))?
            .clone();
        if signature.inputs.is_empty() {
            return Err(ServeError::invalid(Stage::Route, "Expected one input Tensor."));
        }
        let method = method(&signature)?;
        Ok(Self { servable: servable.clone(), name, signature, method })
    }

    /// Runs on all `examples` at once; their tensors take at most `limit_bytes`.
    pub(crate) async fn run(
        &self,
        call: Option<&Call>,
        examples: &Arc<Examples>,
        limit_bytes: usize,
        deadline: Deadline,
    ) -> Result<M::Answer, ServeError> {
        let count = examples.len();
        let (rows, signature) = (examples.clone(), self.signature.clone());
        let inputs =
            offload(examples.size_bytes(), move || Ok(rows.inputs(&signature, limit_bytes)?))
                .await?;
        let request = PredictRequest {
            signature: self.name.clone(),
            inputs,
            output_filter: self.method.outputs(),
            deadline,
        };
        let outputs = ask(call, &*self.servable, request).await?;
        let bytes = outputs.values().map(Tensor::size_bytes).sum();
        let method = self.method.clone();
        offload(bytes, move || method.answer(&outputs, count)).await
    }
}

/// The signature that a name means.
pub(crate) fn effective(servable: &dyn Servable, name: String) -> String {
    if name.is_empty() { servable.default_signature().to_owned() } else { name }
}

/// An output that the model was asked for.
fn output<'a>(outputs: &'a TensorMap, name: &str) -> Result<&'a Tensor, ServeError> {
    outputs.get(name).ok_or_else(|| {
        let message = format!("Could not find output tensor '{name}'");
        ServeError::new(Code::Internal, Stage::Encode, message)
    })
}

/// For messages: `{a,b}`.
fn output_names(signature: &Signature) -> String {
    let names: Vec<_> = signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
    format!("{{{}}}", names.join(","))
}

fn wrong_output(message: String) -> ServeError {
    ServeError::invalid(Stage::Encode, message)
}
