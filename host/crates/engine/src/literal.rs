//! A tensor that is written in the model file, decoded and checked.

use std::borrow::Cow;

use bytes::Bytes;
use ingle_types::{Code, DType, Limits, Shape, Tensor, TensorError};

use crate::describe::element_name;
use crate::external::{ExternalData, ExternalDataError, NoExternalData, is_inside};
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::{self, TensorProto};

/// How a tensor in a model file, or in a file of its own, can lie.
#[derive(Debug, thiserror::Error)]
pub enum LiteralError {
    #[error("the file is not a serialized tensor")]
    Decode(#[source] prost::DecodeError),
    #[error("the file holds protobuf groups, which no tensor does")]
    Group,
    #[error("the tensor's fields take more than the limit of {limit} bytes")]
    Parts { limit: usize },
    #[error("it does not say its element type")]
    NoElement,
    #[error("dimension {value} is negative")]
    NegativeDim { value: i64 },
    #[error("ONNX element type {} is not supported", element_name(*.element))]
    Element { element: i32 },
    #[error("shape {dims:?} needs {expected} elements but {given} are given")]
    Count { dims: Vec<usize>, expected: usize, given: usize },
    #[error("it takes {bytes} bytes, above the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error("external data: the key \"{key}\" is {problem}")]
    ExternalKey { key: &'static str, problem: &'static str },
    #[error("external data \"{location}\" is not a plain path inside the bundle")]
    ExternalPath { location: String },
    #[error(
        "external data \"{location}\": bytes {offset}+{length} are outside of its {size} bytes"
    )]
    ExternalRange { location: String, offset: usize, length: usize, size: usize },
    #[error("external data \"{location}\": {reason}")]
    External { location: String, reason: ExternalDataError },
}

impl LiteralError {
    pub fn code(&self) -> Code {
        match self {
            Self::Element { .. } => Code::Unimplemented,
            Self::TooLarge { .. } | Self::Parts { .. } => Code::ResourceExhausted,
            Self::External { reason, .. } => reason.code(),
            _ => Code::InvalidArgument,
        }
    }
}

/// The dtype of an ONNX element type; `None` where it is not supported.
pub(crate) fn dtype_of(element: i32) -> Option<DType> {
    Some(match DataType::try_from(element).ok()? {
        DataType::Float => DType::F32,
        DataType::Uint8 => DType::U8,
        DataType::Int8 => DType::I8,
        DataType::Uint16 => DType::U16,
        DataType::Int16 => DType::I16,
        DataType::Int32 => DType::I32,
        DataType::Int64 => DType::I64,
        DataType::Bool => DType::Bool,
        DataType::Float16 => DType::F16,
        DataType::Double => DType::F64,
        DataType::Uint32 => DType::U32,
        DataType::Uint64 => DType::U64,
        DataType::Bfloat16 => DType::BF16,
        DataType::String => DType::Bytes,
        _ => return None,
    })
}

/// Reads a tensor that is a file of its own: a serialized TensorProto, as ONNX's
/// tests keep their inputs and outputs.
///
/// # Errors
/// Where the file is no tensor, is not as its shape says, or keeps its elements
/// elsewhere; UNIMPLEMENTED for an element type that this engine does not have.
pub fn read_tensor(file: &Bytes, limits: &Limits) -> Result<Tensor, LiteralError> {
    let proto = proto::decode_tensor(file, limits.tensor_bytes)?;
    if proto.data_type == i32::from(DataType::Undefined) {
        return Err(LiteralError::NoElement);
    }
    let literals = Literals { external: &NoExternalData, tensor_bytes: limits.tensor_bytes };
    literals.decode(&proto)
}

/// What may be read while literals are decoded, and how large each may be.
#[derive(Clone, Copy)]
pub(crate) struct Literals<'a> {
    pub(crate) external: &'a dyn ExternalData,
    pub(crate) tensor_bytes: usize,
}

impl Literals<'_> {
    pub(crate) fn decode(&self, proto: &TensorProto) -> Result<Tensor, LiteralError> {
        let element = proto.data_type;
        let dtype = dtype_of(element).ok_or(LiteralError::Element { element })?;
        let shape = shape_of(&proto.dims)?;
        let Some(size) = dtype.size_bytes() else { return self.strings(proto, shape) };
        let bytes = shape.elements().saturating_mul(size);
        if bytes > self.tensor_bytes {
            return Err(LiteralError::TooLarge { bytes, limit: self.tensor_bytes });
        }
        let data = if proto.data_location() == DataLocation::External {
            self.read_external(proto, bytes)?
        } else if !proto.raw_data.is_empty() {
            proto.raw_data.clone()
        } else {
            typed_fields(proto, dtype, &shape)?
        };
        Ok(Tensor::dense(dtype, shape, data)?)
    }

    fn strings(&self, proto: &TensorProto, shape: Shape) -> Result<Tensor, LiteralError> {
        let bytes = proto.string_data.iter().map(Bytes::len).fold(0, usize::saturating_add);
        if bytes > self.tensor_bytes {
            return Err(LiteralError::TooLarge { bytes, limit: self.tensor_bytes });
        }
        Ok(Tensor::blobs(shape, proto.string_data.clone())?)
    }

    fn read_external(&self, proto: &TensorProto, bytes: usize) -> Result<Bytes, LiteralError> {
        let entry =
            |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &'static str, default: usize| match entry(key) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| LiteralError::ExternalKey { key, problem: "not a number" })
            }
        };
        let location = entry("location")
            .ok_or(LiteralError::ExternalKey { key: "location", problem: "missing" })?;
        if !is_inside(location) {
            return Err(LiteralError::ExternalPath { location: location.to_owned() });
        }
        let (offset, length) = (number("offset", 0)?, number("length", bytes)?);
        let file = self
            .external
            .read(location)
            .map_err(|reason| LiteralError::External { location: location.to_owned(), reason })?;
        let size = file.len();
        match offset.checked_add(length) {
            Some(end) if end <= size => Ok(file.slice(offset..end)),
            _ => Err(LiteralError::ExternalRange {
                location: location.to_owned(),
                offset,
                length,
                size,
            }),
        }
    }
}

fn shape_of(dims: &[i64]) -> Result<Shape, LiteralError> {
    let dims: Vec<usize> = dims
        .iter()
        .map(|&value| usize::try_from(value).map_err(|_| LiteralError::NegativeDim { value }))
        .collect::<Result<_, _>>()?;
    Ok(Shape::new(dims)?)
}

/// The typed fields, in the widths that ONNX assigns to each element type.
fn typed_fields(proto: &TensorProto, dtype: DType, shape: &Shape) -> Result<Bytes, LiteralError> {
    let ints = &proto.int32_data;
    let bytes: Cow<'_, [u8]> = match dtype {
        DType::F32 => bytemuck::cast_slice(&proto.float_data).into(),
        DType::F64 => bytemuck::cast_slice(&proto.double_data).into(),
        DType::I64 => bytemuck::cast_slice(&proto.int64_data).into(),
        DType::I32 => bytemuck::cast_slice(ints).into(),
        DType::U64 => bytemuck::cast_slice(&proto.uint64_data).into(),
        DType::U32 => proto.uint64_data.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => {
            ints.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect()
        }
        DType::I8 | DType::U8 | DType::Bool => ints.iter().map(|&v| v as u8).collect(),
        DType::Bytes => return Err(LiteralError::Element { element: proto.data_type }),
    };
    let given = bytes.len() / dtype.size_bytes().unwrap_or(1);
    if given != shape.elements() {
        return Err(LiteralError::Count {
            dims: shape.dims().to_vec(),
            expected: shape.elements(),
            given,
        });
    }
    Ok(Bytes::copy_from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::StringStringEntryProto;

    const LITERALS: Literals<'static> = Literals { external: &NoExternalData, tensor_bytes: 1024 };

    fn proto(data_type: DataType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: data_type.into(), dims: dims.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn raw_and_typed_fields_say_the_same() {
        let mut raw = proto(DataType::Int64, &[2]);
        raw.raw_data =
            Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        let mut typed = proto(DataType::Int64, &[2]);
        typed.int64_data = vec![1, -1];
        assert_eq!(LITERALS.decode(&raw).unwrap(), LITERALS.decode(&typed).unwrap());
        let mut small = proto(DataType::Uint8, &[3]);
        small.int32_data = vec![1, 2, 255];
        assert_eq!(LITERALS.decode(&small).unwrap().bytes().unwrap().as_ref(), [1, 2, 255]);
    }

    #[test]
    fn dims_that_lie_are_refused() {
        for dims in [&[3][..], &[-1], &[i64::MAX, i64::MAX], &[1 << 40]] {
            let mut lie = proto(DataType::Float, dims);
            lie.float_data = vec![1., 2.];
            assert!(LITERALS.decode(&lie).is_err(), "{dims:?}");
        }
        assert!(matches!(
            LITERALS.decode(&proto(DataType::Complex64, &[0])),
            Err(LiteralError::Element { element: 14 })
        ));
    }

    #[test]
    fn there_is_one_string_for_each_element() {
        let mut strings = proto(DataType::String, &[2]);
        strings.string_data = vec![Bytes::from_static(b"a"), Bytes::new()];
        let tensor = LITERALS.decode(&strings).unwrap();
        assert_eq!(tensor.strings().unwrap(), strings.string_data);
        strings.string_data = vec![Bytes::from(vec![0; 2000]), Bytes::new()];
        assert!(matches!(LITERALS.decode(&strings), Err(LiteralError::TooLarge { .. })));
        strings.string_data.pop();
        assert!(LITERALS.decode(&strings).is_err());
    }

    #[test]
    fn a_file_of_its_own_is_a_tensor_or_says_why_not() {
        let limits = Limits { tensor_bytes: 100_000, ..Limits::default() };
        let read = |bytes: Vec<u8>| read_tensor(&bytes.into(), &limits);
        let mut whole = proto(DataType::Int64, &[2]);
        whole.int64_data = vec![1, -1];
        let tensor = read(whole.encode_to_vec()).unwrap();
        assert_eq!(tensor.as_slice::<i64>().unwrap().as_ref(), [1, -1]);
        assert!(matches!(read(Vec::new()), Err(LiteralError::NoElement)));
        assert!(matches!(read(b"garbage".to_vec()), Err(LiteralError::Decode(_))));
        assert!(matches!(read(vec![0x0b, 0x0c]), Err(LiteralError::Group)));
        let blobs = [0x32, 0x00].repeat(10_000);
        assert!(matches!(read(blobs), Err(LiteralError::Parts { .. })));
        let small = read(proto(DataType::Float8e4m3fn, &[0]).encode_to_vec()).unwrap_err();
        assert_eq!(small.code(), Code::Unimplemented);
        let mut elsewhere = proto(DataType::Float, &[1]);
        elsewhere.data_location = DataLocation::External.into();
        let location = StringStringEntryProto { key: "location".into(), value: "x".into() };
        elsewhere.external_data = vec![location];
        assert!(matches!(read(elsewhere.encode_to_vec()), Err(LiteralError::External { .. })));
    }

    struct File;
    impl ExternalData for File {
        fn read(&self, location: &str) -> Result<Bytes, ExternalDataError> {
            match location {
                "w.bin" => Ok(Bytes::from_static(&[9, 0, 0, 0, 7, 0, 0, 0])),
                _ => Err(ExternalDataError::NotFound),
            }
        }
    }

    fn external(entries: &[(&str, &str)]) -> Result<Tensor, LiteralError> {
        let mut proto = proto(DataType::Int32, &[1]);
        proto.data_location = DataLocation::External.into();
        proto.external_data = entries
            .iter()
            .map(|&(key, value)| StringStringEntryProto { key: key.into(), value: value.into() })
            .collect();
        Literals { external: &File, tensor_bytes: 1024 }.decode(&proto)
    }

    #[test]
    fn external_data_is_cut_out_of_its_file() {
        let t = external(&[("location", "w.bin"), ("offset", "4"), ("length", "4")]).unwrap();
        assert_eq!(t.as_slice::<i32>().unwrap().as_ref(), [7]);
        assert_eq!(external(&[("location", "w.bin")]).unwrap().as_slice::<i32>().unwrap()[0], 9);
    }

    #[test]
    fn external_data_stays_inside_its_bounds() {
        let error = |entries: &[(&str, &str)]| external(entries).unwrap_err();
        assert!(matches!(error(&[]), LiteralError::ExternalKey { .. }));
        assert!(matches!(error(&[("location", "../w")]), LiteralError::ExternalPath { .. }));
        assert!(matches!(error(&[("location", "/w")]), LiteralError::ExternalPath { .. }));
        assert!(matches!(error(&[("location", "x")]), LiteralError::External { .. }));
        for (offset, length) in [("8", "4"), ("18446744073709551615", "4"), ("0", "9")] {
            let entries = [("location", "w.bin"), ("offset", offset), ("length", length)];
            assert!(matches!(error(&entries), LiteralError::ExternalRange { .. }));
        }
        assert!(matches!(
            error(&[("location", "w.bin"), ("length", "8")]),
            LiteralError::Tensor(TensorError::Length { .. })
        ));
    }
}
