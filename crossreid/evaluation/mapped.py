"""Features that stay on the disk: read where they are needed, by the pages of a memory map, so that a gallery may be
larger than the memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from crossreid import memory
from crossreid.files import Unwritable, check_room, understood
from crossreid.formats.arrays import map_npy
from crossreid.images.tables import BOX_COLUMNS, lines_of
from crossreid.records import UserError

# Features of less are gathered in memory.
LARGE = 2**28
# Rows that are copied at once.
ROWS = 4096


def mapped(path: Path) -> dict[str, np.ndarray]:
    """A ``.npy`` of vectors (N, D) as a memory map, and the columns of the table beside it, as ``crossreid embed --out
    NAME.npy`` writes both: ``NAME.npy.rows.csv`` with a line for each vector, of text."""
    if not path.is_file():
        raise UserError(f"there are no features at {path}: expected the .npy that `crossreid embed` writes")
    vectors = map_npy(path, "expected the vectors that `crossreid embed --out NAME.npy` writes")
    rows = Path(f"{path}.rows.csv")
    if not rows.is_file():
        raise UserError(
            f"{path} has no table {rows.name} beside it, which says whom each vector shows: copy it there, as "
            "`crossreid embed` wrote it, or write one with a line for each vector and the columns identity and camera"
        )
    lines: dict[str, list[str]] = {}
    for _, line in lines_of(rows, lambda names: lines.update((name, []) for name in names)):
        for name, text in line.items():
            lines[name].append(text)
    columns = {name: np.array(texts, dtype=str) for name, texts in lines.items()}
    count = len(next(iter(columns.values()), ()))
    if vectors.ndim != 2 or count != len(vectors):
        raise UserError(
            f"{rows} has {count} lines, but {path} an array of shape {vectors.shape}: one line for each vector was "
            "expected"
        )
    with understood(
        rows, "expected the table that `crossreid embed` writes, whose boxes are whole numbers of pixels"
    ):
        return {"vectors": vectors, **with_boxes(columns)}


def with_boxes(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of text; those of the edges of a box, where there are all, become ``box`` (N, 4), -1 for a whole
    image."""
    if set(BOX_COLUMNS) <= set(columns):
        edges = [np.where(columns[edge] == "", "-1", columns.pop(edge)) for edge in BOX_COLUMNS]
        columns["box"] = np.stack(edges, axis=1).astype(np.int64)
    return columns


class Gathered:
    """Rows that come in blocks, one array (N, ...) float32 in the end: in memory, or, of ``LARGE`` and more, in a file
    that the system removes with this process.

    Raises UserError at once where the disk has no room for that file."""

    def __init__(self, shape: tuple[int, ...]):
        self._shape, self._rows = shape, 0
        size = 4 * math.prod(shape)
        if size >= LARGE:
            check_room(Path(tempfile.gettempdir()), size, "set TMPDIR to a folder with more")
        with _writing():
            self._target = np.empty(shape, np.float32) if size < LARGE else tempfile.TemporaryFile()

    def add(self, block: np.ndarray) -> None:
        if self._rows + len(block) > self._shape[0]:
            raise ValueError(f"there are more than {self._shape[0]} rows")
        with np.errstate(over="ignore"):  # infinite numbers are told with their image
            block = np.asarray(block, np.float32)
        if isinstance(self._target, np.ndarray):
            self._target[self._rows : self._rows + len(block)] = block
        else:
            with _writing():
                self._target.write(np.ascontiguousarray(block).data)
        self._rows += len(block)

    def array(self) -> np.ndarray:
        if self._rows < self._shape[0]:
            raise ValueError(f"there are {self._rows} rows, where {self._shape[0]} were announced")
        if isinstance(self._target, np.ndarray):
            return self._target
        with _writing(), self._target as file:
            file.flush()
            return memory.mapped(np.memmap(file, np.float32, "r+", shape=self._shape))


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unwritable(Path(tempfile.gettempdir()), error) from error


def made(vectors: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What ``change`` gives for some rows of an array at a time, as ``Gathered`` keeps it."""
    found = Gathered(vectors.shape)
    for start in range(0, len(vectors), ROWS):
        found.add(change(vectors[start : start + ROWS]))
        memory.let_go(vectors)
    return found.array()


def floats(vectors: np.ndarray) -> np.ndarray:
    """The same numbers as float32, a row behind the other; those that lie so already are not copied."""
    if vectors.dtype == np.float32 and vectors.flags.c_contiguous:
        return vectors
    return made(vectors, np.asarray)


def gathered(parts: Sequence[tuple[torch.Tensor, Sequence[int] | np.ndarray]]) -> torch.Tensor:
    """The chosen rows of each part, one after the other. What all are of, in their order, is not copied; large ones are
    copied to a file that the system removes with this process."""
    first = parts[0][0]
    count = sum(len(rows) for _, rows in parts)
    places = [np.asarray(rows, np.int64) for _, rows in parts]
    if all(part.data_ptr() == first.data_ptr() and len(part) == len(first) for part, _ in parts):
        if np.array_equal(np.concatenate(places), np.arange(len(first))):
            return first
    found = Gathered((count, *first.shape[1:]))
    for (part, _), rows in zip(parts, places):
        for start in range(0, len(rows), ROWS):
            found.add(part[torch.from_numpy(rows[start : start + ROWS])].numpy())
            memory.let_go(part.numpy())
    return torch.from_numpy(found.array())
