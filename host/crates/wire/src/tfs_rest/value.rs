//! One JSON value as one element of a tensor.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use half::{bf16, f16};
use ingle_types::{Code, DType, Shape, Tensor, TensorError};

use crate::budget::{Budget, TooLarge};
use crate::json::{Cursor, Number, Token, unescape};

/// How much of a value a message quotes.
pub(super) const QUOTE_BYTES: usize = 256;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a JSON value is not the tensor that the signature asks for, in TensorFlow
/// Serving's words.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("JSON Value: {value} Type: {kind} is not of expected type: {dtype}")]
    Type { value: String, kind: &'static str, dtype: DType },
    #[error("JSON Value: {value} not formatted correctly for base64 data")]
    NotBase64 { value: String },
    #[error("Unable to base64 decode")]
    Base64,
    #[error(
        "JSON Value: {value} found at incorrect level: {level} in the JSON DOM. Expected at level: {expected}"
    )]
    Level { value: String, level: usize, expected: usize },
    #[error("Encountered list at unexpected level: {level} expected < {rank}")]
    Rank { level: usize, rank: usize },
    #[error(
        "Encountered list at unexpected size: {size} at level: {level} expected size: {expected}"
    )]
    Size { size: usize, level: usize, expected: usize },
    #[error("Encountered list nested deeper than the limit of {limit}")]
    Depth { limit: usize },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl ValueError {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::TooLarge(_) => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        }
    }
}

/// The elements of a tensor, as they are read.
#[derive(Debug)]
pub(super) struct Elements {
    dtype: DType,
    dense: Vec<u8>,
    blobs: Vec<Bytes>,
    count: usize,
}

impl Elements {
    pub(super) fn new(dtype: DType) -> Self {
        Self { dtype, dense: Vec::new(), blobs: Vec::new(), count: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn into_tensor(self, dims: Vec<usize>) -> Result<Tensor, TensorError> {
        let shape = Shape::new(dims)?;
        match self.dtype {
            DType::Bytes => Tensor::blobs(shape, self.blobs),
            _ => Tensor::dense(self.dtype, shape, self.dense),
        }
    }

    /// Takes `token`, the value at `here`, which is no list; `cursor` is behind it, or
    /// behind its bracket.
    pub(super) fn read<'a>(
        &mut self,
        token: Token<'a>,
        here: Cursor<'a>,
        cursor: &mut Cursor<'a>,
        budget: &mut Budget,
    ) -> Result<(), ValueError> {
        let dtype = self.dtype;
        let wrong = || ValueError::Type { value: quote(here), kind: token.type_name(), dtype };
        match (dtype, token) {
            (DType::Bytes, Token::ObjectOpen) => {
                let (text, behind) =
                    here.base64().ok_or_else(|| ValueError::NotBase64 { value: quote(here) })?;
                *cursor = behind;
                self.push_blob(decode_base64(text)?, budget)?;
            }
            (_, Token::ObjectOpen) => return Err(wrong()),
            (DType::F32, Token::Number(number)) => {
                // Beyond a float is infinite, or zero.
                #[expect(clippy::cast_possible_truncation, reason = "the nearest float is meant")]
                let value = number.double() as f32;
                self.push(value.to_le_bytes(), budget)?;
            }
            (DType::F64, Token::Number(number)) => {
                self.push(number.double().to_le_bytes(), budget)?;
            }
            (DType::F16, Token::Number(number)) => {
                self.push(f16::from_f64(number.double()).to_le_bytes(), budget)?;
            }
            (DType::BF16, Token::Number(number)) => {
                self.push(bf16::from_f64(number.double()).to_le_bytes(), budget)?;
            }
            (DType::I32, Token::Number(number)) => {
                let value: i32 = integer(number).ok_or_else(wrong)?;
                self.push(value.to_le_bytes(), budget)?;
            }
            (DType::I16, Token::Number(number)) => {
                let [low, high, ..] = narrow(number).ok_or_else(wrong)?;
                self.push([low, high], budget)?;
            }
            (DType::I8 | DType::U8, Token::Number(number)) => {
                let [low, ..] = narrow(number).ok_or_else(wrong)?;
                self.push([low], budget)?;
            }
            (DType::I64, Token::Number(number)) => {
                let value: i64 = integer(number).ok_or_else(wrong)?;
                self.push(value.to_le_bytes(), budget)?;
            }
            (DType::U16, Token::Number(number)) => {
                let value: u16 = integer(number).ok_or_else(wrong)?;
                self.push(value.to_le_bytes(), budget)?;
            }
            (DType::U32, Token::Number(number)) => {
                let value: u32 = integer(number).ok_or_else(wrong)?;
                self.push(value.to_le_bytes(), budget)?;
            }
            (DType::U64, Token::Number(number)) => {
                let value: u64 = integer(number).ok_or_else(wrong)?;
                self.push(value.to_le_bytes(), budget)?;
            }
            (DType::Bool, Token::Bool(value)) => self.push([u8::from(value)], budget)?,
            (DType::Bytes, Token::String(raw)) => {
                self.push_blob(unescape(raw).into_owned(), budget)?;
            }
            _ => return Err(wrong()),
        }
        self.count += 1;
        Ok(())
    }

    fn push<const N: usize>(
        &mut self,
        element: [u8; N],
        budget: &mut Budget,
    ) -> Result<(), TooLarge> {
        budget.take(N)?;
        self.dense.extend_from_slice(&element);
        Ok(())
    }

    fn push_blob(&mut self, blob: Vec<u8>, budget: &mut Budget) -> Result<(), TooLarge> {
        budget.take(size_of::<Bytes>() + blob.len())?;
        self.blobs.push(blob.into());
        Ok(())
    }
}

fn quote(cursor: Cursor<'_>) -> String {
    cursor.quote(QUOTE_BYTES)
}

fn integer<T: TryFrom<i128>>(number: Number<'_>) -> Option<T> {
    T::try_from(number.integer()?).ok()
}

/// Narrow types take what an int32 holds and keep its low bytes.
fn narrow(number: Number<'_>) -> Option<[u8; 4]> {
    integer(number).map(i32::to_le_bytes)
}

pub(super) fn decode_base64(raw: &[u8]) -> Result<Vec<u8>, ValueError> {
    let text = unescape(raw);
    let spaced = text.iter().any(u8::is_ascii_whitespace);
    let decoded = if spaced {
        let dense: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        BASE64.decode(dense)
    } else {
        BASE64.decode(text)
    };
    decoded.map_err(|_| ValueError::Base64)
}
