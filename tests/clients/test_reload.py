"""The list of models changes while the server runs: by a call, and by its file."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import requests
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, predict_pb2
from tensorflow_serving.config import model_server_config_pb2

import small_models
from conftest import running
from server import START_SECONDS


def entry(models, name, versions=(), labels=None):
    """One model of a configuration, as text."""
    policy = "".join(f" versions: {version}" for version in versions)
    policy = f"model_version_policy {{ specific {{{policy} }} }}" if versions else ""
    labels = "".join(
        f'version_labels {{ key: "{label}" value: {version} }}\n'
        for label, version in (labels or {}).items()
    )
    return (
        f'config {{ name: "{name}" base_path: "{models}/{name}" '
        f'model_platform: "tensorflow" {policy} {labels} }}\n'
    )


def config(*entries):
    return "model_config_list {\n" + "".join(entries) + "}\n"


def reload_request(text):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.CopyFrom(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))
    return request


def ask(server, name, label=None):
    """What a model answers to 2.0, and by which version."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    if label:
        request.model_spec.version_label = label
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
    answer = server.prediction.Predict(request, 10.0)
    return tf.make_ndarray(answer.outputs["y"]).tolist(), answer.model_spec.version.value


def code_of(call, *arguments):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments)
    return error.value.code(), error.value.details()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reload") / "models"
    for name in ("one", "two"):
        for version in (1, 2, 3):
            data = small_models.half_plus(version)
            small_models.write_version(folder, name, version, data)
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def server(models, tmp_path):
    file = tmp_path / "models.config"
    file.write_text(config(entry(models, "one", [1], {"stable": 1})))
    arguments = [f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=0.1"]
    with running(arguments, ["one"], tmp_path / "log") as server:
        server.file = file
        yield server


def until(condition, what):
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def test_a_call_replaces_the_list_and_answers_when_models_do(server, models):
    assert ask(server, "one") == ([2.0], 1)
    two = config(entry(models, "one", [2]), entry(models, "two", [3], {"stable": 3}))
    answer = server.model.HandleReloadConfigRequest(reload_request(two), 60)
    assert answer.status.error_code == 0
    assert ask(server, "one")[1] == 2
    assert ask(server, "two", "stable") == ([4.0], 3)
    # The label was not listed again.
    assert code_of(ask, server, "one", "stable")[0] == grpc.StatusCode.INVALID_ARGUMENT
    server.model.HandleReloadConfigRequest(reload_request(config(entry(models, "two"))), 60)
    assert ask(server, "two")[1] == 3
    assert code_of(ask, server, "one")[0] == grpc.StatusCode.NOT_FOUND
    rows = requests.get(f"{server.url}/v1/models/one").json()["model_version_status"]
    assert {row["state"] for row in rows} <= {"END", "UNLOADING"}
    again = config(entry(models, "one", [1]), entry(models, "two"))
    server.model.HandleReloadConfigRequest(reload_request(again), 60)
    assert ask(server, "one")[1] == 1


def test_a_list_that_cannot_be_served_changes_nothing(server, models):
    bad = config(entry(models, "one", [2]), entry(models, "empty"))
    code, details = code_of(server.model.HandleReloadConfigRequest, reload_request(bad), 60)
    assert code == grpc.StatusCode.UNKNOWN
    assert details.startswith("1 model(s) did not become available: {name: empty")
    assert ask(server, "one", "stable")[1] == 1
    for text, expected in [
        ("", "ServerModelConfig type not supported by HandleReloadConfigRequest"),
        (config(entry(models, "one"), entry(models, "one")), "Illegal to list model one multiple"),
        (config('config { name: "x" base_path: "x" model_platform: "tensorflow" }'), "Expected model x"),
        (config(f'config {{ name: "x" base_path: "{models}/one" }}'), "Illegal setting neither"),
    ]:
        code, details = code_of(server.model.HandleReloadConfigRequest, reload_request(text), 60)
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith(expected), details
    assert ask(server, "one")[1] == 1


def test_lists_of_several_callers_are_taken_one_after_the_other(server, models):
    """Each call is answered by OK, and what stays is one of the lists, whole."""
    lists = [config(entry(models, name, [version])) for name in ("one", "two") for version in (1, 2)]
    with ThreadPoolExecutor(len(lists)) as pool:
        calls = [reload_request(text) for text in lists * 3]
        answers = pool.map(lambda call: server.model.HandleReloadConfigRequest(call, 60), calls)
        assert [answer.status.error_code for answer in answers] == [0] * len(calls)
    served = []
    for name in ("one", "two"):
        try:
            served.append((name, ask(server, name)[1]))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
    assert len(served) == 1, served


def test_the_file_is_followed_and_labels_move_without_a_failed_request(server, models):
    failures, answers, done = [], set(), threading.Event()

    def client():
        while not done.is_set():
            try:
                answers.add(ask(server, "one", "stable")[1])
            except grpc.RpcError as error:
                failures.append(error)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        # Version 2 comes and the label goes there at once, in one edit.
        server.file.write_text(config(entry(models, "one", [2], {"stable": 2, "canary": 2})))
        until(lambda: 2 in answers, "the label moved")
        server.file.write_text(config(entry(models, "one", [2, 3], {"stable": 3, "canary": 2})))
        until(lambda: 3 in answers, "the label moved again")
    finally:
        done.set()
        thread.join()
    assert not failures, failures[:3]
    assert ask(server, "one", "canary")[1] == 2


def test_a_file_that_is_wrong_changes_nothing(server, models):
    server.file.write_text("model_config_list { config { name: ")
    until(lambda: "Error parsing text-format" in server.log.read_text(), "the error in the log")
    assert ask(server, "one")[1] == 1
    for text in ("", "# nothing yet"):
        told = server.log.read_text().count("it sets no list")
        server.file.write_text(text)
        until(lambda: server.log.read_text().count("it sets no list") > told, "the empty file")
        assert ask(server, "one")[1] == 1
    server.file.unlink()
    until(lambda: "cannot be read" in server.log.read_text(), "the missing file in the log")
    assert ask(server, "one")[1] == 1
    server.file.write_text(config(entry(models, "one"), entry(models, "empty")))
    until(lambda: ask(server, "one")[1] == 3, "the list of the new file")
    until(lambda: "not all models are served" in server.log.read_text(), "the empty one in the log")


def test_a_repository_is_not_replaced_by_a_call(models, tmp_path):
    arguments = ["serve", "--repository", models]
    with running(arguments, ["one", "two"], tmp_path / "log") as server:
        text = config(entry(models, "one"))
        code, details = code_of(server.model.HandleReloadConfigRequest, reload_request(text), 60)
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert "--model_config_file" in details
        assert ask(server, "two")[1] == 3
