"""The port for operators, on a running server."""

import json
import time

import grpc
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

import small_models
from server import START_SECONDS, Server, free_ports

TOKEN = "only-operators-know-this"


def config(models, *names):
    entry = 'config {{ name: "{0}" base_path: "{1}/{0}" model_platform: "tensorflow" }}'
    return "model_config_list { " + " ".join(entry.format(name, models) for name in names) + " }"


class Admin:
    def __init__(self, port, token=None):
        self.url = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path, **options):
        return self.session.get(self.url + path, timeout=60, **options)

    def post(self, path, **options):
        return self.session.post(self.url + path, timeout=60, **options)

    def models(self):
        return {model["name"]: model for model in self.get("/models").json()["models"]}

    def states(self, name):
        return {v["version"]: v["state"] for v in self.models()[name]["versions"]}


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    for name in ("one", "two"):
        for version in (1, 2):
            small_models.write_version(folder, name, version, small_models.half_plus(version))
    return folder


@pytest.fixture
def start(models, tmp_path):
    """Starts a server of `one` with a port for operators."""
    started = []

    def start(*arguments, token=None, repository=False):
        (port,) = free_ports(1)
        file = tmp_path / "models.config"
        file.write_text(config(models, "one"))
        what = ["serve", "--repository", models] if repository else [f"--model_config_file={file}"]
        server = Server([*what, f"--admin_port={port}", *arguments], tmp_path / "log")
        started.append(server)
        server.wait_until_available(["one"])
        server.file = file
        server.admin = Admin(port, token)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


def ask(server, name="one", version=None):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    if version:
        request.model_spec.version.value = version
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
    answer = server.prediction.Predict(request, 30.0)
    return answer.model_spec.version.value


def code_of(call, *arguments):
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments)
    return error.value.code()


def test_a_version_is_taken_out_of_service_and_put_back(start):
    server = start()
    assert ask(server) == 2
    assert server.admin.post("/models/one/versions/2/unload").json() == {"done": True}
    assert ask(server) == 1
    assert code_of(ask, server, "one", 2) == grpc.StatusCode.NOT_FOUND
    # It is not taken again by itself.
    time.sleep(1.5)
    assert ask(server) == 1
    assert server.admin.post("/models/one/versions/2/load").status_code == 200
    assert ask(server) == 2


def test_a_model_is_taken_out_of_service_and_put_back(start):
    server = start()
    assert server.admin.post("/models/one/unload").status_code == 200
    assert code_of(ask, server) == grpc.StatusCode.NOT_FOUND
    # That was wanted: nobody waits for it.
    assert requests.get(f"{server.url}/healthz/ready").status_code == 200
    assert set(server.admin.states("one").values()) <= {"UNLOADING", "END"}
    assert server.admin.post("/models/one/load").status_code == 200
    assert ask(server) == 2
    server.admin.post("/models/one/unload")
    # A new list is a new start.
    assert server.admin.post("/reload").status_code == 200
    assert ask(server) == 2


def test_the_list_is_read_again(start, models):
    server = start()
    server.file.write_text(config(models, "one", "two"))
    assert server.admin.post("/reload").json() == {"done": True}
    assert ask(server, "two") == 2
    server.file.write_text("model_config_list {")
    answer = server.admin.post("/reload")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Error parsing text-format")
    (models / "empty").mkdir()
    server.file.write_text(config(models, "one", "two", "empty"))
    answer = server.admin.post("/reload")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("1 model(s) did not become available: {name: empty")
    assert ask(server) == ask(server, "two") == 2


def test_what_cannot_be_done_says_why(start, models):
    server = start(repository=True)
    for path, status, text in [
        ("/models/none/load", 404, "no model none is configured"),
        ("/models/none/unload", 404, "no model none is configured"),
        ("/models/one/versions/9/load", 404, "version 9 of model one is not there"),
        ("/models/one/versions/9/unload", 404, "version 9 of model one is not there"),
        ("/reload", 400, "only a server with --model_config_file"),
    ]:
        answer = server.admin.post(path)
        assert answer.status_code == status, path
        assert answer.json()["error"].startswith(text), answer.text
    version = models / "one" / "3"
    version.mkdir()
    (version / "model.onnx").write_bytes(b"no model")
    deadline = time.monotonic() + START_SECONDS
    while server.admin.states("one").get("3") != "END":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    answer = server.admin.post("/models/one/versions/3/load")
    assert answer.status_code == 400
    assert "version 3 of model one cannot answer: version 3: " in answer.json()["error"]
    row = server.admin.models()["one"]["versions"][0]
    assert (row["version"], row["state"]) == ("3", "END")
    assert row["error_code"] != "OK" and row["error_message"]


def test_the_log_level_changes(start):
    server = start()
    assert server.admin.get("/log-level").json() == {"filter": "info"}
    ask(server)
    code_of(ask, server, "nobody")
    assert "request failed" not in server.log.read_text()
    body = json.dumps({"filter": "info,ingle_wire=debug"})
    answer = server.admin.session.put(server.admin.url + "/log-level", data=body)
    assert answer.json() == {"filter": "info,ingle_wire=debug"}
    code_of(ask, server, "nobody")
    assert "request failed" in server.log.read_text()
    for wrong in ("{}", '{"filter": "a=b=c"}', "debug"):
        answer = server.admin.session.put(server.admin.url + "/log-level", data=wrong)
        assert answer.status_code == 400, wrong
    assert server.admin.get("/log-level").json() == {"filter": "info,ingle_wire=debug"}


def test_a_drain_ends_the_server_as_sigterm_does(start):
    server = start()
    ask(server)
    assert server.admin.post("/drain").json() == {"done": True}
    assert server.process.wait(timeout=60) == 0
    assert "panicked" not in server.log.read_text()


def test_metrics_are_there_when_they_are_not_on_the_data_port(start, tmp_path):
    file = tmp_path / "monitoring"
    file.write_text("prometheus_config { enable: false }")
    server = start(f"--monitoring_config_file={file}")
    path = "/monitoring/prometheus/metrics"
    assert requests.get(server.url + path).status_code == 404
    page = server.admin.get("/metrics").text
    assert ":tensorflow:serving:request_count" in page and "ingle_build_info" in page


def test_nobody_steers_who_may_not(start, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    server = start(f"--admin_token_file={file}", token=TOKEN)
    assert server.admin.get("/models").status_code == 200
    stranger = Admin(server.admin.url.rsplit(":", 1)[1])
    for path in ("/models", "/metrics", "/healthz/live", "/log-level"):
        answer = stranger.get(path)
        assert answer.status_code == 401 and answer.json()["error"], path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert stranger.post("/drain").status_code == 401
    assert server.admin.post("/drain", headers={"Origin": "http://localhost"}).status_code == 403
    assert ask(server) == 2
    assert TOKEN not in server.log.read_text()


def test_without_a_token_names_that_are_no_addresses_are_refused(start):
    server = start()
    for host, status in (("evil.example", 403), ("localhost:1", 200), ("127.0.0.1", 200)):
        assert server.admin.get("/models", headers={"Host": host}).status_code == status, host
