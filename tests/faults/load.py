"""Clients that call without a pause until the server is gone, and know which of their
requests were accepted.

A request is accepted where the server has read a part of it. One that meets a closed port,
or whose connection is closed before any of its answer comes, was not, as far as its client
can tell; the server's own count of requests tells whether that is true.
"""

import json
import threading
from collections import Counter
from time import monotonic

import grpc
import numpy as np
from tensorflow_serving.apis import prediction_service_pb2_grpc

import good
import http1

# A channel of its own, as another process would have.
ALONE = [("grpc.use_local_subchannel_pool", 1)]
TIMEOUT_SECONDS = 60


class Load:
    """Threads that run until the server ends, or `stop` is called."""

    def __init__(self, server):
        self.server = server
        self.not_accepted, self.failed, self.seconds = 0, [], []
        self.answers = Counter()
        self._lock, self._stop, self._threads = threading.Lock(), threading.Event(), []

    def start(self, *clients):
        for client in clients:
            thread = threading.Thread(
                target=self._run, args=(client,), name=client.__name__, daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _run(self, client):
        try:
            client(self)
        except Exception as failure:  # noqa: BLE001 - told by the test's own thread
            self.note(failed=f"{type(failure).__name__}: {failure}")

    def stop(self):
        self._stop.set()
        self.join()

    def join(self):
        for thread in self._threads:
            thread.join(timeout=TIMEOUT_SECONDS)
            assert not thread.is_alive(), "a client hangs"

    @property
    def stopped(self):
        return self._stop.is_set()

    def note(self, seconds=None, not_accepted=False, failed=None):
        with self._lock:
            if failed is not None:
                self.failed.append(failed)
            elif not_accepted:
                self.not_accepted += 1
            else:
                self.answers[threading.current_thread().name] += 1
                self.seconds.append(seconds)

    @property
    def answered(self):
        return self.answers.total()

    def wait_for(self, answers, of_each=0):
        """Returns when so many requests were answered, and so many of each kind of client."""
        pause = threading.Event()
        kinds = {thread.name for thread in self._threads}
        while not self.failed:
            with self._lock:
                each = min(self.answers[kind] for kind in kinds)
                if self.answers.total() >= answers and each >= of_each:
                    return
            pause.wait(0.002)


# ----------------------------------------------------------------------- gRPC


def _messages():
    digit = np.array([good.PICTURE], object)
    return [
        good.predict("pair", good.PAIR),
        good.predict("half_plus", {"x": np.arange(9, dtype=np.float32)}, label="stable"),
        good.predict("digits", {"image": digit}),
        good.predict("identity_int64", {"x": np.arange(500)}),
    ]


def _call(load, stub, data):
    """Whether there may be a next call."""
    start = monotonic()
    try:
        stub(data, timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        gone = error.code() == grpc.StatusCode.UNAVAILABLE
        load.note(not_accepted=gone, failed=None if gone else f"{error.code()} {error.details()}")
        return False
    load.note(monotonic() - start)
    return True


def _stub(channel):
    # The bytes as they are: what is measured is the server.
    return channel.unary_unary(good.PREDICT)


def grpc_kept(load):
    """One channel for all calls."""
    messages, at = _messages(), 0
    with grpc.insecure_channel(f"127.0.0.1:{load.server.grpc_port}", options=ALONE) as channel:
        stub = _stub(channel)
        while not load.stopped and _call(load, stub, messages[at % len(messages)]):
            at += 1


def grpc_new(load):
    """A new channel for each call."""
    messages, at, go_on = _messages(), 0, True
    while go_on and not load.stopped:
        with grpc.insecure_channel(f"127.0.0.1:{load.server.grpc_port}", options=ALONE) as channel:
            go_on = _call(load, _stub(channel), messages[at % len(messages)])
        at += 1


# ----------------------------------------------------------------------- REST


def _requests(close):
    posts = [call for call in good.rest() if call[0] == "POST" and ":predict" in call[1]]
    return [http1.request(*call, close=close) for call in posts]


class _Partial(Exception):
    pass


def _read_answer(connection):
    """(status, whether the server closes); `None` where it closed before its answer."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        try:
            more = connection.recv(65536)
        except ConnectionError:
            more = b""
        if not more:
            if answer:
                raise _Partial(answer)
            return None
        answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    while len(body) < length:
        more = connection.recv(65536)
        if not more:
            raise _Partial(answer)
        body += more
    json.loads(body)
    return int(lines[0].split(b" ")[1]), b"connection: close" in lines


def _send(load, connection, data):
    """Whether the connection may be used again; `None` where the server is gone."""
    start = monotonic()
    try:
        connection.sendall(data)
    except ConnectionError:
        load.note(not_accepted=True)
        return False
    answer = _read_answer(connection)
    if answer is None:
        load.note(not_accepted=True)
        return False
    status, closes = answer
    load.note(monotonic() - start, failed=None if status == 200 else f"{status} for {data[:200]}")
    return not closes


def rest_kept(load):
    """Many requests on each connection."""
    requests, at = _requests(close=False), 0
    while not load.stopped:
        try:
            connection = http1.connect(load.server.rest_port)
        except ConnectionError:
            return
        with connection:
            while _send(load, connection, requests[at % len(requests)]) and not load.stopped:
                at += 1
        at += 1


def rest_new(load):
    """A new connection for each request."""
    requests, at = _requests(close=True), 0
    while not load.stopped:
        try:
            with http1.connect(load.server.rest_port) as connection:
                _send(load, connection, requests[at % len(requests)])
        except ConnectionError:
            return
        at += 1


MIXED = [grpc_kept, grpc_kept, grpc_new, rest_kept, rest_kept, rest_kept, rest_new]

