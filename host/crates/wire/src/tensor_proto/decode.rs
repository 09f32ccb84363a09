use bytes::Bytes;
use ingle_types::{Code, DType, Shape, Tensor, TensorError};

use crate::budget::{Budget, TooLarge};
use crate::proto::tensorflow::DataType;
use crate::protobuf::{Fields, Value, WireError, take, varint};

/// A tensor that cannot be used, by the name that the client gave it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("tensor parsing error: {name}: {fault}")]
pub struct TensorProtoError {
    pub name: String,
    pub fault: Fault,
}

/// The ways in which a message can fail to be a tensor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("dtype is not set")]
    NoDType,
    #[error("dtype {name} is not supported")]
    DType { name: String },
    #[error("dimension {index} is {size}")]
    Dimension { index: usize, size: i64 },
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error("tensor_content does not hold {elements} strings")]
    Strings { elements: usize },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl TensorProtoError {
    pub fn code(&self) -> Code {
        match self.fault {
            Fault::TooLarge(_) => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        }
    }
}

/// Decodes a serialized `TensorProto`.
pub(crate) fn decode_message(
    name: &str,
    message: Bytes,
    budget: &mut Budget,
) -> Result<Tensor, TensorProtoError> {
    decode(message, budget).map_err(|fault| TensorProtoError { name: name.to_owned(), fault })
}

fn decode(message: Bytes, budget: &mut Budget) -> Result<Tensor, Fault> {
    let head = Head::read(Fields::new(message.clone()))?;
    let dtype = dtype(head.dtype)?;
    let shape = head.shape.build()?;
    let elements = shape.elements();
    let tensor = match dtype.size_bytes() {
        None if elements == 0 => Tensor::blobs(shape, Vec::new()),
        Some(_) if elements == 0 => Tensor::dense(dtype, shape, Bytes::new()),
        None if !head.content.is_empty() => {
            let blobs = strings_in_content(head.content, elements, budget)?;
            Tensor::blobs(shape, blobs)
        }
        None => {
            let blobs = strings(Fields::new(message), elements, budget)?;
            Tensor::blobs(shape, blobs)
        }
        Some(_) if !head.content.is_empty() => Tensor::dense(dtype, shape, head.content),
        Some(size) => {
            let bytes = elements.saturating_mul(size);
            budget.take(bytes)?;
            Tensor::dense(dtype, shape, numbers(Fields::new(message), dtype, size, bytes)?)
        }
    };
    Ok(tensor?)
}

/// What is not elements.
#[derive(Default)]
struct Head {
    dtype: u64,
    shape: Dims,
    content: Bytes,
}

impl Head {
    fn read(fields: Fields) -> Result<Self, WireError> {
        let mut head = Self::default();
        for field in fields {
            match field? {
                (1, Value::Varint(dtype)) => head.dtype = dtype,
                (2, Value::Bytes(shape)) => head.shape.read(shape)?,
                (4, Value::Bytes(content)) => head.content = content,
                _ => {}
            }
        }
        Ok(head)
    }
}

#[derive(Default)]
struct Dims {
    sizes: Vec<i64>,
    /// Taken for a scalar, whatever the sizes.
    unknown_rank: bool,
}

impl Dims {
    fn read(&mut self, message: Bytes) -> Result<(), WireError> {
        for field in Fields::new(message) {
            match field? {
                (2, Value::Bytes(dim)) => {
                    let size = dimension(dim)?;
                    // One too many is enough to be refused.
                    if self.sizes.len() <= Shape::MAX_RANK {
                        self.sizes.push(size);
                    }
                }
                (3, Value::Varint(unknown)) => self.unknown_rank = unknown != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn build(self) -> Result<Shape, Fault> {
        if self.unknown_rank {
            return Ok(Shape::scalar());
        }
        let dims: Result<Vec<_>, _> = self
            .sizes
            .into_iter()
            .enumerate()
            .map(|(index, size)| {
                usize::try_from(size).map_err(|_| Fault::Dimension { index, size })
            })
            .collect();
        Ok(Shape::new(dims?)?)
    }
}

fn dimension(message: Bytes) -> Result<i64, WireError> {
    let mut size = 0;
    for field in Fields::new(message) {
        if let (1, Value::Varint(value)) = field? {
            size = value.cast_signed();
        }
    }
    Ok(size)
}

fn dtype(number: u64) -> Result<DType, Fault> {
    let known = i32::try_from(number).ok().and_then(|n| DataType::try_from(n).ok());
    Ok(match known {
        Some(DataType::DtInvalid) => return Err(Fault::NoDType),
        Some(DataType::DtFloat) => DType::F32,
        Some(DataType::DtDouble) => DType::F64,
        Some(DataType::DtInt32) => DType::I32,
        Some(DataType::DtUint8) => DType::U8,
        Some(DataType::DtInt16) => DType::I16,
        Some(DataType::DtInt8) => DType::I8,
        Some(DataType::DtString) => DType::Bytes,
        Some(DataType::DtInt64) => DType::I64,
        Some(DataType::DtBool) => DType::Bool,
        Some(DataType::DtBfloat16) => DType::BF16,
        Some(DataType::DtUint16) => DType::U16,
        Some(DataType::DtHalf) => DType::F16,
        Some(DataType::DtUint32) => DType::U32,
        Some(DataType::DtUint64) => DType::U64,
        Some(other) => {
            let name = other.as_str_name().trim_start_matches("DT_").to_ascii_lowercase();
            return Err(Fault::DType { name });
        }
        None => return Err(Fault::DType { name: number.to_string() }),
    })
}

/// The field that holds a type's elements.
const fn field(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 5,
        DType::F64 => 6,
        DType::I32 | DType::I16 | DType::I8 | DType::U16 | DType::U8 => 7,
        DType::Bytes => 8,
        DType::I64 => 10,
        DType::Bool => 11,
        DType::F16 | DType::BF16 => 13,
        DType::U32 => 16,
        DType::U64 => 17,
    }
}

/// The elements of a typed field as `need` bytes: of too many the first, of too few
/// the last repeats, of none zeros.
fn numbers(fields: Fields, dtype: DType, size: usize, need: usize) -> Result<Bytes, WireError> {
    let mut elements: Vec<u8> = Vec::new();
    for item in fields {
        let (number, value) = item?;
        if number != field(dtype) || elements.len() >= need {
            continue;
        }
        match value {
            Value::Bytes(mut packed) if is_fixed(dtype) => {
                if packed.len() % size != 0 {
                    return Err(WireError::Truncated);
                }
                packed.truncate(need - elements.len());
                if packed.len() == need {
                    return Ok(packed);
                }
                elements.extend_from_slice(&packed);
            }
            Value::Bytes(mut packed) => {
                while !packed.is_empty() && elements.len() < need {
                    push(&mut elements, dtype, size, varint(&mut packed)?);
                }
            }
            Value::Varint(value) if !is_fixed(dtype) => push(&mut elements, dtype, size, value),
            Value::Fixed32(bits) if dtype == DType::F32 => elements.extend_from_slice(&bits),
            Value::Fixed64(bits) if dtype == DType::F64 => elements.extend_from_slice(&bits),
            _ => {}
        }
    }
    repeat_last(&mut elements, size, need);
    Ok(elements.into())
}

const fn is_fixed(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64)
}

/// Narrow types wrap: their low bytes are the element.
fn push(elements: &mut Vec<u8>, dtype: DType, size: usize, value: u64) {
    let value = if dtype == DType::Bool { u64::from(value != 0) } else { value };
    elements.extend(value.to_le_bytes().iter().take(size));
}

fn repeat_last(elements: &mut Vec<u8>, size: usize, need: usize) {
    let Some(last) = elements.len().checked_sub(size) else {
        elements.resize(need, 0);
        return;
    };
    elements.reserve_exact(need.saturating_sub(elements.len()));
    while elements.len() < need {
        let run = (elements.len() - last).min(need - elements.len());
        elements.extend_from_within(last..last + run);
    }
}

fn strings(fields: Fields, elements: usize, budget: &mut Budget) -> Result<Vec<Bytes>, Fault> {
    budget.take(elements.saturating_mul(size_of::<Bytes>()))?;
    let mut blobs = Vec::new();
    for item in fields {
        if let (8, Value::Bytes(blob)) = item?
            && blobs.len() < elements
        {
            budget.take(blob.len())?;
            blobs.push(blob);
        }
    }
    let last = blobs.last().cloned().unwrap_or_default();
    // The repeats share memory here, but not wherever they are copied to.
    budget.take((elements - blobs.len()).saturating_mul(last.len()))?;
    blobs.resize(elements, last);
    Ok(blobs)
}

/// All lengths, then all bytes.
fn strings_in_content(
    content: Bytes,
    elements: usize,
    budget: &mut Budget,
) -> Result<Vec<Bytes>, Fault> {
    let lie = || Fault::Strings { elements };
    if elements > content.len() {
        return Err(lie());
    }
    budget.take(elements.saturating_mul(size_of::<Bytes>()).saturating_add(content.len()))?;
    let (mut lengths, mut blobs) = (content.clone(), content);
    for _ in 0..elements {
        varint(&mut blobs).map_err(|_| lie())?;
    }
    let mut strings = Vec::with_capacity(elements);
    for _ in 0..elements {
        let length = varint(&mut lengths).map_err(|_| lie())?;
        let length = usize::try_from(length).map_err(|_| lie())?;
        strings.push(take(&mut blobs, length).map_err(|_| lie())?);
    }
    if blobs.is_empty() { Ok(strings) } else { Err(lie()) }
}
