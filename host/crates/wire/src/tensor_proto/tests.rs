//! Every row of what TensorFlow does with a `TensorProto`, and lies about shapes.

use bytes::Bytes;
use half::{bf16, f16};
use ingle_types::{Code, DType, Element, Shape, Tensor};
use prost::Message as _;

use super::*;
use crate::proto::tensorflow::{DataType, TensorShapeProto};

const LIMIT: usize = 1 << 20;

fn proto(dtype: DataType, dims: &[i64]) -> TensorProto {
    let shape =
        TensorShapeProto { dim: dims.iter().map(|&d| dim(d)).collect(), unknown_rank: false };
    TensorProto { dtype: dtype.into(), tensor_shape: Some(shape), ..TensorProto::default() }
}

fn read(proto: &TensorProto) -> Result<Tensor, TensorProtoError> {
    decode("x", proto, LIMIT)
}

fn values<T: Element>(proto: &TensorProto) -> Vec<T> {
    read(proto).unwrap().as_slice::<T>().unwrap().into_owned()
}

fn floats(dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto { float_val: values.to_vec(), ..proto(DataType::DtFloat, dims) }
}

fn ints(dtype: DataType, values: &[i32]) -> TensorProto {
    TensorProto { int_val: values.to_vec(), ..proto(dtype, &[1]) }
}

fn content(dtype: DataType, dims: &[i64], bytes: &[u8]) -> TensorProto {
    TensorProto { tensor_content: Bytes::copy_from_slice(bytes), ..proto(dtype, dims) }
}

fn strings(proto: &TensorProto) -> Result<Vec<Bytes>, TensorProtoError> {
    Ok(read(proto)?.strings().unwrap().to_vec())
}

#[test]
fn of_too_few_values_the_last_repeats_and_of_too_many_the_rest_is_dropped() {
    assert_eq!(values::<f32>(&floats(&[4], &[1.0, 2.0])), [1.0, 2.0, 2.0, 2.0]);
    assert_eq!(values::<f32>(&floats(&[3], &[])), [0.0; 3]);
    assert_eq!(values::<f32>(&floats(&[2], &[1.0, 2.0, 3.0])), [1.0, 2.0]);
    assert_eq!(values::<f32>(&floats(&[], &[7.0])), [7.0]);
    assert_eq!(values::<f32>(&floats(&[], &[])), [0.0]);
    assert_eq!(values::<f32>(&floats(&[], &[7.0, 8.0])), [7.0]);
    let wide = TensorProto { int64_val: vec![-1, 5], ..proto(DataType::DtInt64, &[5]) };
    assert_eq!(values::<i64>(&wide), [-1, 5, 5, 5, 5]);
}

#[test]
fn content_is_exact_and_wins() {
    let bytes = [1f32, 2.0].map(f32::to_le_bytes).concat();
    assert_eq!(values::<f32>(&content(DataType::DtFloat, &[2], &bytes)), [1.0, 2.0]);
    let both = TensorProto { float_val: vec![9.0], ..content(DataType::DtFloat, &[2], &bytes) };
    assert_eq!(values::<f32>(&both), [1.0, 2.0]);
    for wrong in [&bytes[..7], &[&bytes[..], &[0]].concat(), &bytes[..4]] {
        let error = read(&content(DataType::DtFloat, &[2], wrong)).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.to_string().starts_with("tensor parsing error: x: "), "{error}");
    }
}

#[test]
fn halves_are_bits() {
    let half = |dtype, bits: &[i32]| TensorProto { half_val: bits.to_vec(), ..proto(dtype, &[2]) };
    let one = f16::from_f32(1.0);
    assert_eq!(values::<f16>(&half(DataType::DtHalf, &[0x3c00])), [one, one]);
    assert_eq!(values::<f16>(&half(DataType::DtHalf, &[0x7000_3c00, -1]))[0], one);
    let brain = half(DataType::DtBfloat16, &[0x3f80]);
    assert_eq!(values::<bf16>(&brain), [bf16::from_f32(1.0); 2]);
    let raw = content(DataType::DtHalf, &[1], &[0x00, 0x3c]);
    assert_eq!(values::<f16>(&raw), [one]);
}

#[test]
fn narrow_integers_wrap() {
    assert_eq!(values::<i8>(&ints(DataType::DtInt8, &[300])), [44]);
    assert_eq!(values::<u8>(&ints(DataType::DtUint8, &[-1])), [255]);
    assert_eq!(values::<i16>(&ints(DataType::DtInt16, &[70000])), [4464]);
    assert_eq!(values::<u16>(&ints(DataType::DtUint16, &[-1])), [65535]);
    assert_eq!(values::<i32>(&ints(DataType::DtInt32, &[i32::MIN])), [i32::MIN]);
}

#[test]
fn values_in_another_types_field_do_not_count() {
    assert_eq!(values::<i64>(&ints(DataType::DtInt64, &[5])), [0]);
    assert_eq!(values::<u32>(&ints(DataType::DtUint32, &[5])), [0]);
    let right = TensorProto { uint32_val: vec![u32::MAX], ..proto(DataType::DtUint32, &[1]) };
    assert_eq!(values::<u32>(&right), [u32::MAX]);
    let right = TensorProto { uint64_val: vec![u64::MAX], ..proto(DataType::DtUint64, &[1]) };
    assert_eq!(values::<u64>(&right), [u64::MAX]);
    let right = TensorProto { double_val: vec![0.1], ..proto(DataType::DtDouble, &[1]) };
    assert_eq!(values::<f64>(&right), [0.1]);
}

#[test]
fn a_bool_is_zero_or_one() {
    let typed = TensorProto { bool_val: vec![true, false], ..proto(DataType::DtBool, &[3]) };
    assert_eq!(read(&typed).unwrap().bytes().unwrap().as_ref(), [1, 0, 0]);
    assert!(read(&content(DataType::DtBool, &[2], &[1, 0])).is_ok());
    assert!(read(&content(DataType::DtBool, &[2], &[1, 2])).is_err());
}

#[test]
fn strings_repeat_and_have_lengths_in_front_of_content() {
    let typed = TensorProto {
        string_val: vec!["a".into(), Bytes::from_static(b"\xff")],
        ..proto(DataType::DtString, &[3])
    };
    assert_eq!(strings(&typed).unwrap(), ["a".as_bytes(), b"\xff", b"\xff"]);
    let none = proto(DataType::DtString, &[2]);
    assert_eq!(strings(&none).unwrap(), ["", ""]);
    let packed = |bytes: &[u8]| strings(&content(DataType::DtString, &[2], bytes));
    assert_eq!(packed(b"\x02\x01hey").unwrap(), ["he", "y"]);
    assert_eq!(packed(b"\x00\x00").unwrap(), ["", ""]);
    for lie in [
        &b"\x02\x01hex!"[..],
        b"\x02\x01he",
        b"\x02",
        b"\xff\xff",
        b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ] {
        assert!(packed(lie).is_err(), "{lie:?}");
    }
}

#[test]
fn an_unknown_rank_is_a_scalar_and_a_missing_shape_too() {
    let mut unknown = floats(&[5, -1], &[7.0]);
    unknown.tensor_shape.as_mut().unwrap().unknown_rank = true;
    assert_eq!(read(&unknown).unwrap().dims(), [0usize; 0]);
    let missing = TensorProto { tensor_shape: None, ..floats(&[], &[7.0]) };
    assert_eq!(values::<f32>(&missing), [7.0]);
}

#[test]
fn an_empty_tensor_ignores_its_values() {
    for proto in [
        floats(&[0, 5], &[1.0]),
        content(DataType::DtFloat, &[3, 0], &[1, 2, 3]),
        content(DataType::DtString, &[0], &[9]),
    ] {
        assert_eq!(read(&proto).unwrap().size_bytes(), 0);
    }
}

#[test]
fn shapes_that_cannot_be_are_refused_before_memory_is_taken() {
    let most = Shape::MAX_RANK;
    for dims in [
        vec![-1],
        vec![2, i64::MIN],
        vec![i64::MAX, 2],
        vec![1 << 40, 1 << 40],
        vec![0, i64::MAX, i64::MAX],
        vec![1; most + 1],
    ] {
        let error = read(&floats(&dims, &[1.0])).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{dims:?}");
    }
    assert!(read(&floats(&vec![1; most], &[1.0])).is_ok());
    // One value that would repeat to 4 GB.
    for dims in [vec![1_000_000_000], vec![i64::MAX], vec![(LIMIT / 4) as i64 + 1]] {
        let error = read(&floats(&dims, &[1.0])).unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{dims:?}");
        assert!(error.to_string().contains("limit of 1048576 bytes"), "{error}");
    }
    assert!(read(&floats(&[(LIMIT / 4) as i64], &[1.0])).is_ok());
}

#[test]
fn a_repeated_string_counts_as_often_as_it_stands_there() {
    let long = TensorProto {
        string_val: vec![vec![7; 1000].into()],
        ..proto(DataType::DtString, &[5000])
    };
    assert_eq!(read(&long).unwrap_err().code(), Code::ResourceExhausted);
    let many = proto(DataType::DtString, &[(LIMIT / size_of::<Bytes>()) as i64 + 1]);
    assert_eq!(read(&many).unwrap_err().code(), Code::ResourceExhausted);
    let many = content(DataType::DtString, &[1_000_000_000], &[0; 100]);
    assert_eq!(read(&many).unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn types_that_are_not_served_are_named() {
    for (number, name) in [
        (8, "complex64"),
        (11, "qint8"),
        (20, "resource"),
        (21, "variant"),
        (24, "float8_e5m2"),
        (29, "int4"),
        (101, "101"),
        (9999, "9999"),
    ] {
        let error = read(&TensorProto { dtype: number, ..TensorProto::default() }).unwrap_err();
        let expected = format!("tensor parsing error: x: dtype {name} is not supported");
        assert_eq!(error.to_string(), expected);
    }
    assert!(read(&TensorProto { dtype: -1, ..TensorProto::default() }).is_err());
    assert!(read(&TensorProto::default()).is_err());
}

/// Field 5 without packing, as old clients write it, and in several pieces.
#[test]
fn unpacked_and_split_values_are_read() {
    let mut message = proto(DataType::DtFloat, &[4]).encode_to_vec();
    for value in [1f32, 2.0] {
        message.push(5 << 3 | 5);
        message.extend(value.to_le_bytes());
    }
    message.extend([5 << 3 | 2, 8]);
    message.extend([3f32, 4.0].map(f32::to_le_bytes).concat());
    let read = |message: Vec<u8>| decode_message("x", message.into(), &mut Budget::new(LIMIT));
    let tensor = read(message).unwrap();
    assert_eq!(tensor.as_slice::<f32>().unwrap().as_ref(), [1.0, 2.0, 3.0, 4.0]);

    let mut message = proto(DataType::DtInt32, &[3]).encode_to_vec();
    message.extend([7 << 3, 5, 7 << 3 | 2, 2, 6, 7]);
    let tensor = read(message).unwrap();
    assert_eq!(tensor.as_slice::<i32>().unwrap().as_ref(), [5, 6, 7]);

    let mut message = proto(DataType::DtFloat, &[1]).encode_to_vec();
    message.extend([5 << 3 | 2, 3, 0, 0, 0]);
    assert!(read(message).is_err());
}

#[test]
fn content_and_packed_floats_are_not_copied() {
    let inside = |message: &Bytes, tensor: &Tensor| {
        let (outer, inner) = (message.as_ptr_range(), tensor.bytes().unwrap().as_ptr_range());
        outer.start <= inner.start && inner.end <= outer.end
    };
    let raw = content(DataType::DtInt64, &[2], &[7; 16]);
    for proto in [floats(&[3], &[1.0, 2.0, 3.0]), raw] {
        let message = Bytes::from(proto.encode_to_vec());
        let tensor = decode_message("x", message.clone(), &mut Budget::new(LIMIT)).unwrap();
        assert!(inside(&message, &tensor));
    }
}

/// Dtype, dimensions and content at odds in ten thousand ways: an answer or a clear
/// error, and never more memory than the limit.
#[test]
fn no_combination_of_lies_gets_through() {
    let sizes = [-1, 0, 1, 2, 3, 255, 1 << 20, 1 << 33, i64::MAX];
    let mut accepted = 0;
    let mut tried = 0;
    for dtype in -1..36 {
        for &a in &sizes {
            for &b in &sizes {
                for length in [0, 1, 4, 6] {
                    let mut proto = content(DataType::DtFloat, &[a, b], &vec![1; length]);
                    proto.dtype = dtype;
                    proto.int_val = vec![1];
                    tried += 1;
                    match read(&proto) {
                        Ok(tensor) => {
                            accepted += 1;
                            assert!(tensor.size_bytes() <= LIMIT);
                        }
                        Err(error) => assert_ne!(error.code(), Code::Internal),
                    }
                }
            }
        }
    }
    assert!(tried > 10_000 && accepted > 1_000, "{accepted} of {tried}");
}

#[test]
fn encoding_writes_every_element_into_the_typed_field() {
    let t = Tensor::from_slice(&[2, 2], &[1f32, 2.0, 2.0, 2.0]).unwrap();
    assert_eq!(encode(&t), floats(&[2, 2], &[1.0, 2.0, 2.0, 2.0]));
    let t = Tensor::from_slice(&[1], &[-1i8]).unwrap();
    assert_eq!(encode(&t), ints(DataType::DtInt8, &[-1]));
    let t = Tensor::from_slice(&[2], &[f16::from_f32(1.0); 2]).unwrap();
    assert_eq!(encode(&t).half_val, [0x3c00, 0x3c00]);
    let empty = Tensor::from_slice::<f64>(&[0, 3], &[]).unwrap();
    assert_eq!(encode(&empty), proto(DataType::DtDouble, &[0, 3]));
    for dtype in DType::ALL {
        assert!(data_type(dtype).as_str_name().len() > 3);
    }
}

#[test]
fn encoding_as_content_is_what_decoding_takes() {
    for dtype in DType::ALL {
        let shape = || Shape::new([2]).unwrap();
        let tensor = match dtype.size_bytes() {
            None => Tensor::blobs(shape(), vec![vec![7; 200].into(), "é".into()]),
            Some(size) => Tensor::dense(dtype, shape(), vec![1; 2 * size]),
        };
        let tensor = tensor.unwrap();
        let proto = encode_as_content(&tensor);
        let bare = TensorProto { tensor_content: Bytes::new(), ..proto.clone() };
        assert_eq!(bare, self::proto(data_type(dtype), &[2]));
        assert_eq!(read(&proto).unwrap(), tensor, "{dtype}");
    }
    let text = Tensor::blobs(Shape::new([2]).unwrap(), vec!["he".into(), "y".into()]).unwrap();
    assert_eq!(encode_as_content(&text).tensor_content, b"\x02\x01hey".as_slice());
    let empty = Tensor::from_slice::<f64>(&[0, 3], &[]).unwrap();
    assert_eq!(encode_as_content(&empty), proto(DataType::DtDouble, &[0, 3]));
}
