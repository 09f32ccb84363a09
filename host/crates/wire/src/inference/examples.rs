//! Examples as the tensors of a signature.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use ingle_types::{
    Code, DType, ServeError, Shape, Signature, Stage, Tensor, TensorError, TensorMap, TensorSpec,
};

use super::column::{Column, RowError};
use super::feature::{Feature, Kind};
use crate::budget::{Budget, TooLarge};
use crate::protobuf::{Fields, Merged, Value, WireError, one_of};

/// Why examples are not the inputs of a signature: in the words of TensorFlow
/// Serving, or of TensorFlow's parser.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum ExampleError {
    #[error("Input is empty.")]
    Empty,
    #[error("Could not parse example input: {0}")]
    Wire(#[from] WireError),
    #[error("Could not parse example input, example {index}: {error}")]
    Example { index: usize, error: WireError },
    #[error(
        "Name: <unknown>, Feature: {name} (data type: {kind}) is required but could not be found. Index: {index}"
    )]
    Missing { name: String, kind: Kind, index: usize },
    #[error("Name: <unknown>, Key: {name}, Index: {index}.  {error}")]
    Row { name: String, index: usize, error: RowError },
    #[error(
        "Input {name} of shape {shape} cannot be filled from examples: it needs a batch dimension, and at most one other dimension may be unknown"
    )]
    Shape { name: String, shape: String },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl ExampleError {
    fn code(&self) -> Code {
        match self {
            Self::TooLarge(_) | Self::Row { error: RowError::TooLarge(_), .. } => {
                Code::ResourceExhausted
            }
            _ => Code::InvalidArgument,
        }
    }
}

impl From<ExampleError> for ServeError {
    fn from(error: ExampleError) -> Self {
        Self::new(error.code(), Stage::Decode, error.to_string())
    }
}

/// Serialized `tensorflow.Example`s, at least one.
#[derive(Debug)]
pub(crate) struct Examples {
    /// What all examples have; empty where there is none.
    context: Bytes,
    rows: Vec<Bytes>,
}

/// `ExampleList`, or with a context `ExampleListWithContext`.
#[derive(Clone, PartialEq, prost::Message)]
struct List {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    examples: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "2")]
    context: Bytes,
}

impl Examples {
    /// # Errors
    /// [`ExampleError::Empty`].
    pub(crate) fn new(context: Bytes, rows: Vec<Bytes>) -> Result<Self, ExampleError> {
        if rows.is_empty() { Err(ExampleError::Empty) } else { Ok(Self { context, rows }) }
    }

    /// Reads a serialized `tensorflow.serving.Input`, whose examples may take
    /// `limit_bytes` of bookkeeping.
    pub(crate) fn read(input: Bytes, limit_bytes: usize) -> Result<Self, ExampleError> {
        let (kind, list) = one_of(input, &(1..=2))?.ok_or(ExampleError::Empty)?;
        let mut budget = Budget::new(limit_bytes);
        let (mut context, mut rows) = (Merged::default(), Vec::new());
        for field in Fields::new(list) {
            match field? {
                (1, Value::Bytes(example)) => {
                    budget.take(size_of::<Bytes>())?;
                    rows.push(example);
                }
                (2, Value::Bytes(more)) if kind == 2 => context.add(more),
                _ => {}
            }
        }
        Self::new(context.finish(), rows)
    }

    /// The serialized `tensorflow.serving.Input` that holds them.
    pub(crate) fn input(&self) -> Bytes {
        let list = List { examples: self.rows.clone(), context: self.context.clone() };
        let kind = if self.context.is_empty() { 1 } else { 2 };
        let mut input = BytesMut::new();
        prost::encoding::message::encode(kind, &list, &mut input);
        input.freeze()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.rows.iter().map(Bytes::len).sum::<usize>() + self.context.len()
    }

    /// The inputs of `signature`, of at most `limit_bytes`.
    pub(crate) fn inputs(
        &self,
        signature: &Signature,
        limit_bytes: usize,
    ) -> Result<TensorMap, ExampleError> {
        let mut budget = Budget::new(limit_bytes);
        if let Some(spec) = takes_examples(signature) {
            let tensor = self.serialized(&mut budget)?;
            return Ok(TensorMap::from([(spec.name.clone(), tensor)]));
        }
        let mut columns = columns(signature)?;
        let index: BTreeMap<_, _> =
            signature.inputs.iter().enumerate().map(|(i, s)| (s.name.as_bytes(), i)).collect();
        let shared = self.shared(&index)?;
        let mut own = vec![None; columns.len()];
        for (row, example) in self.rows.iter().enumerate() {
            find(example.clone(), &index, &mut own)
                .map_err(|error| ExampleError::Example { index: row, error })?;
            for ((column, own), shared) in columns.iter_mut().zip(&mut own).zip(&shared) {
                let own = own.take().map(Feature::read).transpose();
                let own = own.map_err(|error| ExampleError::Example { index: row, error })?;
                push(column, row, own.as_ref().unwrap_or(shared).as_ref(), &mut budget)?;
            }
        }
        let filled = columns.into_iter().filter(|column| column.rows() > 0);
        filled.map(|column| Ok((column.spec().name.clone(), column.into_tensor()?))).collect()
    }

    /// The context's features, read once.
    fn shared(&self, index: &BTreeMap<&[u8], usize>) -> Result<Vec<Option<Feature>>, WireError> {
        let mut found = vec![None; index.len()];
        find(self.context.clone(), index, &mut found)?;
        let read = |message: Option<Bytes>| message.map_or(Ok(None), Feature::read);
        found.into_iter().map(read).collect()
    }

    /// The examples as strings `[batch]`, the context before each: of what both have,
    /// the example's own counts.
    fn serialized(&self, budget: &mut Budget) -> Result<Tensor, ExampleError> {
        let mut blobs = Vec::new();
        for example in &self.rows {
            budget.take(size_of::<Bytes>())?;
            if self.context.is_empty() {
                blobs.push(example.clone());
                continue;
            }
            budget.take(self.context.len() + example.len())?;
            let mut joined = BytesMut::with_capacity(self.context.len() + example.len());
            joined.extend_from_slice(&self.context);
            joined.extend_from_slice(example);
            blobs.push(joined.freeze());
        }
        Ok(Tensor::blobs(Shape::new([blobs.len()])?, blobs)?)
    }
}

/// The input of a signature that parses examples by itself.
fn takes_examples(signature: &Signature) -> Option<&TensorSpec> {
    const NAME: &str = "inputs";
    let [only] = signature.inputs.as_slice() else { return None };
    let vector = only.shape.as_ref().is_none_or(|dims| dims.len() == 1);
    (only.name == NAME && only.dtype == DType::Bytes && vector).then_some(only)
}

fn columns(signature: &Signature) -> Result<Vec<Column<'_>>, ExampleError> {
    let column = |spec| {
        Column::new(spec).ok_or_else(|| ExampleError::Shape {
            name: spec.name.clone(),
            shape: spec.shape_text(),
        })
    };
    signature.inputs.iter().map(column).collect()
}

/// The features of an example that `index` knows, each a serialized message: of equal
/// names the last.
fn find(
    example: Bytes,
    index: &BTreeMap<&[u8], usize>,
    found: &mut [Option<Bytes>],
) -> Result<(), WireError> {
    for field in Fields::new(example) {
        let (1, Value::Bytes(features)) = field? else { continue };
        for field in Fields::new(features) {
            let (1, Value::Bytes(entry)) = field? else { continue };
            let (mut name, mut feature) = (Bytes::new(), Bytes::new());
            for field in Fields::new(entry) {
                match field? {
                    (1, Value::Bytes(key)) => name = key,
                    (2, Value::Bytes(value)) => feature = value,
                    _ => {}
                }
            }
            if let Some(slot) = index.get(name.as_ref()).and_then(|i| found.get_mut(*i)) {
                *slot = Some(feature);
            }
        }
    }
    Ok(())
}

/// Adds an example's row, unless the input may be left out and is by all examples.
fn push(
    column: &mut Column<'_>,
    index: usize,
    feature: Option<&Feature>,
    budget: &mut Budget,
) -> Result<(), ExampleError> {
    let spec = column.spec();
    let failed = |error| ExampleError::Row { name: spec.name.clone(), index, error };
    let missing = |index| {
        let (name, kind) = (spec.name.clone(), Kind::of(spec.dtype));
        ExampleError::Missing { name, kind, index }
    };
    match feature {
        None if spec.optional && column.rows() == 0 => Ok(()),
        None => Err(missing(index)),
        Some(_) if column.rows() < index => Err(missing(column.rows())),
        Some(feature) => column.push(feature, budget).map_err(failed),
    }
}

#[cfg(test)]
mod tests;
