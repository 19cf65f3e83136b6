"""MATLAB files of version 5 (also 6 and 7), read with NumPy and zlib alone and without trust in what they hold.

A file is a row of elements: the number of a type, a length, and so many bytes, which for an array are again elements:
its class, its shape, its name, its content. Every length is compared with what is there before it is believed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid import files
from crossreid.formats import archives
from crossreid.records import UserError

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
_ARRAY, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _FIRST_NUMBER, _LAST_NUMBER = 1, 2, 4, 6, 15
_COMPLEX = 0x0800
_DEPTH = 16
# What each nested array costs besides its numbers, at least.
_SMALLEST = 8


class _Damaged(ValueError):
    pass


def read_variables(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named variables of a MATLAB file.

    Numbers have the type in which they are stored; a text is an array of strings, one for each row; a cell is an array
    of objects; a structure is an array with a field of objects for each of its own. Nothing else is read.
    Raises UserError if the file is missing, is not such a file, or lacks one of the variables.
    """
    expected = (
        f"a MATLAB file with the variable{'s' if len(names) > 1 else ''} {', '.join(names)} was expected"
    )
    if not Path(path).exists():
        raise UserError(f"{path} is missing: {expected}. Copy it there from the data set's archive.")
    try:
        with files.opened(path) as file:
            content = memoryview(file.read())
        found = _File(content, archives.room(path)).variables(set(names))
    except NotImplementedError as error:
        raise UserError(
            f"{path} is {error}, but {expected} in version 5, as the authors hand it out."
        ) from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({error}): {expected}. The file is damaged or something else; "
            "copy it again from the data set's archive."
        ) from error
    for name in names:
        if name not in found:
            raise UserError(f"{path} has no variable {name!r}: {expected}. Copy it again from the archive.")
    return found


class _File:
    """content: of the file. room: bytes that what it unpacks to may take."""

    def __init__(self, content: memoryview, room: int):
        self.content, self.room = content, room

    def variables(self, wanted: set[str]) -> dict[str, np.ndarray]:
        head = bytes(self.content[:128])
        if len(head) < 128 or head[126:128] not in (b"IM", b"MI"):
            raise _Damaged("it does not begin as such files do")
        self.order = "<" if head[126:128] == b"IM" else ">"
        if self._whole(head[124:126]) >> 8 == 2 or head.startswith(b"MATLAB 7.3"):
            raise NotImplementedError("a MATLAB file of version 7.3")
        found: dict[str, np.ndarray] = {}
        place = 128
        while place < len(self.content):
            kind, body, place = self._element(self.content, place, packed=True)
            if kind == _COMPRESSED:
                kind, body = self._unpacked(body, wanted)
            if kind != _ARRAY or not len(body):
                continue
            name = self._name(body)
            if name in wanted:
                found[name] = self._array(body, 0)
        return found

    def _whole(self, content) -> int:
        return int.from_bytes(content, "little" if self.order == "<" else "big")

    def _element(self, data: memoryview, place: int, packed: bool = False) -> tuple[int, memoryview, int]:
        """(type, content, where the next one begins)."""
        if len(data) - place < 8:
            raise _Damaged("it breaks off")
        first, length = self._whole(data[place : place + 4]), self._whole(data[place + 4 : place + 8])
        if first >> 16:  # up to four bytes stand in the place of the length
            kind, length, start, end = first & 0xFFFF, first >> 16, place + 4, place + 8
            if length > 4:
                raise _Damaged(f"an element of {length} bytes stands where four have room")
        else:
            kind, start = first, place + 8
            end = start + length
            if not (packed and kind == _COMPRESSED):
                end += -length % 8
        if start + length > len(data):
            raise _Damaged("an element reaches beyond the end")
        return kind, data[start : start + length], min(end, len(data))

    def _unpacked(self, body: memoryview, wanted: set[str]) -> tuple[int, memoryview]:
        """The element inside of a compressed one; nothing of one that holds another variable."""
        unpacker = zlib.decompressobj()
        begin = unpacker.decompress(body, 8)
        if len(begin) < 8:
            raise _Damaged("a compressed element is empty")
        kind, length = self._whole(begin[:4]), self._whole(begin[4:])
        if kind != _ARRAY:
            return kind, memoryview(b"")
        # Flags, shape and name come first, and take little.
        head = unpacker.decompress(unpacker.unconsumed_tail, min(length, 4096)) if length else b""
        if self._name(memoryview(head)) not in wanted:
            return kind, memoryview(b"")
        self._take(length)
        content = bytearray(head)
        while len(content) < length:
            part = unpacker.decompress(unpacker.unconsumed_tail, length - len(content))
            if not part:
                raise _Damaged("a compressed element breaks off")
            content += part
        if unpacker.decompress(unpacker.unconsumed_tail, 1) or not unpacker.eof:
            raise _Damaged("a compressed element has not the length that it declares")
        return kind, memoryview(content)

    def _take(self, count: int) -> None:
        self.room -= count
        if self.room < 0:
            raise _Damaged("it would unpack to many times its own size")

    def _head(self, body: memoryview) -> tuple[int, int, tuple[int, ...], str, int]:
        """(class, flags, shape, name, where the content begins)."""
        kind, flags, place = self._element(body, 0)
        if kind != 6 or len(flags) != 8:
            raise _Damaged("an array has no class")
        word = self._whole(flags[:4])
        kind, shape, place = self._element(body, place)
        if kind != 5 or len(shape) % 4 or len(shape) > 128:
            raise _Damaged("an array has no shape")
        sizes = tuple(int(size) for size in np.frombuffer(shape, f"{self.order}i4"))
        if not sizes or min(sizes) < 0:
            raise _Damaged("an array has no shape")
        _, name, place = self._element(body, place)
        return word & 0xFF, word & 0xFF00, sizes, bytes(name).decode("latin-1"), place

    def _name(self, body: memoryview) -> str:
        return self._head(body)[3] if len(body) else ""

    def _array(self, body: memoryview, depth: int) -> np.ndarray:
        if not len(body):
            return np.zeros((0, 0))
        if depth > _DEPTH:
            raise _Damaged(f"arrays are nested more than {_DEPTH} times")
        kind, flags, shape, _, place = self._head(body)
        count = math.prod(shape)
        if kind in (_CELL, _STRUCT):
            return self._nested(body, kind, shape, place, depth)
        if kind == _CHAR:
            return self._text(body, shape, count, place)
        if not _FIRST_NUMBER <= kind <= _LAST_NUMBER:
            raise NotImplementedError(f"a MATLAB file with an array of class {kind}, which is not read")
        values, place = self._numbers(body, place, count)
        if flags & _COMPLEX:
            imaginary, place = self._numbers(body, place, count)
            self._take(16 * count)
            values = values + 1j * imaginary
        return values.reshape(shape, order="F")

    def _numbers(self, body: memoryview, place: int, count: int) -> tuple[np.ndarray, int]:
        kind, content, place = self._element(body, place)
        if kind not in NUMBERS:
            raise _Damaged(f"numbers have the unknown type {kind}")
        item = np.dtype(self.order + NUMBERS[kind])
        if len(content) != count * item.itemsize:
            raise _Damaged(f"an array of {count} numbers holds {len(content)} bytes")
        self._take(len(content))
        return np.frombuffer(content, item).astype(item.newbyteorder("=")), place

    def _text(self, body: memoryview, shape: tuple[int, ...], count: int, place: int) -> np.ndarray:
        kind, content, place = self._element(body, place)
        self._take(8 * count)
        if kind in _TEXTS:
            order = {"<": "-le", ">": "-be"}[self.order] if kind != 16 else ""
            letters = list(bytes(content).decode(_TEXTS[kind] + order))
        elif kind in NUMBERS and kind not in (7, 9):
            letters = [chr(code) for code in np.frombuffer(content, self.order + NUMBERS[kind]).tolist()]
        else:
            raise _Damaged(f"a text has the unknown type {kind}")
        if len(letters) != count:
            raise _Damaged(f"a text of {count} letters holds {len(letters)}")
        grid = np.array(letters, "U1").reshape(shape, order="F")
        if not count:
            return np.array([], "U1")
        rows = np.ascontiguousarray(grid).reshape(-1, shape[-1])
        return np.array(["".join(row) for row in rows]).reshape(shape[:-1])

    def _nested(
        self, body: memoryview, kind: int, shape: tuple[int, ...], place: int, depth: int
    ) -> np.ndarray:
        count, fields = math.prod(shape), [""]
        if kind == _STRUCT:
            _, length, place = self._element(body, place)
            _, names, place = self._element(body, place)
            width = self._whole(length)
            if len(length) != 4 or not 0 < width <= 64 or len(names) % width:
                raise _Damaged("a structure has no names")
            cut = [bytes(names[start : start + width]) for start in range(0, len(names), width)]
            fields = [name.partition(b"\0")[0].decode("latin-1") for name in cut]
            if len(set(fields)) < len(fields) or not all(fields):
                raise _Damaged("the names of a structure are not different")
        if count * max(len(fields), 1) * _SMALLEST > len(body):
            raise _Damaged(f"{count} nested arrays have no room in {len(body)} bytes")
        self._take(128 * count * max(len(fields), 1))
        parts = []
        for _ in range(count * len(fields)):
            inner, content, place = self._element(body, place)
            if inner != _ARRAY:
                raise _Damaged(f"a nested array has the type {inner}")
            parts.append(self._array(content, depth + 1))
        made = np.empty(count, object if kind == _CELL else [(name, object) for name in fields])
        for number in range(count):
            if kind == _CELL:
                made[number] = parts[number]
            else:
                made[number] = tuple(parts[number * len(fields) : (number + 1) * len(fields)])
        return made.reshape(shape, order="F")
