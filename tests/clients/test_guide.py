"""The client flow of a widely copied TensorFlow Serving guide works unchanged.

The guide's configuration file, its gRPC client, its REST client and its promise
that a new version takes over without a restart; the model's folder holds an
ONNX bundle instead of a SavedModel. `tf.contrib.util.make_tensor_proto` is
`tf.make_tensor_proto` today, and cv2 is left out: it only reads the picture.
"""

import json
import time

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from onnx import TensorProto, helper
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import small_models
from conftest import PLUGINS, running
from server import START_SECONDS

SIDE = 16
CONFIG = """
# models.config
model_config_list {{
  config {{
    name: 'your_model'
    base_path: '{models}/your_model/'
    model_platform: 'tensorflow'
    # model_version_policy {{
    #   specific {{
    #     versions: 42
    #     versions: 43
    #   }}
    # }}
    # version_labels {{
    #   key: 'stable'
    #   value: 43
    # }}
  }}
  config {{
    name: "mnist",
    base_path: "{models}/mnist",
    model_platform: "tensorflow",
    model_version_policy: {{
      specific: {{
        versions: 1,
        versions: 2
      }}
    }}
  }}
}}
# model_version_policy chooses the versions
"""
BUNDLE = f"""
[signatures.your_model]
preprocess = {{ plugin = "preprocess-image", version = "latest", config = {{ input = "raw", input_name = "input", input_color = "bgr", size = [{SIDE}, {SIDE}], resize = "bilinear", scale = 255.0 }} }}
"""


class YourModel:
    """The guide's client."""

    def __init__(self, socket):
        options = [
            ("grpc.max_send_message_length", 1024 * 1024 * 1024),
            ("grpc.max_receive_message_length", 1024 * 1024 * 1024),
        ]
        channel = grpc.insecure_channel(socket, options=options)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.request = predict_pb2.PredictRequest()
        self.request.model_spec.name = "your_model"  # model name
        self.request.model_spec.signature_name = "your_model"  # model signature name

    def run(self, image):
        img = image[..., ::-1]
        self.request.inputs["input"].CopyFrom(tf.make_tensor_proto(img))
        result = self.stub.Predict(self.request, 30.0)
        self.version = result.model_spec.version.value
        return tf.make_ndarray(result.outputs["output"])


class SelfEncoder(json.JSONEncoder):
    """The guide's way of writing arrays as JSON."""

    def default(self, obj):
        if isinstance(obj, np.ndarray):
            return obj.tolist()
        if isinstance(obj, np.floating):
            return float(obj)
        if isinstance(obj, bytes):
            return str(obj, encoding="utf-8")
        return json.JSONEncoder.default(self, obj)


def weights(version):
    """What each colour's mean says for the two classes; no two alike."""
    return np.array([[1, -0.25], [0.25, 0.5], [-0.75, 0.75]], np.float32) * version


def two_classes(version):
    """Two probabilities from the mean colour of a picture."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["output"], axis=1),
    ]
    inputs = [("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])]
    outputs = [("output", TensorProto.FLOAT, ["N", 2])]
    constants = {"w": weights(version)}
    return small_models.checked(
        small_models.model("two_classes", nodes, inputs, outputs, constants)
    )


def expected(image, version):
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    powers = np.exp((np.asarray(small) / 255).mean((0, 1)) @ weights(version))
    return powers / powers.sum()


def write_bundle(base, version):
    """Uploads a version as an operator should: whole, by a rename."""
    unfinished = base / f"{version}.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "model.onnx").write_bytes(two_classes(version))
    (unfinished / "bundle.toml").write_text(BUNDLE)
    unfinished.rename(base / str(version))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide") / "models"
    for version in (1, 2):
        write_bundle(folder / "your_model", version)
        data = small_models.half_plus(version)
        small_models.write_version(folder, "mnist", version, data)
    return folder


@pytest.fixture(scope="module")
def server(models):
    config = models / "models.config"
    config.write_text(CONFIG.format(models=models))
    arguments = [f"--model_config_file={config}", f"--plugin_repository={PLUGINS}"]
    with running(arguments, ["your_model", "mnist"], models.parent / "log") as server:
        yield server


@pytest.fixture(scope="module")
def image():
    """Noise whose mean colour is far from gray, so that no channel order but one fits."""
    noise = np.random.default_rng(0).integers(0, 60, (90, 120, 3))
    return (noise + np.array([180, 90, 10])).astype(np.uint8)


def test_grpc_client(server, image):
    result = YourModel(f"127.0.0.1:{server.grpc_port}").run(image)
    assert result.shape == (2,)
    np.testing.assert_allclose(result, expected(image, 2), atol=2e-3)
    swapped = expected(np.ascontiguousarray(image[..., ::-1]), 2)
    assert np.abs(swapped - expected(image, 2)).max() > 0.1


def test_rest_client(server, image):
    input_data = {"signature_name": "your_model", "instances": image[..., ::-1]}
    data = json.dumps(input_data, cls=SelfEncoder, indent=None)
    url = f"{server.url}/v1/models/your_model:predict"
    result = requests.post(url, data=data)
    answer = eval(result.content)  # as the guide does
    np.testing.assert_allclose(answer["predictions"], expected(image, 2), atol=2e-3)


def test_status_as_the_guide_prints_it(server):
    answer = requests.get(f"{server.url}/v1/models/your_model").json()
    status = {"error_code": "OK", "error_message": ""}
    row = {"version": "2", "state": "AVAILABLE", "status": status}
    assert answer == {"model_version_status": [row]}


def test_the_second_model_serves_the_versions_it_lists(server):
    answer = requests.get(f"{server.url}/v1/models/mnist").json()
    states = [(row["version"], row["state"]) for row in answer["model_version_status"]]
    assert states == [("2", "AVAILABLE"), ("1", "AVAILABLE")]


def test_a_new_version_takes_over_without_a_failed_request(server, models, image):
    client = YourModel(f"127.0.0.1:{server.grpc_port}")
    client.run(image)
    assert client.version == 2
    write_bundle(models / "your_model", 3)
    deadline = time.monotonic() + START_SECONDS
    while client.version == 2 and time.monotonic() < deadline:
        result = client.run(image)
        np.testing.assert_allclose(result, expected(image, client.version), atol=2e-3)
    assert client.version == 3
