//! The ONNX file format, and what is checked before it is decoded.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::{LiteralError, LoadError};

pub(crate) use self::generated::*;

mod generated {
    #![expect(unreachable_pub, reason = "prost makes everything public")]
    #![expect(clippy::enum_variant_names, reason = "the names are ONNX's")]
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// Decodes a model whose decoded form takes at most `limit` bytes, weights aside.
///
/// A part of two bytes in the file becomes hundreds in memory, so the parts are
/// added up first. Nesting is bounded by prost (100 levels).
pub(crate) fn decode(model: &[u8], limit: usize) -> Result<ModelProto, LoadError> {
    let mut left = limit;
    match measure(model, Part::Model, 0, &mut left) {
        Some(Problem::Size) => Err(LoadError::Parts { limit }),
        Some(Problem::Group) => Err(LoadError::Group),
        None => ModelProto::decode(model).map_err(LoadError::Decode),
    }
}

/// Decodes a tensor that is a file of its own.
pub(crate) fn decode_tensor(file: &Bytes, limit: usize) -> Result<TensorProto, LiteralError> {
    let mut left = limit;
    match measure(file, Part::Tensor, 0, &mut left) {
        Some(Problem::Size) => Err(LiteralError::Parts { limit }),
        Some(Problem::Group) => Err(LiteralError::Group),
        None => TensorProto::decode(file.clone()).map_err(LiteralError::Decode),
    }
}

enum Problem {
    Size,
    Group,
}

/// The messages that can hold very many others.
#[derive(Clone, Copy)]
enum Part {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Tensor,
    Leaf,
}

impl Part {
    fn child(self, tag: u32) -> Self {
        match (self, tag) {
            (Self::Model, 7) | (Self::Attribute, 6) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5) => Self::Tensor,
            (Self::Graph, 11 | 12) => Self::ValueInfo,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            _ => Self::Leaf,
        }
    }

    /// Bytes of the decoded part, twice, for the slack of the list that holds it.
    fn cost(self) -> usize {
        let size = match self {
            Self::Model => size_of::<ModelProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Function => size_of::<FunctionProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::ValueInfo | Self::Type | Self::TensorType | Self::Shape => {
                size_of::<ValueInfoProto>()
            }
            Self::Leaf => size_of::<StringStringEntryProto>(),
        };
        size.saturating_mul(2)
    }
}

/// Takes the cost of each length-delimited field from `left`. Stops silently
/// where the bytes are no protobuf: the decoder stops there too, and says why.
fn measure(mut bytes: &[u8], part: Part, depth: usize, left: &mut usize) -> Option<Problem> {
    const DEPTH: usize = 100;
    while !bytes.is_empty() {
        let (tag, wire) = decode_key(&mut bytes).ok()?;
        match wire {
            WireType::Varint => drop(decode_varint(&mut bytes).ok()?),
            WireType::ThirtyTwoBit => bytes = bytes.get(4..)?,
            WireType::SixtyFourBit => bytes = bytes.get(8..)?,
            WireType::StartGroup | WireType::EndGroup => return Some(Problem::Group),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (field, rest) = bytes.split_at_checked(length)?;
                let child = part.child(tag);
                *left = match left.checked_sub(child.cost()) {
                    Some(left) => left,
                    None => return Some(Problem::Size),
                };
                if !matches!(child, Part::Leaf)
                    && depth < DEPTH
                    && let Some(problem) = measure(field, child, depth + 1, left)
                {
                    return Some(problem);
                }
                bytes = rest;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tiny_parts_are_refused_before_they_are_decoded() {
        let nodes: Vec<u8> = [0x0a, 0x00].repeat(1000);
        let mut model = vec![0x3a, 0xd0, 0x0f];
        model.extend(nodes);
        assert!(matches!(decode(&model, 100_000), Err(LoadError::Parts { .. })));
        assert_eq!(decode(&model, 1_000_000).unwrap().graph.unwrap().node.len(), 1000);
    }

    #[test]
    fn garbage_is_refused() {
        assert!(matches!(decode(b"garbage", 1000), Err(LoadError::Decode(_))));
    }

    #[test]
    fn a_group_cannot_hide_what_follows() {
        assert!(matches!(decode(&[0x0b, 0x0c], 1000), Err(LoadError::Group)));
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut inner = Vec::new();
        for _ in 0..200 {
            for tag in [0x32, 0x2a, 0x0a] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend(&inner);
                inner = outer;
            }
        }
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(inner.len() as u64, &mut model);
        model.extend(inner);
        assert!(matches!(decode(&model, 1_000_000), Err(LoadError::Decode(_))));
    }
}
