use std::sync::Arc;

use bytes::Bytes;
use ingle_types::Tensor;

use super::build::Builder;
use super::{Graph, NodeLabel};
use crate::proto::AttributeProto;
use crate::proto::attribute_proto::AttributeType;
use crate::{BuildError, LoadError};

/// An attribute's value, by its declared type.
#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    Float(f32),
    Int(i64),
    String(Bytes),
    Tensor(Tensor),
    Graph(Graph),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<Bytes>),
    /// The type of a value, which its value tells as well.
    Type,
}

impl Attribute {
    pub(super) fn decode(
        builder: &mut Builder<'_>,
        label: &Arc<NodeLabel>,
        proto: AttributeProto,
    ) -> Result<Self, LoadError> {
        let fail = |reason| LoadError::Build { label: label.clone(), reason };
        let kind = proto.r#type();
        let wrong = |name: String, expected| fail(BuildError::Type { name, expected });
        if !proto.ref_attr_name.is_empty() {
            return Err(wrong(proto.name, "value, as this is no function"));
        }
        Ok(match kind {
            AttributeType::Float => Self::Float(proto.f),
            AttributeType::Int => Self::Int(proto.i),
            AttributeType::String => Self::String(proto.s),
            AttributeType::Floats => Self::Floats(proto.floats),
            AttributeType::Ints => Self::Ints(proto.ints),
            AttributeType::Strings => Self::Strings(proto.strings),
            AttributeType::Tensor => {
                let name = proto.name;
                let tensor = proto.t.unwrap_or_default();
                let literal = |reason| fail(BuildError::Literal { name, reason });
                Self::Tensor(builder.literals().decode(&tensor).map_err(literal)?)
            }
            AttributeType::Graph => Self::Graph(builder.graph(proto.g.unwrap_or_default())?),
            AttributeType::TypeProto => Self::Type,
            _ => return Err(wrong(proto.name, "number, string, tensor or graph")),
        })
    }
}
