"""The metrics page, as Prometheus' own parser reads it, under TensorFlow Serving's names and ours."""

import grpc
import pytest
import requests
import tensorflow as tf
from google.protobuf import text_format
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import model_management_pb2, predict_pb2

import small_models
from conftest import running

DEFAULT_PATH = "/monitoring/prometheus/metrics"
SERVING = ":tensorflow:serving:"


class Page:
    """The samples of one scrape."""

    def __init__(self, text):
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name, **labels):
        return self.samples.get((name, frozenset(labels.items())), 0)

    def buckets(self, name, **labels):
        """The edges, and how many are up to each."""
        wanted = set(labels.items())
        return [
            (sample.labels["le"], sample.value)
            for sample in self.families[name].samples
            if sample.name == f"{name}_bucket" and wanted <= set(sample.labels.items())
        ]


def scrape(server, path=DEFAULT_PATH):
    answer = requests.get(server.url + path, timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return Page(answer.text)


def predict(server, name, version=None, signature=""):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
    return server.prediction.Predict(request, 10.0)


def config(models, *names):
    entry = 'config {{ name: "{0}" base_path: "{1}/{0}" model_platform: "tensorflow" }}'
    return "model_config_list { " + " ".join(entry.format(name, models) for name in names) + " }"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics") / "models"
    for name in ("one", "two"):
        small_models.write_version(folder, name, 1, small_models.half_plus(1))
    return folder


@pytest.fixture
def server(models, tmp_path):
    file = tmp_path / "models.config"
    file.write_text(config(models, "one"))
    with running([f"--model_config_file={file}"], ["one"], tmp_path / "log") as server:
        yield server


def test_requests_are_counted_under_tensorflow_servings_names(server):
    predict(server, "one")
    for name, version in (("one", 9), ("made-up", None)):
        with pytest.raises(grpc.RpcError):
            predict(server, name, version)
    body = {"instances": [1.0, 2.0]}
    for _ in range(2):
        assert requests.post(f"{server.url}/v1/models/one:predict", json=body).status_code == 200
    assert requests.post(f"{server.url}/v1/models/one:predict", data="{").status_code == 400
    assert requests.get(f"{server.url}/v1/models/one").status_code == 200
    page = scrape(server)

    def count(model, status):
        # The parser adds the suffix where a counter has none.
        return page.value(f"{SERVING}request_count_total", model_name=model, status=status)

    assert f'\n{SERVING}request_count{{model_name="one",status="OK"}} 4\n' in page.text
    assert count("one", "OK") == 4
    assert count("one", "NOT_FOUND") == 1
    assert count("one", "INVALID_ARGUMENT") == 1
    assert count("", "NOT_FOUND") == 1
    assert "made-up" not in page.text
    assert page.families[f"{SERVING}request_count"].type == "counter"

    latency = f"{SERVING}request_latency"
    assert page.families[latency].type == "histogram"
    for api, entrypoint, times in (("Predict", "GRPC", 1), ("predict", "REST", 2), ("", "REST", 1)):
        labels = {"model_name": "one", "API": api, "entrypoint": entrypoint}
        assert page.value(f"{latency}_count", **labels) == times
        buckets = page.buckets(latency, **labels)
        expected = [f"{10 * 1.8**i:.6g}" for i in range(33)] + ["+Inf"]
        assert [edge for edge, _ in buckets] == expected
        counts = [count for _, count in buckets]
        assert counts == sorted(counts) and counts[-1] == times
        # A request of a local client takes longer than nothing and less than an hour.
        assert 0 < page.value(f"{latency}_sum", **labels) < 3.6e9
    runtime = {"model_name": "one", "API": "Predict", "runtime": "TF1"}
    assert page.value(f"{SERVING}runtime_latency_count", **runtime) == 3


def test_our_names_say_version_signature_and_stage(server):
    predict(server, "one", 1)
    page = scrape(server)
    labels = {"model": "one", "version": "1", "signature": "serving_default"}
    call = {**labels, "api": "Predict", "entrypoint": "GRPC"}
    assert page.value("ingle_requests_total", code="OK", **call) == 1
    assert page.value("ingle_request_duration_seconds_count", **call) == 1
    for stage in ("decode", "queue", "run", "encode"):
        assert page.value("ingle_stage_duration_seconds_count", stage=stage, **labels) == 1, stage
    assert page.value("ingle_available_versions", model="one") == 1
    assert page.value("ingle_version_loads_total", model="one", outcome="ok") == 1
    assert page.value("ingle_requests_in_flight", entrypoint="GRPC") == 0
    assert page.value("process_start_time_seconds") > 1.7e9
    for name, family in page.families.items():
        assert family.type != "unknown", name
        assert not name.startswith("ingle_") or family.documentation, name


def test_plugins_have_labels_of_their_own(bundles):
    picture = {"inputs": {"image": {"b64": ""}}}
    requests.post(f"{bundles.url}/v1/models/digits:predict", json=picture)
    page = scrape(bundles)
    calls = [key for key in page.samples if key[0] == "ingle_plugin_calls_total"]
    assert any(("stage", "preprocess") in labels for _, labels in calls), calls


def test_examples_and_loads_are_counted(small):
    def examples():
        page = scrape(small)
        labels = {"model": "label_and_scores"}
        name = f"{SERVING}request_example_counts"
        counts = [page.value(f"{name}_{part}", **labels) for part in ("sum", "count")]
        total = page.value(f"{SERVING}request_example_count_total", **labels)
        return [total, *counts, *(count for _, count in page.buckets(name, **labels))]

    def classify():
        body = {"examples": [{"x": [0.2, 0.8, 0.0]}, {"x": [0.7, 0.3, 0.0]}]}
        answer = requests.post(f"{small.url}/v1/models/label_and_scores:classify", json=body)
        assert answer.status_code == 200, answer.text

    classify()
    before = examples()
    classify()
    grown = [after - was for after, was in zip(examples(), before, strict=True)]
    # 2 in total; the sum, the count; buckets: 1, 2, 4, ... 16384, +Inf.
    assert grown == [2, 2, 1, 0] + [1] * 15
    page = scrape(small)
    loads = page.families[":tensorflow:cc:saved_model:load_attempt_count"].samples
    succeeded = sum(sample.value for sample in loads if sample.labels["status"] == "success")
    ours = page.families["ingle_version_loads"].samples
    assert succeeded == sum(s.value for s in ours if s.labels["outcome"] == "ok") > 0


def test_a_reload_says_what_counters_grew_by(server, models):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config(models, "one", "two"), request.config)
    request.metric_names.extend([
        "/tensorflow/cc/saved_model/load_attempt_count",
        "/tensorflow/serving/request_count",
        "/no/such/counter",
    ])
    answer = server.model.HandleReloadConfigRequest(request, 60)
    grown = {metric.name: metric.int64_value_increase for metric in answer.metric}
    assert grown == {
        "/tensorflow/cc/saved_model/load_attempt_count": 1,
        "/tensorflow/serving/request_count": 0,
        "/no/such/counter": 0,
    }


@pytest.mark.parametrize("enable, path, found", [
    (True, "", DEFAULT_PATH),
    (True, "/our/metrics", "/our/metrics"),
    (False, "/our/metrics", None),
])
def test_the_monitoring_file_says_whether_and_where(models, tmp_path, enable, path, found):
    file = tmp_path / "monitoring.config"
    file.write_text(f"prometheus_config {{ enable: {str(enable).lower()} path: '{path}' }}\n")
    arguments = ["--model_name=one", f"--model_base_path={models}/one",
                 f"--monitoring_config_file={file}"]
    with running(arguments, ["one"], tmp_path / "log") as server:
        for candidate in {DEFAULT_PATH, "/our/metrics"}:
            status = requests.get(server.url + candidate).status_code
            assert status == (200 if candidate == found else 404), candidate
