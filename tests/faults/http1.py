"""HTTP/1.1 by hand: what is sent is exactly what a test says."""

import socket

TIMEOUT_SECONDS = 90


def connect(port, timeout=TIMEOUT_SECONDS):
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def request(method, target, body=b"", headers=(), close=True):
    """A whole request; headers that are named are not added."""
    given = {name.lower() for name, _ in headers}
    usual = [("Host", "test"), ("Content-Length", str(len(body)))]
    if close:
        usual.append(("Connection", "close"))
    listed = [pair for pair in usual if pair[0].lower() not in given] + list(headers)
    if "transfer-encoding" in given:
        listed = [pair for pair in listed if pair[0] != "Content-Length"]
    head = "".join(f"{name}: {value}\r\n" for name, value in listed)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1", "replace") + body


def exchange(port, data, end=False):
    """All that is answered until the server closes; `end` = nothing more is sent."""
    with connect(port) as connection:
        try:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return read_all(connection)


def read_all(connection):
    answer = b""
    while True:
        try:
            more = connection.recv(65536)
        except ConnectionError:
            return answer
        if not more:
            return answer
        answer += more


def statuses(answer):
    """The status of each answer in a row; bodies are skipped by their length."""
    found = []
    while answer:
        head, _, answer = answer.partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        assert line.startswith(b"HTTP/1."), line[:100]
        status = int(line.split(b" ")[1])
        if status == 100:
            continue
        found.append(status)
        named = {h.split(b":")[0].lower(): h.split(b":", 1)[1].strip() for h in headers}
        answer = answer[int(named.get(b"content-length", 0)) :]
    return found


def one(answer):
    """The status and the body of the only answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body
