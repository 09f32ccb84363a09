"""Much out of little: each is cut off at the limit that its answer names, and forgotten."""

import json
import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import good
import http1
import http2
from conftest import assert_sound, resident_bytes
from http2 import Closed, Connection, call_headers, message

MIB = 2**20
LIMIT = 64 * MIB
REST_LIMIT = f"the request's body is larger than the limit of {LIMIT} bytes"
GRPC_LIMIT = f"the message is larger than the limit of {LIMIT} bytes"
EXHAUSTED = 8
PREDICT = "/v1/models/half_plus:predict"
GZIP = [("Content-Encoding", "gzip")]


def bomb(gibibytes):
    """gzip of so many blanks: blocks that end on a byte can be repeated."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    first, again = (deflate.compress(b" " * MIB) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + again * (1024 * gibibytes - 1) + deflate.flush()


def peak_bytes(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def forget_peak(server):
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


@pytest.fixture
def bounded(served):
    """The server; what one request makes of it is bounded, and given back."""
    before = resident_bytes(served)
    forget_peak(served)
    yield served
    risen = peak_bytes(served) - before
    assert risen < 4 * LIMIT, f"{risen >> 20} MiB"
    assert_well(served)
    assert_sound(served)


def assert_well(server):
    data = http1.request("POST", PREDICT, b'{"instances": [1.0]}')
    assert http1.one(http1.exchange(server.rest_port, data))[0] == 200


def post(server, body, headers=()):
    answer = http1.exchange(server.rest_port, http1.request("POST", PREDICT, body, headers))
    status, body = http1.one(answer)
    return status, json.loads(body).get("error")


def call(server, body, headers=()):
    with Connection(server.grpc_port) as connection:
        answer = connection.call(good.PREDICT, body, headers)
    return answer.grpc, http2_text(answer)


def http2_text(answer):
    return re.sub("%(..)", lambda found: chr(int(found[1], 16)), answer.text)


def test_the_bomb_is_one():
    inflated = zlib.decompressobj(31).decompress(bomb(10), 3 * MIB)
    assert len(inflated) == 3 * MIB and not inflated.strip()
    assert len(bomb(10)) < 12 * MIB


def test_ten_gibibytes_of_gzip_over_rest(bounded):
    assert post(bounded, bomb(10), GZIP) == (413, REST_LIMIT)


def test_ten_gibibytes_of_gzip_over_grpc(bounded):
    sent = message(bomb(10), flag=1)
    assert call(bounded, sent, [("grpc-encoding", "gzip")]) == (EXHAUSTED, GRPC_LIMIT)


def test_bombs_at_once_delay_nobody_for_good(served):
    """Half of them over each protocol, and small requests between them."""
    sent = bomb(1)
    with ThreadPoolExecutor(12) as threads:
        rest = [threads.submit(post, served, sent, GZIP) for _ in range(4)]
        grpc = [
            threads.submit(call, served, message(sent, flag=1), [("grpc-encoding", "gzip")]) for _ in range(4)
        ]
        small = [threads.submit(assert_well, served) for _ in range(50)]
        assert {work.result() for work in rest} == {(413, REST_LIMIT)}
        assert {work.result() for work in grpc} == {(EXHAUSTED, GRPC_LIMIT)}
        assert not [work.result() for work in small if work.result() is not None]
    assert_sound(served)


def chunked(pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class TestANumberOfAHundredMegabytes:
    NUMBER = b'{"instances": [' + b"7" * 100_000_000 + b"]}"

    def test_whole(self, bounded):
        assert post(bounded, self.NUMBER) == (413, REST_LIMIT)

    def test_in_chunks(self, bounded):
        sent = chunked(self.NUMBER[at : at + MIB] for at in range(0, len(self.NUMBER), MIB))
        assert post(bounded, sent, [("Transfer-Encoding", "chunked")]) == (413, REST_LIMIT)

    def test_compressed(self, bounded):
        deflate = zlib.compressobj(1, zlib.DEFLATED, 31)
        sent = deflate.compress(self.NUMBER) + deflate.flush()
        assert post(bounded, sent, GZIP) == (413, REST_LIMIT)

    def test_below_the_limit_it_is_no_number(self, bounded):
        status, error = post(bounded, self.NUMBER[: LIMIT - 2] + b"]}")
        assert status == 400 and len(error) < 500, error


def test_nesting_of_thirty_million(bounded):
    for body in (b"[" * LIMIT, b'{"inputs":' + b"[" * (LIMIT // 2), b'{"a":' * 10_000_000):
        status, error = post(bounded, body[:LIMIT])
        assert status == 400 and len(error) < 500, error


def test_sixty_five_thousand_headers_over_rest(bounded):
    headers = [(f"X-{i}", "a") for i in range(65_000)]
    data = http1.request("GET", "/v1/models/pair", headers=headers)
    answer = http1.exchange(bounded.rest_port, data)
    assert not answer or http1.one(answer)[0] == 431, answer


def test_sixty_five_thousand_headers_over_grpc(bounded):
    headers = [(f"x-{i}", "a") for i in range(65_000)]
    with Connection(bounded.grpc_port) as connection:
        try:
            answer = connection.answer(connection.open(call_headers(good.PREDICT, headers), end=True))
            assert answer.http == 431, answer
        except Closed as closed:
            assert closed.code in (None, http2.ENHANCE_YOUR_CALM)


def test_headers_without_an_end(bounded):
    """CONTINUATION after CONTINUATION."""
    with Connection(bounded.grpc_port) as connection:
        with pytest.raises(Closed) as closed:
            connection.send(http2.frame(http2.HEADERS, 0, 1, b"\x82"))
            while True:
                connection.send(http2.frame(http2.CONTINUATION, 0, 1, b"\x00\x01a\x01b" * 1000))
        assert closed.value.code in (None, http2.ENHANCE_YOUR_CALM)


def test_sixty_five_thousand_chunks(bounded):
    body = b'{"instances": [' + b"1," * 32_000 + b"2]}" + b" " * 1000
    sent = chunked(body[at : at + 1] for at in range(len(body)))
    assert len(body) > 65_000
    status, error = post(bounded, sent, [("Transfer-Encoding", "chunked")])
    assert status == 200, error


def test_sixty_five_thousand_frames(bounded):
    data = message(good.predict("half_plus", {"x": [0.5] * 16_384}))
    assert len(data) > 65_000
    with Connection(bounded.grpc_port) as connection:
        stream = connection.open(call_headers(good.PREDICT))
        connection.write(stream, data, part=1)
        assert connection.answer(stream).grpc == 0


@pytest.mark.parametrize("declared", [1, 10, 4096, LIMIT])
def test_a_length_that_is_not_kept(bounded, declared):
    """Too long: the client goes. Too short: the rest is another request, and is none."""
    body = b'{"instances": [1.0]}'
    data = http1.request("POST", PREDICT, body, [("Content-Length", str(declared))], close=False)
    found = http1.statuses(http1.exchange(bounded.rest_port, data, end=True))
    assert all(status == 400 for status in found), found
