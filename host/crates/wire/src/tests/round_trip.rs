//! Tensors of every type through the protocol buffer and back.

use bytes::Bytes;
use ingle_types::{DType, Shape, Tensor};
use proptest::prelude::*;
use prost::Message as _;

use crate::tensor_proto::{decode, encode};

pub(crate) fn tensor() -> impl Strategy<Value = Tensor> {
    let dims = prop::collection::vec(0usize..4, 0..4);
    (prop::sample::select(DType::ALL.to_vec()), dims).prop_flat_map(|(dtype, dims)| {
        let shape = Shape::new(dims).unwrap();
        let count = shape.elements();
        match dtype.size_bytes() {
            None => {
                let blob = prop::collection::vec(any::<u8>(), 0..9).prop_map(Bytes::from);
                prop::collection::vec(blob, count)
                    .prop_map(move |blobs| Tensor::blobs(shape.clone(), blobs).unwrap())
                    .boxed()
            }
            Some(size) => prop::collection::vec(any::<u8>(), count * size)
                .prop_map(move |mut bytes| {
                    if dtype == DType::Bool {
                        bytes.iter_mut().for_each(|b| *b &= 1);
                    }
                    Tensor::dense(dtype, shape.clone(), bytes).unwrap()
                })
                .boxed(),
        }
    })
}

proptest! {
    #[test]
    fn a_tensor_survives_the_protocol_buffer(tensor in tensor()) {
        let proto = encode(&tensor);
        prop_assert_eq!(&decode("x", &proto, 1 << 20).unwrap(), &tensor);
        // And as what the official Python client sends.
        if let Some(bytes) = tensor.bytes().filter(|bytes| !bytes.is_empty()) {
            let mut content = encode(&tensor);
            content.tensor_content = bytes.clone();
            content.float_val.clear();
            prop_assert_eq!(decode("x", &content, 1 << 20).unwrap(), tensor);
        }
    }

    #[test]
    fn damaged_protocol_buffers_are_refused_or_read(
        tensor in tensor(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut message = encode(&tensor).encode_to_vec();
        if message.is_empty() {
            return Ok(());
        }
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        message.truncate(cut.index(message.len() + 1));
        let mut budget = crate::budget::Budget::new(1 << 16);
        if let Ok(tensor) =
            crate::tensor_proto::decode_message("x", message.into(), &mut budget)
        {
            prop_assert!(tensor.size_bytes() <= 1 << 16);
        }
    }
}
