"""Compiled loops over the rows of a gallery. Imported inside functions only, since numba takes its time to load."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.extending import intrinsic

from crossreid.ops.kernels import compiled

# Sums of float32 may be made in any order, or they are not made by vector instructions.
_summing = functools.partial(compiled, fastmath={"reassoc", "contract", "nsz"})


def _count_ones(context, value):
    """How many bits of a whole number are set, by the instruction for it."""

    def code(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return value(value), code


_ones: Any = intrinsic(_count_ones)


@_summing
def dots(vectors, rows, query, out):
    """Products of some rows with one query (D,), without a copy of them."""
    length, fours = vectors.shape[1], len(rows) // 4 * 4
    # Rows lie apart; memory answers for four of them as soon as for one.
    for at in range(0, fours, 4):
        one, two = vectors[rows[at]], vectors[rows[at + 1]]
        three, four = vectors[rows[at + 2]], vectors[rows[at + 3]]
        first = second = third = fourth = np.float32(0)
        for place in range(length):
            number = query[place]
            first += one[place] * number
            second += two[place] * number
            third += three[place] * number
            fourth += four[place] * number
        out[at], out[at + 1], out[at + 2], out[at + 3] = first, second, third, fourth
    for at in range(fours, len(rows)):
        one, first = vectors[rows[at]], np.float32(0)
        for place in range(length):
            first += one[place] * query[place]
        out[at] = first


@_summing
def estimates(codes, factors, planes, low, step, shift, out):
    """Estimated products of all rows with one query, see ``codes.Codes``.

    codes: (B, W, G) words of B groups of G rows, ``factors``: (3, B G), ``planes``: (4, W) words of the query.
    """
    groups, words, size = codes.shape
    sums = np.empty(size, np.int64)
    for group in range(groups):
        for at in range(size):
            sums[at] = 0
        for word in range(words):
            one, two, four, eight = planes[0, word], planes[1, word], planes[2, word], planes[3, word]
            row = codes[group, word]
            for at in range(size):
                value = row[at]
                sums[at] += (
                    np.int64(_ones(value & one))
                    + (np.int64(_ones(value & two)) << 1)
                    + (np.int64(_ones(value & four)) << 2)
                    + (np.int64(_ones(value & eight)) << 3)
                )
        start = group * size
        scale = factors[0, start : start + size]
        offset = factors[1, start : start + size]
        count = factors[2, start : start + size]
        part = out[start : start + size]
        for at in range(size):
            part[at] = (
                scale[at] * (np.float32(2) * (low * count[at] + step * np.float32(sums[at])) - shift)
                + offset[at]
            )
