"""Good requests made bad. Everything is drawn from the `random.Random` that is handed in."""

import json

import protobuf
from protobuf import BYTES, FIXED32, FIXED64, VARINT, Field

NUMBERS = [
    0, 1, -1, 2, 7, 33, 127, 128, 255, 300, 9999, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40,
    2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**64 - 1,
]  # fmt: skip


# ----------------------------------------------------------------- any bytes


def flip(random, data):
    """Some bits."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(random, data):
    return data[: random.randrange(len(data) + 1)]


def insert(random, data):
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.randint(1, 40)) + data[at:]


def remove(random, data):
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.randint(1, 20) :]


def repeat(random, data):
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * random.randint(1, 5) + data[end:]


BYTES_MUTATIONS = [flip, cut, insert, remove, repeat]


# ------------------------------------------------------------------ protobuf


def _pick(random, fields, wires=None):
    found = [pair for pair in protobuf.every(fields) if wires is None or pair[0].wire in wires]
    return random.choice(found) if found else (None, None)


def lie_about_length(random, fields):
    one, _ = _pick(random, fields, [BYTES])
    if one:
        real = len(one.write())
        one.length = random.choice([0, 1, real + 1, real + 100, 2**31, 2**32 - 1, 2**63, 2**64 - 1])


def swap_type(random, fields):
    one, _ = _pick(random, fields)
    if one:
        one.wire = random.choice([VARINT, FIXED64, BYTES, 3, 4, FIXED32, 6, 7])
        if one.wire == VARINT:
            one.value = random.choice(NUMBERS)
        elif not isinstance(one.value, (bytes, list)):
            one.value = random.randbytes(random.randint(0, 12))


def renumber(random, fields):
    one, _ = _pick(random, fields)
    if one:
        one.number = random.choice([1, 2, 3, 4, 5, 8, 14, 15, 16, 17, 100, 19000, 2**29 - 1, 0])


def extreme_number(random, fields):
    one, _ = _pick(random, fields, [VARINT])
    if one:
        one.value = random.choice(NUMBERS)


def replace_bytes(random, fields):
    one, _ = _pick(random, fields, [BYTES])
    if one:
        texts = [b"", b"\0", b"\xff\xfe", b"x" * 5000, "é\u202e".encode(), b"../../etc/passwd"]
        one.value = random.choice([*texts, random.randbytes(random.randint(0, 64))])


def drop_field(random, fields):
    one, holder = _pick(random, fields)
    if one:
        holder.remove(one)


def repeat_field(random, fields):
    one, holder = _pick(random, fields)
    if one:
        holder.extend([one] * random.choice([1, 2, 30, 300, 1100]))


def add_unknown(random, fields):
    _, holder = _pick(random, fields)
    value = random.choice([random.choice(NUMBERS), random.randbytes(random.randint(0, 200))])
    (fields if holder is None else holder).append(
        protobuf.field(random.choice([6, 7, 9, 14, 15, 99, 5000]), value)
    )


def swap_fields(random, fields):
    """Moves a field to where another one is."""
    one, holder = _pick(random, fields)
    other, place = _pick(random, fields)
    if one and other and one is not other and not _holds(one, place):
        holder.remove(one)
        place.append(one)


def _holds(one, place):
    if not isinstance(one.value, list):
        return False
    return one.value is place or any(_holds(inner, place) for inner in one.value)


TREE_MUTATIONS = [
    lie_about_length, swap_type, renumber, extreme_number, extreme_number, replace_bytes,
    drop_field, repeat_field, add_unknown, swap_fields,
]  # fmt: skip


def shape(*sizes):
    return b"".join(protobuf.field(2, protobuf.field(1, size).write()).write() for size in sizes)


def variants(depth):
    """A TensorProto in the variant of a TensorProto, and so on."""
    tensor = protobuf.field(1, 21).write()
    for _ in range(depth):
        variant = protobuf.field(3, tensor).write()
        tensor = protobuf.field(1, 21).write() + protobuf.field(15, variant).write()
    return tensor


def hostile_tensors(random):
    """Serialized TensorProtos, each with another lie."""
    dtype = lambda number: protobuf.field(1, number).write()
    sized = lambda *sizes: protobuf.field(2, shape(*sizes)).write()
    content = lambda size: protobuf.field(4, random.randbytes(size)).write()
    yield b""
    for number in [*range(34), 101, 107, 9999, -1, 2**31, 2**63]:
        yield dtype(number) + sized(2) + content(8)
    for sizes in [
        (-1,), (-(2**63),), (2**63 - 1,), (2**62, 4), (2**32, 2**32), (2**40,), (0, 2**63 - 1),
        (2**63 - 1, 0), (65536,) * 4, (1,) * 300, (0,) * 33, (2,) * 64, (10**9,),
    ]:  # fmt: skip
        for number in (1, 7, 9, 10):
            yield dtype(number) + sized(*sizes) + content(random.randint(0, 32))
    for number, length in ((5, 3), (6, 7), (5, 0), (13, 1), (8, 0)):
        yield dtype(1) + sized(2) + protobuf.field(number, random.randbytes(length)).write()
    for depth in (1, 50, 99, 101, 1000, 5000):
        yield variants(depth)
    yield dtype(1) + protobuf.field(2, protobuf.field(3, 1).write()).write()
    yield dtype(7) + sized(3) + content(3)
    yield dtype(7) + sized(2) + protobuf.field(4, protobuf.varint(2**63) * 2).write()
    yield dtype(7) + sized(1_000_000) + protobuf.field(8, b"x" * 100).write()
    yield dtype(14) + sized(2) + protobuf.field(14, b"\x0a\x01x").write()


def grpc_message(random, data):
    """One serialized request, damaged."""
    if random.random() < 0.4:
        return random.choice(BYTES_MUTATIONS)(random, data)
    fields = protobuf.read(data)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        random.choice(TREE_MUTATIONS)(random, fields)
    return protobuf.write(fields)


# ---------------------------------------------------------------------- JSON

TOKENS = [
    "{", "}", "[", "]", ",", ":", '"', "\\", "null", "true", "false", "NaN", "-Infinity", "Infinity",
    "1e999", "-1e-999", "9" * 400, "-0", "01", "+1", "1.", ".5", "0x10", "1e", "--1", '""', '"\\u0000"',
    '"\\ud800"', '"\\udc00\\ud800"', '"\\x41"', '{"b64":"AAAA"}', '{"b64":"*"}', '{"b64":1}', "{}", "[]",
    "[[]]", "18446744073709551616", "-9223372036854775809", "340282350000000000000000000000000000000000",
    "\u2028", "\ufeff", "/* */", "// x\n", "\0", "\x1f", "'", "undefined", "[" * 200, "{\"a\":" * 200,
]  # fmt: skip

VALUES = [
    None, True, False, 0, -1, 2**63, 2**64, 1e308, 1.5, "", "x", "é", [], [[]], {}, [None], [1, [2]],
    {"b64": "AAAA"}, {"b64": ""}, {"b64": "="}, {"b64": "AAAA", "x": 1}, {"": 1}, ["x"] * 50,
]  # fmt: skip


def json_bytes(random, text):
    return random.choice(BYTES_MUTATIONS)(random, text)


def json_token(random, text):
    at = random.randrange(len(text) + 1)
    until = at + random.choice([0, 0, 1, 3])
    return text[:at] + random.choice(TOKENS).encode() + text[until:]


def json_value(random, text):
    """Another value at some place of the document."""
    document = json.loads(text)
    places = []

    def collect(value):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            places.append((value, key))
            if isinstance(inner, (dict, list)):
                collect(inner)

    collect(document)
    for _ in range(random.choice([1, 1, 2])):
        holder, key = random.choice(places)
        what = random.randrange(3)
        if what == 0 and isinstance(holder, list):
            holder.append(random.choice(VALUES))
        elif what == 1 and isinstance(holder, dict):
            name = random.choice(["instances", "inputs", "signature_name", "examples", "context", ""])
            holder[name] = random.choice(VALUES)
        elif isinstance(holder, list):
            if key < len(holder):
                holder[key] = random.choice(VALUES)
        else:
            holder[key] = random.choice(VALUES)
    return json.dumps(document).encode()


def json_keys(random, text):
    """The same key twice, or under another name."""
    words = [b"instances", b"inputs", b"examples", b"signature_name", b"b64", b"x", b"image"]
    word = random.choice([w for w in words if w in text] or [b"{"])
    other = random.choice([*words, word.upper(), word + b" ", b"\\u0069nstances"])
    if random.random() < 0.5:
        return text.replace(word, other, 1)
    return text[:-1] + b", " + text[1:]


def json_text(random, text):
    return random.choice([json_bytes, json_token, json_value, json_value, json_keys])(random, text)


# ------------------------------------------------------------------- targets

PIECES = [
    "/", "//", "..", "%2e%2e", "%2f", "%00", "%", "%zz", "%ff%fe", ":", "::predict", "?x=1", "#y", ";a=b",
    "versions", "/versions/1", "/versions/99", "/versions/-1", "/versions/+1", "/versions/1e3", "/metadata",
    "/versions/99999999999999999999", "/labels/stable", "/labels/%20", "/v1/models", ":predict", ":classify",
    "*", "a" * 9000, "+", "&", "=", "~", "%E2%80%AE", "\\", "|", "'", "@", "[", "{",
]  # fmt: skip


def target(random, path):
    """A request target that has no blank in it."""
    what = random.randrange(4)
    at = random.randrange(1, len(path) + 1)
    if what == 0:
        return path[:at] + random.choice(PIECES) + path[at:]
    if what == 1:
        return path[:at] + random.choice(PIECES)
    if what == 2:
        return path[: at - 1] + path[at:] or "/"
    return path[:at] + path[at:].swapcase()
