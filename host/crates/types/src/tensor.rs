use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::{DType, Element, Shape};

/// Tensors by name: the inputs or the outputs of a call.
pub type TensorMap = BTreeMap<String, Tensor>;

/// Elements of one type in a row-major shape. Cheap to clone and to cut into rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Data,
}

/// Where a tensor's elements are.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Little-endian, without padding; not necessarily aligned.
    Dense(Bytes),
    /// One byte string for each element; only for [`DType::Bytes`].
    Blobs(Vec<Bytes>),
}

/// The ways in which bytes and a shape can fail to be a tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    #[error("rank {rank} is above the limit of {}", Shape::MAX_RANK)]
    Rank { rank: usize },
    #[error("the number of elements of shape {dims:?} overflows")]
    Overflow { dims: Vec<usize> },
    #[error("shape {shape} of {dtype} needs {expected} bytes but {given} are given")]
    Length { dtype: DType, shape: Shape, expected: usize, given: usize },
    #[error("shape {shape} needs {} strings but {given} are given", shape.elements())]
    Count { shape: Shape, given: usize },
    #[error("a bool must be 0 or 1, byte {index} is {value}")]
    Bool { index: usize, value: u8 },
    #[error("expected {expected} elements but the tensor holds {given}")]
    DType { expected: DType, given: DType },
    #[error("a {dtype} tensor cannot be given as {form}")]
    Form { dtype: DType, form: &'static str },
    #[error("rows {start}..{end} are outside shape {shape}")]
    Rows { shape: Shape, start: usize, end: usize },
    #[error("cannot join {left_dtype} {left} with {right_dtype} {right}")]
    Join { left_dtype: DType, left: Shape, right_dtype: DType, right: Shape },
    #[error("nothing to join")]
    Empty,
}

impl Tensor {
    /// # Errors
    /// Unless `bytes` is exactly as long as `shape` and `dtype` say, and bools are 0 or 1.
    pub fn dense(dtype: DType, shape: Shape, bytes: impl Into<Bytes>) -> Result<Self, TensorError> {
        let bytes = bytes.into();
        let Some(size) = dtype.size_bytes() else {
            return Err(TensorError::Form { dtype, form: "raw bytes" });
        };
        let expected = shape
            .elements()
            .checked_mul(size)
            .ok_or_else(|| TensorError::Overflow { dims: shape.dims().to_vec() })?;
        if bytes.len() != expected {
            return Err(TensorError::Length { dtype, shape, expected, given: bytes.len() });
        }
        if dtype == DType::Bool
            && let Some(index) = bytes.iter().position(|&b| b > 1)
        {
            let value = bytes.get(index).copied().unwrap_or_default();
            return Err(TensorError::Bool { index, value });
        }
        Ok(Self { dtype, shape, data: Data::Dense(bytes) })
    }

    /// # Errors
    /// Unless there is one byte string for each element of `shape`.
    pub fn blobs(shape: Shape, blobs: Vec<Bytes>) -> Result<Self, TensorError> {
        if blobs.len() != shape.elements() {
            return Err(TensorError::Count { shape, given: blobs.len() });
        }
        Ok(Self { dtype: DType::Bytes, shape, data: Data::Blobs(blobs) })
    }

    /// Copies `values`.
    ///
    /// # Errors
    /// Unless there is one value for each element of the shape.
    pub fn from_slice<T: Element>(dims: &[usize], values: &[T]) -> Result<Self, TensorError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        Self::dense(T::DTYPE, Shape::new(dims)?, Bytes::copy_from_slice(bytes))
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    pub fn into_parts(self) -> (DType, Shape, Data) {
        (self.dtype, self.shape, self.data)
    }

    /// Bytes that the elements take, without the bookkeeping.
    pub fn size_bytes(&self) -> usize {
        match &self.data {
            Data::Dense(bytes) => bytes.len(),
            Data::Blobs(blobs) => blobs.iter().map(Bytes::len).sum(),
        }
    }

    /// The raw elements of a numeric tensor; `None` for strings.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.data {
            Data::Dense(bytes) => Some(bytes),
            Data::Blobs(_) => None,
        }
    }

    /// The elements of a string tensor; `None` for numbers.
    pub fn strings(&self) -> Option<&[Bytes]> {
        match &self.data {
            Data::Dense(_) => None,
            Data::Blobs(blobs) => Some(blobs),
        }
    }

    /// The elements as numbers; copies only where the bytes are not aligned.
    ///
    /// # Errors
    /// Where the tensor holds another type.
    pub fn as_slice<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        match &self.data {
            Data::Dense(bytes) if T::DTYPE == self.dtype => Ok(bytemuck::try_cast_slice(bytes)
                .map_or_else(
                    |_| Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)),
                    Cow::Borrowed,
                )),
            _ => Err(TensorError::DType { expected: T::DTYPE, given: self.dtype }),
        }
    }

    /// The same elements in another shape of as many elements.
    ///
    /// # Errors
    /// Where the number of elements differs.
    pub fn reshaped(self, dims: &[usize]) -> Result<Self, TensorError> {
        let shape = Shape::new(dims)?;
        match self.data {
            Data::Dense(bytes) => Self::dense(self.dtype, shape, bytes),
            Data::Blobs(blobs) => Self::blobs(shape, blobs),
        }
    }

    /// Entries `start..end` of the first dimension, without copying numbers.
    ///
    /// # Errors
    /// Where the tensor is a scalar or the range is outside of it.
    pub fn rows(&self, start: usize, end: usize) -> Result<Self, TensorError> {
        let outside = || TensorError::Rows { shape: self.shape.clone(), start, end };
        let (&rows, rest) = self.dims().split_first().ok_or_else(outside)?;
        if start > end || end > rows {
            return Err(outside());
        }
        let mut dims = vec![end - start];
        dims.extend_from_slice(rest);
        let shape = Shape::new(dims)?;
        let row: usize = rest.iter().product();
        let data = match &self.data {
            Data::Dense(bytes) => {
                let size = row * self.dtype.size_bytes().unwrap_or(1);
                Data::Dense(bytes.slice(start * size..end * size))
            }
            Data::Blobs(blobs) => {
                Data::Blobs(blobs.get(start * row..end * row).ok_or_else(outside)?.to_vec())
            }
        };
        Ok(Self { dtype: self.dtype, shape, data })
    }

    /// Entry `index` of the first dimension, as a tensor of one rank less.
    ///
    /// # Errors
    /// As [`Tensor::rows`].
    pub fn row(&self, index: usize) -> Result<Self, TensorError> {
        let mut row = self.rows(index, index.saturating_add(1))?;
        row.shape = Shape::new(row.dims().get(1..).unwrap_or_default())?;
        Ok(row)
    }

    /// The inverse of [`Tensor::row`]: equal shapes become entries of a new first dimension.
    ///
    /// # Errors
    /// Where types or shapes differ, or `tensors` is empty.
    pub fn stack(tensors: &[Self]) -> Result<Self, TensorError> {
        let first = tensors.first().ok_or(TensorError::Empty)?;
        if let Some(other) =
            tensors.iter().find(|t| t.dtype != first.dtype || t.shape != first.shape)
        {
            return Err(first.cannot_join(other));
        }
        let mut dims = vec![tensors.len()];
        dims.extend_from_slice(first.dims());
        Self::join(first.dtype, Shape::new(dims)?, tensors)
    }

    /// Joins along the first dimension.
    ///
    /// # Errors
    /// Where types or the other dimensions differ, one is a scalar, or `tensors` is empty.
    pub fn concat(tensors: &[Self]) -> Result<Self, TensorError> {
        let first = tensors.first().ok_or(TensorError::Empty)?;
        let mut rows = 0usize;
        for t in tensors {
            match (t.dims().split_first(), first.dims().get(1..)) {
                (Some((n, rest)), Some(tail)) if t.dtype == first.dtype && rest == tail => {
                    rows = rows.saturating_add(*n);
                }
                _ => return Err(first.cannot_join(t)),
            }
        }
        let mut dims = vec![rows];
        dims.extend_from_slice(first.dims().get(1..).unwrap_or_default());
        Self::join(first.dtype, Shape::new(dims)?, tensors)
    }

    fn cannot_join(&self, other: &Self) -> TensorError {
        TensorError::Join {
            left_dtype: self.dtype,
            left: self.shape.clone(),
            right_dtype: other.dtype,
            right: other.shape.clone(),
        }
    }

    fn join(dtype: DType, shape: Shape, tensors: &[Self]) -> Result<Self, TensorError> {
        if let [only] = tensors {
            return Ok(Self { dtype, shape, data: only.data.clone() });
        }
        if dtype == DType::Bytes {
            let blobs = tensors.iter().filter_map(Self::strings).flatten().cloned().collect();
            return Self::blobs(shape, blobs);
        }
        let mut joined =
            BytesMut::with_capacity(tensors.iter().map(Self::size_bytes).sum::<usize>());
        for bytes in tensors.iter().filter_map(Self::bytes) {
            joined.extend_from_slice(bytes);
        }
        Self::dense(dtype, shape, joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_stack_are_inverse() {
        let t = Tensor::from_slice(&[3, 2], &[1i64, 2, 3, 4, 5, 6]).unwrap();
        let rows: Vec<_> = (0..3).map(|i| t.row(i).unwrap()).collect();
        assert_eq!(Tensor::stack(&rows).unwrap(), t);
        let parts = [t.rows(0, 1).unwrap(), t.rows(1, 3).unwrap()];
        assert_eq!(Tensor::concat(&parts).unwrap(), t);
        assert!(t.rows(2, 4).is_err());
    }

    #[test]
    fn strings_keep_their_order() {
        let shape = Shape::new([2, 1]).unwrap();
        let t = Tensor::blobs(shape, vec!["a".into(), "bc".into()]).unwrap();
        assert_eq!(t.row(1).unwrap().strings().unwrap(), ["bc"]);
        assert_eq!(Tensor::concat(&[t.clone(), t]).unwrap().dims(), [4, 1]);
    }

    #[test]
    fn a_length_that_does_not_match_is_refused() {
        let shape = Shape::new([2]).unwrap();
        assert!(Tensor::dense(DType::F32, shape.clone(), vec![0; 7]).is_err());
        assert!(Tensor::dense(DType::Bool, shape.clone(), vec![0, 2]).is_err());
        assert!(Tensor::dense(DType::Bytes, shape, vec![0; 2]).is_err());
    }

    #[test]
    fn unaligned_bytes_are_read_right() {
        let bytes = Bytes::from(vec![0, 1, 0, 0, 0, 2, 0, 0, 0]).slice(1..);
        let t = Tensor::dense(DType::I32, Shape::new([2]).unwrap(), bytes).unwrap();
        assert_eq!(t.as_slice::<i32>().unwrap().as_ref(), [1, 2]);
        assert!(t.as_slice::<f32>().is_err());
    }

    #[test]
    fn different_shapes_do_not_stack() {
        let a = Tensor::from_slice(&[2], &[1f32, 2.]).unwrap();
        let b = Tensor::from_slice(&[1], &[1f32]).unwrap();
        assert!(matches!(Tensor::stack(&[a.clone(), b.clone()]), Err(TensorError::Join { .. })));
        assert_eq!(Tensor::concat(&[a, b]).unwrap().dims(), [3]);
    }
}
