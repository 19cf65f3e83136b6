"""The nearest of many rows that come block by block."""

from __future__ import annotations

import numpy as np

# Rows that are looked at together.
TOGETHER = 8192


class Nearest:
    """For each of Q vectors the ``top`` rows of smallest 1 - cosine among all that were offered."""

    def __init__(self, count: int, top: int):
        self._top = top
        self._distance = np.empty((count, 0), np.float32)
        self._place = np.empty((count, 0), np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._count = 0  # of rows that wait, which may come one at a time

    def offer(self, cosine: np.ndarray, places: np.ndarray) -> None:
        """cosine: (Q, N) of every vector to N rows. places: (N,) numbers by which the caller knows the rows."""
        self._waiting.append((cosine, places))
        self._count += len(places)
        if self._count >= TOGETHER:
            self._take()

    def _take(self) -> None:
        cosine = np.concatenate([cosine for cosine, _ in self._waiting], axis=1)
        places = np.concatenate([places for _, places in self._waiting])
        self._waiting.clear()
        self._count = 0
        distance = 1 - cosine
        if self._distance.shape[1] == self._top:
            # Most rows are farther than what was found before, for every vector.
            near = np.flatnonzero((distance < self._distance.max(axis=1, keepdims=True)).any(axis=0))
            if not len(near):
                return
            distance, places = distance[:, near], places[near]
        place = np.broadcast_to(places, distance.shape)
        # Cut before they are joined: of a first block all rows are near.
        distance, place = self._cut(distance, place)
        self._distance, self._place = self._cut(
            np.concatenate([self._distance, distance], axis=1), np.concatenate([self._place, place], axis=1)
        )

    def _cut(self, distance: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if distance.shape[1] <= self._top:
            return distance, place
        kept = np.arange(len(distance))[:, None], np.argpartition(distance, self._top - 1)[:, : self._top]
        return distance[kept], place[kept]

    def lists(self) -> list[list[tuple[float, int]]]:
        """(distance, place) for each vector, nearest first, equal ones by place."""
        if self._waiting:
            self._take()
        order = np.lexsort((self._place, self._distance), axis=1)
        return [
            list(zip(self._distance[query, row].tolist(), self._place[query, row].tolist()))
            for query, row in enumerate(order)
        ]
