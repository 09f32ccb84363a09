"""Serialized protobuf as a tree that can be damaged at any place, without its schema."""

from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
TEN_BYTES = 10


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@dataclass
class Field:
    """`value` is a number, bytes, or a list of fields. `length` is a lie, if set."""

    number: int
    wire: int
    value: object
    length: int | None = None

    def write(self):
        tag = varint(self.number << 3 | self.wire)
        if self.wire == VARINT:
            return tag + varint(self.value)
        body = write(self.value) if isinstance(self.value, list) else self.value
        if self.wire != BYTES:
            return tag + body
        return tag + varint(len(body) if self.length is None else self.length) + body


def write(fields):
    return b"".join(field.write() for field in fields)


def field(number, value):
    """A field of the type that the value has."""
    if isinstance(value, int):
        return Field(number, VARINT, value)
    return Field(number, BYTES, value)


class _NotMessage(Exception):
    pass


def _read_varint(data, at):
    value = shift = 0
    for byte in data[at : at + TEN_BYTES]:
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise _NotMessage


def _read(data, depth):
    fields, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _NotMessage
        if wire == VARINT:
            value, at = _read_varint(data, at)
        elif wire in WIDTHS:
            value = data[at : at + WIDTHS[wire]]
            at += WIDTHS[wire]
        elif wire == BYTES:
            length, at = _read_varint(data, at)
            value = data[at : at + length]
            at += length
            if at > len(data):
                raise _NotMessage
            value = _nested(value, depth)
        else:
            raise _NotMessage
        if at > len(data):
            raise _NotMessage
        fields.append(Field(number, wire, value))
    return fields


def _nested(value, depth):
    """The fields in `value` where it may be a message, else its bytes."""
    if not value or depth == 0:
        return value
    try:
        return _read(value, depth - 1)
    except _NotMessage:
        return value


def read(data):
    return _read(data, depth=12)


def every(fields):
    """Each field of the tree with the list that holds it."""
    for one in fields:
        yield one, fields
        if isinstance(one.value, list):
            yield from every(one.value)
