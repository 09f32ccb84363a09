//! Tensors of every type that JSON has, through it and back.

use half::{bf16, f16};
use ingle_types::{DType, Limits, ModelSpec, Tensor, VersionChoice};
use proptest::prelude::*;

use super::decode::{Form, decode};
use super::render::render;
use crate::tests::round_trip::tensor;
use crate::tests::stub::Stubs;

/// What JSON can hold both ways: the shapes whose sizes can be seen in it.
fn writable(tensor: &Tensor) -> bool {
    let first_zero = tensor.dims().iter().position(|&d| d == 0);
    first_zero.is_none_or(|at| at + 1 == tensor.dims().len())
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    // A NaN is not equal to itself, and JSON has only one of them.
    let nan = |t: &Tensor| match t.dtype() {
        DType::F16 => t.as_slice::<f16>().unwrap().iter().any(|v| v.is_nan()),
        DType::BF16 => t.as_slice::<bf16>().unwrap().iter().any(|v| v.is_nan()),
        DType::F32 => t.as_slice::<f32>().unwrap().iter().any(|v| v.is_nan()),
        DType::F64 => t.as_slice::<f64>().unwrap().iter().any(|v| v.is_nan()),
        _ => false,
    };
    a == b || (a.shape() == b.shape() && nan(a) && nan(b))
}

proptest! {
    #[test]
    fn a_tensor_survives_json(tensor in tensor()) {
        prop_assume!(writable(&tensor));
        // The suffix makes bytes of every kind pass.
        let outputs = [("x_bytes".to_owned(), tensor.clone())].into();
        let text = render(&outputs, Form::Column).unwrap();
        let text = String::from_utf8(text).unwrap().replacen("outputs", "inputs", 1);
        let model =
            ModelSpec { name: tensor.dtype().name().into(), version: VersionChoice::Latest };
        let decoded =
            decode(text.as_bytes(), &model, &Stubs::echoes(), &Limits::default()).unwrap();
        let back = &decoded.inputs["x"];
        prop_assert!(same(back, &tensor), "{text}: {back:?}");
    }

    #[test]
    fn damaged_json_is_refused_or_read(
        tensor in tensor(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        prop_assume!(writable(&tensor));
        let outputs = [("x_bytes".to_owned(), tensor.clone())].into();
        let mut text = render(&outputs, Form::Column).unwrap();
        for (at, byte) in damage {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let model =
            ModelSpec { name: tensor.dtype().name().into(), version: VersionChoice::Latest };
        let _ = decode(&text, &model, &Stubs::echoes(), &Limits::default());
    }
}
