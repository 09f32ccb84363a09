"""A case as it lies in its folder: README.md tells the format."""

import ast
import gzip
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
NAME = re.compile(r"(?P<row>(?:2\.[1-8]|5)-[a-z]?[0-9]{2})-[a-z0-9-]+")
SERVERS = ("plain", "cors")


class FormatError(Exception):
    """A case that cannot be read, and why."""


@dataclass
class Request:
    """What is sent, and to which server."""

    method: str
    target: str
    version: str
    headers: list = field(default_factory=list)
    body: bytes = b""
    server: str = "plain"
    differs: str | None = None

    def header(self, name):
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return values[-1] if values else None


@dataclass
class Response:
    """What must come back. `kind` says how the body is compared with `expected`."""

    status: int
    headers: list = field(default_factory=list)
    absent: list = field(default_factory=list)
    closes: bool = False
    kind: str = ""
    expected: object = None


@dataclass
class Case:
    name: str
    row: str
    exchanges: list


def load(folder):
    """Reads a case; its exchanges go over one connection, in order."""
    match = NAME.fullmatch(folder.name)
    if match is None:
        raise FormatError(f"{folder.name}: a name is the row's number, then words in lower case")
    exchanges = []
    files = {path.name for path in folder.iterdir()}
    for number in range(1, len(files) + 1):
        suffix = "" if number == 1 else f".{number}"
        names = f"request{suffix}", f"response{suffix}"
        if not files & set(names):
            break
        texts = [(folder / name).read_text(encoding="utf-8") for name in names]
        files -= set(names)
        exchanges.append((read_request(texts[0]), read_response(texts[1])))
    if files or not exchanges:
        raise FormatError(f"{folder.name}: files without a place in a case: {sorted(files)}")
    if len({request.server for request, _ in exchanges}) > 1:
        raise FormatError(f"{folder.name}: one case, one server")
    return Case(folder.name, match["row"], exchanges)


def all_cases():
    return sorted(path for path in CASES.iterdir() if path.is_dir())


def split(text):
    """The lines before the first empty one, without comments, and what is after it."""
    head, _, body = text.partition("\n\n")
    lines = [line for line in head.split("\n") if line and not line.startswith("#")]
    if not lines:
        raise FormatError("nothing but comments")
    return lines, body.removesuffix("\n")


def directives(lines):
    """`@name rest` as (name, rest), headers as ("", (name, value))."""
    for line in lines:
        if line.startswith("@"):
            name, _, rest = line[1:].partition(" ")
            yield name, rest
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise FormatError(f"neither a header nor a directive: {line}")
        yield "", (name, value.strip())


def read_request(text):
    lines, body = split(text)
    first = next(i for i, line in enumerate(lines) if not line.startswith("@"))
    method, _, target = lines[first].partition(" ")
    target, _, version = target.partition(" HTTP/")
    request = Request(method, target, version or "1.1", body=body.encode())
    if not method or not target:
        raise FormatError(f"no request line: {lines[first]}")
    for name, value in directives(lines[:first] + lines[first + 1 :]):
        match name:
            case "":
                request.headers.append(value)
            case "server" if value in SERVERS:
                request.server = value
            case "differs" if value:
                request.differs = value
            case "body" if not request.body:
                request.body = made(value)
            case _:
                raise FormatError(f"unknown directive: @{name} {value}")
    return request


def made(recipe):
    """The bytes that a recipe makes: a Python expression of bytes, * + and gzip()."""
    return _made(ast.parse(recipe, mode="eval").body)


def _made(node):
    match node:
        case ast.Constant(value=bytes() | int() as value):
            return value
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _made(left) + _made(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _made(left) * _made(right)
        case ast.Call(func=ast.Name(id="gzip"), args=[argument], keywords=[]):
            return gzip.compress(_made(argument), mtime=0)
        case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=upper, step=None)):
            return _made(value)[: ast.literal_eval(upper)]
    raise FormatError(f"a recipe knows bytes, numbers, + * [:n] and gzip(), not: {ast.unparse(node)}")


def read_response(text):
    lines, body = split(text)
    response = Response(int(lines[0]))
    for name, value in directives(lines[1:]):
        match name:
            case "":
                response.headers.append(value)
            case "absent" if value:
                response.absent.append(value)
            case "closes":
                response.closes = True
            case "empty":
                set_body(response, "exact", b"")
            case "error" if value:
                set_body(response, "json", {"error": value})
            case "error-contains" | "contains" if value:
                if response.kind == name:
                    response.expected.append(value)
                else:
                    set_body(response, name, [value])
            case "exact" if value:
                set_body(response, "exact", made(value))
            case _:
                raise FormatError(f"unknown directive: @{name} {value}")
    if body:
        set_body(response, "json", parse_json(body))
    if not response.kind:
        raise FormatError("nothing is said about the body")
    return response


def set_body(response, kind, expected):
    if response.kind:
        raise FormatError("the body is described twice")
    response.kind, response.expected = kind, expected


def parse_json(text):
    """JSON with NaN and Infinity, where no name may be twice in an object."""

    def unique(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError(f"a name is twice in {pairs}")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=unique)


def same(found, expected):
    """Equality of JSON values: 1 is not 1.0, 0.0 is not -0.0, NaN is NaN."""
    if type(found) is not type(expected):
        return False
    if isinstance(found, dict):
        return found.keys() == expected.keys() and all(
            same(found[key], expected[key]) for key in found
        )
    if isinstance(found, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return repr(found) == repr(expected)
