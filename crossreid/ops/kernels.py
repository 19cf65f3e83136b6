"""Compiled loops over distances. Imported inside functions only, since numba takes its time to load."""

from __future__ import annotations

import numba
import numpy as np


def compiled(function):
    """numba.njit that keeps its machine code on disk, or in memory alone where no folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@compiled
def nearer(row, item):
    """How many entries of a row come before ``item`` in a stable sort."""
    value = row[item]
    count = 0
    for index in range(item):
        count += row[index] <= value
    for index in range(item + 1, len(row)):
        count += row[index] < value
    return count


@compiled
def positions(row, items, out):
    """0-based position of each item in a stable sort of the row, ascending.

    Counting costs one pass over the row per item and is the faster way until there are very many.
    """
    if len(items) <= 512:
        for at in range(len(items)):
            out[at] = nearer(row, items[at])
    else:
        order = np.argsort(row, kind="mergesort")
        place = np.empty(len(row), np.int64)
        for at in range(len(row)):
            place[order[at]] = at
        for at in range(len(items)):
            out[at] = place[items[at]]
    out[: len(items)].sort()


@compiled
def rank_rows(
    rows, identity, key, gallery_identity, gallery_key, members, ends, same_key, key_ends, by_identity, out
):
    """Average precision, inverse negative penalty, first rank and first rank among identities of each row.

    rows: (B, G) distances; overwritten with infinity where the pair is forbidden.
    identity, key: (B,) codes of the queries, -1 for none such in the gallery.
    members, ends: gallery indices grouped by identity code, and where each group ends; same_key, key_ends: by
        key.
    out: (B, 4) float64, left alone for a query without a valid match.
    """
    positive = np.empty(len(gallery_identity), np.int64)
    rank = np.empty(len(gallery_identity), np.int64)
    seen = np.full(len(ends), -1, np.int64)
    for query in range(len(rows)):
        own, banned = identity[query], key[query]
        if own < 0:
            continue
        count = 0
        for at in range(ends[own - 1] if own else 0, ends[own]):
            if banned < 0 or gallery_key[members[at]] != banned:
                positive[count] = members[at]
                count += 1
        if count == 0:
            continue
        row = rows[query]
        if banned >= 0:
            for at in range(key_ends[banned - 1] if banned else 0, key_ends[banned]):
                row[same_key[at]] = np.inf
        positions(row, positive[:count], rank)
        total = 0.0
        for at in range(count):
            total += (at + 1) / (rank[at] + 1)
        out[query, 0] = total / count
        out[query, 1] = count / (rank[count - 1] + 1)
        out[query, 2] = rank[0] + 1
        if by_identity:
            best = positive[0]
            for at in range(1, count):
                if row[positive[at]] < row[best]:
                    best = positive[at]
            others = 0
            for item in range(len(row)):
                if row[item] < row[best] or (row[item] == row[best] and item < best):
                    if seen[gallery_identity[item]] != query:
                        seen[gallery_identity[item]] = query
                        others += 1
            out[query, 3] = others + 1


@compiled
def align_unit(products, x_square, y_square, out):
    """Cost of the cheapest path for a block of pictures with stripes of unit length.

    products: (S', m, S, n) inner products of stripes; x_square: (m, S), y_square: (S', n); out: (m, n).
    For distances up to 2 the continued fraction of tanh, cut after five terms, is exact to float32.
    """
    wide, high = products.shape[3], products.shape[2]
    cost = np.empty((len(products), wide), np.float32)
    half, two, zero = np.float32(0.5), np.float32(2), np.float32(0)
    a0, a1, a2 = np.float32(945), np.float32(105 / 4), np.float32(1 / 16)
    b1, b2 = np.float32(420 / 4), np.float32(15 / 16)
    for m in range(products.shape[1]):
        for i in range(high):
            own = x_square[m, i]
            for j in range(len(products)):
                row, other, here = products[j, m, i], y_square[j], cost[j]
                left = cost[j - 1] if j else cost[0]
                for n in range(wide):
                    s = max(own + other[n] - two * row[n], zero)
                    step = half * np.sqrt(s) * (a0 + s * (a1 + s * a2)) / (a0 + s * (b1 + s * b2))
                    if i == 0:
                        here[n] = step + (left[n] if j else zero)
                    else:
                        here[n] = step + (min(here[n], left[n]) if j else here[n])
        for n in range(wide):
            out[m, n] = cost[len(products) - 1, n]
