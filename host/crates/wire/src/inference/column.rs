//! One input: a row for each example.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};
use ingle_types::{DType, Dim, Shape, Tensor, TensorError, TensorSpec};

use super::feature::{Feature, Kind};
use crate::budget::{Budget, TooLarge};
use crate::protobuf::WireError;

/// Why a feature is not a row of its input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum RowError {
    #[error("Data types don't match. Data type: {given} but expected type: {expected}")]
    Kind { expected: Kind, given: Kind },
    #[error(
        "Number of {kind} values != expected.  Values size: {given} but output shape: {expected}"
    )]
    Count { kind: Kind, given: usize, expected: Dims },
    #[error(
        "Number of {kind} values is not a multiple of stride length. Saw {given} values but output shape is: {expected}"
    )]
    Stride { kind: Kind, given: usize, expected: Dims },
    #[error("Value {value} is not in the range of the input's type: {dtype}")]
    Range { value: i64, dtype: DType },
    #[error("Could not parse example input: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// A row's shape as TensorFlow prints it: `[?,2]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dims(Vec<Dim>);

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<_> = self
            .0
            .iter()
            .map(|dim| match dim {
                Dim::Any => "?".to_owned(),
                Dim::Fixed(size) => size.to_string(),
            })
            .collect();
        write!(f, "[{}]", sizes.join(","))
    }
}

/// The rows of an input so far.
#[derive(Debug)]
pub(super) struct Column<'a> {
    spec: &'a TensorSpec,
    /// What a row may be: of at most one unknown dimension.
    row: Vec<Dim>,
    /// What the first row was, and so is every other: how many values, in which shape.
    first: Option<(usize, Vec<usize>)>,
    rows: usize,
    dense: Vec<u8>,
    blobs: Vec<Bytes>,
}

impl<'a> Column<'a> {
    /// `None` for an input whose rows have no certain shape.
    pub(super) fn new(spec: &'a TensorSpec) -> Option<Self> {
        let row = match &spec.shape {
            None => vec![Dim::Any],
            Some(dims) => dims.split_first()?.1.to_vec(),
        };
        if row.iter().filter(|dim| **dim == Dim::Any).count() > 1 {
            return None;
        }
        Some(Self { spec, row, first: None, rows: 0, dense: Vec::new(), blobs: Vec::new() })
    }

    pub(super) fn spec(&self) -> &'a TensorSpec {
        self.spec
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a row.
    pub(super) fn push(&mut self, feature: &Feature, budget: &mut Budget) -> Result<(), RowError> {
        let expected = Kind::of(self.spec.dtype);
        if feature.kind != expected {
            return Err(RowError::Kind { expected, given: feature.kind });
        }
        let count = feature.count()?;
        self.check_count(count, feature.kind)?;
        let size = self.spec.dtype.size_bytes().unwrap_or(size_of::<Bytes>());
        // A context's feature is read again for each example, however much of it is no value.
        budget.take(count.saturating_mul(size).max(feature.size_bytes()))?;
        let dtype = self.spec.dtype;
        self.rows += 1;
        match feature.kind {
            Kind::Bytes => Ok(feature.each_blob(|blob| self.blobs.push(blob))?),
            Kind::Float => {
                Ok(feature.each_floats(|floats| push_floats(&mut self.dense, dtype, floats))?)
            }
            Kind::Int64 => feature.each_int64(|value| {
                push_integer(&mut self.dense, dtype, value).ok_or(RowError::Range { value, dtype })
            }),
        }
    }

    fn check_count(&mut self, given: usize, kind: Kind) -> Result<(), RowError> {
        match &self.first {
            Some((expected, _)) if *expected == given => Ok(()),
            Some((_, dims)) => {
                let expected = Dims(dims.iter().copied().map(Dim::Fixed).collect());
                Err(RowError::Count { kind, given, expected })
            }
            None => match row_of(&self.row, given) {
                Some(dims) => {
                    self.first = Some((given, dims));
                    Ok(())
                }
                None if self.row.contains(&Dim::Any) => {
                    Err(RowError::Stride { kind, given, expected: Dims(self.row.clone()) })
                }
                None => Err(RowError::Count { kind, given, expected: Dims(self.row.clone()) }),
            },
        }
    }

    pub(super) fn into_tensor(self) -> Result<Tensor, TensorError> {
        let mut dims = vec![self.rows];
        dims.extend(self.first.map(|(_, dims)| dims).unwrap_or_default());
        let shape = Shape::new(dims)?;
        match self.spec.dtype {
            DType::Bytes => Tensor::blobs(shape, self.blobs),
            dtype => Tensor::dense(dtype, shape, self.dense),
        }
    }
}

/// The shape of a row of `count` values, where there is one.
fn row_of(row: &[Dim], count: usize) -> Option<Vec<usize>> {
    let fixed = row.iter().try_fold(1usize, |product, dim| match dim {
        Dim::Fixed(size) => product.checked_mul(*size),
        Dim::Any => Some(product),
    })?;
    // Beside a dimension of zero the unknown one could be anything: it is zero, too.
    let free = count.checked_div(fixed).unwrap_or(0);
    let dims: Vec<_> = row
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any => free,
        })
        .collect();
    (dims.iter().product::<usize>() == count).then_some(dims)
}

/// Appends little-endian floats as elements of `dtype`, to the nearest where it is
/// narrower.
fn push_floats(dense: &mut Vec<u8>, dtype: DType, floats: &[u8]) {
    let (floats, _) = match dtype {
        DType::F32 => return dense.extend_from_slice(floats),
        _ => floats.as_chunks::<4>(),
    };
    for value in floats.iter().map(|bytes| f32::from_le_bytes(*bytes)) {
        match dtype {
            DType::F64 => dense.extend_from_slice(&f64::from(value).to_le_bytes()),
            DType::BF16 => dense.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
            _ => dense.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
        }
    }
}

/// Appends an element of `dtype`; `None` where it cannot hold the value.
fn push_integer(dense: &mut Vec<u8>, dtype: DType, value: i64) -> Option<()> {
    match dtype {
        DType::Bool if value == 0 || value == 1 => dense.push(u8::from(value == 1)),
        DType::U8 => dense.push(u8::try_from(value).ok()?),
        DType::I8 => dense.extend_from_slice(&i8::try_from(value).ok()?.to_le_bytes()),
        DType::U16 => dense.extend_from_slice(&u16::try_from(value).ok()?.to_le_bytes()),
        DType::I16 => dense.extend_from_slice(&i16::try_from(value).ok()?.to_le_bytes()),
        DType::U32 => dense.extend_from_slice(&u32::try_from(value).ok()?.to_le_bytes()),
        DType::I32 => dense.extend_from_slice(&i32::try_from(value).ok()?.to_le_bytes()),
        DType::U64 => dense.extend_from_slice(&u64::try_from(value).ok()?.to_le_bytes()),
        DType::I64 => dense.extend_from_slice(&value.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dimension_of_a_row_may_be_unknown() {
        let (any, two) = (Dim::Any, Dim::Fixed(2));
        assert_eq!(row_of(&[], 1), Some(vec![]));
        assert_eq!(row_of(&[], 2), None);
        assert_eq!(row_of(&[two, two], 4), Some(vec![2, 2]));
        assert_eq!(row_of(&[two], 3), None);
        assert_eq!(row_of(&[any], 0), Some(vec![0]));
        assert_eq!(row_of(&[two, any], 6), Some(vec![2, 3]));
        assert_eq!(row_of(&[any, two], 5), None);
        assert_eq!(row_of(&[Dim::Fixed(0), any], 0), Some(vec![0, 0]));
        assert_eq!(row_of(&[Dim::Fixed(0), any], 1), None);
        assert_eq!(row_of(&[Dim::Fixed(usize::MAX), two], 1), None);
        let spec = |dims| TensorSpec::new("x", DType::F32, dims);
        assert!(Column::new(&spec(vec![])).is_none());
        assert!(Column::new(&spec(vec![any, any, any])).is_none());
        assert!(Column::new(&spec(vec![any, any])).is_some());
    }

    #[test]
    fn integers_go_where_they_fit() {
        let bytes = |dtype, value| {
            let mut dense = Vec::new();
            push_integer(&mut dense, dtype, value).map(|()| dense)
        };
        assert_eq!(bytes(DType::Bool, 1), Some(vec![1]));
        assert_eq!(bytes(DType::Bool, 2), None);
        assert_eq!(bytes(DType::U8, 255), Some(vec![255]));
        assert_eq!(bytes(DType::U8, -1), None);
        assert_eq!(bytes(DType::I8, 128), None);
        assert_eq!(bytes(DType::I16, -2), Some(vec![0xfe, 0xff]));
        assert_eq!(bytes(DType::U16, 65536), None);
        assert_eq!(bytes(DType::I32, i64::from(i32::MAX) + 1), None);
        assert_eq!(bytes(DType::U32, -1), None);
        assert_eq!(bytes(DType::U64, i64::MIN), None);
        assert_eq!(bytes(DType::I64, i64::MIN).map(|b| b.len()), Some(8));
        assert_eq!(bytes(DType::F32, 1), None);
    }

    #[test]
    fn floats_are_widened_and_rounded() {
        let elements = |dtype| {
            let mut dense = Vec::new();
            push_floats(&mut dense, dtype, &0.1f32.to_le_bytes());
            dense
        };
        assert_eq!(elements(DType::F32), 0.1f32.to_le_bytes());
        assert_eq!(elements(DType::F64), f64::from(0.1f32).to_le_bytes());
        assert_eq!(elements(DType::F16), f16::from_f32(0.1).to_le_bytes());
        assert_eq!(elements(DType::BF16), bf16::from_f32(0.1).to_le_bytes());
    }
}
