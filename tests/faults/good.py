"""Requests that are answered well, of every method: what the bad ones are made from."""

import base64
import json

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from conftest import ROOT
from protobuf import field

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
PREDICT = PREDICTION + "Predict"
RELOAD = MODEL + "HandleReloadConfigRequest"
PICTURE = (ROOT / "models" / "digits" / "samples" / "7.png").read_bytes()
PAIR = {"a": np.array([[1, 2], [3, 4]], np.float32), "b": np.array([[0.5, 1], [2, 4]], np.float32)}


def predict(model, inputs, signature="", version=None, label=None, outputs=()):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request.SerializeToString(deterministic=True)


def predict_with(model, name, tensor):
    """A Predict whose input is this serialized TensorProto."""
    entry = field(1, name.encode()).write() + field(2, tensor).write()
    return field(1, field(1, model.encode()).write()).write() + field(2, entry).write()


def example(**features):
    made = tf.train.Example()
    for name, values in features.items():
        kind = made.features.feature[name]
        (kind.int64_list if isinstance(values[0], int) else kind.float_list).value.extend(values)
    return made


def with_examples(request, model, examples, context=None):
    if model:
        request.model_spec.name = model
    if context is None:
        request.input.example_list.examples.extend(examples)
    else:
        request.input.example_list_with_context.examples.extend(examples)
        request.input.example_list_with_context.context.CopyFrom(context)
    return request


def multi_inference():
    request = inference_pb2.MultiInferenceRequest()
    for signature, method in (("serving_default", "classify"), ("second", "regress")):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "scores_and_outputs"
        task.model_spec.signature_name = signature
    return with_examples(request, None, [example(x=[0.75, 0.25], count=[7])])


def named(request, **spec):
    request.model_spec.name = spec.pop("name")
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    return request


def metadata():
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    return named(request, name="pair")


def status(**spec):
    return named(get_model_status_pb2.GetModelStatusRequest(), **spec)


def reload(models):
    """`models` are (name, base path)."""
    request = model_management_pb2.ReloadConfigRequest()
    for name, base_path in models:
        listed = request.config.model_config_list.config.add(name=name, base_path=str(base_path))
        listed.model_platform = "tensorflow"
        listed.version_labels["stable"] = 1
        listed.model_version_policy.specific.versions.append(1)
    return request.SerializeToString(deterministic=True)


def calls():
    """(path, serialized request) of every unary method but the reload."""
    scored = [example(x=[0.75, 0.25], count=[7]), example(x=[0.5, 0.5], count=[1])]
    shared = (scored[:1], example(count=[3]))
    classification, regression = classification_pb2.ClassificationRequest, regression_pb2.RegressionRequest
    messages = [
        (PREDICTION + "Classify", with_examples(classification(), "scores_and_outputs", scored)),
        (PREDICTION + "Classify", with_examples(classification(), "scores_and_outputs", *shared)),
        (PREDICTION + "Regress", with_examples(regression(), "scores_and_outputs", scored)),
        (PREDICTION + "MultiInference", multi_inference()),
        (PREDICTION + "GetModelMetadata", metadata()),
        (MODEL + "GetModelStatus", status(name="half_plus")),
    ]
    made = [(path, request.SerializeToString(deterministic=True)) for path, request in messages]
    strings = np.array([PICTURE, PICTURE], object)
    return made + [
        (PREDICT, predict("half_plus", {"x": np.array([1, 2, 3], np.float32)}, label="canary")),
        (PREDICT, predict("half_plus", {"x": np.array([4], np.float32)}, version=1)),
        (PREDICT, predict("pair", PAIR, signature="serving_default", outputs=["sum"])),
        (PREDICT, predict("identity_int64", {"x": np.arange(24).reshape(2, 3, 4)})),
        (PREDICT, predict("identity_bool", {"x": True})),
        (PREDICT, predict("identity_float16", {"x": np.ones((2, 2), np.float16)})),
        (PREDICT, predict("digits", {"image": strings})),
        ("/grpc.health.v1.Health/Check", field(1, b"pair").write()),
    ]


# (path, serialized request) of the methods that stream.
STREAMS = [
    ("/grpc.health.v1.Health/Watch", field(1, b"pair").write()),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        field(1, b"host").write() + field(4, b"tensorflow.serving.PredictionService").write(),
    ),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", field(7, b"").write()),
]


def rest():
    """(method, target, body) of every call."""
    picture = {"b64": base64.b64encode(PICTURE).decode()}
    examples = [{"x": [0.75, 0.25], "count": 7}, {"x": [0.5, 0.5], "count": 1}]
    rows = [{"a": [1.0, 2.0], "b": [0.5, 1.0]}, {"a": [3.0, 4.0], "b": [2.0, 4.0]}]
    columns = {name: value.tolist() for name, value in PAIR.items()}
    bodies = [
        ("half_plus:predict", {"instances": [1.0, 2.0, 5.0]}),
        ("half_plus/versions/1:predict", {"inputs": [1.0, 2.0]}),
        ("half_plus/labels/canary:predict", {"inputs": {"x": [1, 2]}}),
        ("pair:predict", {"signature_name": "serving_default", "instances": rows}),
        ("pair:predict", {"inputs": columns}),
        ("identity_int64:predict", {"inputs": [[1, 2], [3, 4]]}),
        ("identity_bool:predict", {"instances": [True, False]}),
        ("digits:predict", {"instances": [picture, {"image": picture}][:1]}),
        ("digits:predict", {"inputs": {"image": [picture, picture]}}),
        ("scores_and_outputs:classify", {"examples": examples}),
        ("scores_and_outputs:classify", {"context": {"count": 3}, "examples": [{"x": [1.5, 2.5]}]}),
        ("scores_and_outputs:regress", {"signature_name": "second", "examples": examples}),
    ]
    posts = [("POST", f"/v1/models/{target}", json.dumps(body).encode()) for target, body in bodies]
    paths = [
        "/v1/models/half_plus", "/v1/models/half_plus/versions/2", "/v1/models/half_plus/labels/stable",
        "/v1/models/pair/metadata", "/v1/models/half_plus/versions/1/metadata", "/healthz/live",
        "/healthz/ready", "/healthz/models", "/healthz/models/pair", "/monitoring/prometheus/metrics",
    ]  # fmt: skip
    gets = [("GET", path, b"") for path in paths]
    return posts + gets + [("OPTIONS", "/v1/models/pair:predict", b"")]
