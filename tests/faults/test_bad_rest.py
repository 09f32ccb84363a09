"""REST requests made from good ones by mutation: each is answered well, or with 4xx."""

import gzip
import json
import random
import zlib
from collections import Counter

import good
import http1
import mutate
from conftest import MUTATIONS, SEED, assert_flat, assert_sound
from http1 import exchange, request, statuses

PREDICT = "/v1/models/pair:predict"
GOOD = json.dumps({"inputs": {name: value.tolist() for name, value in good.PAIR.items()}}).encode()


def count(share):
    return max(1, int(MUTATIONS * share))


def assert_clients_fault(status, what, also=()):
    assert 200 <= status < 300 or 400 <= status < 500 or status in also, f"{status}: {what}"


def assert_well(server):
    status, body = http1.one(exchange(server.rest_port, request("POST", PREDICT, GOOD)))
    assert status == 200, body
    assert json.loads(body)["outputs"]["sum"] == [[1.5, 3.0], [5.0, 8.0]]


def answered(server, data):
    """The status of a request that is whole; an error names itself."""
    status, body = http1.one(exchange(server.rest_port, data))
    if status >= 400 and body and body.startswith(b"{"):
        assert json.loads(body)["error"], body
    return status


def posts():
    return [call for call in good.rest() if call[0] == "POST"]


# --------------------------------------------------------------------- bodies


def send_bodies(server, rng):
    seen = Counter()
    for at in range(count(0.5)):
        _, target, body = rng.choice(posts())
        bad = mutate.json_text(rng, body)
        status = answered(server, request("POST", target, bad))
        seen[status] += 1
        assert_clients_fault(status, f"{at} {target} {bad[:2000]}")
    assert_well(server)
    return seen


def test_damaged_bodies(served, rng):
    seen = send_bodies(served, rng)
    assert seen[400] > sum(seen.values()) / 3, seen
    assert_sound(served)


def test_every_place_of_a_body_cut_and_changed(served):
    body = json.dumps({"instances": [{"a": [1.0, -2e1], "b": [0, 3]}]}).encode()
    for at in range(len(body)):
        for bad in (body[:at], body[:at] + b"\xff" + body[at + 1 :], body[:at] + b"]" + body[at:]):
            assert_clients_fault(answered(served, request("POST", PREDICT, bad)), bad)


def test_memory_is_flat(served):
    """The same requests again and again leave the server as large as it was."""
    assert_flat(served, lambda: send_bodies(served, random.Random(SEED)))


# -------------------------------------------------------------------- targets

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "get", "BREW", "CONNECT"]


def test_targets_and_methods(served, rng):
    for at in range(count(0.2)):
        method, target, body = rng.choice(good.rest())
        if rng.random() < 0.3:
            method = rng.choice(METHODS)
        target = mutate.target(rng, target)
        data = request(method, target, body)
        status = http1.one(exchange(served.rest_port, data))[0]
        assert_clients_fault(status, f"{at} {method} {target}")
    assert_well(served)
    assert_sound(served)


# -------------------------------------------------------------------- headers


def encodings(rng, body):
    """(Content-Encoding, bytes)."""
    zipped = gzip.compress(body, mtime=0)
    yield "gzip", zipped
    yield "gzip", mutate.flip(rng, zipped)
    yield "gzip", mutate.cut(rng, zipped)
    yield "gzip", zipped + rng.randbytes(5)
    yield "gzip", zipped + zipped
    yield "gzip, gzip", gzip.compress(zipped)
    yield "x-gzip", zipped
    yield "deflate", zlib.compress(body)
    yield "br", body
    yield "identity", body
    yield "", body
    yield "gzip", b""
    yield "GZIP", zipped


def test_encodings(served, rng):
    for _ in range(count(0.02)):
        _, target, body = rng.choice(posts())
        for encoding, sent in encodings(rng, body):
            headers = [("Content-Encoding", encoding)]
            status = answered(served, request("POST", target, sent, headers))
            assert_clients_fault(status, f"{encoding!r} {target} {sent[:60]}")
    assert_well(served)


def chunked(rng, body):
    """A body in chunks, of which one may be damaged."""
    out, at = [], 0
    while at < len(body):
        size = rng.randint(1, 40)
        piece = body[at : at + size]
        at += size
        length = f"{len(piece):x}"
        if rng.random() < 0.05:
            length = rng.choice(["0", "-1", "zz", "", "ffffffffffffffff", "1" * 40, f"{len(piece) + 1:x}",
                                 f"{len(piece):x};a=b", f"{len(piece):x};{'e' * 20000}", f" {len(piece):x}", "0x5"])  # fmt: skip
        ending = rng.choice(["\r\n"] * 30 + ["\n", "", "\r"])
        out.append(length.encode() + ending.encode() + piece + b"\r\n")
    last = rng.choice([b"0\r\n\r\n"] * 8 + [b"0\r\nA: b\r\n\r\n", b"0\r\n" + b"A: b\r\n" * 3000 + b"\r\n", b"", b"0"])
    return b"".join(out) + last


def test_chunks(served, rng):
    for at in range(count(0.15)):
        _, target, body = rng.choice(posts())
        sent = chunked(rng, body)
        data = request("POST", target, sent, [("Transfer-Encoding", "chunked")])
        for status in statuses(exchange(served.rest_port, data, end=True)):
            assert_clients_fault(status, f"{at} {target} {sent[:300]}")
    assert_well(served)
    assert_sound(served)


HEADERS = [
    ("Content-Length", "-1"), ("Content-Length", "x"), ("Content-Length", "99999999999999999999"), ("Content-Length", ""),
    ("Content-Length", "+5"), ("Content-Length", "5, 5"), ("Content-Length", "1e3"), ("Content-Length", "0x10"),
    ("Content-Length", "0"), ("Content-Length", "9" * 300), ("Content-Length", "5000000000"), ("Content-Length", "10"),
    ("Transfer-Encoding", "gzip, chunked"), ("Transfer-Encoding", "chunked, gzip"), ("Transfer-Encoding", "nonsense"),
    ("Transfer-Encoding", " chunked"), ("Transfer-Encoding", "chunked, chunked"), ("Host", ""), ("Host", "a b"),
    ("Expect", "100-continue"), ("Expect", "200-maybe"), ("Upgrade", "h2c"), ("Upgrade", "websocket"), ("X" * 3000, "a"),
    ("X", "a" * 20000), ("X", "\0"), ("X", "a\x0bb"), ("X Y", "a"), ("", "a"), (" X", "folded"), ("X\u00e9", "a"),
    ("Accept-Encoding", "gzip;q=2, *;q=x"), ("Accept", "x" * 9000), ("Content-Type", "text/xml"), ("Range", "bytes=0-"),
    ("Connection", "keep-alive, close, upgrade"), ("Origin", "\u00ff"), ("Cookie", "a=b; " * 1500), ("TE", "trailers"),
    ("X-HTTP-Method-Override", "DELETE"), ("Forwarded", "for=\"[::1]\""), ("Access-Control-Request-Method", "\x7f"),
]  # fmt: skip


def test_headers(served, rng):
    for at in range(count(0.2)):
        method, target, body = rng.choice(good.rest())
        chosen = rng.sample(HEADERS, rng.choice([1, 1, 2, 3]))
        data = request(method, target, body, chosen)
        if rng.random() < 0.2:
            head, _, rest = data.partition(b"\r\n\r\n")
            data = mutate.json_bytes(rng, head) + b"\r\n\r\n" + rest
        for status in statuses(exchange(served.rest_port, data, end=True)):
            assert_clients_fault(status, f"{at} {data[:500]}")
    assert_well(served)
    assert_sound(served)


def test_lengths_that_smuggle(served):
    """Two lengths, or a length beside chunks: never two requests out of one."""
    inner = request("GET", "/healthz/live", headers=[("X-Inner", "1")])
    for headers, body in [
        ([("Content-Length", "0"), ("Content-Length", str(len(inner)))], inner),
        ([("Transfer-Encoding", "chunked"), ("Content-Length", "4")], b"0\r\n\r\n" + inner),
        ([("Transfer-Encoding", "xchunked")], b"0\r\n\r\n" + inner),
    ]:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        data = f"POST {PREDICT} HTTP/1.1\r\nHost: test\r\n{head}\r\n".encode() + body
        found = statuses(exchange(served.rest_port, data, end=True))
        assert 200 not in found, (headers, found)


def test_a_head_cut_and_changed_at_every_place(served):
    data = request("POST", PREDICT, GOOD)
    end = data.index(b"\r\n\r\n") + 4
    for at in range(end):
        for bad in (data[:at], data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]):
            for status in statuses(exchange(served.rest_port, bad, end=True)):
                assert_clients_fault(status, bad[:end])
    assert_well(served)
