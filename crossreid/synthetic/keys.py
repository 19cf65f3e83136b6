"""Random numbers that depend on what they are for, and on nothing else."""

from __future__ import annotations

import zlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """A generator for one purpose, named by ``key``: words and integers, such as
    ``("person", seed, domain, 7)``.

    The stream depends on the key alone, never on how many numbers were drawn elsewhere. Only uniform floats
    and integers are drawn from it in this package; numpy keeps those streams stable.
    """
    words = [
        zlib.crc32(part.encode()) if isinstance(part, str) else int(part) & 0xFFFFFFFFFFFF for part in key
    ]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low + (high - low) * rng.random())


def pick(rng: np.random.Generator, weights: dict):
    """One key of ``weights``, drawn in proportion to its value."""
    point = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        point -= weight
        if point < 0:
            return key
    return key


def tile(rng: np.random.Generator, size: int, octaves: int = 4) -> np.ndarray:
    """Smooth noise (size, size) float32 with mean 0 and standard deviation 1 that repeats without a seam;
    ``size`` is a power of two."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = 4 << octave
        coarse = rng.random((cells, cells), dtype=np.float32) - 0.5
        place = np.arange(size, dtype=np.float32) * (cells / size)
        low = place.astype(np.int64)
        part = place - low
        part = part * part * (3 - 2 * part)
        high = (low + 1) % cells
        rows = coarse[low] * (1 - part)[:, None] + coarse[high] * part[:, None]
        total += (rows[:, low] * (1 - part) + rows[:, high] * part) * 0.6**octave
    total -= total.mean()
    return total / total.std()
