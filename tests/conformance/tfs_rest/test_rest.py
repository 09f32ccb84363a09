"""One test a case: its requests against a running server."""

import gzip
import sys
from contextlib import ExitStack

import pytest

import rest_case
from rest_case import HERE, all_cases, parse_json, same
from rest_wire import Connection

sys.path.append(str(HERE.parents[1] / "clients"))

import rest_models  # noqa: E402
from server import BINARY, Server  # noqa: E402

FLAGS = {"plain": [], "cors": ["--rest_api_enable_cors_support"]}
# It is there to fail.
UNAVAILABLE = {"complex64"}
JSON_TYPE = "application/json"


class Servers:
    """The servers that the cases name, each started when the first case wants it."""

    def __init__(self, folder, stack):
        self.folder, self.stack, self.running = folder, stack, {}

    def port(self, name):
        if name not in self.running:
            self.running[name] = self._start(name)
        return self.running[name].rest_port

    def _start(self, name):
        folder = self.folder / name
        models = rest_models.write_all(folder / "models")
        config = folder / "models.config"
        config.write_text(rest_models.config(folder / "models", models))
        server = Server([f"--model_config_file={config}", *FLAGS[name]], folder / "log")
        self.stack.callback(server.stop)
        server.wait_until_available(set(models) - UNAVAILABLE)
        return server


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing; run cargo build --release", returncode=2)
    with ExitStack() as stack:
        yield Servers(tmp_path_factory.mktemp("rest"), stack)


@pytest.mark.parametrize("folder", all_cases(), ids=lambda folder: folder.name)
def test_case(servers, folder):
    case = rest_case.load(folder)
    port = servers.port(case.exchanges[0][0].server)
    with Connection(port) as connection:
        for request, expected in case.exchanges:
            check(connection.exchange(request), expected)
            if expected.closes:
                assert connection.is_closed(), "the connection stays open"


def check(answer, expected):
    status, headers, body = answer
    assert status == expected.status, body
    for name, value in expected.headers:
        assert headers.get_all(name) == [value], f"{name}, in {headers}"
    for name in expected.absent:
        assert name not in headers, headers[name]
    if headers["Content-Encoding"] == "gzip":
        body = gzip.decompress(body)
    match expected.kind:
        case "exact":
            assert body == expected.expected
        case "contains":
            for text in expected.expected:
                assert text in body.decode()
        case "json":
            assert headers["Content-Type"] == JSON_TYPE
            found = parse_json(body.decode())
            assert same(found, expected.expected), found
        case "error-contains":
            assert headers["Content-Type"] == JSON_TYPE
            found = parse_json(body.decode())
            assert found.keys() == {"error"}
            for text in expected.expected:
                assert text in found["error"]
