"""HTTP over a socket, as a case says it: nothing is corrected, encoded or followed."""

import http.client
import socket

TIMEOUT_SECONDS = 60
CHUNK = 7
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection:
    """One connection, of which the requests go out and the answers come in by turns."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
        self.reader = _Reader(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.file.close()
        self.socket.close()

    def exchange(self, request):
        """Sends it; returns the answer's status, headers and body."""
        self.socket.sendall(head(request))
        expects = (request.header("Expect") or "").lower() == "100-continue"
        if expects and not self._may_continue():
            return self._answer(request.method)
        self.socket.sendall(framed(request))
        return self._answer(request.method)

    def is_closed(self):
        """Whether the server ends the connection, which must have nothing more to say."""
        return self.reader.file.read(1) == b""

    def _may_continue(self):
        start = self.reader.file.peek(1)
        if not start.startswith(b"HTTP/1.1 100"):
            return False
        assert self.reader.file.read(len(INTERIM)) == INTERIM
        return True

    def _answer(self, method):
        answer = http.client.HTTPResponse(self.reader, method=method)
        answer.begin()
        return answer.status, answer.headers, answer.read()


class _Reader:
    """What http.client takes for a socket: the file that it reads from stays open."""

    def __init__(self, source):
        self.file = source.makefile("rb")

    def makefile(self, _mode):
        return _Kept(self.file)


class _Kept:
    def __init__(self, file):
        self.read, self.read1 = file.read, file.read1
        self.readinto, self.readline = file.readinto, file.readline

    def flush(self):
        pass

    def close(self):
        pass


def is_chunked(request):
    return (request.header("Transfer-Encoding") or "").lower().endswith("chunked")


def head(request):
    """The head as bytes; Host and Content-Length are added where they are not given."""
    headers = list(request.headers)
    if request.header("Host") is None and request.version != "1.0":
        headers.insert(0, ("Host", "localhost"))
    framed_already = request.header("Content-Length") or request.header("Transfer-Encoding")
    if framed_already is None and (request.body or request.method in ("POST", "PUT", "PATCH")):
        headers.append(("Content-Length", str(len(request.body))))
    lines = [f"{request.method} {request.target} HTTP/{request.version}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode()


def framed(request):
    """The body as bytes: in chunks, where the request says so."""
    if not is_chunked(request):
        return request.body
    pieces = [request.body[i : i + CHUNK] for i in range(0, len(request.body), CHUNK)]
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([*chunks, b"0\r\n\r\n"])
