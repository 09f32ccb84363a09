"""The guide's clients on a model whose pictures a plugin makes ready.

The model takes batches of 16 x 16 floats, channels first; the clients send one picture
of any size, without the batch's dimension, and are none the wiser.
"""

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

import small_models
from conftest import PLUGINS, running
from guide_clients import YourModel, read_rgb, rest_predict
from guide_export import SIDE, weights

BUNDLE = f"""
[signatures.your_model]
preprocess = {{ plugin = "preprocess-image", version = "latest", config = {{ input = "raw", input_name = "input", input_color = "bgr", size = [{SIDE}, {SIDE}], resize = "bilinear", scale = 255.0 }} }}
"""


def two_classes():
    """Two probabilities from the mean colour of a picture."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["output"], axis=1),
    ]
    inputs = [("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])]
    outputs = [("output", TensorProto.FLOAT, ["N", 2])]
    constants = {"w": weights(1)}
    return small_models.checked(
        small_models.model("two_classes", nodes, inputs, outputs, constants)
    )


def expected(rgb):
    small = Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    powers = np.exp((np.asarray(small) / 255).mean((0, 1)) @ weights(1))
    return powers / powers.sum()


@pytest.fixture(scope="module")
def image_file(tmp_path_factory):
    """Noise whose mean colour is far from gray, so that no channel order but one fits."""
    noise = np.random.default_rng(0).integers(0, 60, (90, 120, 3))
    file = tmp_path_factory.mktemp("picture") / "test.png"
    assert cv2.imwrite(str(file), (noise + np.array([10, 90, 180])).astype(np.uint8))
    return file


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    models = tmp_path_factory.mktemp("guide_plugin") / "models"
    small_models.write_version(models, "your_model", 1, two_classes())
    (models / "your_model" / "1" / "bundle.toml").write_text(BUNDLE)
    arguments = [
        "--model_name=your_model",
        f"--model_base_path={models}/your_model",
        f"--plugin_repository={PLUGINS}",
    ]
    with running(arguments, ["your_model"], models.parent / "log") as server:
        yield server


def test_grpc_client(server, image_file):
    result = YourModel(f"127.0.0.1:{server.grpc_port}").run_file(image_file)
    rgb = read_rgb(image_file)
    assert result.shape == (2,)
    np.testing.assert_allclose(result, expected(rgb), atol=2e-3)
    swapped = expected(np.ascontiguousarray(rgb[..., ::-1]))
    assert np.abs(swapped - expected(rgb)).max() > 0.1


def test_rest_client(server, image_file):
    answer = rest_predict(f"{server.url}/v1/models/your_model:predict", image_file)
    np.testing.assert_allclose(answer["predictions"], expected(read_rgb(image_file)), atol=2e-3)
