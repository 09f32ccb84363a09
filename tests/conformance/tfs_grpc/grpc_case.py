"""A case's files, and what is held against them. README.md describes the format."""

import tomllib
from fnmatch import fnmatchcase
from string import Template

import grpc
from google.protobuf import descriptor_pool, json_format, text_format

from grpc_protocol import METHODS, STREAMS

TIMEOUT_SECONDS = 60
KEYS = {
    "why",
    "method",
    "code",
    "message",
    "metadata",
    "timeout_seconds",
    "compression",
    "padding_bytes",
    "until",
    "flags",
    "difference",
    "write_config",
}
COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
# An unknown field of the official messages: number 1000, bytes.
PADDING = bytes([0xC2, 0x3E])


class Step:
    """One call and what it is answered. `variables` stand as ${NAME} in texts."""

    def __init__(self, folder, variables):
        self.folder = folder
        self.variables = variables
        self.given = tomllib.loads((folder / "case.toml").read_text())
        unknown = self.given.keys() - KEYS
        assert not unknown, f"{folder}: unknown keys {unknown}"
        self.method = self.given["method"]
        # A path that is no method of ours is called with bytes.
        known = METHODS.get(self.method, (self.method, None, None))
        self.path, self.request_type, self.response_type = known
        self.code = self.given.get("code", "OK")

    def _text(self, name):
        path = self.folder / name
        return Template(path.read_text()).safe_substitute(self.variables) if path.exists() else None

    def request(self):
        """The bytes that are sent."""
        text, raw = self._text("request.txtpb"), self._text("request.hex")
        assert text is None or raw is None, f"{self.folder}: two requests"
        if raw is not None:
            lines = (line.split("#")[0] for line in raw.splitlines())
            data = bytes.fromhex("".join(lines))
        elif text is not None:
            data = text_format.Parse(text, self.request_type()).SerializeToString()
        else:
            data = b""
        padding = self.given.get("padding_bytes", 0)
        return data + (PADDING + varint(padding) + bytes(padding) if padding else b"")

    def expected(self):
        text = self._text("response.txtpb")
        return None if text is None else text_format.Parse(text, self.response_type())

    def call(self, channel):
        """The answer's bytes, or the error."""
        options = {
            "timeout": self.given.get("timeout_seconds", TIMEOUT_SECONDS),
            "metadata": self.given.get("metadata", {}).items(),
            "compression": COMPRESSIONS.get(self.given.get("compression")),
        }
        try:
            if self.method in STREAMS:
                answers = channel.stream_stream(self.path)(iter([self.request()]), **options)
                first = next(answers)
                answers.cancel()
                return first
            return channel.unary_unary(self.path)(self.request(), **options)
        except grpc.RpcError as error:
            return error

    def check(self, answer):
        """Fails where `answer` is not the one of the case."""
        if isinstance(answer, grpc.RpcError):
            found, details = answer.code().name, answer.details()
            assert found == self.code, f"{found}: {details}"
            pattern = self.given.get("message")
            assert pattern is not None, f"{self.folder}: an error without a message: {details}"
            pattern = Template(pattern).safe_substitute(self.variables)
            assert fnmatchcase(details, escaped(pattern)), f"{details!r} is not {pattern!r}"
            return
        assert self.code == "OK", f"answered, but {self.code} is meant"
        expected = self.expected()
        assert expected is not None, f"{self.folder}: no response.txtpb"
        found = self.response_type.FromString(answer)
        differences = list(compare(as_dict(expected), as_dict(found), ""))
        assert not differences, "\n".join(differences)


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def escaped(pattern):
    """`*` alone is a wildcard."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def as_dict(message):
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        descriptor_pool=descriptor_pool.Default(),
    )


def compare(expected, found, at):
    """Yields where two messages differ. `*` in an expected string stands for anything."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            if key not in found:
                yield f"{at}.{key}: missing, {expected[key]!r} is meant"
            elif key not in expected:
                yield f"{at}.{key}: unexpected {found[key]!r}"
            else:
                yield from compare(expected[key], found[key], f"{at}.{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found)):
            yield from compare(one, other, f"{at}[{index}]")
    elif isinstance(expected, str) and "*" in expected:
        if not (isinstance(found, str) and fnmatchcase(found, escaped(expected))):
            yield f"{at}: {found!r} is not {expected!r}"
    elif repr(expected) != repr(found):
        yield f"{at}: {found!r}, but {expected!r} is meant"
