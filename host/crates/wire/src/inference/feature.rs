use std::fmt;

use bytes::Bytes;
use ingle_types::DType;

use crate::protobuf::{Fields, Value, WireError, one_of, varint};

/// What the values of a feature are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bytes,
    Float,
    Int64,
}

impl Kind {
    /// The kind that an input takes.
    pub(super) const fn of(dtype: DType) -> Self {
        match dtype {
            DType::Bytes => Self::Bytes,
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Self::Float,
            DType::Bool
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64 => Self::Int64,
        }
    }
}

/// As TensorFlow names the type of such values.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "string",
            Self::Float => "float",
            Self::Int64 => "int64",
        })
    }
}

/// A `tensorflow.Feature`, still bytes.
#[derive(Clone, Debug)]
pub(super) struct Feature {
    pub(super) kind: Kind,
    /// A message with the values in field 1, packed or not.
    list: Bytes,
}

impl Feature {
    /// `None` where no kind is set, which is as if the feature were not there.
    pub(super) fn read(message: Bytes) -> Result<Option<Self>, WireError> {
        let Some((number, list)) = one_of(message, &(1..=3))? else { return Ok(None) };
        let kind = match number {
            1 => Kind::Bytes,
            2 => Kind::Float,
            _ => Kind::Int64,
        };
        Ok(Some(Self { kind, list }))
    }

    /// As it came.
    pub(super) fn size_bytes(&self) -> usize {
        self.list.len()
    }

    fn fields(&self) -> impl Iterator<Item = Result<Value, WireError>> {
        let fields = Fields::new(self.list.clone());
        fields.filter_map(|field| match field {
            Ok((1, value)) => Some(Ok(value)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }

    /// How many values there are, before any of them is kept.
    pub(super) fn count(&self) -> Result<usize, WireError> {
        let mut count = 0;
        for value in self.fields() {
            count += match (self.kind, value?) {
                (Kind::Bytes, Value::Bytes(_))
                | (Kind::Float, Value::Fixed32(_))
                | (Kind::Int64, Value::Varint(_)) => 1,
                (Kind::Float, Value::Bytes(packed)) => packed.len() / 4,
                (Kind::Int64, Value::Bytes(packed)) => packed.iter().filter(|b| **b < 0x80).count(),
                _ => 0,
            };
        }
        Ok(count)
    }

    /// The values of a list of bytes.
    pub(super) fn each_blob(&self, mut take: impl FnMut(Bytes)) -> Result<(), WireError> {
        for value in self.fields() {
            if let Value::Bytes(blob) = value? {
                take(blob);
            }
        }
        Ok(())
    }

    /// The values of a list of floats, in pieces of little-endian bytes.
    pub(super) fn each_floats(&self, mut take: impl FnMut(&[u8])) -> Result<(), WireError> {
        for value in self.fields() {
            match value? {
                Value::Bytes(packed) if packed.len() % 4 != 0 => return Err(WireError::Truncated),
                Value::Bytes(floats) | Value::Fixed32(floats) => take(&floats),
                Value::Varint(_) | Value::Fixed64(_) | Value::Group => {}
            }
        }
        Ok(())
    }

    /// The values of a list of integers.
    pub(super) fn each_int64<E: From<WireError>>(
        &self,
        mut take: impl FnMut(i64) -> Result<(), E>,
    ) -> Result<(), E> {
        for value in self.fields() {
            match value? {
                Value::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        take(varint(&mut packed)?.cast_signed())?;
                    }
                }
                Value::Varint(value) => take(value.cast_signed())?,
                Value::Fixed32(_) | Value::Fixed64(_) | Value::Group => {}
            }
        }
        Ok(())
    }
}
