"""The guides of docs/guide that start in another framework, run as they stand there.

Each makes a model, converts it, serves it, and compares the answers with the
framework's own. PyTorch is too large for every run of the tests: its page is run where
this interpreter has it, or INGLE_TORCH_PYTHON names one that has torch and numpy.
"""

import importlib.util
import json
import os
import shlex
import time

import grpc
import pytest
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import get_model_status_pb2

from calls import predict_request, refused, send
from conftest import running
from guide_page import Page
from server import ROOT, START_SECONDS

END = get_model_status_pb2.ModelVersionStatus.END
TORCH = os.environ.get("INGLE_TORCH_PYTHON")


@pytest.mark.parametrize("framework", ["tensorflow", "keras", "scikit-learn"])
def test_a_guide_runs_as_it_stands(framework, tmp_path):
    Page(tmp_path).run(f"from-{framework}.md")


@pytest.mark.skipif(
    not (TORCH or importlib.util.find_spec("torch")),
    reason="PyTorch is not installed; INGLE_TORCH_PYTHON may name a Python that has it",
)
def test_the_guide_of_pytorch_runs_as_it_stands(tmp_path):
    Page(tmp_path, {"make.py": TORCH} if TORCH else None).run("from-pytorch.md")


# A file that a version holds in place of an ONNX file, what it is, and the guide about it.
FOREIGN = {
    "keras": ("net.keras", "a Keras model", "from-keras"),
    "hdf5": ("net.h5", "a Keras model", "from-keras"),
    "tflite": ("net.tflite", "a TensorFlow Lite model", "from-tensorflow"),
    "graph": ("frozen.pb", "a TensorFlow graph", "from-tensorflow"),
    "saved": ("saved_model.pb", "a TensorFlow SavedModel", "from-tensorflow"),
    "text": ("saved_model.pbtxt", "a TensorFlow SavedModel", "from-tensorflow"),
    "torch": ("net.pt", "a PyTorch model", "from-pytorch"),
    "weights": ("net.pth", "a PyTorch model", "from-pytorch"),
    "pickle": ("forest.pkl", "a pickled Python model", "from-scikit-learn"),
    "joblib": ("forest.joblib", "a pickled Python model", "from-scikit-learn"),
}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A server whose every model is another framework's."""
    folder = tmp_path_factory.mktemp("foreign")
    for model, (file, _, _) in FOREIGN.items():
        version = folder / "it's all" / model / "1"
        version.mkdir(parents=True)
        (version / file).write_bytes(b"")
    arguments = ["serve", "--repository", folder / "it's all"]
    with running(arguments, [], folder / "log") as server:
        yield server


def ended(server, model):
    """The status of the model's only version, once that has ended."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            rows = server.model.GetModelStatus(request, 5).model_version_status
        except grpc.RpcError:  # not listening yet
            rows = []
        if rows and rows[0].state == END:
            return rows[0]
        time.sleep(0.1)
    raise TimeoutError(server.tail())


@pytest.mark.parametrize("model", FOREIGN)
def test_models_of_other_frameworks_are_refused_with_what_to_do(foreign, model):
    file, what, guide = FOREIGN[model]
    row = ended(foreign, model)
    message = row.status.error_message
    assert (row.version, row.status.error_code) == (1, error_codes_pb2.UNIMPLEMENTED)
    assert message.startswith(f"holds {what} ({file}), which has to be converted")
    # Log lines quote their fields.
    assert json.dumps(message, ensure_ascii=False) in foreign.log.read_text()
    assert (ROOT / "docs" / "guide" / f"{guide}.md").exists()
    assert f"see docs/guide/{guide}.md" in message
    call = lambda: send(foreign, predict_request(model, {"x": [1.0]}))
    assert refused(call) == (
        grpc.StatusCode.NOT_FOUND,
        f"Servable not found for request: Latest({model})",
    )


def test_a_conversion_command_names_the_very_folder(foreign):
    message = ended(foreign, "saved").status.error_message
    words = shlex.split(message.split("converted to ONNX first: ")[1].split(" (pip")[0])
    version = f"{foreign.log.parent}/it's all/saved/1"
    assert words[:7] == [
        *["python", "-m", "tf2onnx.convert", "--saved-model", version],
        *["--output", f"{version}/model.onnx"],
    ]
