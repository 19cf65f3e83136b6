"""The nearest neighbours of every item among all, of which re-ranking is made: most of its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from crossreid.files import replacing
from crossreid.formats.arrays import read_npz
from crossreid.ops.ranks import in_threads

TILE = 512, 2048
# Seconds between two writes of the lists.
KEEP_EVERY = 300.0

Span = tuple[int, int, int, int]


def of_all(
    source, k: int, *, progress: bool = False, workers: int | None = None, keep: Path | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k nearest of every item (N, k) with their distances, and the largest distance of every item (N,).

    source: ``queries`` and ``gallery``, how many there are; ``tile(top, bottom, left, right)``, their distances,
        queries first; with ``keep`` also ``digest()``.
    progress, workers, keep: see ``crossreid.ops.rerank.k_reciprocal_rows``.

    The distances are symmetric: only tiles on and right of the diagonal are computed, and serve rows and
    columns.
    """
    from crossreid.ops.kernels import nearest_columns, nearest_rows

    total = source.queries + source.gallery
    edges = [*range(0, source.queries, TILE[0]), *range(source.queries, total, TILE[0]), total]
    digest = source.digest() if keep else ""
    kept = _kept(keep, (total, k), digest)
    begin = 0
    if kept is None:
        nearest = np.full((total, k), -1, np.int32)
        distance = np.full((total, k), np.inf, np.float32)
        largest = np.full(total, -np.inf, np.float32)
    else:
        nearest, distance, largest, begin = kept

    def spans() -> Iterator[Span]:
        for top, bottom in pairwise(edges):
            if top >= begin:
                yield from ((top, bottom, *each) for each in _spans(top, bottom, source.queries, total))

    def made(span: Span) -> tuple[Span, np.ndarray]:
        return span, np.ascontiguousarray(source.tile(*span))

    bar = tqdm(
        total=total * total // 2,
        initial=total * begin - begin * begin // 2,
        desc="neighbours",
        disable=None if progress else True,
        leave=False,
        unit=" pairs",
        unit_scale=True,
    )
    written, finished = time.monotonic(), begin
    with bar:
        for (top, bottom, left, right), tile in in_threads(made, spans(), workers):
            nearest_rows(tile, top, left, nearest, distance, largest)
            if left >= bottom:
                nearest_columns(tile, top, left, nearest, distance, largest)
            bar.update(tile.size // (1 if left >= bottom else 2))
            if right == total:
                finished = bottom
                if keep and time.monotonic() - written >= KEEP_EVERY:
                    _write(keep, nearest, distance, largest, finished, digest)
                    written = time.monotonic()
    if keep and keep.exists() and finished > begin:
        _write(keep, nearest, distance, largest, finished, digest)
    return nearest, distance, largest


def _write(path: Path, nearest, distance, largest, finished: int, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            nearest=nearest,
            distance=distance,
            largest=largest,
            finished=finished,
            digest=np.array(digest),
        )


def _kept(path: Path | None, shape: tuple[int, int], digest: str):
    """The lists of an earlier call on the same features with the items whose rows are done, None where there are
    none."""
    if path is None or not path.is_file():
        return None
    arrays = read_npz(path, "neighbour lists of a re-ranking that was stopped were expected; remove the file")
    if str(arrays["digest"]) != digest or arrays["nearest"].shape != shape:
        return None
    return arrays["nearest"], arrays["distance"], arrays["largest"], int(arrays["finished"])


def _spans(top: int, bottom: int, queries: int, total: int) -> Iterator[tuple[int, int]]:
    """Column ranges from ``top`` on: the diagonal tile, then wide ones; none holds queries and gallery."""
    yield top, bottom
    left = bottom
    while left < total:
        right = min(left + TILE[1], queries if left < queries else total)
        yield left, right
        left = right
