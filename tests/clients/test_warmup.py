"""assets.extra/tf_serving_warmup_requests: written by TensorFlow's own writer, answered before
a version serves."""

import re
import shutil
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, prediction_log_pb2

import small_models
from calls import TIMEOUT_SECONDS, predict, predict_request, status_of
from conftest import PLUGINS, ROOT, running
from server import START_SECONDS, Server
from test_examples import SEVEN, classification, example, multi, regression

FILE = "assets.extra/tf_serving_warmup_requests"
X = {"x": [2.0, 4.0]}


def predict_log(inputs, model="", signature="", **choice):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request(model, inputs, signature, **choice))
    return log


def write(version, records):
    """The file of a version folder, with messages or bytes as records."""
    (version / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(version / FILE)) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())


@pytest.fixture
def half_plus(tmp_path):
    """Version 1 of a model, which can be given a file."""
    folder = tmp_path / "models" / "half_plus"
    small_models.write_version(folder.parent, "half_plus", 1, small_models.half_plus(1))
    return folder


def serving(half_plus, *flags):
    arguments = [f"--model_base_path={half_plus}", "--model_name=half_plus", *flags]
    return running(arguments, ["half_plus"], half_plus.parent.parent / "log")


def failure(base_path, name="half_plus", *flags):
    """Code and text with which version 1 ends."""
    log = base_path.parent.parent / "log"
    server = Server([f"--model_base_path={base_path}", f"--model_name={name}", *flags], log)
    try:
        return ended(server, name)
    finally:
        server.kill()


def ended(server, name):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        # The port opens when the only version has failed.
        answer = server.model.GetModelStatus(request, TIMEOUT_SECONDS, wait_for_ready=True)
        (row,) = answer.model_version_status
        if row.state == get_model_status_pb2.ModelVersionStatus.END:
            return row.status.error_code, row.status.error_message
        assert row.state != get_model_status_pb2.ModelVersionStatus.AVAILABLE
        time.sleep(0.05)
    raise TimeoutError(server.tail())


def finished(server):
    """The lines that say how many records were answered."""
    lines = server.log.read_text().splitlines()
    return [line for line in lines if "finished reading warmup data" in line]


def test_requests_are_answered_before_the_version_serves(half_plus):
    # The model's name is not looked at, nor is the version.
    logs = [predict_log(X), predict_log(X, "another", version=77), predict_log(X, outputs=["y"])]
    write(half_plus / "1", logs)
    with serving(half_plus) as server:
        assert predict(server, "half_plus", X)["y"].tolist() == [2.0, 3.0]
        (line,) = finished(server)
        assert "records=3" in line
        log = server.log.read_text()
        assert log.index("finished reading warmup data") < log.index("Successfully loaded servable version")


def test_each_kind_of_request_is_replayed(tmp_path):
    model = "scores_and_outputs"
    small_models.write_version(tmp_path / "models", model, 1, small_models.scores_and_outputs())
    version = tmp_path / "models" / model / "1"
    (version / "bundle.toml").write_text(small_models.TWO_SIGNATURES)
    rows = [example(x=[1.0, 2.0], count=[3]), example(x=[3.0, 4.0], count=[5])]
    classify, regress, both = (prediction_log_pb2.PredictionLog() for _ in range(3))
    classify.classify_log.request.CopyFrom(classification("", rows))
    regress.regress_log.request.CopyFrom(regression("", rows, "second"))
    tasks = [("any", "serving_default", "classify"), ("any", "second", "regress")]
    both.multi_inference_log.request.CopyFrom(multi(tasks, rows))
    inputs = {"x": [[1.0, 2.0]], "count": tf.make_tensor_proto([[3]], tf.int32)}
    # A log without a request is nothing to do, as in TensorFlow Serving.
    logs = [classify, regress, both, predict_log(inputs), prediction_log_pb2.PredictionLog()]
    write(version, logs)
    arguments = [f"--model_base_path={version.parent}", f"--model_name={model}"]
    with running(arguments, [model], tmp_path / "log") as server:
        (line,) = finished(server)
        assert "records=5" in line


@pytest.mark.parametrize(
    ("log_type", "number"), [("session_run_log", 5), ("predict_streamed_log", 7)]
)
def test_other_kinds_are_not_served(half_plus, log_type, number):
    log = prediction_log_pb2.PredictionLog()
    getattr(log, log_type).SetInParent()
    write(half_plus / "1", [predict_log(X), log])
    code, text = failure(half_plus)
    assert (code, text) == (12, f"Unsupported log_type for warmup: {number} (warmup record 2)")


@pytest.mark.parametrize(
    ("log", "code", "text"),
    [
        (predict_log({"x": [[1.0, 2.0]]}), 3, 'input "x": expects shape'),
        (predict_log({"x": ["text"]}), 3, 'input "x": expects'),
        (predict_log({"z": [1.0]}), 3, "Signature input alias: x"),
        (predict_log(X, signature="nope"), 9, 'Serving signature key "nope" not found.'),
        (b"\xff\xff\xff", 3, "Failed to parse warmup record"),
        (b"\x32\x05", 3, "Failed to parse warmup record"),
    ],
    ids=["rank", "dtype", "name", "signature", "bytes", "cut"],
)
def test_a_request_that_fails_fails_the_version(half_plus, log, code, text):
    write(half_plus / "1", [predict_log(X), log])
    found, message = failure(half_plus)
    assert found == code, message
    assert text in message and message.endswith("(warmup record 2)"), message


def damaged(file, how):
    data = bytearray(file.read_bytes())
    length = int.from_bytes(data[:8], "little")
    match how:
        case "length":
            data[0] ^= 1
        case "data":
            data[13] ^= 0x40
        case "checksum":
            data[12 + length] ^= 1
        case "cut":
            del data[-3:]
        case "short":
            del data[7:]
        case "text":
            data[:] = b"This is not what TensorFlow calls a TFRecord.\n"
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("length", "corrupted record at 0 (Is this even a TFRecord file?)"),
        ("data", "corrupted record at 12"),
        ("checksum", "corrupted record at 12"),
        ("cut", "truncated record at 0' failed with Read less bytes than requested"),
        ("short", "truncated record at 0' failed with Read less bytes than requested"),
        ("text", "corrupted record at 0 (Is this even a TFRecord file?)"),
    ],
)
def test_a_damaged_file_fails_the_version(half_plus, how, text):
    write(half_plus / "1", [predict_log(X)])
    damaged(half_plus / "1" / FILE, how)
    hint = "Please verify your warmup data is in TFRecord format."
    assert failure(half_plus) == (15, f"{text}. {hint}")


def test_at_most_a_thousand_records(half_plus):
    write(half_plus / "1", [predict_log(X)] * 1000)
    with serving(half_plus) as server:
        assert "records=1000" in finished(server)[0]
    shutil.rmtree(half_plus / "1" / "assets.extra")
    write(half_plus / "1", [predict_log(X)] * 1001)
    code, text = failure(half_plus)
    assert code == 3
    assert text.startswith("Number of warmup records exceeds the maximum (1000)"), text


def test_it_can_be_turned_off(half_plus):
    write(half_plus / "1", [predict_log({"z": [1.0]})])
    with serving(half_plus, "--enable_model_warmup=false") as server:
        assert predict(server, "half_plus", X)["y"].tolist() == [2.0, 3.0]
        assert not finished(server)


def test_a_version_that_fails_leaves_the_one_before_and_is_tried_again_once_mended(half_plus):
    write(half_plus / "1", [predict_log(X)])
    with serving(half_plus, "--file_system_poll_wait_seconds=0.1") as server:
        arriving = half_plus.parent / "2.tmp"
        shutil.copytree(half_plus / "1", arriving)
        (arriving / "model.onnx").write_bytes(small_models.half_plus(2))
        good = (arriving / FILE).read_bytes()
        damaged(arriving / FILE, "cut")
        arriving.rename(half_plus / "2")
        deadline = time.monotonic() + START_SECONDS
        while status_of(server, "half_plus") != [(2, "END"), (1, "AVAILABLE")]:
            assert time.monotonic() < deadline, server.tail()
            time.sleep(0.05)
        assert predict(server, "half_plus", X)["y"].tolist() == [2.0, 3.0]
        (half_plus / "2" / FILE).write_bytes(good)
        while predict(server, "half_plus", X)["y"].tolist() != [3.0, 4.0]:
            assert time.monotonic() < deadline, server.tail()
            time.sleep(0.05)


def digits(tmp_path, image):
    """The bundle of the digits, whose default signature takes a picture."""
    folder = tmp_path / "models" / "digits"
    shutil.copytree(ROOT / "models" / "digits" / "1", folder / "1")
    write(folder / "1", [predict_log({"image": [image]})] * 2)
    return folder


def test_plugins_are_called(tmp_path):
    folder = digits(tmp_path, SEVEN)
    plugins = ["--plugin_repository", PLUGINS]
    arguments = [f"--model_base_path={folder}", "--model_name=digits", *plugins]
    with running(arguments, ["digits"], tmp_path / "log") as server:
        assert "records=2" in finished(server)[0]
        labels = predict(server, "digits", {"image": [SEVEN]})
        assert b"7" in [values.ravel()[0] for values in labels.values()]


def test_the_program_of_the_guide(tmp_path):
    guide = (ROOT / "docs" / "guide" / "warm-up.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    script, version = tmp_path / "warm_up.py", tmp_path / "models" / "digits" / "2"
    script.write_text(program)
    shutil.copytree(ROOT / "models" / "digits" / "1", version)
    picture = ROOT / "models" / "digits" / "samples" / "7.png"
    subprocess.run([sys.executable, script, version, picture], check=True)
    arguments = [f"--model_base_path={version.parent}", "--model_name=digits"]
    arguments += ["--plugin_repository", PLUGINS]
    with running(arguments, ["digits"], tmp_path / "log") as server:
        assert "records=2" in finished(server)[0]


def test_what_a_plugin_refuses_fails_the_version(tmp_path):
    folder = digits(tmp_path, b"no picture")
    code, text = failure(folder, "digits", "--plugin_repository", PLUGINS)
    assert code == 3
    assert text.endswith("(warmup record 1)"), text
