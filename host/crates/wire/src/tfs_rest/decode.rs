//! A predict request's text as tensors.

use ingle_types::{
    Code, Limits, ModelSpec, Servable, Serve, ServeError, Signature, Stage, TensorMap,
};
use std::sync::Arc;

use super::row::ItemError;
use super::value::{QUOTE_BYTES, ValueError};
use super::{column, row};
use crate::json::{Document, Token, scan, unescape};

/// Whether a request came by rows or by columns, and so will its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Row,
    Column,
}

/// A request that is ready to run.
pub(super) struct Decoded {
    pub(super) servable: Arc<dyn Servable>,
    pub(super) signature: String,
    pub(super) inputs: TensorMap,
    pub(super) form: Form,
}

/// The ways in which a text can fail to be a request, in TensorFlow Serving's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("{text}")]
    Syntax { text: String },
    #[error("JSON Value: {value} Is not object")]
    NotObject { value: String },
    #[error(
        "JSON Value: {value} not formatted correctly. 'signature_name' key must be a string value."
    )]
    SignatureName { value: String },
    #[error("Serving signature name: \"{name}\" not found in signature def")]
    UnknownSignature { name: String },
    #[error("Failed to get input map for signature: {name}")]
    NoInputs { name: String },
    #[error(
        "JSON Value: {value} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
    )]
    BothForms { value: String },
    #[error("Missing 'inputs' or 'instances' key")]
    NeitherForm,
    #[error("JSON Value: {value} Expecting 'instances' to be an list/array")]
    NotList { value: String },
    #[error("JSON Value: {value} No values in 'instances' array")]
    NoInstances { value: String },
    #[error(
        "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
    )]
    PlainInstances,
    #[error(
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
    )]
    PlainInputs,
    #[error("Expecting object but got list at item {item} of input list")]
    ObjectWanted { item: usize },
    #[error("Expecting value/list but got object at item {item} of input list")]
    ValueWanted { item: usize },
    #[error(
        "Failed to process element: {item}{} of 'instances' list. Error: {}: {error}",
        key.as_ref().map(|key| format!(" key: {key}")).unwrap_or_default(),
        error.code()
    )]
    Item { item: usize, key: Option<String>, error: ItemError },
    #[error(
        "Failed to process element: {item} of 'instances' list. JSON object: {value} keys must be equal to: {expected}"
    )]
    Keys { item: usize, value: String, expected: String },
    #[error("Missing named input: {name} in 'inputs' object.")]
    MissingInput { name: String },
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl RequestError {
    fn code(&self) -> Code {
        match self {
            Self::Value(error) => error.code(),
            Self::Item { error, .. } if error.code() == Code::ResourceExhausted => error.code(),
            _ => Code::InvalidArgument,
        }
    }
}

impl From<RequestError> for ServeError {
    fn from(error: RequestError) -> Self {
        Self::new(error.code(), Stage::Decode, error.to_string())
    }
}

/// What a request's root may hold, in the order of [`Document::member`].
const MEMBERS: [&str; 3] = ["signature_name", "instances", "inputs"];
const SIGNATURE_NAME: usize = 0;
const INSTANCES: usize = 1;
const INPUTS: usize = 2;

/// Decodes `text`: its syntax first, then by the signature of the servable that
/// answers.
pub(super) fn decode(
    text: &[u8],
    model: &ModelSpec,
    serve: &dyn Serve,
    limits: &Limits,
) -> Result<Decoded, ServeError> {
    let document = parse(text, MEMBERS)?;
    let name = signature_name(&document, SIGNATURE_NAME)?;
    let servable = serve.resolve(model)?;
    let signature = if name.is_empty() { servable.default_signature() } else { &name };
    let known = servable
        .signatures()
        .get(signature)
        .ok_or_else(|| RequestError::UnknownSignature { name: signature.to_owned() })?
        .clone();
    if known.inputs.is_empty() {
        let name = if name.is_empty() { "DEFAULT".to_owned() } else { name };
        return Err(RequestError::NoInputs { name }.into());
    }
    let (form, inputs) = inputs(&document, &known, limits)?;
    let signature = signature.to_owned();
    Ok(Decoded { servable, signature, inputs, form })
}

/// Checks the syntax of a request and finds its members of these names.
pub(super) fn parse<'a, const N: usize>(
    text: &'a [u8],
    names: [&str; N],
) -> Result<Document<'a, N>, RequestError> {
    if text.is_empty() {
        return Err(RequestError::Syntax {
            text: "JSON Parse error: The document is empty".into(),
        });
    }
    let document =
        scan(text, names).map_err(|error| RequestError::Syntax { text: error.to_string() })?;
    if !document.is_object() {
        return Err(RequestError::NotObject { value: quote(&document) });
    }
    Ok(document)
}

pub(super) fn quote<const N: usize>(document: &Document<'_, N>) -> String {
    document.root().quote(QUOTE_BYTES)
}

/// The string that the member at `index` is, or an empty one.
pub(super) fn signature_name<const N: usize>(
    document: &Document<'_, N>,
    index: usize,
) -> Result<String, RequestError> {
    match document.member(index).map(|value| value.peek()) {
        None => Ok(String::new()),
        Some(Token::String(raw)) => Ok(String::from_utf8_lossy(&unescape(raw)).into_owned()),
        Some(_) => Err(RequestError::SignatureName { value: quote(document) }),
    }
}

fn inputs(
    document: &Document<'_, 3>,
    signature: &Signature,
    limits: &Limits,
) -> Result<(Form, TensorMap), RequestError> {
    match (document.member(INSTANCES), document.member(INPUTS)) {
        (Some(_), Some(_)) => Err(RequestError::BothForms { value: quote(document) }),
        (None, None) => Err(RequestError::NeitherForm),
        (None, Some(value)) => Ok((Form::Column, column::read(value, signature, limits)?)),
        (Some(value), None) => {
            let mut list = value;
            if !matches!(list.token(), Token::ArrayOpen) {
                return Err(RequestError::NotList { value: quote(document) });
            }
            if matches!(list.token(), Token::ArrayClose) {
                return Err(RequestError::NoInstances { value: quote(document) });
            }
            Ok((Form::Row, row::read(value, signature, limits)?))
        }
    }
}
