"""Searching blocks of rows: every row within a filter, or first those whose codes look near."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossreid.gallery.blocks import Block
from crossreid.gallery.codes import Codes, Coding
from crossreid.gallery.entries import Entry, Filter
from crossreid.gallery.manifest import Fragment
from crossreid.gallery.nearest import Nearest

# From so many vectors on, one product for all of them is quicker than a loop for each.
MANY = 4
STEP, SMALL_STEP = 65536, 8192
# Numbers of a block from which on a compiled loop is worth loading.
WORTH = 2**22
# One row compared exactly takes as long as the codes of so many.
CHEAPER = 32
# So many rows within a filter are compared one by one, rather than through the cells of an index.
FEW = 10000
# What is to be found at least of the true first so many.
TRUE, SHARE = 50, 0.99


@dataclass(frozen=True)
class Part:
    """Some of the rows that are searched, of some fragments of a table in their order; perhaps with codes."""

    block: Block
    fragments: tuple[Fragment, ...]
    codes: Codes | None = None


def compare(
    nearest: Nearest, vectors: np.ndarray, rows: np.ndarray | None, queries: np.ndarray, first: int = 0
) -> None:
    """Offer the products of (Q, D) queries with rows of (N, D) vectors, all of them without ``rows``.

    first: what is added to the number of a row to give its place.
    """
    count = len(vectors) if rows is None else len(rows)
    looped = len(queries) < MANY and vectors.size >= WORTH
    step = STEP if looped else SMALL_STEP
    for start in range(0, count, step):
        stop = min(start + step, count)
        places = np.arange(start, stop) if rows is None else rows[start:stop]
        if looped:
            from crossreid.gallery import scan

            cosine = np.empty((len(queries), stop - start), np.float32)
            for query, out in zip(queries, cosine):
                scan.dots(vectors, places, query, out)
        else:
            cosine = queries @ (vectors[start:stop] if rows is None else vectors[places]).T
        nearest.offer(cosine, places + first)


def search(
    parts: Sequence[Part], coding: Coding | None, queries: np.ndarray, top: int, filter: Filter
) -> list[list[tuple[float, Entry]]]:
    """For each of (Q, D) queries up to ``top`` entries with 1 - cosine, nearest first, of all within the filter.

    coding: how the codes were made, for approximate search; None compares every row.
    """
    kept = [part.block.within(filter) for part in parts]
    starts = np.cumsum([0, *(len(part.block) for part in parts)])
    sizes = [len(part.block) if rows is None else len(rows) for part, rows in zip(parts, kept)]
    exact = coding is None or sum(sizes) <= max(coding.refined, top) + starts[-1] // CHEAPER
    lists = []
    for group in [queries] if exact else np.split(queries, len(queries)):
        nearest = Nearest(len(group), top)
        chosen = kept if exact or coding is None else _promising(parts, kept, coding, group[0], top)
        for part, rows, first in zip(parts, chosen, starts):
            if rows is None or len(rows):
                compare(nearest, part.block.vectors, rows, group, int(first))
        lists += nearest.lists()
    return [_named(parts, starts, hits) for hits in lists]


def needed(parts: Sequence[Part], coding: Coding, queries: np.ndarray) -> int:
    """How many rows of the greatest estimates must be compared exactly to find nearly all of the true first 50."""
    starts = np.cumsum([0, *(len(part.block) for part in parts)])
    truth, ranks = Nearest(len(queries), TRUE), []
    for part, first in zip(parts, starts):
        compare(truth, part.block.vectors, None, queries, int(first))
    for query, hits in zip(queries, truth.lists()):
        prepared = coding.query(query)
        found = np.concatenate(
            [part.codes.estimated(prepared, len(part.block)) for part in parts if part.codes is not None]
        )
        true = found[[place for _, place in hits]]
        ranks.append(len(found) - np.searchsorted(np.sort(found), true, "left"))
    return int(np.quantile(np.concatenate(ranks), SHARE, method="higher"))


def probes(cells: int, rows: int, kept: int) -> int:
    """How many of the cells of an index over so many rows are looked at: a tenth, and at least 20; where a filter keeps
    a part of the rows as many times more, since those lie in as many cells, each with fewer of them."""
    return min(cells, math.ceil(max(20, round(cells / 10)) * rows / max(1, kept)))


def _promising(
    parts: Sequence[Part], kept: Sequence[np.ndarray | None], coding: Coding, query: np.ndarray, top: int
) -> list[np.ndarray | None]:
    """Of the kept rows those of the greatest estimates; of parts without codes all."""
    prepared = coding.query(query)
    found: list[np.ndarray | None] = []
    for part, rows in zip(parts, kept):
        estimated = None if part.codes is None else part.codes.estimated(prepared, len(part.block))
        found.append(estimated if estimated is None or rows is None else estimated[rows])
    together = [estimated for estimated in found if estimated is not None]
    wanted = max(coding.refined, top)
    if sum(map(len, together)) <= wanted:
        return list(kept)
    values = np.concatenate(together) if len(together) > 1 else together[0]
    least = np.partition(values, len(values) - wanted)[len(values) - wanted]
    chosen: list[np.ndarray | None] = []
    for rows, estimated in zip(kept, found):
        if estimated is not None:
            near = np.flatnonzero(estimated >= least)
            rows = near if rows is None else rows[near]
        chosen.append(rows)
    return chosen


def _named(
    parts: Sequence[Part], starts: np.ndarray, hits: Sequence[tuple[float, int]]
) -> list[tuple[float, Entry]]:
    places = np.array([place for _, place in hits], np.int64)
    owners = np.searchsorted(starts, places, "right") - 1
    named: dict[int, Entry] = {}
    for owner in set(owners.tolist()):
        own = places[owners == owner]
        named.update(zip(own.tolist(), parts[owner].block.entries(own - starts[owner])))
    return [(distance, named[place]) for distance, place in hits]
