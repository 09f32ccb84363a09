"""Clients that hold what they can. Each is a context: it lasts as long as its block, and
gives a function that tells how many of its connections the server has ended so far."""

import select
import socket
import struct
import threading
from contextlib import ExitStack, contextmanager

import good
import http1
import http2
from http2 import Closed, Connection, call_headers, frame, message

CONNECTIONS = 200


def ended(sockets):
    """How many the server has closed; what it has sent before is taken."""
    closed = set()
    ready, _, _ = select.select([s for s in sockets if s.fileno() >= 0], [], [], 0)
    for one in ready:
        try:
            one.setblocking(False)
            while data := one.recv(65536):
                del data
            closed.add(one)
        except BlockingIOError:
            pass
        except OSError:
            closed.add(one)
    for one in closed:
        one.close()
    return sum(one.fileno() < 0 for one in sockets)


@contextmanager
def _holding(port, *first):
    """Connections that have sent these bytes; `first` is what all of them say."""
    with ExitStack() as stack:
        sockets = []
        for _ in range(CONNECTIONS):
            one = stack.enter_context(http1.connect(port))
            one.sendall(b"".join(first))
            sockets.append(one)
        yield sockets


@contextmanager
def _trickling(port, start, more):
    """A byte now and then on each of the connections."""
    with _holding(port, start) as sockets:
        stop = threading.Event()

        def trickle():
            at = 0
            while more and not stop.wait(0.5):
                for one in sockets:
                    try:
                        one.sendall(more[at % len(more) :][:1])
                    except OSError:
                        pass
                at += 1

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield lambda: ended(sockets)
        finally:
            stop.set()
            thread.join()


# ----------------------------------------------------------------------- slow


def slow_headers_rest(server):
    start = b"POST /v1/models/pair:predict HTTP/1.1\r\nHost: test\r\nX-Slow: "
    return _trickling(server.rest_port, start, b"a")


def slow_body_rest(server):
    start = b"POST /v1/models/pair:predict HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"
    return _trickling(server.rest_port, start, b" ")


def slow_chunks_rest(server):
    head = b"POST /v1/models/pair:predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    return _trickling(server.rest_port, head, b"1\r\n \r\n")


def silent_grpc(server):
    """Half of what HTTP/2 starts with."""
    return _trickling(server.grpc_port, http2.PREFACE[:8], b"")


def slow_headers_grpc(server):
    """Headers that go on in the next frame, which does not come; pings are not answered."""
    start = http2.PREFACE + frame(http2.SETTINGS, 0, 0) + frame(http2.HEADERS, 0, 1, b"\x83")
    return _trickling(server.grpc_port, start, b"")


@contextmanager
def _grpc(server, settings, act):
    """Connections whose clients answer pings, and are at fault in nothing but `act`."""
    with ExitStack() as stack:
        connections = []
        for _ in range(CONNECTIONS):
            one = stack.enter_context(Connection(server.grpc_port, settings))
            act(one)
            connections.append(one)
        stop, gone = threading.Event(), set()

        def answer_pings():
            while not stop.is_set():
                open_ = {one.socket: one for one in connections if one not in gone}
                ready, _, _ = select.select(list(open_), [], [], 0.2)
                for one in (open_[socket_] for socket_ in ready):
                    try:
                        one.read()
                    except (Closed, OSError):
                        gone.add(one)

        thread = threading.Thread(target=answer_pings)
        thread.start()
        try:
            yield lambda: len(gone)
        finally:
            stop.set()
            thread.join()


def slow_body_grpc(server):
    def act(connection):
        stream = connection.open(call_headers(good.PREDICT))
        connection.write(stream, message(good.predict("pair", good.PAIR))[:20], end=False)

    return _grpc(server, b"", act)


# -------------------------------------------------------------- never reading


def never_reading_rest(server):
    """Answers that nobody reads, of requests that are sent one after the other."""
    body = b'{"instances": [' + b"1.5," * 5000 + b"1]}"
    data = http1.request("POST", "/v1/models/half_plus:predict", body, close=False)

    @contextmanager
    def attack():
        with ExitStack() as stack:
            sockets = []
            for _ in range(CONNECTIONS):
                one = stack.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.connect(("127.0.0.1", server.rest_port))
                one.setblocking(False)
                for _ in range(20):
                    try:
                        one.send(data)
                    except BlockingIOError:
                        break
                sockets.append(one)
            yield lambda: sum(_is_reset(one) for one in sockets)

    return attack()


def _is_reset(one):
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def never_reading_grpc(server):
    """Large answers, for which there is no window."""
    data = message(good.predict("half_plus", {"x": [0.5] * 10_000}))

    def act(connection):
        stream = connection.open(call_headers(good.PREDICT))
        connection.write(stream, data)

    return _grpc(server, struct.pack(">HI", http2.SETTING_INITIAL_WINDOW, 0), act)


# --------------------------------------------------------------------- floods


@contextmanager
def _flooding(server, make):
    """Threads that send what `make` gives for a connection, until it is closed; then again."""
    stop, ends = threading.Event(), []

    def flood():
        while not stop.is_set():
            try:
                with Connection(server.grpc_port, timeout=5) as connection:
                    send = make(connection)
                    while not stop.is_set():
                        send()
                        # What is not read, the server need not send.
                        while select.select([connection.socket], [], [], 0)[0]:
                            connection.read()
            except Closed as closed:
                ends.append(closed.code)
            except OSError:
                ends.append(None)

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: len(ends)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def rapid_reset(server):
    """Streams that are cancelled as soon as they are opened."""

    def make(connection):
        # Without HPACK's table, so that a block is the same each time.
        plain = b"".join(_literal(name, value) for name, value in call_headers(good.PREDICT))
        cancel = struct.pack(">I", 8)

        def send():
            burst = b""
            for _ in range(100):
                stream, connection.next_stream = connection.next_stream, connection.next_stream + 2
                burst += frame(http2.HEADERS, http2.END_HEADERS, stream, plain)
                burst += frame(http2.RST_STREAM, 0, stream, cancel)
            connection.send(burst)

        return send

    return _flooding(server, make)


def _literal(name, value):
    """A header as HPACK has it, without index or compression."""
    text = lambda text: bytes([len(text)]) + text.encode()
    return b"\0" + text(name) + text(value)


def ping_flood(server):
    burst = frame(http2.PING, 0, 0, bytes(8)) * 500
    return _flooding(server, lambda connection: lambda: connection.send(burst))


def settings_flood(server):
    burst = frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 1, 4096) * 10) * 200
    return _flooding(server, lambda connection: lambda: connection.send(burst))


def empty_frames(server):
    def make(connection):
        stream = connection.open(call_headers(good.PREDICT))
        burst = frame(http2.DATA, 0, stream) * 500
        return lambda: connection.send(burst)

    return _flooding(server, make)


def window_flood(server):
    """Windows that grow by a byte, and priorities of streams that are none."""
    more = frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))
    priority = frame(http2.PRIORITY, 0, 999, struct.pack(">IB", 0, 7))
    return _flooding(server, lambda connection: lambda: connection.send((more + priority) * 300))


@contextmanager
def connection_churn(server):
    """Connections that are closed, or reset, before they say anything."""
    stop, made = threading.Event(), []

    def churn():
        reset = struct.pack("ii", 1, 0)
        while not stop.is_set():
            for port in (server.rest_port, server.grpc_port):
                with http1.connect(port) as one:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                made.append(port)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        yield lambda: len(made)
    finally:
        stop.set()
        thread.join()


SLOW = [slow_headers_rest, slow_body_rest, slow_chunks_rest, silent_grpc, slow_headers_grpc, slow_body_grpc]
NEVER_READING = [never_reading_rest, never_reading_grpc]
FLOODS = [rapid_reset, ping_flood, settings_flood, empty_frames, window_flood, connection_churn]
# Those that end within Limits::header_read_timeout, twice where a ping comes first.
CUT_SOON = [slow_headers_rest, silent_grpc, slow_headers_grpc]
