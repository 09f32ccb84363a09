"""HTTP/2 and gRPC by hand: what is sent is exactly what a test says.

Only what the server may hold us to is kept: flow control, SETTINGS and PING are answered.
"""

import socket
import struct
from dataclasses import dataclass, field

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
END_STREAM = ACK = 1
END_HEADERS = 4
LARGEST_FRAME = 16384
INITIAL_WINDOW = 65535
SETTING_INITIAL_WINDOW = 4
ENHANCE_YOUR_CALM = 11


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(data, flag=0, length=None):
    """A gRPC message with its prefix, which may lie."""
    return struct.pack(">BI", flag, len(data) if length is None else length) + data


def call_headers(path, headers=(), **changed):
    """The headers of a gRPC call; `changed` are pseudo-headers, `None` leaves one out."""
    pseudo = {"method": "POST", "scheme": "http", "path": path, "authority": "test", **changed}
    listed = [(f":{name}", value) for name, value in pseudo.items() if value is not None]
    given = {name for name, _ in headers}
    usual = [("content-type", "application/grpc"), ("te", "trailers")]
    return listed + [pair for pair in usual if pair[0] not in given] + list(headers)


class Closed(Exception):
    """The server ended the connection; `code` is GOAWAY's, if it sent one."""

    def __init__(self, code=None, text=b""):
        super().__init__(f"closed with {code} {text!r}")
        self.code = code


@dataclass
class Answer:
    headers: dict = field(default_factory=dict)
    trailers: dict = field(default_factory=dict)
    data: bytes = b""
    reset: int | None = None
    ended: bool = False

    @property
    def http(self):
        return int(self.headers.get(":status", 0))

    @property
    def grpc(self):
        status = self.trailers.get("grpc-status", self.headers.get("grpc-status"))
        return None if status is None else int(status)

    @property
    def text(self):
        return self.trailers.get("grpc-message", self.headers.get("grpc-message", ""))


class Connection:
    def __init__(self, port, settings=b"", timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        # Headers that are too large are what some tests want to send and to read.
        self.decoder.max_header_list_size = 1 << 24
        self.unread = b""
        self.answers = {}
        self.window, self.windows, self.initial = INITIAL_WINDOW, {}, INITIAL_WINDOW
        self.next_stream = 1
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            # What the server said before it closed counts.
            while True:
                self.read()

    def open(self, headers, end=False, together=b""):
        """Starts a stream; `together` follows in the same packet."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        block = self.encoder.encode(headers, huffman=False)
        first, rest = block[:LARGEST_FRAME], block[LARGEST_FRAME:]
        flags = (END_STREAM if end else 0) | (0 if rest else END_HEADERS)
        sent = frame(HEADERS, flags, stream, first)
        while rest:
            part, rest = rest[:LARGEST_FRAME], rest[LARGEST_FRAME:]
            sent += frame(CONTINUATION, 0 if rest else END_HEADERS, stream, part)
        self.answers[stream] = Answer()
        self.windows[stream] = self.initial
        self.send(sent + together)
        return stream

    def write(self, stream, data, end=True, part=LARGEST_FRAME):
        """Sends a body at the pace that the server allows; stops where it has answered."""
        data = memoryview(data)
        while data and not self.answers[stream].ended:
            allowed = min(self.window, self.windows[stream], part, LARGEST_FRAME)
            if allowed <= 0:
                self.read()
                continue
            piece, data = data[:allowed], data[allowed:]
            self.window -= len(piece)
            self.windows[stream] -= len(piece)
            last = END_STREAM if end and not data else 0
            self.send(frame(DATA, last, stream, bytes(piece)))
            if last:
                return
        if end and not self.answers[stream].ended:
            self.send(frame(DATA, END_STREAM, stream))

    def call(self, path, body, headers=(), **changed):
        """One call with its whole body."""
        stream = self.open(call_headers(path, headers, **changed))
        self.write(stream, body)
        return self.answer(stream)

    def answer(self, stream):
        while not self.answers[stream].ended:
            self.read()
        return self.answers.pop(stream)

    def read(self):
        """Takes one frame, and does what it asks for."""
        head = self._take(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._take(length)
        answer = self.answers.get(stream, Answer())
        if kind == DATA:
            answer.data += payload
            if payload:
                more = struct.pack(">I", len(payload))
                self._reply(frame(WINDOW_UPDATE, 0, 0, more))
                if not flags & END_STREAM:
                    self._reply(frame(WINDOW_UPDATE, 0, stream, more))
        elif kind == HEADERS:
            assert flags & END_HEADERS, "the server's headers are short"
            into = answer.trailers if answer.headers else answer.headers
            into.update(self.decoder.decode(payload))
        elif kind == RST_STREAM:
            answer.reset = struct.unpack(">I", payload)[0]
            answer.ended = True
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._reply(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            more = struct.unpack(">I", payload)[0]
            if stream:
                self.windows[stream] = self.windows.get(stream, 0) + more
            else:
                self.window += more
        elif kind == GOAWAY:
            _, code = struct.unpack(">II", payload[:8])
            if code:
                raise Closed(code, payload[8:])
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            answer.ended = True
        return kind

    def _settings(self, payload):
        for at in range(0, len(payload), 6):
            name, value = struct.unpack(">HI", payload[at : at + 6])
            if name == SETTING_INITIAL_WINDOW:
                for stream in self.windows:
                    self.windows[stream] += value - self.initial
                self.initial = value
        self._reply(frame(SETTINGS, ACK, 0))

    def _reply(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            # Reading tells why the connection is closed.
            pass

    def _take(self, count):
        while len(self.unread) < count:
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                more = b""
            if not more:
                raise Closed()
            self.unread += more
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken
