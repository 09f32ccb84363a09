use ingle_types::Dim;
use prost::Message as _;

use super::*;
use crate::proto::tensorflow::serving as pb;
use crate::proto::tensorflow::{BytesList, Example, Features, FloatList, Int64List, feature};

fn floats(values: &[f32]) -> feature::Kind {
    feature::Kind::FloatList(FloatList { value: values.to_vec() })
}

fn integers(values: &[i64]) -> feature::Kind {
    feature::Kind::Int64List(Int64List { value: values.to_vec() })
}

fn blobs(values: &[&'static str]) -> feature::Kind {
    feature::Kind::BytesList(BytesList { value: values.iter().map(|v| (*v).into()).collect() })
}

fn example(features: &[(&str, feature::Kind)]) -> Example {
    let one = |kind: &feature::Kind| crate::proto::tensorflow::Feature { kind: Some(kind.clone()) };
    let feature = features.iter().map(|(name, kind)| ((*name).to_owned(), one(kind))).collect();
    Example { features: Some(Features { feature }) }
}

fn list(examples: Vec<Example>) -> Examples {
    let kind = pb::input::Kind::ExampleList(pb::ExampleList { examples });
    Examples::read(pb::Input { kind: Some(kind) }.encode_to_vec().into(), 10_000).unwrap()
}

fn with_context(context: Example, examples: Vec<Example>) -> Examples {
    let list = pb::ExampleListWithContext { examples, context: Some(context) };
    let kind = pb::input::Kind::ExampleListWithContext(list);
    Examples::read(pb::Input { kind: Some(kind) }.encode_to_vec().into(), 10_000).unwrap()
}

fn signature(inputs: &[(&str, DType, &[Dim])]) -> Signature {
    let spec =
        |&(name, dtype, dims): &(&str, DType, &[Dim])| TensorSpec::new(name, dtype, dims.to_vec());
    Signature { inputs: inputs.iter().map(spec).collect(), ..Signature::default() }
}

const BATCH: Dim = Dim::Any;
const ROW_OF_TWO: &[Dim] = &[BATCH, Dim::Fixed(2)];

fn inputs(examples: &Examples, signature: &Signature) -> Result<TensorMap, String> {
    examples.inputs(signature, 10_000).map_err(|error| error.to_string())
}

#[test]
fn each_kind_fills_the_inputs_of_its_dtypes() {
    let signature = signature(&[
        ("d", DType::F64, &[BATCH]),
        ("f", DType::F32, ROW_OF_TWO),
        ("i", DType::I32, &[BATCH, Dim::Fixed(1)]),
        ("s", DType::Bytes, &[BATCH, Dim::Any]),
    ]);
    let row = |sign: f32, text: &[&'static str]| {
        example(&[
            ("d", floats(&[0.5 * sign])),
            ("f", floats(&[sign, 2.0])),
            ("i", integers(&[-7])),
            ("ignored", blobs(&["x"])),
            ("s", blobs(text)),
        ])
    };
    let found = inputs(&list(vec![row(1.0, &["a", "b"]), row(-1.0, &["", "d"])]), &signature);
    let found = found.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["d", "f", "i", "s"]);
    assert_eq!(found["d"], Tensor::from_slice(&[2], &[0.5f64, -0.5]).unwrap());
    assert_eq!(found["f"], Tensor::from_slice(&[2, 2], &[1f32, 2.0, -1.0, 2.0]).unwrap());
    assert_eq!(found["i"], Tensor::from_slice(&[2, 1], &[-7i32, -7]).unwrap());
    assert_eq!(found["s"].dims(), [2, 2]);
    assert_eq!(found["s"].strings().unwrap(), ["a", "b", "", "d"]);
}

#[test]
fn a_context_is_in_every_example_unless_that_has_its_own() {
    let context = example(&[("x", floats(&[1.0, 2.0])), ("n", integers(&[1]))]);
    let own = example(&[("x", floats(&[3.0, 4.0]))]);
    let examples = with_context(context, vec![own, Example::default()]);
    let signature = signature(&[("x", DType::F32, ROW_OF_TWO), ("n", DType::I64, &[BATCH])]);
    let found = inputs(&examples, &signature).unwrap();
    assert_eq!(found["x"], Tensor::from_slice(&[2, 2], &[3f32, 4.0, 1.0, 2.0]).unwrap());
    assert_eq!(found["n"], Tensor::from_slice(&[2], &[1i64, 1]).unwrap());
}

#[test]
fn values_that_do_not_fit_are_refused_in_tensorflows_words() {
    let one = |kind| list(vec![example(&[("x", kind)])]);
    let pairs = signature(&[("x", DType::F32, ROW_OF_TWO)]);
    let error =
        |examples: &Examples, signature: &Signature| inputs(examples, signature).unwrap_err();
    assert_eq!(
        error(&one(integers(&[1, 2])), &pairs),
        "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float"
    );
    assert_eq!(
        error(&one(blobs(&["1"])), &signature(&[("x", DType::U8, &[BATCH])])),
        "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: string but expected type: int64"
    );
    assert_eq!(
        error(&one(floats(&[1.0])), &signature(&[("x", DType::Bytes, &[BATCH])])),
        "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: float but expected type: string"
    );
    for (values, size) in [(&[][..], 0), (&[1.0, 2.0, 3.0], 3)] {
        assert_eq!(
            error(&one(floats(values)), &pairs),
            format!(
                "Name: <unknown>, Key: x, Index: 0.  Number of float values != expected.  Values size: {size} but output shape: [2]"
            )
        );
    }
    let free = signature(&[("x", DType::F32, &[BATCH, Dim::Any, Dim::Fixed(2)])]);
    assert_eq!(
        error(&one(floats(&[1.0, 2.0, 3.0])), &free),
        "Name: <unknown>, Key: x, Index: 0.  Number of float values is not a multiple of stride length. Saw 3 values but output shape is: [?,2]"
    );
    let uneven = [example(&[("x", floats(&[1.0; 4]))]), example(&[("x", floats(&[1.0; 2]))])];
    assert_eq!(
        error(&list(uneven.to_vec()), &free),
        "Name: <unknown>, Key: x, Index: 1.  Number of float values != expected.  Values size: 2 but output shape: [2,2]"
    );
    assert_eq!(
        error(&one(integers(&[300])), &signature(&[("x", DType::U8, &[BATCH])])),
        "Name: <unknown>, Key: x, Index: 0.  Value 300 is not in the range of the input's type: uint8"
    );
}

#[test]
fn a_feature_that_is_missing_is_named() {
    let pairs = signature(&[("x", DType::F32, ROW_OF_TWO)]);
    let good = || example(&[("x", floats(&[1.0, 2.0]))]);
    let mut kindless = good();
    kindless.features.as_mut().unwrap().feature.get_mut("x").unwrap().kind = None;
    for (examples, index) in [
        (vec![example(&[("y", floats(&[1.0, 2.0]))])], 0),
        (vec![good(), Example::default()], 1),
        (vec![good(), good(), kindless], 2),
    ] {
        assert_eq!(
            inputs(&list(examples), &pairs).unwrap_err(),
            format!(
                "Name: <unknown>, Feature: x (data type: float) is required but could not be found. Index: {index}"
            )
        );
    }
    let mut optional = pairs;
    optional.inputs[0].optional = true;
    assert_eq!(inputs(&list(vec![Example::default(); 2]), &optional).unwrap().len(), 0);
    for examples in [vec![good(), Example::default()], vec![Example::default(), good()]] {
        assert!(inputs(&list(examples), &optional).unwrap_err().contains("is required"));
    }
}

#[test]
fn inputs_of_no_certain_shape_are_refused_and_unknown_ranks_are_rows() {
    let examples = list(vec![example(&[("x", floats(&[1.0, 2.0]))])]);
    for dims in [&[][..], &[BATCH, Dim::Any, Dim::Any]] {
        let error = inputs(&examples, &signature(&[("x", DType::F32, dims)])).unwrap_err();
        assert!(error.starts_with("Input x of shape "), "{error}");
    }
    let mut unknown = signature(&[("x", DType::F32, &[])]);
    unknown.inputs[0].shape = None;
    assert_eq!(inputs(&examples, &unknown).unwrap()["x"].dims(), [1, 2]);
}

#[test]
fn a_signature_that_parses_by_itself_gets_the_messages() {
    let parses = signature(&[("inputs", DType::Bytes, &[BATCH])]);
    let (shared, own) = (example(&[("a", integers(&[1]))]), example(&[("b", integers(&[2]))]));
    let found = inputs(&list(vec![own.clone(), shared.clone()]), &parses).unwrap();
    assert_eq!(found["inputs"].strings().unwrap(), [own.encode_to_vec(), shared.encode_to_vec()]);
    let found = inputs(&with_context(shared, vec![own]), &parses).unwrap();
    let merged = Example::decode(found["inputs"].strings().unwrap()[0].clone()).unwrap();
    assert_eq!(merged.features.unwrap().feature.len(), 2);
    let table = signature(&[("inputs", DType::Bytes, &[BATCH, Dim::Fixed(1)])]);
    let words = list(vec![example(&[("inputs", blobs(&["word"]))])]);
    assert_eq!(inputs(&words, &table).unwrap()["inputs"].strings().unwrap(), ["word"]);
}

#[test]
fn what_is_empty_or_no_message_is_refused() {
    let read = |bytes: &'static [u8]| Examples::read(bytes.into(), 100).map(|e| e.len());
    for empty in [&[][..], &[0x0a, 0], &[0x12, 0], &[0x12, 2, 0x12, 0], &[0x1a, 0]] {
        assert_eq!(read(empty), Err(ExampleError::Empty), "{empty:?}");
    }
    assert_eq!(read(&[0x0a, 4, 0x0a, 0, 0x0a, 0]), Ok(2));
    assert_eq!(read(&[0x0a, 5, 1]), Err(ExampleError::Wire(WireError::Truncated)));
    assert!(matches!(
        read(&[0x0a, 8, 0x0a, 0, 0x0a, 0, 0x0a, 0, 0x0a, 0]),
        Err(ExampleError::TooLarge(_))
    ));
    // An example, its features, an entry of them and a feature that are cut short.
    let pairs = signature(&[("x", DType::F32, ROW_OF_TWO)]);
    for lie in [
        &[0x0a, 9][..],
        &[0x0a, 1, 0x0a],
        &[0x0a, 3, 0x0a, 1, 0x0a],
        &[0x0a, 7, 0x0a, 5, 0x0a, 1, b'x', 0x12, 9],
        &[0x0a, 9, 0x0a, 7, 0x0a, 1, b'x', 0x12, 2, 0x12, 9],
        &[0x0a, 12, 0x0a, 10, 0x0a, 1, b'x', 0x12, 5, 0x12, 3, 0x0a, 1, 0],
    ] {
        let examples = Examples::new(Bytes::new(), vec![Bytes::from_static(lie)]).unwrap();
        let error = examples.inputs(&pairs, 1000).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{lie:?} {error}");
    }
}

#[test]
fn values_are_read_packed_or_not() {
    let field = |entry: &[u8]| {
        let wrap = |tag: u8, inner: &[u8]| {
            [&[tag, u8::try_from(inner.len()).unwrap()][..], inner].concat()
        };
        let entry = [&[0x0a, 1, b'x'][..], &wrap(0x12, entry)].concat();
        let example = wrap(0x0a, &wrap(0x0a, &entry));
        Examples::new(Bytes::new(), vec![example.into()]).unwrap()
    };
    let integers = signature(&[("x", DType::I64, ROW_OF_TWO)]);
    let expected = Tensor::from_slice(&[1, 2], &[5i64, -1]).unwrap();
    let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let packed = [&[0x1a, 13, 0x0a, 11, 5][..], &minus_one].concat();
    let unpacked = [&[0x1a, 13, 0x08, 5, 0x08][..], &minus_one].concat();
    let parts = [&[0x1a, 2, 0x08, 5, 0x1a, 12, 0x0a, 10][..], &minus_one].concat();
    let after_another = [&[0x12, 5, 0x0d, 0, 0, 0, 0][..], &packed].concat();
    for feature in [packed, unpacked, parts, after_another] {
        assert_eq!(inputs(&field(&feature), &integers).unwrap()["x"], expected, "{feature:?}");
    }
    let floats = signature(&[("x", DType::F32, &[BATCH])]);
    let one = 1f32.to_le_bytes();
    for feature in [[&[0x12, 6, 0x0a, 4][..], &one].concat(), [&[0x12, 5, 0x0d][..], &one].concat()]
    {
        assert_eq!(
            inputs(&field(&feature), &floats).unwrap()["x"],
            Tensor::from_slice(&[1], &[1f32]).unwrap()
        );
    }
    assert!(inputs(&field(&[0x1a, 3, 0x0a, 1, 0x80]), &integers).is_err());
}

#[test]
fn tensors_stay_within_the_limit() {
    let context = example(&[("x", floats(&[1.0; 100]))]);
    let examples = with_context(context, vec![Example::default(); 100]);
    let rows = signature(&[("x", DType::F32, &[BATCH, Dim::Any])]);
    // A list of 100 floats takes 403 bytes on the wire.
    assert_eq!(examples.inputs(&rows, 40_300).unwrap()["x"].dims(), [100, 100]);
    let error = examples.inputs(&rows, 40_299).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    let parses = signature(&[("inputs", DType::Bytes, &[BATCH])]);
    assert_eq!(examples.inputs(&parses, 40_000).unwrap_err().code(), Code::ResourceExhausted);
}

#[test]
fn a_context_that_is_mostly_no_values_costs_what_it_is_for_each_example() {
    // One float, and a field that nobody knows.
    let value = [&[0x0d][..], &1f32.to_le_bytes()].concat();
    let list = [&value[..], &[0x12, 100], &[0; 100]].concat();
    let wrap =
        |tag: u8, inner: &[u8]| [&[tag, u8::try_from(inner.len()).unwrap()][..], inner].concat();
    let entry = [wrap(0x0a, b"x"), wrap(0x12, &wrap(0x12, &list))].concat();
    let context = Bytes::from(wrap(0x0a, &wrap(0x0a, &entry)));
    let scalars = signature(&[("x", DType::F32, &[BATCH])]);
    let of = |count| Examples::new(context.clone(), vec![Bytes::new(); count]).unwrap();
    let limit = 10 * list.len();
    assert_eq!(of(10).inputs(&scalars, limit).unwrap()["x"].dims(), [10]);
    assert_eq!(of(11).inputs(&scalars, limit).unwrap_err().code(), Code::ResourceExhausted);
}

proptest::proptest! {
    /// From a good message by changing bytes: what comes is tensors or the client's error.
    #[test]
    fn changed_messages_are_read_or_refused(
        changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 0..6),
        length in proptest::prelude::any::<proptest::sample::Index>(),
    ) {
        let context = example(&[("s", blobs(&["a", "b"]))]);
        let rows = vec![example(&[("f", floats(&[1.0, 2.0])), ("i", integers(&[1, 300]))]); 2];
        let list = pb::ExampleListWithContext { examples: rows, context: Some(context) };
        let kind = Some(pb::input::Kind::ExampleListWithContext(list));
        let mut message = pb::Input { kind }.encode_to_vec();
        for (at, byte) in &changes {
            let at = at.index(message.len());
            message[at] = *byte;
        }
        if changes.len() > 3 {
            message.truncate(length.index(message.len()));
        }
        let signature = signature(&[
            ("f", DType::F16, ROW_OF_TWO),
            ("i", DType::I16, &[BATCH, Dim::Any]),
            ("s", DType::Bytes, &[BATCH, Dim::Any, Dim::Fixed(2)]),
        ]);
        match Examples::read(message.into(), 10_000) {
            Ok(examples) => match examples.inputs(&signature, 10_000) {
                Ok(found) => {
                    for spec in &signature.inputs {
                        assert_eq!(found[&spec.name].dims()[0], examples.len());
                        assert_eq!(spec.check(&found[&spec.name]), Ok(()));
                    }
                }
                Err(error) => assert!(!changes.is_empty(), "{error}"),
            },
            Err(error) => assert!(!changes.is_empty(), "{error}"),
        }
    }
}
