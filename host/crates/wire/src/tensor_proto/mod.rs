//! `tensorflow.TensorProto` and [`Tensor`], both ways.
//!
//! Decoding reads the message's bytes and not the generated type, so that no
//! intermediate vector is built and nothing is allocated before it is checked:
//! `tensor_content` and a packed `float_val` are used where they lie.

mod decode;
mod encode;

use ingle_types::Tensor;
use prost::Message as _;

pub use crate::budget::TooLarge;
pub use crate::protobuf::WireError;
pub(crate) use decode::decode_message;
pub use decode::{Fault, TensorProtoError};
pub(crate) use encode::{data_type, dim};
pub use encode::{encode, encode_as_content};

use crate::budget::Budget;
use crate::proto::tensorflow::TensorProto;

/// Decodes a message that a client has already in parts; the server reads bytes.
///
/// # Errors
/// Where the message is not a tensor, or one of more than `limit_bytes`.
pub fn decode(
    name: &str,
    proto: &TensorProto,
    limit_bytes: usize,
) -> Result<Tensor, TensorProtoError> {
    decode_message(name, proto.encode_to_vec().into(), &mut Budget::new(limit_bytes))
}

#[cfg(test)]
mod tests;
