"""gRPC requests made from good ones by mutation: each is answered well, or is the client's fault."""

import random
import struct
from collections import Counter

import pytest

import good
import http2
import mutate
from conftest import MUTATIONS, SEED, assert_flat, assert_sound, serving
from http2 import Closed, Connection, call_headers, message

OK, INVALID, DEADLINE, NOT_FOUND, EXHAUSTED, PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED = (
    0, 3, 4, 5, 8, 9, 11, 12,
)  # fmt: skip
# UNIMPLEMENTED is what an unknown method of a MultiInference gets.
FAULTS = {OK, INVALID, NOT_FOUND, EXHAUSTED, PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED}


class Client:
    """Calls on one connection, or on the next where the server ended it."""

    def __init__(self, server):
        self.server, self.connection = server, None
        self.seen = Counter()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.connection:
            self.connection.close()

    def call(self, path, body, headers=(), **changed):
        """The answer; `None` where the connection was ended instead."""
        try:
            if self.connection is None:
                self.connection = Connection(self.server.grpc_port)
            answer = self.connection.call(path, body, headers, **changed)
        except Closed as closed:
            self.connection = None
            self.seen[f"closed {closed.code}"] += 1
            return None
        self.seen[outcome(answer)] += 1
        return answer

    def assert_well(self):
        """What is asked well is still answered well."""
        answer = self.call(good.PREDICT, message(good.predict("pair", good.PAIR)))
        assert (answer.http, answer.grpc) == (200, OK), answer
        assert b"difference" in answer.data


def outcome(answer):
    if answer.reset is not None:
        return f"reset {answer.reset}"
    return f"grpc {answer.grpc}" if answer.grpc is not None else f"http {answer.http}"


def assert_clients_fault(answer, what, allowed=FAULTS):
    assert answer is not None and answer.reset is None, what
    assert answer.http == 200 and answer.grpc in allowed, f"{answer.grpc} {answer.text}: {what}"
    assert answer.grpc == OK or answer.text, f"no text: {what}"


def assert_no_servers_fault(answer, what, allowed=FAULTS | {DEADLINE}):
    """As above, where the protocol itself may be broken too."""
    if answer is not None and answer.reset is None:
        by_http = 400 <= answer.http < 500
        assert by_http or answer.http == 200 and answer.grpc in allowed, f"{answer}: {what}"


def count(share):
    return max(1, int(MUTATIONS * share))


# ------------------------------------------------------------------- messages


def send_messages(server, rng):
    """Damaged messages in sound frames."""
    client, calls = Client(server), good.calls()
    for at in range(count(0.6)):
        path, data = rng.choice(calls)
        bad = mutate.grpc_message(rng, data)
        assert_clients_fault(client.call(path, message(bad)), f"{at} {path} {bad.hex()}")
        if at % 100 == 0:
            client.assert_well()
    client.assert_well()
    return client.seen


def test_damaged_messages(served, rng):
    seen = send_messages(served, rng)
    # A mutation that changes nothing tests nothing.
    assert seen["grpc 3"] > sum(seen.values()) / 3, seen
    assert_sound(served)


def test_tensors_that_lie(served, rng):
    client = Client(served)
    tensors = list(mutate.hostile_tensors(rng))
    for tensor in tensors:
        for model, name in (("pair", "a"), ("half_plus", "x"), ("identity_int64", "x"), ("digits", "image")):
            bad = message(good.predict_with(model, name, tensor))
            what = f"{model} {tensor[:200].hex()}"
            assert_clients_fault(client.call(good.PREDICT, bad), what)
    client.assert_well()
    assert len(tensors) >= 100
    assert_sound(served)


def test_every_place_of_a_message_cut_and_changed(served):
    client = Client(served)
    data = good.multi_inference().SerializeToString(deterministic=True)
    for at in range(len(data)):
        cut, changed = data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        for bad in (cut, changed):
            answer = client.call(good.PREDICTION + "MultiInference", message(bad))
            assert_clients_fault(answer, bad.hex())
    client.assert_well()


def test_memory_is_flat(served):
    """The same requests again and again leave the server as large as it was."""
    assert_flat(served, lambda: send_messages(served, random.Random(SEED)))


# --------------------------------------------------------------------- frames


def bad_frame(rng, data):
    """A body and headers whose framing is damaged."""
    flag = rng.choice([0, 0, 1, 2, 0x80, 0xFF])
    length = rng.choice([None, 0, 1, len(data) - 1, len(data) + 1, 2**24, 2**31, 2**32 - 1])
    body = message(data, flag, length)
    what = rng.randrange(5)
    if what == 0:
        body = mutate.cut(rng, body)
    elif what == 1:
        body += rng.choice([b"\0", message(data), rng.randbytes(9)])
    elif what == 2:
        body = mutate.flip(rng, body[:5]) + body[5:]
    encoding = rng.choice([None, None, "gzip", "identity", "deflate", "br", "", "gzip,gzip", "x" * 5000])
    return body, [] if encoding is None else [("grpc-encoding", encoding)]


def test_damaged_frames(served, rng):
    client, calls = Client(served), good.calls()
    for at in range(count(0.2)):
        path, data = rng.choice(calls)
        body, headers = bad_frame(rng, data)
        answer = client.call(path, body, headers)
        what = f"{at} {path} {headers} {body[:50].hex()}"
        assert_clients_fault(answer, what)
    client.assert_well()
    assert client.seen["grpc 3"], client.seen
    assert_sound(served)


TIMEOUTS = ["", "0n", "1n", "1u", "99999999H", "123456789S", "-1S", "1.5S", "S", "1s", "1 S", "0x1S", "1S,2S"]
KINDS = ["application/grpc+json", "application/grpc-web", "text/plain", "application/grpc;a=b", "", "APPLICATION/GRPC",
         "application/grpc+proto", "application/grpcx", "*/*", "application/grpc, application/grpc"]  # fmt: skip


def odd_headers(rng):
    """Metadata as no client should send it; pseudo-headers that are changed."""
    name = rng.choice(["grpc-timeout", "content-type", "length", "large", "many", "pseudo", "odd", "te"])
    if name == "grpc-timeout":
        return [(name, rng.choice(TIMEOUTS))], {}
    if name == "content-type":
        return [(name, rng.choice(KINDS))], {}
    if name == "length":
        return [("content-length", rng.choice(["0", "1", "99999999999", "-1", "x", "18446744073709551616"]))], {}
    if name == "large":
        return [("x-large", "a" * rng.choice([1000, 15000, 17000, 70000]))], {}
    if name == "many":
        return [(f"x-{i}", "a") for i in range(rng.choice([50, 150, 1000]))], {}
    if name == "te":
        return [("te", rng.choice(["gzip", "", "trailers, deflate"]))], {}
    if name == "pseudo":
        return [], rng.choice([
            {"method": "GET"}, {"method": "PUT"}, {"method": ""}, {"method": "CONNECT"}, {"method": None},
            {"path": None}, {"path": ""}, {"path": "*"}, {"path": "/a b"}, {"scheme": None}, {"scheme": "ftp"},
            {"authority": None}, {"authority": ""}, {"authority": "a b"}, {"authority": "a/b"}, {"status": "200"},
            {"protocol": "websocket"},
        ])  # fmt: skip
    return [rng.choice([
        ("grpc-status", "13"), ("grpc-message", "%zz"), ("x-y-bin", "not base64!"), ("connection", "close"),
        ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("X-Upper", "a"), ("x\0y", "a"), ("x y", "a"),
        ("", "a"), (":other", "a"), ("x-newline", "a\r\nb: c"), ("x-zero", "\0"), ("host", "a"), ("cookie", "a" * 9000),
        ("grpc-accept-encoding", "nonsense"), ("expect", "100-continue"), ("x-high", "\u00ff\u20ac"),
    ])], {}  # fmt: skip


def test_odd_headers(served, rng):
    client, calls = Client(served), good.calls()
    for at in range(count(0.2)):
        path, data = rng.choice(calls)
        headers, changed = odd_headers(rng)
        answer = client.call(changed.pop("path", path), message(data), headers, **changed)
        assert_no_servers_fault(answer, f"{at} {path} {headers} {changed}")
    client.assert_well()
    assert_sound(served)


PATHS = [
    "/", "//", "", "*", "Predict", "/tensorflow.serving.PredictionService", "/tensorflow.serving.PredictionService/",
    good.PREDICT + "/", good.PREDICT.lower(), good.PREDICT + "%20", "/tensorflow.serving.SessionService/SessionRun",
    "/a" * 4000, good.PREDICT.replace("/", "//"), "/grpc.health.v1.Health/Nope", "/\u00e9", "/%00", "/../..",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths_that_are_no_method(served, path):
    client = Client(served)
    answer = client.call(path, message(b""))
    assert_no_servers_fault(answer, path, {UNIMPLEMENTED})
    client.assert_well()


# -------------------------------------------------------------------- streams


def test_streams_with_damaged_messages(served, rng):
    """A stream ends with the client's fault, or goes on; the connection serves others."""
    for at in range(count(0.1)):
        path, data = rng.choice(good.STREAMS)
        bad = mutate.grpc_message(rng, data)
        body = rng.choice([message(bad), message(bad) * 3, message(bad, length=rng.choice([0, 2**32 - 1])), bad])
        with Connection(served.grpc_port) as connection:
            stream = connection.open(call_headers(path))
            connection.write(stream, body)
            if "Watch" not in path:
                answer = connection.answer(stream)
                assert_clients_fault(answer, f"{at} {path} {body.hex()}")
            answer = connection.call(good.PREDICT, message(good.predict("half_plus", {"x": [1.0]})))
            assert answer.grpc == OK, answer
    assert_sound(served)


def test_bodies_in_odd_pieces(served, rng):
    """Empty frames, frames of one byte, padding, a stream that is left half sent."""
    body = message(good.predict("pair", good.PAIR))
    with Connection(served.grpc_port) as connection:
        stream = connection.open(call_headers(good.PREDICT))
        connection.write(stream, body, part=1)
        assert connection.answer(stream).grpc == OK
        stream = connection.open(call_headers(good.PREDICT))
        padded = bytes([9]) + body + bytes(9)
        connection.send(http2.frame(http2.DATA, 0, stream) * 20)
        connection.send(http2.frame(http2.DATA, http2.END_STREAM | 8, stream, padded))
        assert connection.answer(stream).grpc == OK
        for _ in range(50):
            stream = connection.open(call_headers(good.PREDICT))
            connection.write(stream, body[: rng.randrange(len(body))], end=False)
            connection.send(http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", 8)))
        assert connection.call(good.PREDICT, body).grpc == OK


BROKEN = [
    ("DATA on stream 0", http2.frame(http2.DATA, 0, 0, b"x")),
    ("HEADERS that are no HPACK", http2.frame(http2.HEADERS, 5, 1, b"\xff" * 40)),
    ("HEADERS on an even stream", http2.frame(http2.HEADERS, 5, 2, b"\x82")),
    ("CONTINUATION alone", http2.frame(http2.CONTINUATION, 4, 1, b"")),
    ("a frame over the limit", http2.frame(http2.DATA, 0, 1, bytes(20000))),
    ("SETTINGS of five bytes", http2.frame(http2.SETTINGS, 0, 0, bytes(5))),
    ("SETTINGS on a stream", http2.frame(http2.SETTINGS, 0, 1, b"")),
    ("a window of too much", http2.frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31))),
    ("PING of three bytes", http2.frame(http2.PING, 0, 0, bytes(3))),
    ("WINDOW_UPDATE by 0", http2.frame(http2.WINDOW_UPDATE, 0, 0, bytes(4))),
    ("WINDOW_UPDATE beyond the most", http2.frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2),
    ("RST_STREAM of an idle stream", http2.frame(http2.RST_STREAM, 0, 9, bytes(4))),
    ("PUSH_PROMISE of a client", http2.frame(5, 4, 1, bytes(4) + b"\x82")),
    ("GOAWAY and more", http2.frame(http2.GOAWAY, 0, 0, bytes(8)) + http2.frame(http2.DATA, 0, 1, b"x")),
    ("an unknown frame", http2.frame(0xEE, 0xFF, 0, b"x" * 100)),
]


@pytest.mark.parametrize("bytes_", [b for _, b in BROKEN], ids=[name for name, _ in BROKEN])
def test_broken_http2_costs_its_connection_at_most(served, bytes_):
    with Connection(served.grpc_port) as connection:
        try:
            connection.send(bytes_)
            answer = connection.call("/grpc.health.v1.Health/Check", message(b""))
            assert answer.reset is not None or answer.grpc == OK
        except Closed as closed:
            assert closed.code != 2, "INTERNAL_ERROR"
    Client(served).assert_well()


# --------------------------------------------------------------------- reload


def test_damaged_lists_of_models(models, tmp_path, rng):
    """Most are refused. One that is a list is taken, and a good one after it too."""
    listed = [(name, models.folder / name) for name in ("pair", "half_plus")]
    right = good.reload(listed)
    # UNKNOWN tells which models did not become available.
    unavailable = {2, DEADLINE}
    with serving(models, tmp_path / "log", "--file_system_poll_wait_seconds=0.05") as server, Client(server) as client:
        for at in range(count(0.05)):
            bad = mutate.grpc_message(rng, right)
            answer = client.call(good.RELOAD, message(bad), [("grpc-timeout", "500m")])
            assert_clients_fault(answer, f"{at} {bad.hex()}", FAULTS | unavailable)
        after = good.reload([("after", models.folder / "pair")])
        answer = client.call(good.RELOAD, message(after), [("grpc-timeout", "60S")])
        assert answer.grpc == OK, answer
        answer = client.call(good.PREDICT, message(good.predict("after", good.PAIR)))
        assert answer.grpc == OK, answer


@pytest.mark.parametrize("name", ["zero\0", "../up", "a/b", "line\nline", "\u202eright", "x" * 10_000])
def test_a_model_may_be_called_anything(models, tmp_path, name):
    """What has no versions is refused, and the models from before are served."""
    with serving(models, tmp_path / "log") as server, Client(server) as client:
        data = good.reload([("pair", models.folder / "pair"), (name, tmp_path / "nowhere")])
        answer = client.call(good.RELOAD, message(data))
        assert_clients_fault(answer, name, {2})
        client.assert_well()
        right = good.reload([(name, models.folder / "pair")])
        assert client.call(good.RELOAD, message(right)).grpc == OK
        data = message(good.predict(name, good.PAIR))
        assert client.call(good.PREDICT, data).grpc == OK
