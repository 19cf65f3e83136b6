"""Features that stay on the disk: read where they are needed, by the pages of a memory map, so that a gallery may be
larger than the memory."""

from __future__ import annotations

import ctypes
import mmap
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from crossreid.formats.arrays import map_npy
from crossreid.images.tables import BOX_COLUMNS, lines_of
from crossreid.records import UserError

# Features of less are gathered in memory.
LARGE = 2**28
# MADV_PAGEOUT, which Python's mmap has no name for.
_PAGE_OUT = 21


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
    count = len(next(iter(columns.values())))
    if vectors.ndim != 2 or count != len(vectors):
        raise UserError(
            f"{rows} has {count} lines, but {path} an array of shape {vectors.shape}: one line for each vector was "
            "expected"
        )
    if set(BOX_COLUMNS) <= set(columns):
        edges = [np.where(columns[edge] == "", "-1", columns.pop(edge)) for edge in BOX_COLUMNS]
        columns["box"] = np.stack(edges, axis=1).astype(np.int64)
    return {"vectors": vectors, **columns}


def gathered(parts: Sequence[tuple[torch.Tensor, Sequence[int] | np.ndarray]]) -> torch.Tensor:
    """The chosen rows of each part, one after the other. What all are of, in their order, is not copied; large ones are
    copied to a file that the system removes with this process."""
    first = parts[0][0]
    count = sum(len(rows) for _, rows in parts)
    places = [np.asarray(rows, np.int64) for _, rows in parts]
    if all(part.data_ptr() == first.data_ptr() and len(part) == len(first) for part, _ in parts):
        if np.array_equal(np.concatenate(places), np.arange(len(first))):
            return first
    shape = (count, *first.shape[1:])
    if count * first[:1].numel() * first.element_size() < LARGE:
        return torch.cat([part[torch.from_numpy(rows)] for (part, _), rows in zip(parts, places)])
    with tempfile.TemporaryFile() as file:
        together = torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))
    at = 0
    for (part, _), rows in zip(parts, places):
        for start in range(0, len(rows), 4096):
            some = rows[start : start + 4096]
            together[at : at + len(some)] = part[torch.from_numpy(some)]
            at += len(some)
        _let_go(part)
    return together


def _let_go(part: torch.Tensor) -> None:
    """Tell Linux that these pages will hardly be needed: those of a memory map leave the memory, others stay."""
    if sys.platform == "linux":
        start = -(-part.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        length = part.data_ptr() + part.numel() * part.element_size() - start
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(max(length, 0)), _PAGE_OUT)
