"""The flow of a widely copied guide to TensorFlow Serving, in its order, on this server.

The guide's user has a frozen TensorFlow graph, exports it, writes a `models.config`,
starts the server, looks at the status with curl, calls it with a gRPC and a REST
client, and is promised that a version 3 takes over without a restart. What differs
here is that a version holds `model.onnx`, made by tf2onnx from the guide's export: where
it holds the export alone, the status says how to convert it.

What is not run here, and what stands for it:

- chapter 2, the installation of docker and nvidia-docker and the pull of the image;
- `docker run` (`-it -d -t --privileged`): the program is started as the image's entry
  point would start it, under the name that it has there, with the same flags and
  variables. `-v` and `-p` give the container /models, 8500 and 8501: here a folder with
  the same tree and free ports stand for these, and links for the `--mount` of its second
  way to start. NVIDIA_VISIBLE_DEVICES is set, but there need be no GPU;
- the paths of conversion for PyTorch and Keras, of which the guide has no code: see
  test_conversions.py;
- `tf.contrib.util.make_tensor_proto`, which is `tf.make_tensor_proto` since TensorFlow 2.
"""

import json
import shlex
import shutil
import subprocess
import time

import cv2
import numpy as np
import pytest

import small_models
from conftest import running
from guide_clients import YourModel, read_rgb, rest_predict
from guide_config import as_printed, labelled
from guide_export import convert, expected, pb_to_tfserving, write_frozen_graph
from server import BINARY, START_SECONDS

BUNDLE = """
[signatures.your_model]
default = true
"""
VARIABLES = {"NVIDIA_VISIBLE_DEVICES": "0"}


def export(folder, version):
    """Chapter 3.1: the frozen graph, and the SavedModel made of it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_frozen_graph(folder / f"{version}.pb", version)
    pb_to_tfserving(folder / f"{version}.pb", folder / str(version))
    return folder / str(version)


def to_onnx(saved_model, version):
    """What the guide's user has to do besides: convert the export, name the signature."""
    target = saved_model.parent / f"{version}.onnx"
    convert(
        f"python -m tf2onnx.convert --saved-model {saved_model} --output {target} --opset 18".split()
    )
    return target


def entry_point(models, *arguments):
    """The flags that the image's entry point starts the server with."""
    return ["--model_name=model", f"--model_base_path={models}/model", *arguments]


def curl(url):
    command = ["curl", "--silent", "--show-error", "--max-time", "30", url]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def until(reached, act=lambda: None):
    """Repeats `act` until `reached()`."""
    deadline = time.monotonic() + START_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "never reached"
        act()


def states(server, model="your_model"):
    rows = json.loads(curl(f"{server.url}/v1/models/{model}"))["model_version_status"]
    return {int(row["version"]): row["state"] for row in rows}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("guide")


@pytest.fixture(scope="module")
def exports(work):
    """The folder with 1.pb, 1/, 1.onnx and so on; the third is not converted."""
    for version in (1, 2):
        to_onnx(export(work / "exports", version), version)
    export(work / "exports", 3)
    return work / "exports"


@pytest.fixture(scope="module")
def image_file(work):
    """A photograph's stand-in: its mean colour is far from gray, so that no order of
    channels but one fits."""
    noise = np.random.default_rng(0).integers(0, 60, (90, 120, 3))
    file = work / "test.jpg"
    assert cv2.imwrite(str(file), (noise + np.array([10, 90, 180])).astype(np.uint8))
    return file


@pytest.fixture(scope="module")
def models(work, exports):
    """/home/tfserving/models of the guide."""
    folder = work / "home" / "tfserving" / "models"
    for version in (1, 2):
        publish(exports, folder, version)
        data = small_models.half_plus(version)
        small_models.write_version(folder, "mnist", version, data)
    return folder


def publish(exports, models, version):
    """A copy in place, as a user makes it."""
    target = models / "your_model" / str(version)
    target.mkdir(parents=True)
    (target / "bundle.toml").write_text(BUNDLE)
    shutil.copy(exports / f"{version}.onnx", target / "model.onnx")


@pytest.fixture(scope="module")
def program(work):
    link = work / "tensorflow_model_server"
    link.symlink_to(BINARY)
    return link


@pytest.fixture(scope="module")
def answers(exports, image_file):
    """TensorFlow's own answer of each version."""
    bgr = read_rgb(image_file)[..., ::-1]
    found = {version: expected(exports / f"{version}.pb", bgr) for version in (1, 2, 3)}
    rgb = expected(exports / "2.pb", bgr[..., ::-1])
    assert np.abs(found[2] - rgb).max() > 0.1
    assert np.abs(found[2] - found[3]).max() > 0.05
    return found


@pytest.fixture(scope="module")
def server(work, models, program):
    """Chapter 3.2, the first way to start."""
    config = models / "models.config"
    config.write_text(as_printed(models))
    arguments = entry_point(models, f"--model_config_file={config}")
    log, wanted = work / "log", ["your_model", "mnist"]
    with running(arguments, wanted, log, program=program, environment=VARIABLES) as server:
        yield server


def close_to(answer, wanted):
    np.testing.assert_allclose(answer, wanted, atol=1e-5)


def test_the_file_as_printed_lacks_a_brace_and_is_refused(work, models, program):
    config = work / "unfinished.config"
    config.write_text(as_printed(models, end=""))
    command = [program, *entry_point(models, f"--model_config_file={config}")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in text
    assert str(config) in text


def test_the_status_by_curl_is_what_the_guide_prints(server):
    answer = json.loads(curl(f"{server.url}/v1/models/your_model"))
    status = {"error_code": "OK", "error_message": ""}
    row = {"version": "2", "state": "AVAILABLE", "status": status}
    # As text, for the order of the keys too.
    assert json.dumps(answer) == json.dumps({"model_version_status": [row]})


def test_the_second_model_serves_the_versions_that_it_lists(server):
    assert states(server, "mnist") == {2: "AVAILABLE", 1: "AVAILABLE"}


def test_the_second_way_to_start_mounts_each_model_by_itself(
    work, models, program, image_file, answers
):
    mounted, folder = work / "mounted" / "models", models / "your_model"
    mounted.mkdir(parents=True)
    # The guide keeps the configuration in the model's folder.
    text = as_printed(mounted)
    (folder / "models.config").write_text(text)
    (mounted / "your_model").symlink_to(folder)
    (mounted / "mnist").symlink_to(models / "mnist")
    (mounted / "models.config").symlink_to(folder / "models.config")
    arguments = entry_point(mounted, f"--model_config_file={mounted}/models.config")
    log, wanted = work / "mounted.log", ["your_model", "mnist"]
    with running(arguments, wanted, log, program=program, environment=VARIABLES) as server:
        assert states(server) == {2: "AVAILABLE"}
        client = YourModel(f"127.0.0.1:{server.grpc_port}")
        close_to(client.run_file(image_file), answers[2])


def test_the_grpc_client(server, image_file, answers):
    result = YourModel(f"127.0.0.1:{server.grpc_port}").run_file(image_file)
    assert (result.shape, result.dtype) == ((2,), np.float32)
    close_to(result, answers[2])


def test_the_rest_client(server, image_file, answers):
    answer = rest_predict(f"{server.url}/v1/models/your_model:predict", image_file)
    assert list(answer) == ["predictions"]
    close_to(answer["predictions"], answers[2])


def test_version_3_becomes_current_without_a_restart(
    server, models, exports, image_file, answers
):
    client = YourModel(f"127.0.0.1:{server.grpc_port}")

    def ask():
        close_to(client.run_file(image_file), answers[client.version])

    ask()
    assert client.version == 2
    pid = server.process.pid
    # As the guide has it: the export alone. Version 2 goes on, the status says what to do.
    version = models / "your_model" / "3"
    shutil.copytree(exports / "3", version)
    until(lambda: 3 in states(server), ask)
    until(lambda: states(server)[3] == "END", ask)
    row = json.loads(curl(f"{server.url}/v1/models/your_model"))["model_version_status"][0]
    assert (row["version"], row["status"]["error_code"]) == ("3", "UNIMPLEMENTED")
    message = row["status"]["error_message"]
    assert message in server.log.read_text()
    command, hint = message.split("converted to ONNX first: ")[1].split(";", 1)
    assert f"--saved-model {version} --output {version}/model.onnx" in command
    assert f"{version}/bundle.toml keeps with [signatures.your_model] and default = true" in hint
    ask()
    assert client.version == 2
    (version / "bundle.toml").write_text(BUNDLE)
    convert(shlex.split(command))
    until(lambda: client.version == 3, ask)
    until(lambda: states(server) == {3: "AVAILABLE", 2: "END"}, ask)
    assert (server.process.poll(), server.process.pid) == (None, pid)
    answer = rest_predict(f"{server.url}/v1/models/your_model:predict", image_file)
    close_to(answer["predictions"], answers[3])


@pytest.fixture(scope="module")
def with_labels(work, models, exports, program):
    """The same start with the comments taken away, and the file followed."""
    if not (models / "your_model" / "3").exists():
        to_onnx(exports / "3", 3)
        publish(exports, models, 3)
    config = models / "labelled.config"
    config.write_text(labelled(models, [2, 3], stable=2, canary=3))
    arguments = entry_point(
        models, f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1"
    )
    log, wanted = work / "labels.log", ["your_model", "mnist"]
    with running(arguments, wanted, log, program=program, environment=VARIABLES) as server:
        until(lambda: states(server) == {3: "AVAILABLE", 2: "AVAILABLE"})
        yield server


def of_label(server, label):
    client = YourModel(f"127.0.0.1:{server.grpc_port}")
    client.request.model_spec.version_label = label
    return client


def test_specific_versions_and_labels(with_labels, image_file, answers):
    for label, version in (("stable", 2), ("canary", 3)):
        client = of_label(with_labels, label)
        close_to(client.run_file(image_file), answers[version])
        assert client.version == version
        url = f"{with_labels.url}/v1/models/your_model/labels/{label}:predict"
        close_to(rest_predict(url, image_file)["predictions"], answers[version])
    url = f"{with_labels.url}/v1/models/your_model/versions/2:predict"
    close_to(rest_predict(url, image_file)["predictions"], answers[2])
    newest = YourModel(f"127.0.0.1:{with_labels.grpc_port}")
    close_to(newest.run_file(image_file), answers[3])


def test_a_label_is_moved_by_editing_the_file(with_labels, models, image_file, answers):
    stable, canary = of_label(with_labels, "stable"), of_label(with_labels, "canary")

    def ask():
        for client in (stable, canary):
            close_to(client.run_file(image_file), answers[client.version])

    def edit(versions, **labels):
        (models / "labelled.config").write_text(labelled(models, versions, **labels))

    ask()
    assert (stable.version, canary.version) == (2, 3)
    edit([2, 3], stable=3, canary=3)
    until(lambda: stable.version == 3, ask)
    # Back, and to a version that is not loaded yet, in the same edit.
    edit([1, 2], stable=2, canary=1)
    until(lambda: (stable.version, canary.version) == (2, 1), ask)
    until(lambda: states(with_labels) == {3: "END", 2: "AVAILABLE", 1: "AVAILABLE"}, ask)
    # An edit that cannot be read changes nothing.
    (models / "labelled.config").write_text("model_config_list {")
    log = with_labels.log
    until(lambda: "Error parsing text-format" in log.read_text(errors="replace"), ask)
    ask()
    assert (stable.version, canary.version) == (2, 1)
