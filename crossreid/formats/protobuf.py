"""Messages of Protocol Buffers, read field by field; what a message claims is compared with what is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# How a field is written.
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5


class Broken(ValueError):
    """The bytes are not a message."""


def varint(data, position: int) -> tuple[int, int]:
    """The number that begins at a position, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise Broken("it is damaged")


def field(data, position: int) -> tuple[int, int, Any, int]:
    """(field number, how it is written, number or bytes, next position). Bytes are a slice of the data: of a memoryview
    a view, so that a forged length takes no memory."""
    key, position = varint(data, position)
    number, wire = key >> 3, key & 7
    if not number or wire not in (VARINT, EIGHT, BYTES, FOUR):
        raise Broken("it is damaged")
    if wire == VARINT:
        value, position = varint(data, position)
        return number, wire, value, position
    length = {EIGHT: 8, FOUR: 4}.get(wire, 0)
    if wire == BYTES:
        length, position = varint(data, position)
    if length > len(data) - position:
        raise Broken("it is damaged")
    return number, wire, data[position : position + length], position + length


def fields(data) -> Iterator[tuple[int, int, Any]]:
    """(field number, how it is written, number or bytes) of each field of a message."""
    position = 0
    while position < len(data):
        number, wire, value, position = field(data, position)
        yield number, wire, value
