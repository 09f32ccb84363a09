//! TensorFlow Serving's configuration files: messages in protobuf's text format.

use prost_reflect::text_format::ParseError;
use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage};

use crate::proto::DESCRIPTORS;

/// Why a text is not the message.
#[derive(Debug)]
pub(crate) enum TextError {
    Syntax(ParseError),
    Descriptors(DescriptorError),
}

/// Reads `text` as the message of this full name, which is that of `M`.
pub(crate) fn read<M>(name: &str, text: &str) -> Result<M, TextError>
where
    M: prost::Message + Default,
{
    let pool = DescriptorPool::decode(DESCRIPTORS).map_err(TextError::Descriptors)?;
    let mut message = match pool.get_message_by_name(name) {
        Some(descriptor) => DynamicMessage::new(descriptor),
        None => return Ok(M::default()),
    };
    message.merge_text_format(text).map_err(TextError::Syntax)?;
    // The same message in two forms of it.
    Ok(message.transcode_to().unwrap_or_default())
}
