"""Clusters of vectors by average linkage under constraints, in memory that grows with their number and not its square.

The average distance of two clusters of unit vectors is 1 less the product of their means, so that a cluster is a sum
and a count. Clusters nearer than a threshold have members nearer than it, so that the neighbours of a merged cluster
are those of its parts. What is found is the dendrogram of ``scipy.cluster.hierarchy.linkage(method="average")``, in
which a forbidden pair is infinitely far, cut at the threshold; that one needs all pairs at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Pairs kept of each vector, the nearest; and rows compared at once.
NEIGHBOURS, BLOCK = 256, 1024


def forbidden(one: Sequence[np.ndarray], other: Sequence[np.ndarray], least: np.ndarray) -> np.ndarray:
    """(A, B) whether two tracklets cannot be of one person: less time lies between them than ``least`` says.

    one, other: camera (position in ``least``), start and end, each (A,) or (B,); a time that is not a number forbids
        nothing. least: (C, C) seconds between two cameras; 0 for the same one, where only an overlap is forbidden.
    """
    camera, start, end = (each[:, None] for each in one)
    cameras, starts, ends = (each[None] for each in other)
    # Negative where they overlap.
    between = np.maximum(starts - end, start - ends)
    return between < least[camera, cameras]


def neighbours(vectors: np.ndarray, threshold: float, moments, least: np.ndarray) -> list[set[int]]:
    """For each of (N, D) unit vectors those nearer than the threshold (1 - cosine) that are allowed."""
    found: list[set[int]] = [set() for _ in vectors]
    for top in range(0, len(vectors), BLOCK):
        rows = slice(top, top + BLOCK)
        distance = 1 - vectors[rows] @ vectors.T
        distance[forbidden([each[rows] for each in moments], moments, least)] = np.inf
        for at, row in enumerate(distance, top):
            row[at] = np.inf
            near = np.flatnonzero(row < threshold)
            if len(near) > NEIGHBOURS:
                near = near[np.argpartition(row[near], NEIGHBOURS)[:NEIGHBOURS]]
            for other in near.tolist():
                found[at].add(other)
                found[other].add(at)
    return found


def average_linkage(
    vectors: np.ndarray,
    threshold: float,
    camera: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    known: np.ndarray,
    least: np.ndarray | None = None,
) -> np.ndarray:
    """(N,) a number for each of (N, D) unit vectors, equal for those of one cluster; numbers count from 0 in the order
    in which clusters come first.

    threshold: clusters are merged while their average distance (1 - cosine) is below it. camera: (N,) from 0.
    start, end: (N,) seconds, not a number where they are not known.
    known: (N,) -1, or a number from 0: those of one number are one cluster from the beginning, and those of two are
        never merged. least: (C, C) see ``forbidden``.
    """
    if least is None:
        cameras = int(camera.max(initial=0)) + 1
        least = np.where(np.eye(cameras, dtype=bool), 0.0, -np.inf)
    moments = camera, start, end
    state = _Clusters(vectors, moments, known, least, threshold)
    near = neighbours(vectors, threshold, moments, least)
    for at, others in enumerate(near):
        state.near[int(state.of[at])] |= {int(state.of[other]) for other in others}
    for cluster in state.alive:
        state.near[cluster].discard(cluster)
    state.merge_all()
    _, first, numbers = np.unique(state.of, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[numbers]


class _Clusters:
    """of: the cluster of each vector, which is named by one of its members."""

    def __init__(self, vectors, moments, known, least, threshold):
        self.moments, self.least, self.threshold = moments, least, threshold
        self.of = np.arange(len(vectors))
        first: dict[int, int] = {}
        for at, number in enumerate(known.tolist()):
            if number >= 0:
                self.of[at] = first.setdefault(number, at)
        self.alive = {int(each) for each in self.of}
        self.known = set(first.values())  # clusters that have a number, which no other may join that has one
        self.members: dict[int, list[int]] = {cluster: [] for cluster in self.alive}
        for at, cluster in enumerate(self.of.tolist()):
            self.members[cluster].append(at)
        self.sums = vectors.astype(np.float64)
        for cluster, members in self.members.items():
            if len(members) > 1:
                self.sums[cluster] = vectors[members].sum(axis=0, dtype=np.float64)
        self.near: dict[int, set[int]] = {cluster: set() for cluster in self.alive}

    def merge_all(self) -> None:
        """By chains of nearest neighbours: two that are each other's nearest are merged, whatever else there is."""
        waiting = sorted(self.alive, reverse=True)
        chain: list[int] = []
        while waiting or chain:
            if not chain:
                chain = [waiting.pop()]
                if chain[0] not in self.alive:
                    chain = []
                continue
            before = chain[-2] if len(chain) > 1 else None
            nearest = self._nearest(chain[-1], before)
            if nearest is None:
                # Nothing is near enough, and nothing that comes of merging others will be.
                chain = []
            elif nearest == before:
                waiting.append(self._merge(chain.pop(), chain.pop()))
            else:
                chain.append(nearest)

    def _nearest(self, cluster: int, before: int | None) -> int | None:
        """The nearest cluster that is near enough and allowed; the one before in the chain where several are."""
        while near := self.near[cluster]:
            others = np.fromiter(near, np.int64, len(near))
            others.sort()
            sizes = np.array([len(self.members[other]) for other in others])
            distance = 1 - (self.sums[others] @ self.sums[cluster]) / (sizes * len(self.members[cluster]))
            if before in near:
                distance[np.searchsorted(others, before)] -= 1e-12
            for at in np.argsort(distance, kind="stable"):
                if not distance[at] < self.threshold:
                    return None
                other = int(others[at])
                if self._allowed(cluster, other):
                    return other
                # Forbidden for good, whatever either becomes part of.
                self.near[cluster].discard(other)
                self.near[other].discard(cluster)
        return None

    def _allowed(self, one: int, other: int) -> bool:
        if one in self.known and other in self.known:
            return False
        a, b = self.members[one], self.members[other]
        both = [each[a] for each in self.moments], [each[b] for each in self.moments]
        return not forbidden(*both, self.least).any()

    def _merge(self, one: int, other: int) -> int:
        kept, gone = min(one, other), max(one, other)
        self.of[self.members[gone]] = kept
        self.members[kept] += self.members.pop(gone)
        self.sums[kept] += self.sums[gone]
        self.alive.discard(gone)
        if gone in self.known:
            self.known.remove(gone)
            self.known.add(kept)
        for cluster in self.near.pop(gone):
            self.near[cluster].discard(gone)
            if cluster != kept:
                self.near[cluster].add(kept)
                self.near[kept].add(cluster)
        return kept
