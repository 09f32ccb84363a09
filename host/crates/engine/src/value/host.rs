use bytes::Bytes;
use half::{bf16, f16};
use ingle_types::{DType, Shape, Tensor, TensorError};

/// A tensor in the host's memory, in the widest type of its kind, so that shape
/// arithmetic never waits for a device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Host {
    dtype: DType,
    dims: Vec<usize>,
    data: HostData,
}

/// Elements already rounded or wrapped to the tensor's own dtype.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostData {
    /// Integers, and bools as 0 and 1. Unsigned 64-bit integers are kept as the
    /// signed ones of the same bits: see [`Host::is_plain`].
    Int(Vec<i64>),
    Float(Vec<f64>),
    /// Byte strings, which no device holds: they stay here, however many they are.
    Text(Vec<Bytes>),
}

/// Elements up to which a tensor is kept on the host.
pub(crate) const HOST_INTS: usize = 1024;
/// As [`HOST_INTS`], for floating point: scales, bounds, scalars.
pub(crate) const HOST_FLOATS: usize = 16;

impl Host {
    /// Wraps each value to `dtype`. The caller gives one value for each element.
    pub(crate) fn ints(dtype: DType, dims: Vec<usize>, values: Vec<i64>) -> Self {
        debug_assert_eq!(values.len(), dims.iter().product::<usize>());
        let values = values.into_iter().map(|v| wrap(dtype, v)).collect();
        Self { dtype, dims, data: HostData::Int(values) }
    }

    /// Rounds each value to `dtype`. The caller gives one value for each element.
    pub(crate) fn floats(dtype: DType, dims: Vec<usize>, values: Vec<f64>) -> Self {
        debug_assert_eq!(values.len(), dims.iter().product::<usize>());
        let values = values.into_iter().map(|v| round(dtype, v)).collect();
        Self { dtype, dims, data: HostData::Float(values) }
    }

    /// The caller gives one string for each element.
    pub(crate) fn text(dims: Vec<usize>, values: Vec<Bytes>) -> Self {
        debug_assert_eq!(values.len(), dims.iter().product::<usize>());
        Self { dtype: DType::Bytes, dims, data: HostData::Text(values) }
    }

    /// A tensor without elements. One of `dims` must be zero.
    pub(crate) fn empty(dtype: DType, dims: Vec<usize>) -> Self {
        if dtype == DType::Bytes {
            Self::text(dims, Vec::new())
        } else if is_float(dtype) {
            Self::floats(dtype, dims, Vec::new())
        } else {
            Self::ints(dtype, dims, Vec::new())
        }
    }

    /// `None` where the dtype has no form here that keeps every value.
    pub(crate) fn from_tensor(tensor: &Tensor) -> Option<Self> {
        fn ints<T: ingle_types::Element + Into<i64>>(tensor: &Tensor) -> Option<HostData> {
            let values = tensor.as_slice::<T>().ok()?;
            Some(HostData::Int(values.iter().map(|&v| v.into()).collect()))
        }
        fn floats<T: ingle_types::Element + Into<f64>>(tensor: &Tensor) -> Option<HostData> {
            let values = tensor.as_slice::<T>().ok()?;
            Some(HostData::Float(values.iter().map(|&v| v.into()).collect()))
        }
        let (dtype, dims) = (tensor.dtype(), tensor.dims().to_vec());
        if tensor.shape().elements() == 0 {
            return Some(Self::empty(dtype, dims));
        }
        let data = match dtype {
            DType::Bool => HostData::Int(tensor.bytes()?.iter().map(|&b| i64::from(b)).collect()),
            DType::U8 => ints::<u8>(tensor)?,
            DType::U16 => ints::<u16>(tensor)?,
            DType::U32 => ints::<u32>(tensor)?,
            DType::I8 => ints::<i8>(tensor)?,
            DType::I16 => ints::<i16>(tensor)?,
            DType::I32 => ints::<i32>(tensor)?,
            DType::I64 => ints::<i64>(tensor)?,
            DType::F16 => floats::<f16>(tensor)?,
            DType::BF16 => floats::<bf16>(tensor)?,
            DType::F32 => floats::<f32>(tensor)?,
            DType::F64 => floats::<f64>(tensor)?,
            DType::Bytes => HostData::Text(tensor.strings()?.to_vec()),
            DType::U64 => {
                HostData::Int(tensor.as_slice::<u64>().ok()?.iter().map(|&v| v as i64).collect())
            }
        };
        Some(Self { dtype, dims, data })
    }

    pub(crate) fn to_tensor(&self) -> Result<Tensor, TensorError> {
        fn narrow<S: Copy, const N: usize>(values: &[S], to: impl Fn(S) -> [u8; N]) -> Bytes {
            values.iter().flat_map(|&v| to(v)).collect::<Vec<u8>>().into()
        }
        let bytes = match (&self.data, self.dtype) {
            (HostData::Text(values), _) => {
                return Tensor::blobs(Shape::new(self.dims.clone())?, values.clone());
            }
            (HostData::Int(v), DType::Bool | DType::U8 | DType::I8) => narrow(v, |v| [v as u8]),
            (HostData::Int(v), DType::U16 | DType::I16) => narrow(v, |v| (v as u16).to_le_bytes()),
            (HostData::Int(v), DType::U32 | DType::I32) => narrow(v, |v| (v as u32).to_le_bytes()),
            (HostData::Int(v), _) => narrow(v, i64::to_le_bytes),
            (HostData::Float(v), DType::F16) => narrow(v, |v| f16::from_f64(v).to_le_bytes()),
            (HostData::Float(v), DType::BF16) => narrow(v, |v| bf16::from_f64(v).to_le_bytes()),
            (HostData::Float(v), DType::F32) => narrow(v, |v| (v as f32).to_le_bytes()),
            (HostData::Float(v), _) => narrow(v, f64::to_le_bytes),
        };
        Tensor::dense(self.dtype, Shape::new(self.dims.clone())?, bytes)
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    pub(crate) fn data(&self) -> &HostData {
        &self.data
    }

    pub(crate) fn elements(&self) -> usize {
        match &self.data {
            HostData::Int(values) => values.len(),
            HostData::Float(values) => values.len(),
            HostData::Text(values) => values.len(),
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        match &self.data {
            HostData::Text(values) => {
                values.iter().map(|v| v.len() + size_of::<Bytes>()).fold(0, usize::saturating_add)
            }
            _ => self.elements().saturating_mul(self.dtype.size_bytes().unwrap_or(1)),
        }
    }

    /// Whether `count` elements of this tensor are still for the host to compute with.
    pub(crate) fn stays(&self, count: usize) -> bool {
        count <= HOST_INTS || self.dtype == DType::Bytes
    }

    /// Whether the elements are the integers that stand for them. Where they are
    /// not, order, division and conversion must be done on unsigned numbers.
    pub(crate) fn is_plain(&self) -> bool {
        self.dtype != DType::U64
    }

    /// The same elements in other dims of as many elements.
    pub(crate) fn reshaped(mut self, dims: Vec<usize>) -> Self {
        debug_assert_eq!(self.elements(), dims.iter().product::<usize>());
        self.dims = dims;
        self
    }

    /// A tensor of the elements at `indices`, all of which must be inside.
    pub(crate) fn pick(&self, dims: Vec<usize>, indices: impl Iterator<Item = usize>) -> Self {
        fn at<T: Clone + Default>(values: &[T], indices: impl Iterator<Item = usize>) -> Vec<T> {
            indices.map(|i| values.get(i).cloned().unwrap_or_default()).collect()
        }
        let data = match &self.data {
            HostData::Int(values) => HostData::Int(at(values, indices)),
            HostData::Float(values) => HostData::Float(at(values, indices)),
            HostData::Text(values) => HostData::Text(at(values, indices)),
        };
        Self { dtype: self.dtype, dims, data }
    }

    /// Joins tensors of one dtype along `axis`, outside of which their dims agree.
    pub(crate) fn join(dtype: DType, dims: Vec<usize>, axis: usize, parts: &[&Self]) -> Self {
        let outer: usize = dims.iter().take(axis).product();
        let chunk = |part: &Self| part.elements() / outer.max(1);
        let mut ints = Vec::new();
        let mut floats = Vec::new();
        let mut text = Vec::new();
        for row in 0..outer {
            for part in parts {
                let range = row * chunk(part)..(row + 1) * chunk(part);
                match &part.data {
                    HostData::Int(values) => ints.extend(values.get(range).unwrap_or_default()),
                    HostData::Float(values) => floats.extend(values.get(range).unwrap_or_default()),
                    HostData::Text(values) => {
                        text.extend_from_slice(values.get(range).unwrap_or_default());
                    }
                }
            }
        }
        if dtype == DType::Bytes {
            Self::text(dims, text)
        } else if is_float(dtype) {
            Self::floats(dtype, dims, floats)
        } else {
            Self::ints(dtype, dims, ints)
        }
    }

    /// The own element where `choice` is not zero, `other`'s elsewhere. All have
    /// the same dims, and the tensors the same dtype.
    pub(crate) fn choose(&self, other: &Self, choice: &[i64]) -> Self {
        fn pick<T: Clone>(yes: &[T], no: &[T], choice: &[i64]) -> Vec<T> {
            let pairs = yes.iter().zip(no).zip(choice);
            pairs.map(|((yes, no), &choice)| if choice != 0 { yes } else { no }.clone()).collect()
        }
        let data = match (&self.data, &other.data) {
            (HostData::Int(y), HostData::Int(n)) => HostData::Int(pick(y, n, choice)),
            (HostData::Float(y), HostData::Float(n)) => HostData::Float(pick(y, n, choice)),
            (HostData::Text(y), HostData::Text(n)) => HostData::Text(pick(y, n, choice)),
            _ => self.data.clone(),
        };
        Self { dtype: self.dtype, dims: self.dims.clone(), data }
    }

    /// Converts as ONNX's Cast does: floats are cut towards zero, bool is not-zero.
    /// Neither dtype may be text.
    pub(crate) fn cast(&self, dtype: DType) -> Self {
        let dims = self.dims.clone();
        match &self.data {
            HostData::Int(v) if is_float(dtype) => {
                // Once, for what is rounded twice can be off by one.
                let float: fn(i64) -> f64 = match (dtype, self.is_plain()) {
                    (DType::F32, true) => |v| f64::from(v as f32),
                    (DType::F32, false) => |v| f64::from(v as u64 as f32),
                    (_, true) => |v| v as f64,
                    (_, false) => |v| v as u64 as f64,
                };
                Self::floats(dtype, dims, v.iter().map(|&v| float(v)).collect())
            }
            HostData::Int(v) => Self::ints(dtype, dims, v.clone()),
            HostData::Float(v) if is_float(dtype) => Self::floats(dtype, dims, v.clone()),
            HostData::Float(v) if dtype == DType::Bool => {
                Self::ints(dtype, dims, v.iter().map(|&v| i64::from(v != 0.0)).collect())
            }
            HostData::Float(v) if dtype == DType::U64 => {
                Self::ints(dtype, dims, v.iter().map(|&v| v as u64 as i64).collect())
            }
            HostData::Float(v) => Self::ints(dtype, dims, v.iter().map(|&v| v as i64).collect()),
            HostData::Text(_) => self.clone(),
        }
    }

    /// The elements as integers; `None` for floating point and text.
    pub(crate) fn as_ints(&self) -> Option<&[i64]> {
        match &self.data {
            HostData::Int(values) => Some(values),
            HostData::Float(_) | HostData::Text(_) => None,
        }
    }

    /// The elements as numbers; none for text.
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            HostData::Int(values) if self.is_plain() => values.iter().map(|&v| v as f64).collect(),
            HostData::Int(values) => values.iter().map(|&v| v as u64 as f64).collect(),
            HostData::Float(values) => values.clone(),
            HostData::Text(_) => Vec::new(),
        }
    }
}

pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

fn wrap(dtype: DType, v: i64) -> i64 {
    match dtype {
        DType::Bool => i64::from(v != 0),
        DType::U8 => i64::from(v as u8),
        DType::U16 => i64::from(v as u16),
        DType::U32 => i64::from(v as u32),
        DType::I8 => i64::from(v as i8),
        DType::I16 => i64::from(v as i16),
        DType::I32 => i64::from(v as i32),
        _ => v,
    }
}

fn round(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(v).to_f64(),
        DType::BF16 => bf16::from_f64(v).to_f64(),
        DType::F32 => f64::from(v as f32),
        _ => v,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_survives_the_way_there_and_back() {
        let one = |dtype: DType| {
            let tensor = Tensor::dense(
                dtype,
                Shape::new([1]).unwrap(),
                vec![1u8; dtype.size_bytes().unwrap()],
            );
            tensor.unwrap()
        };
        for dtype in DType::ALL.into_iter().filter(|&d| d != DType::Bytes) {
            let tensor = one(dtype);
            assert_eq!(Host::from_tensor(&tensor).unwrap().to_tensor().unwrap(), tensor, "{dtype}");
        }
    }

    #[test]
    fn casts_wrap_cut_and_compare_with_zero() {
        let floats = Host::floats(DType::F32, vec![3], vec![-1.7, 0.0, 300.5]);
        assert_eq!(floats.cast(DType::I32).as_ints().unwrap(), [-1, 0, 300]);
        assert_eq!(floats.cast(DType::Bool).as_ints().unwrap(), [1, 0, 1]);
        let ints = Host::ints(DType::I64, vec![1], vec![300]);
        assert_eq!(ints.cast(DType::U8).as_ints().unwrap(), [44]);
        let large = Host::floats(DType::F64, vec![2], vec![1e19, -1.0]).cast(DType::U64);
        assert_eq!(large.to_f64(), [1e19, 0.0]);
        assert_eq!(large.cast(DType::F32).to_f64(), [f64::from(1e19f32), 0.0]);
        assert_eq!(Host::floats(DType::F32, vec![], vec![0.1]).to_f64(), [f64::from(0.1f32)]);
    }
}
