"""Compiled loops over the rows of a gallery. Imported inside functions only, since numba takes its time to load."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
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


def _ask_for(context, numbers, place):
    """Ask the memory for a number of a flat array before it is wanted; a place behind the end is no error."""

    def code(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        whole = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", (address.type,), ir.FunctionType(ir.VoidType(), [address.type, *[whole] * 3])
        )
        # To read it, into the nearest cache, as data.
        builder.call(function, [address, *(ir.Constant(whole, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.none(numbers, types.int64), code


_prefetch: Any = intrinsic(_ask_for)
# Numbers in a line of the cache, and words that are counted while memory brings as many of the next ones.
LINE, CHUNK = 8, 64


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

    codes: (B, W, G) words of B groups of G rows, G a multiple of 64, ``factors``: (3, B G), ``planes``: (4, W) words
    of the query.
    """
    groups, words, size = codes.shape
    flat = codes.reshape(-1)
    sums = np.empty(size, np.int64)
    for group in range(groups):
        for at in range(size):
            sums[at] = 0
        for word in range(words):
            one, two, four, eight = planes[0, word], planes[1, word], planes[2, word], planes[3, word]
            following = (group * words + word + 1) * size
            for first in range(0, size, CHUNK):
                for line in range(first, first + CHUNK, LINE):
                    _prefetch(flat, following + line)
                chunk, counts = codes[group, word, first : first + CHUNK], sums[first : first + CHUNK]
                for at in range(CHUNK):
                    value = chunk[at]
                    counts[at] += (
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
