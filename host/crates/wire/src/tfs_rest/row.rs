//! `instances`: a list with one entry per example.

use std::fmt;

use ingle_types::{Code, Limits, Signature, TensorMap, TensorSpec};

use super::decode::RequestError;
use super::fill::Filler;
use super::value::{Elements, QUOTE_BYTES, ValueError};
use crate::json::{Cursor, Token, unescape};

/// Why one entry of `instances` cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum ItemError {
    #[error("JSON object: does not have named input: {name}")]
    UnknownInput { name: String },
    #[error("Expecting tensor size: {expected} but got: {size}")]
    Size { expected: usize, size: usize },
    #[error("Expecting shape {expected} but got: {shape}")]
    Shape { expected: Dims, shape: Dims },
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl ItemError {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Value(error) => error.code(),
            _ => Code::InvalidArgument,
        }
    }
}

/// `[2,3]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dims(Vec<usize>);

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<_> = self.0.iter().map(usize::to_string).collect();
        write!(f, "[{}]", sizes.join(","))
    }
}

/// One input's entries so far.
struct Input<'a> {
    spec: &'a TensorSpec,
    elements: Elements,
    /// Of one entry.
    dims: Option<Vec<usize>>,
    entries: usize,
}

impl<'a> Input<'a> {
    fn new(spec: &'a TensorSpec) -> Self {
        Self { spec, elements: Elements::new(spec.dtype), dims: None, entries: 0 }
    }

    fn read(&mut self, cursor: &mut Cursor<'_>, filler: &mut Filler) -> Result<(), ItemError> {
        let before = self.elements.count();
        let dims = filler.read(cursor, &mut self.elements)?;
        self.entries += 1;
        let Some(expected) = &self.dims else {
            self.dims = Some(dims.to_vec());
            return Ok(());
        };
        let size = self.elements.count() - before;
        let expected_size = expected.iter().product();
        if size != expected_size {
            return Err(ItemError::Size { expected: expected_size, size });
        }
        if dims != expected {
            let (expected, shape) = (Dims(expected.clone()), Dims(dims.to_vec()));
            return Err(ItemError::Shape { expected, shape });
        }
        Ok(())
    }
}

/// Reads the list at `cursor`.
pub(super) fn read(
    mut cursor: Cursor<'_>,
    signature: &Signature,
    limits: &Limits,
) -> Result<TensorMap, RequestError> {
    cursor.token();
    let plain = !matches!(cursor.peek(), Token::ObjectOpen);
    if plain && signature.inputs.len() > 1 {
        return Err(RequestError::PlainInstances);
    }
    let named = is_named(cursor);
    let mut filler = Filler::new(limits);
    let mut inputs: Vec<_> = signature.inputs.iter().map(Input::new).collect();
    let mut item = 0;
    while !matches!(cursor.peek(), Token::ArrayClose | Token::End) {
        match (named, is_named(cursor)) {
            (true, true) => read_object(&mut cursor, item, &mut inputs, &mut filler)?,
            (true, false) => return Err(RequestError::ObjectWanted { item }),
            (false, true) => return Err(RequestError::ValueWanted { item }),
            (false, false) => {
                if let Some(input) = inputs.first_mut() {
                    input.read(&mut cursor, &mut filler).map_err(|error| RequestError::Item {
                        item,
                        key: None,
                        error,
                    })?;
                }
            }
        }
        item += 1;
    }
    finish(inputs, item)
}

/// An object of inputs, and not a string in base64.
fn is_named(cursor: Cursor<'_>) -> bool {
    matches!(cursor.peek(), Token::ObjectOpen) && cursor.base64().is_none()
}

fn read_object(
    cursor: &mut Cursor<'_>,
    item: usize,
    inputs: &mut [Input<'_>],
    filler: &mut Filler,
) -> Result<(), RequestError> {
    let object = *cursor;
    cursor.token();
    while let Token::String(raw) = cursor.token() {
        let key = unescape(raw);
        let Some(input) = inputs.iter_mut().find(|i| i.spec.name.as_bytes() == key.as_ref()) else {
            let error = ItemError::UnknownInput { name: lossy(&key) };
            return Err(RequestError::Item { item, key: Some(lossy(&key)), error });
        };
        // Of equal keys the first counts.
        if input.entries > item {
            cursor.skip();
            continue;
        }
        let read = input.read(cursor, filler);
        read.map_err(|error| RequestError::Item { item, key: Some(lossy(&key)), error })?;
    }
    let complete = |input: &Input<'_>| {
        input.entries == item + 1 || (input.spec.optional && input.entries == 0)
    };
    if inputs.iter().all(complete) {
        return Ok(());
    }
    let mut names: Vec<_> = inputs.iter().map(|input| input.spec.name.as_str()).collect();
    names.sort_unstable();
    let value = object.quote(QUOTE_BYTES);
    Err(RequestError::Keys { item, value, expected: names.join(",") })
}

fn lossy(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn finish(inputs: Vec<Input<'_>>, items: usize) -> Result<TensorMap, RequestError> {
    let mut tensors = TensorMap::new();
    for input in inputs.into_iter().filter(|input| input.entries > 0) {
        let mut dims = vec![items];
        dims.extend(input.dims.unwrap_or_default());
        let tensor = input.elements.into_tensor(dims).map_err(ValueError::from)?;
        tensors.insert(input.spec.name.clone(), tensor);
    }
    Ok(tensors)
}
