"""Compiled loops over distances. Imported inside functions only, since numba takes its time to load."""

from __future__ import annotations

import numba
import numpy as np

# Distances that are looked at together.
CHUNK = 64


def compiled(function, **options):
    """numba.njit that keeps its machine code on disk, or in memory alone where no folder can be written.

    Division as in NumPy, because a loop that may raise is not compiled to vector instructions.
    """
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy", **options)(function)
    except RuntimeError:
        return numba.njit(nogil=True, error_model="numpy", **options)(function)


@compiled
def nearer(row, item):
    """How many entries of a row come before ``item`` in a stable sort."""
    value = row[item]
    count = np.uint32(0)
    before, after = row[:item], row[item + 1 :]
    # slices and 32-bit counts, because only so are these loops compiled to vector instructions
    for index in range(len(before)):
        count = np.uint32(count + np.uint32(before[index] <= value))
    for index in range(len(after)):
        count = np.uint32(count + np.uint32(after[index] < value))
    return count


@compiled
def positions(row, items, out):
    """0-based position of each item in a stable sort of the row, ascending.

    items: ascending. Counting costs one pass per item, over the row or, of several items, over the part of it
    that is no farther than the last of them, and is the faster way until there are very many.
    """
    if len(items) <= 4:
        for at in range(len(items)):
            out[at] = nearer(row, items[at])
    elif len(items) <= 512:
        limit = row[items[0]]
        for at in range(1, len(items)):
            limit = max(limit, row[items[at]])
        near, places = np.empty(len(row), row.dtype), np.empty(len(items), np.int64)
        count, at = np.int64(0), 0
        for index in range(len(row)):
            if at < len(items) and items[at] == index:
                places[at] = count
                at += 1
            near[count] = row[index]
            count += np.int64(row[index] <= limit)
        near = near[:count]
        for at in range(len(items)):
            out[at] = nearer(near, places[at])
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

    rows: (B, G) distances; overwritten with infinity where the pair is excluded.
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
    """Cost of the cheapest path for a block of images with stripes of unit length.

    products: (m, S, S', n) inner products of stripes; x_square: (m, S), y_square: (S', n); out: (m, n).
    For distances up to 2 the continued fraction of tanh, cut after five terms, is exact to float32.
    """
    high, low, wide = products.shape[1:]
    cost = np.empty((low, wide), np.float32)
    step = np.empty(wide, np.float32)
    half, two, zero = np.float32(0.5), np.float32(2), np.float32(0)
    a0, a1, a2 = np.float32(945), np.float32(105 / 4), np.float32(1 / 16)
    b1, b2 = np.float32(420 / 4), np.float32(15 / 16)
    for m in range(len(products)):
        for i in range(high):
            own = x_square[m, i]
            for j in range(low):
                row, other, here = products[m, i, j], y_square[j], cost[j]
                # short loops without a choice inside, because only so are they compiled to vector instructions
                for n in range(wide):
                    s = own + other[n] - two * row[n]
                    s = s if s > zero else zero
                    step[n] = half * np.sqrt(s) * (a0 + s * (a1 + s * a2)) / (a0 + s * (b1 + s * b2))
                if i == 0:
                    if j == 0:
                        for n in range(wide):
                            here[n] = step[n]
                    else:
                        left = cost[j - 1]
                        for n in range(wide):
                            here[n] = step[n] + left[n]
                elif j == 0:
                    for n in range(wide):
                        here[n] = here[n] + step[n]
                else:
                    left = cost[j - 1]
                    for n in range(wide):
                        above, beside = here[n], left[n]
                        here[n] = step[n] + (above if above < beside else beside)
        for n in range(wide):
            out[m, n] = cost[low - 1, n]


@compiled
def insert(item, value, items, values):
    """Put an item in a list sorted by value, behind its equals; the last one falls out."""
    at = len(items) - 1
    while at > 0 and values[at - 1] > value:
        items[at], values[at] = items[at - 1], values[at - 1]
        at -= 1
    items[at], values[at] = item, value


@compiled
def nearest_rows(tile, top, left, nearest, distance, largest):
    """Take the columns of a tile of distances into the lists of its rows; columns come in ascending order."""
    last = nearest.shape[1] - 1
    high = np.empty(CHUNK, tile.dtype)
    for m in range(len(tile)):
        row, items, values = tile[m], nearest[top + m], distance[top + m]
        high[:] = largest[top + m]
        limit = values[last]
        for start in range(0, len(row), CHUNK):
            part = row[start : start + CHUNK]
            # compiled to vector instructions, and nearly always all that there is to do
            near = np.uint32(0)
            for n in range(len(part)):
                high[n] = max(high[n], part[n])
                near += np.uint32(part[n] < limit)
            if near:
                for n in range(len(part)):
                    if part[n] < limit:
                        insert(left + start + n, part[n], items, values)
                        limit = values[last]
        largest[top + m] = high.max()


@compiled
def nearest_columns(tile, top, left, nearest, distance, largest):
    """The same for the lists of the columns."""
    last = nearest.shape[1] - 1
    wide = tile.shape[1]
    limits = distance[left : left + wide, last].copy()
    highs = largest[left : left + wide]
    for m in range(len(tile)):
        row = tile[m]
        for start in range(0, wide, CHUNK):
            part = row[start : start + CHUNK]
            limit, high = limits[start : start + CHUNK], highs[start : start + CHUNK]
            near = np.uint32(0)
            for n in range(len(part)):
                high[n] = max(high[n], part[n])
                near += np.uint32(part[n] < limit[n])
            if near:
                for n in range(len(part)):
                    if part[n] < limit[n]:
                        column = left + start + n
                        insert(top + m, part[n], nearest[column], distance[column])
                        limit[n] = distance[column, last]


@compiled
def split_pairs(rows, identity, key, gallery_identity, gallery_key, genuine, impostor):
    """Distances of pairs of one identity and of two, of those that are not excluded; returns how many of each.

    rows: (B, G); identity, key: (B,) codes of the queries. genuine, impostor: float32, as long as all pairs.
    """
    same, other = 0, 0
    for query in range(len(rows)):
        row, own, banned = rows[query], identity[query], key[query]
        for item in range(len(row)):
            if gallery_key[item] != banned:
                if gallery_identity[item] == own:
                    genuine[same] = row[item]
                    same += 1
                else:
                    impostor[other] = row[item]
                    other += 1
    return same, other


@compiled
def nearest_items(rows, key, gallery_key, items, values):
    """The nearest items of each row that are not excluded, as a stable sort has them.

    rows: (B, G); items: (B, K) to fill, -1 where there are no more; values: (B, K) their distances.
    """
    items[:], values[:] = -1, np.inf
    last = items.shape[1] - 1
    for query in range(len(rows)):
        row, banned = rows[query], key[query]
        limit = values[query, last]
        for item in range(len(row)):
            if row[item] < limit and gallery_key[item] != banned:
                insert(item, row[item], items[query], values[query])
                limit = values[query, last]


@compiled
def tied_rows(rows, identity, key, gallery_identity, gallery_key, out):
    """Whether the first right item of each row shares its distance with a wrong one; out: (B,) of 0 and 1, -1 for a row
    without a right one."""
    for query in range(len(rows)):
        row, own, banned = rows[query], identity[query], key[query]
        best = np.inf
        for item in range(len(row)):
            if gallery_identity[item] == own and gallery_key[item] != banned and row[item] < best:
                best = row[item]
        out[query] = -1
        if best < np.inf:
            out[query] = 0
            for item in range(len(row)):
                if row[item] == best and gallery_identity[item] != own and gallery_key[item] != banned:
                    out[query] = 1
                    break


@compiled
def reciprocal(nearest, k):
    """For every item those among its first k that have it among their first k: (N, k) and how many."""
    total = len(nearest)
    found, count = np.empty((total, k), np.int32), np.zeros(total, np.int64)
    for item in range(total):
        for a in range(k):
            other = nearest[item, a]
            for b in range(k):
                if nearest[other, b] == item:
                    found[item, count[item]] = other
                    count[item] += 1
                    break
    return found, count


@compiled
def expand(start, stop, reciprocal, reciprocal_count, core, core_count):
    """Reciprocal sets joined by those of members that mostly agree: counts of rows, sorted columns."""
    mark = np.full(len(reciprocal), -1, np.int64)
    own = np.full(len(reciprocal), -1, np.int64)
    capacity = (stop - start) * reciprocal.shape[1] * (core.shape[1] + 1)
    columns, counts, size = np.empty(capacity, np.int32), np.zeros(stop - start, np.int64), 0
    for item in range(start, stop):
        begin = size
        for a in range(reciprocal_count[item]):
            member = reciprocal[item, a]
            own[member] = mark[member] = item
            columns[size] = member
            size += 1
        for a in range(reciprocal_count[item]):
            member = reciprocal[item, a]
            shared = 0
            for b in range(core_count[member]):
                shared += own[core[member, b]] == item
            if 3 * shared > 2 * core_count[member]:
                for b in range(core_count[member]):
                    other = core[member, b]
                    if mark[other] != item:
                        mark[other] = item
                        columns[size] = other
                        size += 1
        columns[begin:size].sort()
        counts[item - start] = size - begin
    return counts, columns[:size].copy()


@compiled
def known(ends, columns, nearest, distance):
    """Distances on the support where the neighbour lists hold them, NaN elsewhere."""
    values = np.full(len(columns), np.nan, np.float32)
    for item in range(len(nearest)):
        for at in range(ends[item], ends[item + 1]):
            for a in range(nearest.shape[1]):
                if nearest[item, a] == columns[at]:
                    values[at] = distance[item, a]
                    break
    return values


@compiled
def average(start, stop, near, ends, columns, values):
    """Mean of the sparse rows of each item's neighbours: counts of rows, columns sorted in each, values."""
    capacity = 0
    for item in range(start, stop):
        for other in near[item]:
            capacity += ends[other + 1] - ends[other]
    sums, touched = np.zeros(len(near), np.float32), np.zeros(len(near), np.bool_)
    out_columns, out_values = np.empty(capacity, np.int32), np.empty(capacity, np.float32)
    counts, size = np.zeros(stop - start, np.int64), 0
    share = np.float32(near.shape[1])
    for item in range(start, stop):
        begin = size
        for other in near[item]:
            for at in range(ends[other], ends[other + 1]):
                column = columns[at]
                if not touched[column]:
                    touched[column] = True
                    out_columns[size] = column
                    size += 1
                sums[column] += values[at]
        out_columns[begin:size].sort()
        for at in range(begin, size):
            out_values[at] = sums[out_columns[at]] / share
            sums[out_columns[at]] = 0
            touched[out_columns[at]] = False
        counts[item - start] = size - begin
    return counts, out_columns[:size].copy(), out_values[:size].copy()


@compiled
def invert(ends, columns, values, width):
    """Rows -> columns: for each column where its entries begin, the rows ascending, and their values."""
    starts = np.zeros(width + 1, np.int64)
    for column in columns:
        starts[column + 1] += 1
    for column in range(width):
        starts[column + 1] += starts[column]
    place = starts.copy()
    rows, out = np.empty(len(columns), np.int32), np.empty(len(columns), np.float32)
    for row in range(len(ends) - 1):
        for at in range(ends[row], ends[row + 1]):
            rows[place[columns[at]]] = row
            out[place[columns[at]]] = values[at]
            place[columns[at]] += 1
    return starts, rows, out


@compiled
def jaccard_rows(start, ends, columns, values, starts, rows, row_values, weight, out):
    """Blend the Jaccard distance of sparse rows into ``out`` (B, G), which holds the original distances."""
    rest = np.float32(1) - weight
    overlap = np.zeros(out.shape[1], np.float32)
    for query in range(len(out)):
        for at in range(ends[start + query], ends[start + query + 1]):
            column, value = columns[at], values[at]
            for entry in range(starts[column], starts[column + 1]):
                overlap[rows[entry]] += min(row_values[entry], value)
        for item in range(out.shape[1]):
            jaccard = np.float32(1) - overlap[item] / (np.float32(2) - overlap[item])
            out[query, item] = rest * jaccard + weight * out[query, item]
            overlap[item] = 0
