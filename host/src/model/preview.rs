//! A tensor's elements as text.

use half::{bf16, f16};
use ingle_types::{DType, Element, Tensor};
use serde_json::Value;

/// One element; empty where there is none. Text is quoted.
pub(super) fn element(tensor: &Tensor, index: usize) -> String {
    if let Some(strings) = tensor.strings() {
        let text = strings.get(index).map(|bytes| String::from_utf8_lossy(bytes));
        return text.map(|text| format!("{text:?}")).unwrap_or_default();
    }
    match tensor.dtype() {
        DType::Bool => match number::<u8>(tensor, index) {
            Some(0) => "false".into(),
            Some(_) => "true".into(),
            None => String::new(),
        },
        DType::U8 => text::<u8>(tensor, index),
        DType::U16 => text::<u16>(tensor, index),
        DType::U32 => text::<u32>(tensor, index),
        DType::U64 => text::<u64>(tensor, index),
        DType::I8 => text::<i8>(tensor, index),
        DType::I16 => text::<i16>(tensor, index),
        DType::I32 => text::<i32>(tensor, index),
        DType::I64 => text::<i64>(tensor, index),
        DType::F16 => float::<f16>(tensor, index),
        DType::BF16 => float::<bf16>(tensor, index),
        DType::F32 => float::<f32>(tensor, index),
        DType::F64 => float::<f64>(tensor, index),
        DType::Bytes => String::new(),
    }
}

fn text<T: Element + ToString>(tensor: &Tensor, index: usize) -> String {
    number::<T>(tensor, index).map(|value| value.to_string()).unwrap_or_default()
}

/// As short as tells it from others of its type, with an exponent where it is far from 1.
fn float<T: Element + std::fmt::Debug>(tensor: &Tensor, index: usize) -> String {
    number::<T>(tensor, index).map(|value| format!("{value:?}")).unwrap_or_default()
}

/// Reads the bytes, whatever the tensor's type says: bools are bytes too.
fn number<T: Element>(tensor: &Tensor, index: usize) -> Option<T> {
    let size = size_of::<T>();
    let start = index.checked_mul(size)?;
    let bytes = tensor.bytes()?.get(start..start.checked_add(size)?)?;
    bytemuck::try_pod_read_unaligned(bytes).ok()
}

/// One element for scripts. JSON has no NaN and no infinities: they are strings.
pub(super) fn json(tensor: &Tensor, index: usize) -> Value {
    let text = element(tensor, index);
    match tensor.dtype() {
        DType::Bytes => {
            let text = tensor.strings().and_then(|strings| strings.get(index));
            text.map(|bytes| String::from_utf8_lossy(bytes).into()).unwrap_or_default()
        }
        _ => serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// The first elements, in a line.
pub(super) fn head(tensor: &Tensor, most: usize) -> String {
    let elements = tensor.shape().elements();
    let shown: Vec<_> = (0..elements.min(most)).map(|index| element(tensor, index)).collect();
    let rest = if elements > most { ", …" } else { "" };
    format!("{}{rest}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use ingle_types::Shape;

    use super::*;

    #[test]
    fn elements_are_written_as_what_they_are() {
        let floats = Tensor::from_slice(&[3], &[1.5f32, f32::NAN, -0.25]).unwrap();
        assert_eq!(head(&floats, 3), "1.5, NaN, -0.25");
        assert_eq!(head(&floats, 2), "1.5, NaN, …");
        let tiny = Tensor::from_slice(&[2], &[3e-20f32, 2.0]).unwrap();
        assert_eq!(head(&tiny, 2), "3e-20, 2.0");
        assert_eq!((json(&floats, 0), json(&floats, 1)), (1.5.into(), "NaN".into()));
        assert_eq!(element(&floats, 3), "");
        let bools = Tensor::dense(DType::Bool, Shape::new([2]).unwrap(), vec![0, 1]).unwrap();
        assert_eq!((element(&bools, 0), element(&bools, 1)), ("false".into(), "true".into()));
        let half = Tensor::from_slice(&[1], &[f16::from_f32(0.5)]).unwrap();
        assert_eq!(element(&half, 0), "0.5");
        let text = Tensor::blobs(Shape::new([1]).unwrap(), vec!["a\n".into()]).unwrap();
        assert_eq!(element(&text, 0), "\"a\\n\"");
    }
}
