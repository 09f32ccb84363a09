use bytes::{BufMut as _, Bytes, BytesMut};
use ingle_types::{DType, Data, Tensor};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::proto::tensorflow::{DataType, TensorProto, TensorShapeProto, tensor_shape_proto};

/// Encodes into the typed field of the dtype, every element written out: what
/// TensorFlow Serving's clients read.
pub fn encode(tensor: &Tensor) -> TensorProto {
    let mut proto = header(tensor);
    match tensor.data() {
        Data::Blobs(blobs) => proto.string_val = blobs.clone(),
        Data::Dense(bytes) => fill(&mut proto, tensor.dtype(), bytes),
    }
    proto
}

/// Encodes into `tensor_content`: the elements' bytes, or all strings' lengths and then
/// their bytes.
pub fn encode_as_content(tensor: &Tensor) -> TensorProto {
    let tensor_content = match tensor.data() {
        Data::Dense(bytes) => bytes.clone(),
        Data::Blobs(blobs) => joined(blobs),
    };
    TensorProto { tensor_content, ..header(tensor) }
}

/// Everything but the elements.
fn header(tensor: &Tensor) -> TensorProto {
    TensorProto {
        dtype: data_type(tensor.dtype()).into(),
        tensor_shape: Some(shape(tensor.dims())),
        ..TensorProto::default()
    }
}

fn joined(blobs: &[Bytes]) -> Bytes {
    let length = |blob: &Bytes| u64::try_from(blob.len()).unwrap_or(u64::MAX);
    let size = blobs.iter().map(|blob| encoded_len_varint(length(blob)) + blob.len()).sum();
    let mut content = BytesMut::with_capacity(size);
    blobs.iter().for_each(|blob| encode_varint(length(blob), &mut content));
    blobs.iter().for_each(|blob| content.put_slice(blob));
    content.freeze()
}

fn fill(proto: &mut TensorProto, dtype: DType, bytes: &[u8]) {
    match dtype {
        DType::F32 => proto.float_val = map(bytes, f32::from_le_bytes),
        DType::F64 => proto.double_val = map(bytes, f64::from_le_bytes),
        DType::I32 => proto.int_val = map(bytes, i32::from_le_bytes),
        DType::I16 => proto.int_val = map(bytes, |b| i16::from_le_bytes(b).into()),
        DType::U16 => proto.int_val = map(bytes, |b| u16::from_le_bytes(b).into()),
        DType::I8 => proto.int_val = map(bytes, |b| i8::from_le_bytes(b).into()),
        DType::U8 => proto.int_val = map(bytes, |b| u8::from_le_bytes(b).into()),
        DType::I64 => proto.int64_val = map(bytes, i64::from_le_bytes),
        DType::U32 => proto.uint32_val = map(bytes, u32::from_le_bytes),
        DType::U64 => proto.uint64_val = map(bytes, u64::from_le_bytes),
        DType::Bool => proto.bool_val = map(bytes, |[b]| b != 0),
        DType::F16 | DType::BF16 => {
            proto.half_val = map(bytes, |b| u16::from_le_bytes(b).into());
        }
        DType::Bytes => {}
    }
}

fn map<const N: usize, T>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&chunk| element(chunk)).collect()
}

fn shape(dims: &[usize]) -> TensorShapeProto {
    TensorShapeProto {
        dim: dims.iter().map(|&size| dim(i64::try_from(size).unwrap_or(i64::MAX))).collect(),
        unknown_rank: false,
    }
}

pub(crate) fn dim(size: i64) -> tensor_shape_proto::Dim {
    tensor_shape_proto::Dim { size, name: String::new() }
}

pub(crate) const fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::DtBool,
        DType::U8 => DataType::DtUint8,
        DType::U16 => DataType::DtUint16,
        DType::U32 => DataType::DtUint32,
        DType::U64 => DataType::DtUint64,
        DType::I8 => DataType::DtInt8,
        DType::I16 => DataType::DtInt16,
        DType::I32 => DataType::DtInt32,
        DType::I64 => DataType::DtInt64,
        DType::F16 => DataType::DtHalf,
        DType::BF16 => DataType::DtBfloat16,
        DType::F32 => DataType::DtFloat,
        DType::F64 => DataType::DtDouble,
        DType::Bytes => DataType::DtString,
    }
}
