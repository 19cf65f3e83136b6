"""What approximate search looks at first: one bit for each number of a vector.

A row is its difference from the mean of all rows, turned by one random rotation; of each number only the sign is kept,
with three numbers for the whole row. A product of the query with the signs, scaled so that it is right on average,
estimates the cosine (Gao and Long, "RaBitQ", 2024, with one bit). The rows of the greatest estimates are then compared
exactly. How many those must be is measured when the index is built.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossreid.gallery.blocks import mapped

# Bits of each number of a query, as ``scan.estimates`` wants them.
BITS = 4
WORD, GROUP, ROWS = 64, 512, 16384


@dataclass(frozen=True)
class Coding:
    """How vectors become codes. mean: (D,). rotation: (B, D) with orthonormal columns, B a multiple of 64.
    refined: how many rows are compared exactly."""

    mean: np.ndarray
    rotation: np.ndarray
    refined: int

    def query(self, vector: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32, np.float32]:
        """A query as ``scan.estimates`` wants it."""
        turned = self.rotation @ (vector - self.mean)
        low = turned.min()
        step = max((turned.max() - low) / (2**BITS - 1), np.float32(1e-20))
        whole = np.rint((turned - low) / step).astype(np.uint8)
        planes = np.stack([_packed((whole >> bit) & 1) for bit in range(BITS)])
        return planes, np.float32(low), np.float32(step), np.float32(turned.sum())


@dataclass(frozen=True)
class Codes:
    """Of N rows, filled up with zeros to whole groups. words: (groups, B / 64, 512) uint64. factors: (3, rows) float32:
    the scale of the estimate, what is added to it, and the number of bits that are set."""

    words: np.ndarray
    factors: np.ndarray

    def estimated(self, query, count: int) -> np.ndarray:
        """(N,) estimates of the products with a query, up to what is the same for all rows."""
        from crossreid.gallery.scan import estimates

        out = np.empty(self.factors.shape[1], np.float32)
        estimates(self.words, self.factors, *query, out)
        return out[:count]


def coding_of(sample: np.ndarray) -> Coding:
    """sample: (N, D) of the vectors that are to be coded."""
    dimension = sample.shape[1]
    width = -(-dimension // WORD) * WORD
    random = np.random.default_rng(0).standard_normal((width, dimension))
    return Coding(sample.mean(axis=0), np.linalg.qr(random)[0].astype(np.float32), 1)


def codes_of(coding: Coding, vectors: np.ndarray) -> Codes:
    """The codes of (N, D) vectors."""
    width, count = len(coding.rotation), len(vectors)
    groups = -(-count // GROUP)
    words = np.zeros((groups, width // WORD, GROUP), np.uint64)
    factors = np.zeros((3, groups * GROUP), np.float32)
    for start in range(0, count, ROWS):
        rows = vectors[start : start + ROWS] - coding.mean
        turned, stop = rows @ coding.rotation.T, start + len(rows)
        packed = np.zeros((-(-len(rows) // GROUP) * GROUP, width // WORD), np.uint64)
        packed[: len(rows)] = _packed(turned > 0)
        part = packed.reshape(-1, GROUP, width // WORD).transpose(0, 2, 1)
        words[start // GROUP : start // GROUP + len(part)] = part
        lengths = np.abs(turned).sum(axis=1)
        factors[0, start:stop] = np.divide(
            (turned * turned).sum(axis=1), lengths, out=np.zeros_like(lengths), where=lengths > 0
        )
        factors[1, start:stop] = rows @ coding.mean
        factors[2, start:stop] = (turned > 0).sum(axis=1)
    return Codes(words, factors)


def write_codes(folder: Path, codes: Codes) -> None:
    """Into the folder of their block; ``read_codes`` finds both files or neither counts."""
    for name, array in (("factors", codes.factors), ("codes", codes.words)):
        write_array(folder / name, array)


def read_codes(folder: Path, count: int, coding: Coding) -> Codes | None:
    """None where there are none."""
    groups, width = -(-count // GROUP), len(coding.rotation) // WORD
    if not (folder / "codes").exists():
        return None
    words = mapped(folder / "codes", np.uint64, (groups, width, GROUP))
    return Codes(words, mapped(folder / "factors", np.float32, (3, groups * GROUP)))


def write_array(path: Path, array: np.ndarray) -> None:
    """The bytes of an array, whole or not at all, handed to the disk."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "wb") as file:
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _packed(bits: np.ndarray) -> np.ndarray:
    """(..., B) truth values as (..., B / 64) words."""
    return np.packbits(bits, axis=-1, bitorder="little").view("<u8").astype(np.uint64, copy=False)
