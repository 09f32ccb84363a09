"""TensorFlow Serving's batching parameters and the timeout of REST, over sockets."""

import subprocess
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

import small_models
from calls import post, predict, predict_request, refused, send
from conftest import running
from server import BINARY
from test_warmup import failure

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def slow():
    """y = x, after as many rounds of a loop as the largest of `rounds` says."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["state", "weights"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [64, 64]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [64, 64]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["rounds"], ["count"], keepdims=0),
        helper.make_node("Loop", ["count", "", "weights"], ["end"], body=body),
        helper.make_node("ReduceMax", ["end"], ["greatest"], keepdims=0),
        helper.make_node("Mul", ["greatest", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    inputs = [("x", TensorProto.FLOAT, ["N"]), ("rounds", TensorProto.INT64, ["N"])]
    constants = {
        "weights": np.eye(64, dtype=np.float32),
        "zero": np.array(0, np.float32),
    }
    outputs = [("y", TensorProto.FLOAT, ["N"])]
    return small_models.model("slow", nodes, inputs, outputs, constants)


# Seconds, of which there is no exact number.
LONG = 200_000


def rounds(count):
    return {"x": [1.0], "rounds": tf.make_tensor_proto([count], tf.int64)}


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    small_models.write_version(folder, "half_plus", 1, small_models.half_plus(1))
    small_models.write_version(folder, "slow", 1, slow())
    return folder


def start(models, name, *flags):
    arguments = [f"--model_base_path={models / name}", f"--model_name={name}", *flags]
    return running(arguments, [name], models.parent / "log")


def parameters(models, text):
    file = models.parent / "batching"
    file.write_text(text)
    return f"--batching_parameters_file={file}"


def x(count):
    return {"x": [1.0] * count}


def test_a_request_larger_than_a_batch_is_refused(models):
    flag = parameters(models, "max_batch_size { value: 3 }")
    with start(models, "half_plus", "--enable_batching", flag) as server:
        assert predict(server, "half_plus", x(3))["y"].tolist() == [1.5] * 3
        code, text = refused(lambda: predict(server, "half_plus", x(4)))
        assert (code, text) == (INVALID, "Task size 4 is larger than maximum input batch size 3")
        code, answer = post(server, "half_plus:predict", {"instances": [1.0] * 4})
        assert (code, answer) == (400, {"error": text})
        log = server.log.read_text()
        assert "requests are not joined yet" in log and "max_batch_size: 3" in log


def test_without_parameters_the_limit_is_a_thousand(models):
    with start(models, "half_plus", "--enable_batching") as server:
        assert len(predict(server, "half_plus", x(1000))["y"]) == 1000
        assert refused(lambda: predict(server, "half_plus", x(1001)))[0] == INVALID
    with start(models, "half_plus", "--enable_batching=false") as server:
        assert len(predict(server, "half_plus", x(1001))["y"]) == 1001


def test_versions_may_bring_their_own(models):
    flag = parameters(models, "max_batch_size { value: 3 }")
    flags = ["--enable_batching", "--enable_per_model_batching_parameters", flag]
    # Without a file of its own it is not batched.
    with start(models, "half_plus", *flags) as server:
        assert len(predict(server, "half_plus", x(1001))["y"]) == 1001
    own = models / "half_plus" / "1" / "batching_params.pbtxt"
    own.write_text("max_batch_size { value: 2 }")
    with start(models, "half_plus", *flags) as server:
        code, text = refused(lambda: predict(server, "half_plus", x(3)))
        assert (code, text) == (INVALID, "Task size 3 is larger than maximum input batch size 2")
    with start(models, "half_plus", *flags[:1], flag) as server:
        assert len(predict(server, "half_plus", x(3))["y"]) == 3
    own.write_text("max_batch_size { value: 0 }")
    expected = "batching_params.pbtxt: max_batch_size must be positive; was 0"
    assert failure(models / "half_plus", "half_plus", *flags) == (3, expected)


def test_a_full_queue_refuses(models):
    text = """max_batch_size { value: 1 } max_enqueued_batches { value: 1 }
        num_batch_threads { value: 1 }"""
    flags = ["--enable_batching", parameters(models, text)]
    with start(models, "slow", *flags) as server:
        answers, failures = [], []

        def ask():
            try:
                answers.append(send(server, predict_request("slow", rounds(LONG))))
            except grpc.RpcError as error:
                failures.append((error.code(), error.details()))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        text = "The batch scheduling queue to which this task was submitted is full"
        assert set(failures) == {(grpc.StatusCode.UNAVAILABLE, text)}
        assert len(answers) >= 1
        # Whoever waited has left the queue.
        assert predict(server, "slow", rounds(1))["y"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("flags", "text", "expected"),
    [
        ([], "", "--batching_parameters_file is set without setting --enable_batching to true."),
        (["--enable_batching"], "max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        (
            ["--enable_batching"],
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        (
            ["--enable_batching"],
            "max_batch_sizes { value: 8 }",
            "Error parsing text-format tensorflow.serving.BatchingParameters",
        ),
    ],
)
def test_what_is_wrong_ends_the_start(models, flags, text, expected):
    base = f"--model_base_path={models / 'half_plus'}"
    command = [BINARY, base, *flags, parameters(models, text), "--port=0", "--rest_api_port=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "Failed to start server. Error: " in done.stderr
    assert "--batching_parameters_file" in done.stderr and expected in done.stderr


def test_a_rest_request_has_so_much_time(models):
    body = {"inputs": {"x": [1.0], "rounds": [LONG]}}
    with start(models, "slow", "--rest_api_timeout_in_ms=100") as server:
        code, answer = post(server, "slow:predict", body)
        assert (code, answer) == (504, {"error": "Timed out waiting for notification"})
        # gRPC has a deadline of its own.
        assert predict(server, "slow", rounds(LONG))["y"].tolist() == [1.0]
    with start(models, "slow", "--rest_api_timeout_in_ms=0") as server:
        code, answer = post(server, "slow:predict", body)
        assert (code, answer) == (200, {"outputs": [1.0]})
