"""NumPy's files (``.npy``, ``.npz``), read without pickles and within bounds."""

from __future__ import annotations

import io
import math
from collections.abc import Container
from pathlib import Path

import numpy as np

from crossreid import files, memory
from crossreid.formats import archives


def read_npz(path: Path, expected: str, wanted: Container[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an archive by name.

    wanted: those that are read, all by default. expected: what errors say was expected of the file.
    Raises UserError for a file that cannot be read, or would unpack to many times its own size.
    """
    with files.understood(path, expected), archives.opened(path) as archive:
        found = {}
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            if name != member and (wanted is None or name in wanted):
                found[name] = _array(archives.content(archive, member))
        return found


def read_npy(path: Path, expected: str) -> np.ndarray:
    """The array of a small file."""
    with files.understood(path, expected), files.opened(path) as file:
        return _array(bytearray(file.read()))


def map_npy(path: Path, expected: str) -> np.ndarray:
    """The array of a large file, mapped into memory, see ``crossreid.memory.mapped``; copy-on-write, because torch
    warns of arrays that may not be written to."""
    with files.understood(path, expected), files.opened(path):
        return memory.mapped(np.lib.format.open_memmap(path, mode="c"))


def _array(content: bytearray) -> np.ndarray:
    """An array whose header says no more and no less than what is there."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, kind = read(file)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    start = file.tell()
    if kind.itemsize * math.prod(shape) != len(content) - start:
        raise ValueError(f"an array of shape {shape} and type {kind} holds {len(content) - start} bytes")
    if not kind.itemsize:
        return np.zeros(shape, kind)
    if kind.kind == "U" and np.any(np.frombuffer(content, f"{kind.byteorder}u4", offset=start) > 0x10FFFF):
        raise ValueError("a text holds numbers that are no letters")
    # A view of the content, which nobody else has.
    return np.frombuffer(content, kind, offset=start).reshape(shape, order="F" if fortran else "C")
