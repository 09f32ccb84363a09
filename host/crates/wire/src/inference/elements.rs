//! Elements of outputs as answers hold them.

use half::{bf16, f16};
use ingle_types::{DType, Tensor};

pub(super) const fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
}

/// What a class can be named by.
pub(super) const fn is_label(dtype: DType) -> bool {
    !is_float(dtype) && !matches!(dtype, DType::Bool)
}

/// The elements of a tensor of floats, to the nearest float; `None` for other tensors.
pub(super) fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    #[expect(clippy::cast_possible_truncation, reason = "the nearest float is meant")]
    let narrow = |bytes| f64::from_le_bytes(bytes) as f32;
    let bytes = tensor.bytes()?;
    Some(match tensor.dtype() {
        DType::F32 => map(bytes, f32::from_le_bytes),
        DType::F64 => map(bytes, narrow),
        DType::F16 => map(bytes, |b| f16::from_le_bytes(b).to_f32()),
        DType::BF16 => map(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        _ => return None,
    })
}

/// Strings, with what is not UTF-8 replaced, or integers in decimal; `None` for other
/// tensors.
pub(super) fn labels(tensor: &Tensor) -> Option<Vec<String>> {
    if let Some(blobs) = tensor.strings() {
        return Some(blobs.iter().map(|b| String::from_utf8_lossy(b).into_owned()).collect());
    }
    let bytes = tensor.bytes()?;
    Some(match tensor.dtype() {
        DType::I64 => map(bytes, |b| i64::from_le_bytes(b).to_string()),
        DType::I32 => map(bytes, |b| i32::from_le_bytes(b).to_string()),
        DType::I16 => map(bytes, |b| i16::from_le_bytes(b).to_string()),
        DType::I8 => map(bytes, |b| i8::from_le_bytes(b).to_string()),
        DType::U64 => map(bytes, |b| u64::from_le_bytes(b).to_string()),
        DType::U32 => map(bytes, |b| u32::from_le_bytes(b).to_string()),
        DType::U16 => map(bytes, |b| u16::from_le_bytes(b).to_string()),
        DType::U8 => map(bytes, |b| u8::from_le_bytes(b).to_string()),
        _ => return None,
    })
}

fn map<const N: usize, T>(bytes: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&chunk| element(chunk)).collect()
}
