//! What flows between operators: small tensors in the host's memory, and Burn's
//! primitives on the device.

mod device;
mod host;
mod text;

use std::sync::{Arc, OnceLock};

use ingle_types::{DType, Tensor};

pub(crate) use self::device::DeviceTensor;
pub(crate) use self::host::{HOST_FLOATS, HOST_INTS, Host, HostData, is_float};
use crate::OpError;
use crate::context::Context;
use crate::dims::{broadcast_places, with_rank};
use crate::kernels::Kernels;

/// A tensor during a run. A tensor without elements, and a scalar, is always on
/// the host, so that no kernel ever sees one; [`Value::into_device`] makes a scalar
/// a tensor of rank 1.
///
/// Few operators know what is no tensor; the others never see it, as
/// [`crate::ops::Inputs::take`] refuses it.
pub(crate) enum Value<B: Kernels> {
    Host(Arc<HostValue<B>>),
    Device(DeviceTensor<B>),
    Sequence(Arc<Sequence<B>>),
    /// An optional value that is not there.
    Absent,
}

/// Tensors in a row, whose shapes may differ.
pub(crate) struct Sequence<B: Kernels> {
    /// `None` until there is a first item.
    pub(crate) dtype: Option<DType>,
    pub(crate) items: Vec<Value<B>>,
}

/// A host tensor and, once something computed with it, its copy on the device.
pub(crate) struct HostValue<B: Kernels> {
    host: Host,
    device: OnceLock<DeviceTensor<B>>,
}

impl<B: Kernels> Clone for Value<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Host(value) => Self::Host(Arc::clone(value)),
            Self::Device(tensor) => Self::Device(tensor.clone()),
            Self::Sequence(sequence) => Self::Sequence(Arc::clone(sequence)),
            Self::Absent => Self::Absent,
        }
    }
}

impl<B: Kernels> From<Host> for Value<B> {
    fn from(host: Host) -> Self {
        Self::Host(Arc::new(HostValue { host, device: OnceLock::new() }))
    }
}

impl<B: Kernels> From<DeviceTensor<B>> for Value<B> {
    fn from(tensor: DeviceTensor<B>) -> Self {
        Self::Device(tensor)
    }
}

impl<B: Kernels> From<Sequence<B>> for Value<B> {
    fn from(sequence: Sequence<B>) -> Self {
        Self::Sequence(Arc::new(sequence))
    }
}

impl<B: Kernels> Value<B> {
    /// The value itself where it is a tensor.
    pub(crate) fn tensor(self, what: &'static str) -> Result<Self, OpError> {
        match self {
            Self::Host(_) | Self::Device(_) => Ok(self),
            Self::Sequence(_) => Err(OpError::Kind { what, given: "a sequence" }),
            Self::Absent => Err(OpError::Kind { what, given: "an empty optional value" }),
        }
    }

    /// A tensor without elements.
    pub(crate) fn empty(dtype: DType, dims: Vec<usize>) -> Self {
        Host::empty(dtype, dims).into()
    }

    /// Places a tensor where operators want it: integers that look like shapes
    /// and floats that look like parameters on the host, the rest on the device.
    pub(crate) fn from_tensor(ctx: &Context<B>, tensor: &Tensor) -> Result<Self, OpError> {
        let elements = tensor.shape().elements();
        let most = match tensor.dtype() {
            DType::Bytes => usize::MAX,
            dtype if !is_float(dtype) => HOST_INTS,
            _ if tensor.dims().len() <= 1 => HOST_FLOATS,
            _ => 1,
        };
        if elements <= most
            && let Some(host) = Host::from_tensor(tensor)
        {
            return Ok(host.into());
        }
        DeviceTensor::upload(ctx, tensor).map(Self::Device)
    }

    /// As [`Value::to_tensor`], without a copy where nothing else reads the value.
    pub(crate) fn into_tensor(self, ctx: &Context<B>) -> Result<Tensor, OpError> {
        match self {
            Self::Device(tensor) => tensor.download(ctx),
            value => value.to_tensor(ctx),
        }
    }

    pub(crate) fn to_tensor(&self, ctx: &Context<B>) -> Result<Tensor, OpError> {
        match self {
            Self::Host(value) => value
                .host
                .to_tensor()
                .map_err(|_| OpError::Dims { what: "an output", dims: value.host.dims().to_vec() }),
            Self::Device(tensor) => tensor.clone().download(ctx),
            Self::Sequence(_) | Self::Absent => Err(self.not_a_tensor()),
        }
    }

    /// The value as a program keeps it.
    pub(crate) fn kept(self) -> Self {
        match self {
            Self::Device(DeviceTensor::Float(t)) => {
                DeviceTensor::Float(B::float_constant(t)).into()
            }
            Self::Device(DeviceTensor::Int(t)) => DeviceTensor::Int(B::int_constant(t)).into(),
            value => value,
        }
    }

    fn not_a_tensor(&self) -> OpError {
        let given = if matches!(self, Self::Absent) { "absent" } else { "a sequence" };
        OpError::Kind { what: "a value", given }
    }

    /// A sequence has the dtype of its items.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Self::Host(value) => value.host.dtype(),
            Self::Device(tensor) => tensor.dtype(),
            Self::Sequence(sequence) => sequence.dtype.unwrap_or(DType::F32),
            Self::Absent => DType::F32,
        }
    }

    /// Of a sequence, its length.
    pub(crate) fn dims(&self) -> Vec<usize> {
        match self {
            Self::Host(value) => value.host.dims().to_vec(),
            Self::Device(tensor) => tensor.dims(),
            Self::Sequence(sequence) => vec![sequence.items.len()],
            Self::Absent => vec![0],
        }
    }

    pub(crate) fn rank(&self) -> usize {
        match self {
            Self::Device(tensor) => tensor.rank(),
            _ => self.dims().len(),
        }
    }

    pub(crate) fn elements(&self) -> usize {
        match self {
            Self::Device(tensor) => tensor.elements(),
            _ => self.dims().iter().product(),
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Host(value) => value.host.size_bytes(),
            Self::Sequence(sequence) => {
                sequence.items.iter().map(Self::size_bytes).fold(0, usize::saturating_add)
            }
            _ => self.elements().saturating_mul(self.dtype().size_bytes().unwrap_or(1)),
        }
    }

    /// The tensor where it is on the host; does not wait for a device.
    pub(crate) fn as_host(&self) -> Option<&Host> {
        match self {
            Self::Host(value) => Some(&value.host),
            _ => None,
        }
    }

    /// The tensor on the host, read back from the device where it has to be.
    pub(crate) fn to_host(&self, ctx: &Context<B>) -> Result<Host, OpError> {
        match self {
            Self::Host(value) => Ok(value.host.clone()),
            Self::Device(tensor) => {
                let dtype = tensor.dtype();
                let tensor = tensor.clone().download(ctx)?;
                Host::from_tensor(&tensor).ok_or(OpError::DeviceDType { dtype })
            }
            Self::Sequence(_) | Self::Absent => Err(self.not_a_tensor()),
        }
    }

    /// The elements of an integer tensor.
    pub(crate) fn ints(&self, ctx: &Context<B>, what: &'static str) -> Result<Vec<i64>, OpError> {
        let host = self.to_host(ctx)?;
        let given = host.dtype();
        host.as_ints().map(<[i64]>::to_vec).ok_or(OpError::DType {
            what,
            expected: "an integer tensor",
            given,
        })
    }

    /// The only element of a tensor.
    pub(crate) fn scalar(&self, ctx: &Context<B>, what: &'static str) -> Result<f64, OpError> {
        match self.to_host(ctx)?.to_f64().as_slice() {
            &[value] => Ok(value),
            _ => Err(OpError::Dims { what, dims: self.dims() }),
        }
    }

    /// `dims` must have as many elements.
    pub(crate) fn reshape(self, dims: Vec<usize>) -> Self {
        match self {
            Self::Device(tensor) => Self::Device(tensor.reshape(&dims)),
            Self::Host(value) if value.host.dims() == dims => Self::Host(value),
            Self::Host(value) => value.host.clone().reshaped(dims).into(),
            Self::Sequence(_) | Self::Absent => self,
        }
    }

    /// Ones are put in front of the dims, up to `rank`.
    pub(crate) fn with_rank(self, rank: usize) -> Self {
        let dims = with_rank(&self.dims(), rank);
        self.reshape(dims)
    }

    /// `dims` must be what the tensor's own dims broadcast to, and admitted.
    pub(crate) fn expand(self, ctx: &Context<B>, dims: &[usize]) -> Result<Self, OpError> {
        let count: usize = dims.iter().product();
        if self.dims() == dims {
            return Ok(self);
        }
        if count == 0 {
            return Ok(Self::empty(self.dtype(), dims.to_vec()));
        }
        match self.as_host() {
            Some(host) if host.stays(count) => {
                Ok(host.pick(dims.to_vec(), broadcast_places(host.dims(), dims)).into())
            }
            _ => Ok(self.into_device(ctx)?.with_rank(dims.len()).expand(dims).into()),
        }
    }

    /// Converts as ONNX's Cast does.
    pub(crate) fn cast(self, ctx: &Context<B>, dtype: DType) -> Result<Self, OpError> {
        if self.dtype() == dtype {
            return Ok(self);
        }
        if self.dtype() == DType::Bytes || dtype == DType::Bytes {
            let host = self.to_host(ctx)?;
            ctx.admit(dtype, host.dims())?;
            return Ok(
                if dtype == DType::Bytes { host.written() } else { host.parsed(dtype)? }.into()
            );
        }
        match self {
            Self::Host(value) => Ok(value.host.cast(dtype).into()),
            value => {
                let dims = value.dims();
                Ok(value.into_device(ctx)?.cast(ctx, dtype)?.reshape(&dims).into())
            }
        }
    }

    /// Moves a scalar to the host: CubeCL's kernels know no tensors of rank 0.
    /// Scalars are rare on a device, as operators compute with them on the host.
    pub(crate) fn settled(self, ctx: &Context<B>) -> Result<Self, OpError> {
        match &self {
            Self::Device(tensor) if tensor.rank() == 0 => self.to_host(ctx).map(Into::into),
            _ => Ok(self),
        }
    }

    pub(crate) fn into_device(self, ctx: &Context<B>) -> Result<DeviceTensor<B>, OpError> {
        let value = match self {
            Self::Device(tensor) => return Ok(tensor),
            Self::Host(value) => value,
            Self::Sequence(_) | Self::Absent => return Err(self.not_a_tensor()),
        };
        if let Some(tensor) = value.device.get() {
            return Ok(tensor.clone());
        }
        let tensor = DeviceTensor::upload_host(ctx, &value.host)?;
        if Arc::strong_count(&value) == 1 {
            return Ok(tensor);
        }
        Ok(value.device.get_or_init(|| tensor).clone())
    }

    pub(crate) fn into_float(
        self,
        ctx: &Context<B>,
        what: &'static str,
    ) -> Result<B::FloatTensorPrimitive, OpError> {
        match self.into_device(ctx)? {
            DeviceTensor::Float(tensor) => Ok(tensor),
            other => Err(OpError::DType { what, expected: "a float tensor", given: other.dtype() }),
        }
    }

    pub(crate) fn into_int(
        self,
        ctx: &Context<B>,
        what: &'static str,
    ) -> Result<B::IntTensorPrimitive, OpError> {
        match self.into_device(ctx)? {
            DeviceTensor::Int(tensor) => Ok(tensor),
            other => {
                Err(OpError::DType { what, expected: "an integer tensor", given: other.dtype() })
            }
        }
    }

    pub(crate) fn into_bool(
        self,
        ctx: &Context<B>,
        what: &'static str,
    ) -> Result<B::BoolTensorPrimitive, OpError> {
        match self.into_device(ctx)? {
            DeviceTensor::Bool(tensor) => Ok(tensor),
            other => Err(OpError::DType { what, expected: "a bool tensor", given: other.dtype() }),
        }
    }
}
