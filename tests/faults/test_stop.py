"""SIGTERM and SIGINT: readiness, the delay, the grace, and what ends at once."""

import json
import signal

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper

import good
import http1
import small_models
from conftest import assert_sound
from protobuf import field
from server import STOP_SECONDS, Server

CUT_OFF = 75
HEALTH = "/grpc.health.v1.Health/Check"
NOT_SERVING = b"\x08\x02"
# A body of which most is missing: the request is in flight until it is given up.
UNFINISHED = b"POST /v1/models/pair:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"


@pytest.fixture
def start(models, tmp_path):
    """Starts a server that the test ends."""
    started = []

    def launch(*flags, arguments=None, available=None):
        server = Server([*(arguments or models.arguments()), *flags], tmp_path / "log")
        started.append(server)
        server.wait_until_available(models.names if available is None else available)
        return server

    yield launch
    for server in started:
        server.channel.close()
        server.kill()


def get(server, path):
    status, body = http1.one(http1.exchange(server.rest_port, http1.request("GET", path)))
    return status, json.loads(body)


def ended(server):
    return server.process.wait(timeout=STOP_SECONDS)


def unfinished(server):
    """A connection whose request the server has begun."""
    connection = http1.connect(server.rest_port)
    connection.sendall(UNFINISHED)
    # Read after it: what came before was read too.
    assert get(server, "/healthz/live")[0] == 200
    return connection


def test_until_the_ports_close_it_answers_and_is_not_ready(start):
    server = start("--drain_delay_seconds=3")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        check, predict = channel.unary_unary(HEALTH), channel.unary_unary(good.PREDICT)
        assert check(b"") != NOT_SERVING
        assert get(server, "/healthz/ready")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        while "not ready any more" not in server.log.read_text():
            assert server.process.poll() is None
        status, body = get(server, "/healthz/ready")
        assert (status, body["ready"], body["stopping"]) == (503, False, True)
        assert get(server, "/healthz/live")[0] == 200
        assert check(b"") == check(field(1, b"pair").write()) == NOT_SERVING
        assert b"sum" in predict(good.predict("pair", good.PAIR))
        assert get(server, "/v1/models/pair")[0] == 200
    assert ended(server) == 0, server.tail()
    assert_sound(server)


def test_after_the_grace_it_says_what_was_left(start):
    server = start("--drain_grace_seconds=0.2")
    with unfinished(server), unfinished(server):
        server.process.send_signal(signal.SIGTERM)
        assert ended(server) == CUT_OFF, server.tail()
    log = server.log.read_text()
    assert "the drain's limit of 200ms has passed: 2 requests, and 2 connections" in log, log


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(start, first, second):
    server = start("--drain_grace_seconds=3600")
    with unfinished(server):
        server.process.send_signal(first)
        while "not ready any more" not in server.log.read_text():
            assert server.process.poll() is None
        server.process.send_signal(second)
        assert ended(server) == CUT_OFF, server.tail()
    assert "a second signal" in server.log.read_text()


def test_what_is_in_flight_is_finished(start):
    """Neither the delay nor the grace cuts a request whose body still comes."""
    server = start()
    body = json.dumps({"inputs": {name: value.tolist() for name, value in good.PAIR.items()}})
    head = f"POST /v1/models/pair:predict HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with http1.connect(server.rest_port) as connection:
        connection.sendall((head + body[:10]).encode())
        assert get(server, "/healthz/live")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        while "not ready any more" not in server.log.read_text():
            assert server.process.poll() is None
        connection.sendall(body[10:].encode())
        answer = http1.read_all(connection)
    assert http1.one(answer)[0] == 200, answer
    assert b"connection: close" in answer.lower()
    assert ended(server) == 0, server.tail()


def slow_to_load(folder):
    """A model whose constants take long to compute."""
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["c0"])]
    for i in range(200):
        nodes.append(helper.make_node("MatMul", [f"c{i}", "c0"], [f"c{i + 1}"]))
    nodes.append(helper.make_node("Add", ["x", "c200"], ["y"]))
    ends = [("x", TensorProto.FLOAT, [1500, 1500])], [("y", TensorProto.FLOAT, [1500, 1500])]
    data = small_models.model("slow", nodes, *ends, {"shape": np.array([1500, 1500])})
    small_models.write_version(folder, "slow", 1, data)


def test_at_the_start_nothing_is_waited_for(start, tmp_path):
    slow_to_load(tmp_path)
    folder = tmp_path / "slow"
    server = start(arguments=["--model_name=slow", f"--model_base_path={folder}", "--device=cpu"], available=[])
    while "INFO" not in server.log.read_text():
        assert server.process.poll() is None, server.tail()
    server.process.send_signal(signal.SIGTERM)
    assert ended(server) == 0, server.tail()
    log = server.log.read_text()
    assert "Running gRPC" not in log and "Successfully loaded servable version" not in log, log
