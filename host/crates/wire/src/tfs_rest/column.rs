//! `inputs`: each input whole.

use ingle_types::{Limits, Signature, Tensor, TensorMap, TensorSpec};

use super::decode::RequestError;
use super::fill::Filler;
use super::value::{Elements, ValueError};
use crate::json::{Cursor, Token, unescape};

/// Reads the value at `cursor`.
pub(super) fn read(
    mut cursor: Cursor<'_>,
    signature: &Signature,
    limits: &Limits,
) -> Result<TensorMap, RequestError> {
    let mut filler = Filler::new(limits);
    let mut tensors = TensorMap::new();
    let named = matches!(cursor.peek(), Token::ObjectOpen) && cursor.base64().is_none();
    if named {
        cursor.token();
        while let Token::String(raw) = cursor.token() {
            let key = unescape(raw);
            match signature.inputs.iter().find(|spec| spec.name.as_bytes() == key.as_ref()) {
                // Of equal keys the first counts.
                Some(spec) if !tensors.contains_key(&spec.name) => {
                    let tensor = tensor(&mut cursor, spec, &mut filler)?;
                    tensors.insert(spec.name.clone(), tensor);
                }
                _ => cursor.skip(),
            }
        }
        let missing =
            signature.inputs.iter().find(|s| !s.optional && !tensors.contains_key(&s.name));
        return match missing {
            Some(spec) => Err(RequestError::MissingInput { name: spec.name.clone() }),
            None => Ok(tensors),
        };
    }
    let [only] = signature.inputs.as_slice() else { return Err(RequestError::PlainInputs) };
    let tensor = tensor(&mut cursor, only, &mut filler)?;
    tensors.insert(only.name.clone(), tensor);
    Ok(tensors)
}

fn tensor(
    cursor: &mut Cursor<'_>,
    spec: &TensorSpec,
    filler: &mut Filler,
) -> Result<Tensor, ValueError> {
    let mut elements = Elements::new(spec.dtype);
    let dims = filler.read(cursor, &mut elements)?.to_vec();
    Ok(elements.into_tensor(dims)?)
}
