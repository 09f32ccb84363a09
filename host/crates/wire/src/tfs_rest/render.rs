//! Tensors as the text of an answer.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::{bf16, f16};
use ingle_types::{Code, DType, ServeError, Stage, Tensor, TensorMap};

use super::decode::Form;
use super::float::{write_f32, write_f64};
use crate::json::write_string;

/// Why outputs cannot be written, in TensorFlow Serving's words and with its code.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RenderError {
    #[error("Cannot convert empty tensor map to JSON")]
    Empty,
    #[error("Tensor name: {name} has no shape information ")]
    Scalar { name: String },
    #[error("Tensor name: {name} has inconsistent batch size: {size} expecting: {expected}")]
    Batch { name: String, size: usize, expected: usize },
}

impl From<RenderError> for ServeError {
    fn from(error: RenderError) -> Self {
        Self::new(Code::InvalidArgument, Stage::Encode, error.to_string())
    }
}

pub(super) fn render(outputs: &TensorMap, form: Form) -> Result<Vec<u8>, RenderError> {
    if outputs.is_empty() {
        return Err(RenderError::Empty);
    }
    let mut values: Vec<_> =
        outputs.iter().map(|(name, tensor)| Values::new(name, tensor)).collect();
    let mut out = Vec::new();
    match form {
        Form::Column => {
            out.extend_from_slice(b"{\n    \"outputs\": ");
            write_entry(&mut out, &mut values, 0);
        }
        Form::Row => {
            let rows = batch_size(outputs)?;
            out.extend_from_slice(b"{\n    \"predictions\": [");
            for row in 0..rows {
                if row > 0 {
                    out.extend_from_slice(b", ");
                }
                write_entry(&mut out, &mut values, 1);
            }
            out.push(b']');
        }
    }
    out.extend_from_slice(b"\n}");
    Ok(out)
}

fn batch_size(outputs: &TensorMap) -> Result<usize, RenderError> {
    let mut batch = None;
    for (name, tensor) in outputs {
        let Some(&size) = tensor.dims().first() else {
            return Err(RenderError::Scalar { name: name.clone() });
        };
        let expected = *batch.get_or_insert(size);
        if size != expected {
            return Err(RenderError::Batch { name: name.clone(), size, expected });
        }
    }
    Ok(batch.unwrap_or(0))
}

/// The next value of each output: bare where there is one, else by name.
fn write_entry(out: &mut Vec<u8>, values: &mut [Values<'_>], dimension: usize) {
    if let [only] = values {
        only.write(out, dimension);
        return;
    }
    out.push(b'{');
    for (i, value) in values.iter_mut().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        write_string(out, value.name.as_bytes());
        out.extend_from_slice(b": ");
        value.write(out, dimension);
    }
    out.push(b'}');
}

/// A tensor's elements, from the next one on.
struct Values<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    next: usize,
}

impl<'a> Values<'a> {
    fn new(name: &'a str, tensor: &'a Tensor) -> Self {
        Self { name, tensor, next: 0 }
    }

    /// Lists nest as deep as the rank, which is bounded.
    fn write(&mut self, out: &mut Vec<u8>, dimension: usize) {
        let Some(&size) = self.tensor.dims().get(dimension) else {
            self.write_element(out);
            self.next += 1;
            return;
        };
        out.push(b'[');
        for i in 0..size {
            if i > 0 {
                out.extend_from_slice(b", ");
            }
            self.write(out, dimension + 1);
        }
        out.push(b']');
    }

    fn write_element(&self, out: &mut Vec<u8>) {
        match self.tensor.dtype() {
            DType::F32 => write_f32(out, f32::from_le_bytes(self.element())),
            DType::F64 => write_f64(out, f64::from_le_bytes(self.element())),
            // As the float of the same value, which has all the digits that it needs.
            DType::F16 => write_f32(out, f16::from_le_bytes(self.element()).to_f32()),
            DType::BF16 => write_f32(out, bf16::from_le_bytes(self.element()).to_f32()),
            DType::I32 => write_integer(out, i32::from_le_bytes(self.element()).into()),
            DType::I16 => write_integer(out, i16::from_le_bytes(self.element()).into()),
            DType::I8 => write_integer(out, i8::from_le_bytes(self.element()).into()),
            DType::U8 => write_integer(out, u8::from_le_bytes(self.element()).into()),
            DType::I64 => write_integer(out, i64::from_le_bytes(self.element()).into()),
            DType::U16 => write_integer(out, u16::from_le_bytes(self.element()).into()),
            DType::U32 => write_integer(out, u32::from_le_bytes(self.element()).into()),
            DType::U64 => write_integer(out, u64::from_le_bytes(self.element()).into()),
            DType::Bool => {
                let text: &[u8] = if self.element() == [0] { b"false" } else { b"true" };
                out.extend_from_slice(text);
            }
            DType::Bytes => self.write_bytes(out),
        }
    }

    fn element<const N: usize>(&self) -> [u8; N] {
        let bytes = self.tensor.bytes().map_or(&[][..], AsRef::as_ref);
        let (elements, _) = bytes.as_chunks::<N>();
        elements.get(self.next).copied().unwrap_or([0; N])
    }

    fn write_bytes(&self, out: &mut Vec<u8>) {
        let blob = self.tensor.strings().and_then(|blobs| blobs.get(self.next));
        let blob = blob.map_or(&[][..], AsRef::as_ref);
        if self.name.ends_with("_bytes") {
            out.extend_from_slice(b"{\"b64\": \"");
            out.extend_from_slice(STANDARD.encode(blob).as_bytes());
            out.extend_from_slice(b"\"}");
        } else {
            write_string(out, blob);
        }
    }
}

fn write_integer(out: &mut Vec<u8>, value: i128) {
    // Writing to a vector does not fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_types::Shape;

    fn map(outputs: impl IntoIterator<Item = (&'static str, Tensor)>) -> TensorMap {
        outputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    fn text(outputs: &TensorMap, form: Form) -> String {
        let text = String::from_utf8(render(outputs, form).unwrap()).unwrap();
        text.replace("\n    ", "").replace('\n', "")
    }

    fn strings(dims: &[usize], values: &[&'static [u8]]) -> Tensor {
        let blobs = values.iter().map(|v| bytes::Bytes::from_static(v)).collect();
        Tensor::blobs(Shape::new(dims).unwrap(), blobs).unwrap()
    }

    #[test]
    fn one_output_has_no_name() {
        let t = Tensor::from_slice(&[2, 3, 2], &(1..=12).collect::<Vec<i32>>()).unwrap();
        let lists = "[[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11, 12]]]";
        let outputs = map([("y", t)]);
        assert_eq!(text(&outputs, Form::Row), format!("{{\"predictions\": {lists}}}"));
        assert_eq!(text(&outputs, Form::Column), format!("{{\"outputs\": {lists}}}"));
    }

    #[test]
    fn several_outputs_are_objects() {
        let outputs = map([
            ("f", Tensor::from_slice(&[2], &[1f32, f32::NAN]).unwrap()),
            ("i", Tensor::from_slice(&[2, 1], &[i64::MIN, 7]).unwrap()),
            ("s", strings(&[2], &[b"a\"b", "é".as_bytes()])),
            ("s_bytes", strings(&[2], &[b"hello", b"\xff"])),
            ("u", Tensor::from_slice(&[2], &[u64::MAX, 0]).unwrap()),
        ]);
        assert_eq!(
            text(&outputs, Form::Row),
            "{\"predictions\": [\
             {\"f\": 1.0, \"i\": [-9223372036854775808], \"s\": \"a\\\"b\", \"s_bytes\": {\"b64\": \"aGVsbG8=\"}, \"u\": 18446744073709551615}, \
             {\"f\": NaN, \"i\": [7], \"s\": \"é\", \"s_bytes\": {\"b64\": \"/w==\"}, \"u\": 0}]}"
        );
        assert!(text(&outputs, Form::Column).starts_with("{\"outputs\": {\"f\": [1.0, NaN], "));
    }

    #[test]
    fn halves_are_written_as_floats() {
        let half = Tensor::from_slice(&[2], &[f16::from_f32(0.1), f16::INFINITY]).unwrap();
        let outputs = map([("y", half)]);
        assert_eq!(text(&outputs, Form::Row), "{\"predictions\": [0.0999755859, Infinity]}");
        let brain = Tensor::from_slice(&[2], &[bf16::from_f32(0.1), bf16::MIN]).unwrap();
        let outputs = map([("y", brain)]);
        let expected = "{\"outputs\": [0.100097656, -3.38953139e+38]}";
        assert_eq!(text(&outputs, Form::Column), expected);
    }

    #[test]
    fn bytes_that_are_not_utf8_pass_as_they_are() {
        let outputs = map([("s", strings(&[1], &[b"\xff\x01"]))]);
        let text = render(&outputs, Form::Row).unwrap();
        assert!(text.windows(9).any(|w| w == b"\"\xff\\u0001\""));
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let f32s =
            |dims: &[usize]| Tensor::from_slice(dims, &vec![1f32; dims.iter().product()]).unwrap();
        assert_eq!(render(&TensorMap::new(), Form::Row), Err(RenderError::Empty));
        let scalar = map([("y", f32s(&[]))]);
        assert_eq!(render(&scalar, Form::Row), Err(RenderError::Scalar { name: "y".into() }));
        assert_eq!(text(&scalar, Form::Column), "{\"outputs\": 1.0}");
        let uneven = map([("a", f32s(&[2])), ("b", f32s(&[1]))]);
        let error = render(&uneven, Form::Row).unwrap_err().to_string();
        assert_eq!(error, "Tensor name: b has inconsistent batch size: 1 expecting: 2");
    }

    #[test]
    fn empty_tensors_are_empty_lists() {
        let empty = Tensor::from_slice::<f32>(&[0, 2], &[]).unwrap();
        assert_eq!(text(&map([("y", empty)]), Form::Row), "{\"predictions\": []}");
        let empty = Tensor::from_slice::<f32>(&[2, 0], &[]).unwrap();
        assert_eq!(text(&map([("y", empty)]), Form::Row), "{\"predictions\": [[], []]}");
    }
}
