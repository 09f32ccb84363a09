"""Tensors of every dtype arrive and leave unchanged, in both encodings."""

import grpc
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from calls import (
    content,
    post,
    post_ok,
    predict,
    predict_request,
    refused,
    send,
    signatures_of,
    typed,
    typed_field,
)
from small_models import DTYPES


def values(name):
    """Extremes and ordinary values of a dtype, [2, 3]."""
    if name == "string":
        flat = np.array([b"", b"a", "é".encode(), b"\0\xff", b"x" * 300, b"a"], object)
    elif name == "bool":
        flat = np.array([True, False, False, True, True, False])
    elif name == "bfloat16":
        flat = np.array([0, -0.0, 1.5, -3.25, np.inf, 3e38], ml_dtypes.bfloat16)
    elif name.startswith("float"):
        info = np.finfo(name)
        flat = np.array([0, -0.0, 1.5, -3.25, np.inf, info.max], name)
    else:
        info = np.iinfo(name)
        flat = np.array([info.min, info.max, 0, 1, 2, 100], name)
    return flat.reshape(2, 3)


def bits(array):
    elements = array.tolist() if array.dtype == object else array.tobytes()
    return array.dtype, array.shape, elements


@pytest.mark.parametrize("encoding", [content, typed])
@pytest.mark.parametrize("name", DTYPES)
def test_grpc_carries(small, name, encoding):
    sent = values(name)
    assert bits(predict(small, f"identity_{name}", {"x": encoding(sent)})["y"]) == bits(sent)


@pytest.mark.parametrize("name", DTYPES)
def test_grpc_answers_in_the_typed_field(small, name):
    sent = values(name)
    answer = send(small, predict_request(f"identity_{name}", {"x": content(sent)})).outputs["y"]
    assert answer.tensor_content == b""
    assert len(getattr(answer, typed_field(name))) == sent.size


@pytest.mark.parametrize("name", DTYPES)
def test_grpc_carries_empty_tensors(small, name):
    sent = values(name)[:0]
    assert bits(predict(small, f"identity_{name}", {"x": content(sent)})["y"]) == bits(sent)


@pytest.mark.parametrize("name", DTYPES)
def test_metadata_names_the_dtype(small, name):
    signature = signatures_of(small, f"identity_{name}")["serving_default"]
    for info in (signature.inputs["x"], signature.outputs["y"]):
        assert tf.as_dtype(info.dtype).name == name
        assert info.tensor_shape.unknown_rank


@pytest.mark.parametrize("name", DTYPES)
def test_grpc_carries_scalars_of_the_helper(small, name):
    sent = values(name)[1, 1]
    proto = tf.make_tensor_proto(sent)
    assert proto.tensor_content == b""
    found = predict(small, f"identity_{name}", {"x": proto})["y"]
    assert bits(found) == bits(np.array(sent, values(name).dtype))


@pytest.mark.parametrize("name", ["float32", "float64", "int8", "int16", "int32", "int64"])
def test_rest_carries_numbers(small, name):
    rows = [[1, -2, 3], [4, 5, 100]]
    model = f"identity_{name}:predict"
    assert post_ok(small, model, {"instances": rows}) == {"predictions": rows}
    assert post_ok(small, model, {"inputs": {"x": rows}}) == {"outputs": rows}


@pytest.mark.parametrize("name", ["int64", "uint64"])
def test_rest_carries_large_integers_exactly(small, name):
    rows = [int(np.iinfo(name).max), int(np.iinfo(name).min)]
    assert post_ok(small, f"identity_{name}:predict", {"instances": rows}) == {"predictions": rows}


def test_rest_carries_booleans(small):
    rows = [True, False]
    assert post_ok(small, "identity_bool:predict", {"instances": rows}) == {"predictions": rows}


def test_rest_carries_values_that_json_has_no_words_for(small):
    answer = post_ok(small, "identity_float32:predict", '{"instances": [NaN, Infinity, -Infinity]}')
    first, second, third = answer["predictions"]
    assert np.isnan(first) and second == np.inf and third == -np.inf


@pytest.mark.parametrize(
    "body, text",
    [
        ({"instances": [1.5]}, "is not of expected type: int32"),
        ({"instances": ["1"]}, "Type: String is not of expected type: int32"),
        ({"instances": [None]}, "Type: Null is not of expected type: int32"),
        ({"instances": [[1, 2], [3]]}, "Expecting tensor size: 2 but got: 1"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": 5}, "Expecting 'instances' to be an list/array"),
        ({"inputs": [1], "instances": [1]}, "expecting only one of 'inputs' or 'instances'"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ("", "JSON Parse error: The document is empty"),
        ("instances = [1]", "JSON Parse error: Invalid value"),
    ],
)
def test_rest_refuses(small, body, text):
    code, answer = post(small, "identity_int32:predict", body)
    assert code == 400
    assert text in answer["error"]


def tensor(dtype, shape=(), **fields):
    proto = TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


INCOMPLETE = {
    "the last value repeats": (tensor("float32", [4], float_val=[1, 2]), [1, 2, 2, 2]),
    "no value is zeros": (tensor("float32", [3]), [0, 0, 0]),
    "too many values are cut": (tensor("float32", [2], float_val=[1, 2, 3]), [1, 2]),
    "a scalar takes the first": (tensor("float32", [], float_val=[7, 8]), 7),
    "a scalar without value is zero": (tensor("float32", []), 0),
    "content wins": (tensor("float32", [1], float_val=[1], tensor_content=b"\0\0\0\x40"), [2]),
    "half repeats": (tensor("float16", [2], half_val=[0x3C00]), [1, 1]),
    "half has 16 bits": (tensor("float16", [1], half_val=[0x7F3C00]), [1]),
    "int8 wraps": (tensor("int8", [1], int_val=[300]), [44]),
    "uint8 wraps": (tensor("uint8", [1], int_val=[-1]), [255]),
    "int16 wraps": (tensor("int16", [1], int_val=[70000]), [4464]),
    "a wrong field is no field": (tensor("int64", [1], int_val=[5]), [0]),
    "an empty tensor ignores values": (
        tensor("float32", [0, 3], float_val=[1]),
        np.zeros((0, 3)),
    ),
}


@pytest.mark.parametrize("proto, expected", INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_incomplete_tensors_mean_what_they_mean_to_tensorflow(small, proto, expected):
    name = tf.as_dtype(proto.dtype).name
    found = predict(small, f"identity_{name}", {"x": proto})["y"]
    np.testing.assert_array_equal(found, np.array(expected, tf.as_dtype(proto.dtype).as_numpy_dtype))


@pytest.mark.parametrize(
    "proto",
    [
        tensor("float32", [2], tensor_content=b"\0" * 7),
        tensor("float32", [2], tensor_content=b"\0" * 9),
        tensor("float32", [-1], float_val=[1]),
        tensor("float32", [1 << 40, 1 << 40], float_val=[1]),
        tensor("bool", [1], tensor_content=b"\2"),
    ],
    ids=["too short", "too long", "negative size", "size overflow", "bool of 2"],
)
def test_tensors_that_cannot_be_read_are_refused_by_name(small, proto):
    model = f"identity_{tf.as_dtype(proto.dtype).name}"
    code, text = refused(lambda: predict(small, model, {"x": proto}))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("tensor parsing error: x")
