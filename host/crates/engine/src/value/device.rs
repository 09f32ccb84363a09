use burn::tensor::backend::ExecutionError;
use burn::tensor::ops::{BoolTensor, FloatTensor, IntTensor};
use burn::tensor::{
    self as bt, AllocationProperty, BoolStore, IntDType, Slice, TensorData, TensorMetadata,
};
use bytes::Bytes;
use ingle_types::{DType, Shape, Tensor};

use super::Host;
use crate::context::Context;
use crate::dims::with_rank;
use crate::kernels::Kernels;
use crate::{OpError, PanicText};

/// One of Burn's primitives: the kind is known at run time, rank and dtype are inside.
pub(crate) enum DeviceTensor<B: Kernels> {
    Float(FloatTensor<B>),
    Int(IntTensor<B>),
    Bool(BoolTensor<B>),
}

/// Runs the function of the tensor's own kind.
macro_rules! by_kind {
    ($tensor:expr, $t:ident => $float:expr, $int:expr, $bool:expr) => {
        match $tensor {
            DeviceTensor::Float($t) => DeviceTensor::Float($float),
            DeviceTensor::Int($t) => DeviceTensor::Int($int),
            DeviceTensor::Bool($t) => DeviceTensor::Bool($bool),
        }
    };
}

impl<B: Kernels> Clone for DeviceTensor<B> {
    fn clone(&self) -> Self {
        by_kind!(self, t => t.clone(), t.clone(), t.clone())
    }
}

impl<B: Kernels> DeviceTensor<B> {
    /// Takes the tensor's bytes without a copy where they are aligned.
    pub(crate) fn upload(ctx: &Context<B>, tensor: &Tensor) -> Result<Self, OpError> {
        let dtype = tensor.dtype();
        let (Some(bytes), Some(size)) = (tensor.bytes(), dtype.size_bytes()) else {
            return Err(OpError::DeviceDType { dtype });
        };
        let bytes = if bytes.as_ptr().addr().is_multiple_of(size) {
            bt::Bytes::from_shared(bytes.clone(), AllocationProperty::Native)
        } else {
            bt::Bytes::from_bytes_vec(bytes.to_vec())
        };
        Ok(Self::from_bytes(ctx, dtype, tensor.dims(), bytes)?.reshape(tensor.dims()))
    }

    /// A scalar becomes a tensor of rank 1: CubeCL cannot store any of rank 0.
    pub(crate) fn upload_host(ctx: &Context<B>, host: &Host) -> Result<Self, OpError> {
        let tensor = host
            .to_tensor()
            .map_err(|_| OpError::Dims { what: "an operand", dims: host.dims().to_vec() })?;
        let bytes = tensor.bytes().map(|bytes| bytes.to_vec()).unwrap_or_default();
        Self::from_bytes(ctx, host.dtype(), host.dims(), bt::Bytes::from_bytes_vec(bytes))
    }

    fn from_bytes(
        ctx: &Context<B>,
        dtype: DType,
        dims: &[usize],
        bytes: bt::Bytes,
    ) -> Result<Self, OpError> {
        ctx.admit(dtype, dims)?;
        let device = ctx.device();
        let dims = if dims.is_empty() { &[1] } else { dims };
        let stored = if dtype == DType::Bool {
            bt::DType::Bool(BoolStore::Native)
        } else {
            ctx.stored(dtype)?
        };
        let mut data = TensorData::from_bytes(bytes, dims.to_vec(), stored);
        Ok(match dtype {
            DType::Bool => {
                let wanted = ctx.stored(dtype)?;
                if wanted != stored && wanted != bt::DType::Bool(BoolStore::U8) {
                    data = data.convert_dtype(wanted);
                }
                data.dtype = wanted;
                Self::Bool(B::bool_from_data(data, device))
            }
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
                Self::Float(B::float_from_data(data, device))
            }
            _ => Self::Int(B::int_from_data(data, device)),
        })
    }

    pub(crate) fn download(self, _: &Context<B>) -> Result<Tensor, OpError> {
        let (dtype, dims) = (self.dtype(), self.dims());
        let tensor = if dims.is_empty() { self.reshape(&[1]) } else { self };
        let data = bt::read_sync(async {
            match tensor {
                Self::Float(t) => B::float_into_data(t).await,
                Self::Int(t) => B::int_into_data(t).await,
                Self::Bool(t) => B::bool_into_data(t).await,
            }
        })
        .map_err(device_error)?;
        let bytes = match data.dtype {
            bt::DType::Bool(BoolStore::U32) => Bytes::from(
                bytemuck::pod_collect_to_vec::<u8, u32>(&data.bytes)
                    .into_iter()
                    .map(|v| u8::from(v != 0))
                    .collect::<Vec<u8>>(),
            ),
            _ => Bytes::from_owner(Owned(data.bytes)),
        };
        let invalid = |_| OpError::Dims { what: "an output", dims: dims.clone() };
        let shape = Shape::new(dims.clone()).map_err(invalid)?;
        Tensor::dense(dtype, shape, bytes).map_err(invalid)
    }

    pub(crate) fn dtype(&self) -> DType {
        let stored = match self {
            Self::Float(t) => t.dtype(),
            Self::Int(t) => t.dtype(),
            Self::Bool(_) => return DType::Bool,
        };
        match stored {
            bt::DType::F64 => DType::F64,
            bt::DType::F32 | bt::DType::Flex32 | bt::DType::QFloat(_) => DType::F32,
            bt::DType::F16 => DType::F16,
            bt::DType::BF16 => DType::BF16,
            bt::DType::I64 => DType::I64,
            bt::DType::I32 => DType::I32,
            bt::DType::I16 => DType::I16,
            bt::DType::I8 => DType::I8,
            bt::DType::U64 => DType::U64,
            bt::DType::U32 => DType::U32,
            bt::DType::U16 => DType::U16,
            bt::DType::U8 => DType::U8,
            bt::DType::Bool(_) => DType::Bool,
        }
    }

    pub(crate) fn dims(&self) -> Vec<usize> {
        self.shape().to_vec()
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape().num_dims()
    }

    pub(crate) fn elements(&self) -> usize {
        self.shape().num_elements()
    }

    fn shape(&self) -> bt::Shape {
        match self {
            Self::Float(t) => t.shape(),
            Self::Int(t) => t.shape(),
            Self::Bool(t) => t.shape(),
        }
    }

    /// `dims` must have as many elements.
    pub(crate) fn reshape(self, dims: &[usize]) -> Self {
        if self.shape().as_slice() == dims {
            return self;
        }
        let shape = bt::Shape::from(dims.to_vec());
        by_kind!(self, t => B::float_reshaped(t, shape), B::int_reshape(t, shape), B::bool_reshape(t, shape))
    }

    /// Ones are put in front of the dims, up to `rank`.
    pub(crate) fn with_rank(self, rank: usize) -> Self {
        let dims = with_rank(&self.dims(), rank);
        self.reshape(&dims)
    }

    /// `axes` must be a permutation of all axes.
    pub(crate) fn permute(self, axes: &[usize]) -> Self {
        by_kind!(self, t => B::float_permute(t, axes), B::int_permute(t, axes), B::bool_permute(t, axes))
    }

    /// One slice for each axis, none of them empty.
    pub(crate) fn slice(self, slices: &[Slice]) -> Self {
        by_kind!(self, t => B::float_slice(t, slices), B::int_slice(t, slices), B::bool_slice(t, slices))
    }

    /// Entries `start..end` of `axis`.
    pub(crate) fn narrow(self, axis: usize, start: usize, end: usize) -> Self {
        let dims = self.dims();
        if start == 0 && dims.get(axis) == Some(&end) {
            return self;
        }
        let slices: Vec<Slice> = dims
            .iter()
            .enumerate()
            .map(|(i, &size)| if i == axis { (start..end).into() } else { (0..size).into() })
            .collect();
        self.slice(&slices)
    }

    /// Keeps the first entries of each axis, up to `dims`, which must not be larger.
    pub(crate) fn cut(mut self, dims: &[usize]) -> Result<Self, OpError> {
        let given = self.dims();
        if given.len() != dims.len() || given.iter().zip(dims).any(|(given, wanted)| given < wanted)
        {
            let what = "the answer is smaller than it should be";
            return Err(OpError::Mismatch { what, left: given, right: dims.to_vec() });
        }
        for (axis, &size) in dims.iter().enumerate() {
            self = self.narrow(axis, 0, size);
        }
        Ok(self)
    }

    /// Writes `value` into the slices, which have its dims.
    pub(crate) fn slice_assign(self, slices: &[Slice], value: Self) -> Result<Self, OpError> {
        let (left, right) = (self.dtype(), value.dtype());
        Ok(match (self, value) {
            (Self::Float(t), Self::Float(v)) => Self::Float(B::float_slice_assign(t, slices, v)),
            (Self::Int(t), Self::Int(v)) => Self::Int(B::int_slice_assign(t, slices, v)),
            (Self::Bool(t), Self::Bool(v)) => Self::Bool(B::bool_slice_assign(t, slices, v)),
            _ => return Err(OpError::DTypes { left, right }),
        })
    }

    /// `dims` must be what the tensor broadcasts to.
    pub(crate) fn expand(self, dims: &[usize]) -> Self {
        if self.dims() == dims {
            return self;
        }
        let shape = bt::Shape::from(dims.to_vec());
        by_kind!(self, t => B::float_expand(t, shape), B::int_expand(t, shape), B::bool_expand(t, shape))
    }

    pub(crate) fn repeat(self, axis: usize, times: usize) -> Self {
        by_kind!(self, t => B::float_repeat_dim(t, axis, times), B::int_repeat_dim(t, axis, times), B::bool_repeat_dim(t, axis, times))
    }

    /// The entries of `axis` at a list of checked, non-negative indices.
    pub(crate) fn select(self, axis: usize, indices: IntTensor<B>) -> Self {
        by_kind!(self, t => B::float_select(t, axis, indices), B::int_select(t, axis, indices), B::bool_select(t, axis, indices))
    }

    /// One element for each of `indices`, which are checked and non-negative.
    pub(crate) fn gather(self, axis: usize, indices: IntTensor<B>) -> Self {
        by_kind!(self, t => B::float_gather(axis, t, indices), B::int_gather(axis, t, indices), B::bool_gather(axis, t, indices))
    }

    /// Joins tensors of one kind whose dims differ in `axis` only.
    pub(crate) fn concat(tensors: Vec<Self>, axis: usize) -> Result<Self, OpError> {
        let (mut floats, mut ints, mut bools) = (Vec::new(), Vec::new(), Vec::new());
        let dtypes: Vec<DType> = tensors.iter().map(Self::dtype).collect();
        if let Some(pair) = dtypes.windows(2).find(|pair| pair.first() != pair.last())
            && let &[left, right] = pair
        {
            return Err(OpError::DTypes { left, right });
        }
        for tensor in tensors {
            match tensor {
                Self::Float(t) => floats.push(t),
                Self::Int(t) => ints.push(t),
                Self::Bool(t) => bools.push(t),
            }
        }
        Ok(if !floats.is_empty() {
            Self::Float(B::float_joined(floats, axis))
        } else if !ints.is_empty() {
            Self::Int(B::int_cat(ints, axis))
        } else if !bools.is_empty() {
            Self::Bool(B::bool_cat(bools, axis))
        } else {
            return Err(OpError::Missing { index: 0 });
        })
    }

    /// The tensor's own element where `mask` is false, `value`'s where it is true.
    /// All three have the same dims.
    pub(crate) fn mask_where(self, mask: BoolTensor<B>, value: Self) -> Result<Self, OpError> {
        let (left, right) = (self.dtype(), value.dtype());
        Ok(match (self, value) {
            _ if left != right => return Err(OpError::DTypes { left, right }),
            (Self::Float(t), Self::Float(v)) => Self::Float(B::float_mask_where(t, mask, v)),
            (Self::Int(t), Self::Int(v)) => Self::Int(B::int_mask_where(t, mask, v)),
            (Self::Bool(t), Self::Bool(v)) => Self::Bool(B::bool_mask_where(t, mask, v)),
            _ => return Err(OpError::DTypes { left, right }),
        })
    }

    /// Converts as ONNX's Cast does.
    pub(crate) fn cast(self, ctx: &Context<B>, dtype: DType) -> Result<Self, OpError> {
        if self.dtype() == dtype {
            return Ok(self);
        }
        let stored = ctx.stored(dtype)?;
        let store = ctx.bool_store();
        Ok(match (self, dtype) {
            (Self::Float(t), DType::F16 | DType::BF16 | DType::F32 | DType::F64) => {
                Self::Float(B::float_cast(t, stored.into()))
            }
            (Self::Int(t), DType::F16 | DType::BF16 | DType::F32 | DType::F64) => {
                Self::Float(B::int_into_float(t, stored.into()))
            }
            (Self::Bool(t), DType::F16 | DType::BF16 | DType::F32 | DType::F64) => {
                Self::Float(B::bool_into_float(t, stored.into()))
            }
            (Self::Float(t), DType::Bool) => {
                Self::Bool(B::float_not_equal_elem(t, 0f64.into(), store))
            }
            (Self::Int(t), DType::Bool) => Self::Bool(B::int_not_equal_elem(t, 0i64.into(), store)),
            (Self::Bool(t), DType::Bool) => Self::Bool(t),
            (Self::Float(t), DType::U64) => Self::Int(B::float_into_int(t, IntDType::U64)),
            (Self::Float(t), _) => {
                // Through 64 bits, so that a value outside of a narrow type wraps as on the host.
                let wide = B::float_into_int(t, IntDType::I64);
                Self::Int(if stored == bt::DType::I64 {
                    wide
                } else {
                    B::int_cast(wide, stored.into())
                })
            }
            (Self::Int(t), _) => Self::Int(B::int_cast(t, stored.into())),
            (Self::Bool(t), _) => Self::Int(B::bool_into_int(t, stored.into())),
        })
    }
}

pub(crate) fn device_error(error: ExecutionError) -> OpError {
    OpError::Device { source: PanicText(error.to_string()) }
}

struct Owned(bt::Bytes);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
