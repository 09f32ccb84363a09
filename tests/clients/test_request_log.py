"""Requests are logged as `logging_config` asks, and the log can be read by TensorFlow."""

import json

import grpc
import pytest
import requests
import tensorflow as tf
from google.protobuf import json_format, text_format
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

import small_models
from calls import predict_request
from conftest import running
from server import Server
from test_examples import example
from test_reload import until

NAMES = ["half_plus", "label_and_scores", "scores_and_outputs"]


def config(models, prefix, kind="tfrecord", rate=1.0, logged=NAMES):
    logging = (
        f'logging_config {{ log_collector_config {{ type: "{kind}" filename_prefix: "{prefix}" }} '
        f"sampling_config {{ sampling_rate: {rate} }} }}"
    )
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{models}/{name}" model_platform: "tensorflow" '
        f'{logging if name in logged else ""} }}\n'
        for name in NAMES
    )
    return f"model_config_list {{\n{entries}}}\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("request_log") / "models"
    for name, data in (
        ("half_plus", small_models.half_plus(1)),
        ("label_and_scores", small_models.label_and_scores()),
        ("scores_and_outputs", small_models.scores_and_outputs()),
    ):
        small_models.write_version(folder, name, 1, data)
    return folder


def records(folder, kind):
    """Every record of the log, as the message, and the number of files."""
    files = sorted(folder.glob(f"*.{kind}"))
    logs = []
    for file in files:
        if kind == "tfrecord":
            for record in tf.data.TFRecordDataset(str(file)):
                logs.append(prediction_log_pb2.PredictionLog.FromString(record.numpy()))
        else:
            for line in file.read_text().splitlines():
                logs.append(json_format.Parse(line, prediction_log_pb2.PredictionLog()))
    return logs, files


def ask_all(server):
    """One request of each kind by gRPC and by REST, and two that fail."""
    answer = server.prediction.Predict(predict_request("half_plus", {"x": [2.0, 4.0]}), 60)
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name = "label_and_scores"
    classify.input.example_list.examples.append(example(x=[0.1, 0.7, 0.2]))
    server.prediction.Classify(classify, 60)
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name = "half_plus"
    regress.input.example_list.examples.append(example(x=[2.0]))
    server.prediction.Regress(regress, 60)
    multi = inference_pb2.MultiInferenceRequest()
    task = multi.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name = "half_plus"
    multi.input.example_list.examples.append(example(x=[2.0]))
    server.prediction.MultiInference(multi, 60)
    for name, verb, body in (
        ("half_plus", "predict", {"instances": [2.0, 4.0]}),
        ("label_and_scores", "classify", {"examples": [{"x": [0.1, 0.7, 0.2]}]}),
        ("half_plus", "regress", {"examples": [{"x": [2.0]}], "context": {"y": 1}}),
    ):
        said = requests.post(f"{server.url}/v1/models/{name}:{verb}", json=body, timeout=60)
        assert said.status_code == 200, said.text
    with pytest.raises(grpc.RpcError):
        server.prediction.Predict(predict_request("half_plus", {"wrong": [2.0]}), 60)
    assert requests.post(f"{server.url}/v1/models/half_plus:predict", data="{").status_code == 400
    return answer


def counts(server, model, code="OK"):
    page = requests.get(f"{server.url}/monitoring/prometheus/metrics").text
    start = f':tensorflow:serving:request_log_count{{model_name="{model}",status_code="{code}"}} '
    return sum(int(line[len(start):]) for line in page.splitlines() if line.startswith(start))


@pytest.mark.parametrize("kind", ["tfrecord", "jsonl"])
def test_every_kind_of_request_is_in_the_log_after_a_drain(models, tmp_path, kind):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = tmp_path / "models.config"
    file.write_text(config(models, folder / "requests", kind))
    with running([f"--model_config_file={file}"], NAMES, tmp_path / "log") as server:
        answer = ask_all(server)
    logs, files = records(folder, kind)
    assert [file.name for file in files] == [f"requests.000001.{kind}"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    kinds = [log.WhichOneof("log_type") for log in logs]
    assert kinds == [
        "predict_log", "classify_log", "regress_log", "multi_inference_log",
        "predict_log", "classify_log", "regress_log",
    ]
    for log in logs:
        spec = log.log_metadata.model_spec
        assert spec.name in NAMES and spec.version.value == 1
        assert spec.signature_name == "serving_default"
        assert log.log_metadata.sampling_config.sampling_rate == 1.0
        assert log.log_metadata.timestamp_secs > 1.7e9
    by_grpc, by_rest = logs[0].predict_log, logs[4].predict_log
    assert by_grpc.response == answer
    for log in (by_grpc, by_rest):
        assert tf.make_ndarray(log.request.inputs["x"]).tolist() == [2.0, 4.0]
        assert log.response.outputs["y"] == answer.outputs["y"]
        assert log.request.model_spec.name == "half_plus"
    assert logs[1].classify_log.response == logs[5].classify_log.response
    assert logs[1].classify_log.request.input == logs[5].classify_log.request.input
    assert logs[2].regress_log.response == logs[6].regress_log.response
    context = logs[6].regress_log.request.input.example_list_with_context.context
    assert context.features.feature["y"].int64_list.value[:] == [1]
    (result,) = logs[3].multi_inference_log.response.results
    assert result.regression_result.regressions[0].value == 2.0


def test_a_log_is_a_warm_up_file(models, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = tmp_path / "models.config"
    file.write_text(config(models, folder / "requests", logged=["half_plus"]))
    with running([f"--model_config_file={file}"], NAMES, tmp_path / "log") as server:
        ask_all(server)
    warm = tmp_path / "warm"
    small_models.write_version(warm, "half_plus", 1, small_models.half_plus(1))
    extra = warm / "half_plus" / "1" / "assets.extra"
    extra.mkdir()
    (log,) = folder.glob("*.tfrecord")
    log.rename(extra / "tf_serving_warmup_requests")
    arguments = ["--model_name=half_plus", f"--model_base_path={warm}/half_plus"]
    with running(arguments, ["half_plus"], tmp_path / "log2") as server:
        server.prediction.Predict(predict_request("half_plus", {"x": [2.0]}), 60)


def test_only_what_is_asked_for_is_logged_and_counted(models, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = tmp_path / "models.config"
    file.write_text(config(models, folder / "requests", "jsonl", logged=["half_plus"]))
    with running([f"--model_config_file={file}"], NAMES, tmp_path / "log") as server:
        ask_all(server)
        until(lambda: counts(server, "half_plus") == 5, "five are counted")
        assert counts(server, "label_and_scores") == 0
    logs, _ = records(folder, "jsonl")
    assert {log.log_metadata.model_spec.name for log in logs} == {"half_plus"}
    lines = next(folder.glob("*.jsonl")).read_text().splitlines()
    first = json.loads(lines[0])
    # What a client sent as bytes can be read.
    assert first["predict_log"]["request"]["inputs"]["x"]["float_val"] == [2.0, 4.0]


def test_a_rate_of_zero_logs_nothing(models, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = tmp_path / "models.config"
    file.write_text(config(models, folder / "requests", rate=0.0))
    with running([f"--model_config_file={file}"], NAMES, tmp_path / "log") as server:
        ask_all(server)
    assert list(folder.iterdir()) == []


def test_requests_are_answered_where_the_log_cannot_be_written(models, tmp_path):
    file = tmp_path / "models.config"
    file.write_text(config(models, tmp_path / "nowhere" / "requests"))
    with running([f"--model_config_file={file}"], NAMES, tmp_path / "log") as server:
        ask_all(server)
        until(lambda: counts(server, "half_plus", "UNAVAILABLE") == 5, "five are counted")
        assert server.log.read_text().count("requests are not logged") == 1


def test_a_client_cannot_have_requests_written_elsewhere(models, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = tmp_path / "models.config"
    file.write_text(config(models, folder / "requests"))

    def reload(text):
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(text, request.config)
        return server.model.HandleReloadConfigRequest(request, 60)

    with running([f"--model_config_file={file}"], NAMES, tmp_path / "log") as server:
        with pytest.raises(grpc.RpcError) as refused:
            reload(config(models, folder / "elsewhere"))
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "half_plus" in refused.value.details()
        # Less, or the same, it may ask for.
        reload(config(models, folder / "requests", logged=["label_and_scores"]))
        ask_all(server)
    logs, _ = records(folder, "tfrecord")
    assert {log.log_metadata.model_spec.name for log in logs} == {"label_and_scores"}


def test_a_collector_that_is_not_there_is_refused_by_name(models, tmp_path):
    file = tmp_path / "models.config"
    file.write_text(config(models, tmp_path / "requests", "kafka"))
    server = Server([f"--model_config_file={file}"], tmp_path / "log")
    assert server.process.wait(timeout=60) != 0
    assert "unsupported log collector type kafka" in server.log.read_text()
