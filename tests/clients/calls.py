"""Requests of the official client, and how their answers are compared."""

import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

TIMEOUT_SECONDS = 120


def predict_request(model, inputs, signature="", version=None, label=None, outputs=()):
    """`inputs` are arrays, lists, bytes or finished TensorProtos, by name."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        if not isinstance(value, TensorProto):
            value = tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(value)
    request.output_filter.extend(outputs)
    return request


def send(server, request):
    return server.prediction.Predict(request, TIMEOUT_SECONDS)


def predict(server, model, inputs, **choice):
    """The outputs of a gRPC Predict as arrays, by name."""
    answer = send(server, predict_request(model, inputs, **choice))
    return {name: tf.make_ndarray(proto) for name, proto in answer.outputs.items()}


def refused(call):
    """The code and text with which a gRPC call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
}


def typed_field(dtype_name):
    """The field of a TensorProto that holds values of this dtype."""
    return FIELDS.get(dtype_name, "int_val")


def header(array):
    """A TensorProto with the dtype and shape of `array`, and no values yet."""
    proto = TensorProto(dtype=tf.as_dtype(array.dtype).as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def typed(array):
    """A TensorProto that holds `array` in its typed field, as Java and Go clients send it."""
    proto = header(array)
    name = tf.as_dtype(array.dtype).name
    flat = array.ravel()
    if typed_field(name) == "half_val":
        flat = flat.view(np.uint16)
    getattr(proto, typed_field(name)).extend(flat)
    return proto


def content(array):
    """A TensorProto that holds `array` as bytes, as the Python helper sends it."""
    proto = header(array)
    if array.dtype == object:
        # All lengths, then all bytes; the helper itself sends strings in string_val.
        strings = array.ravel().tolist()
        proto.tensor_content = b"".join([varint(len(s)) for s in strings] + strings)
    else:
        proto.tensor_content = array.tobytes()
    return proto


def varint(number):
    """A number as protobuf writes lengths."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def status_of(server, model, version=None):
    """(version, state) of a model's versions, in the order they are listed."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    if version is not None:
        request.model_spec.version.value = version
    answer = server.model.GetModelStatus(request, TIMEOUT_SECONDS)
    state = get_model_status_pb2.ModelVersionStatus.State.Name
    return [(row.version, state(row.state)) for row in answer.model_version_status]


def metadata_request(model, *fields):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = model
    request.metadata_field.extend(fields)
    return request


def signatures_of(server, model):
    """SignatureDefs by name."""
    request = metadata_request(model, "signature_def")
    answer = server.prediction.GetModelMetadata(request, TIMEOUT_SECONDS)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    return signatures.signature_def


def post(server, path, body):
    """Status code and JSON of a REST call; `body` is JSON or raw text."""
    # Not `json=`, which refuses NaN, though the protocol takes it.
    sent = {"data": body if isinstance(body, (str, bytes)) else json.dumps(body)}
    answer = server.rest.post(f"{server.url}/v1/models/{path}", timeout=TIMEOUT_SECONDS, **sent)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status_code, answer.json()


def post_ok(server, path, body):
    code, answer = post(server, path, body)
    assert code == 200, answer
    return answer


def get(server, path):
    answer = server.rest.get(f"{server.url}/v1/models/{path}", timeout=TIMEOUT_SECONDS)
    return answer.status_code, answer.json()


def assert_close(found, expected):
    """The project's tolerance for a model's outputs in float32."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    largest = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * largest)
