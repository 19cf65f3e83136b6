"""Re-ranking: k-reciprocal encoding and query expansion.

Zhong et al. 2017. Items that count each other among their nearest are likely of one person; every item is
described by its reciprocal neighbours, and the Jaccard distance of these descriptions corrects the original
distance. Here only neighbour lists and sparse descriptions exist: memory grows with the number of items, not
with its square.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import torch

from crossreid import memory
from crossreid.ops import alignment, neighbours, ranking
from crossreid.ops.distance import tensor
from crossreid.ops.precision import full_products, without_autocast
from crossreid.records import UserError


def k_reciprocal(query, gallery, k1: int = 20, k2: int = 6, weight: float = 0.3, **more) -> torch.Tensor:
    """Re-ranked distances of every query to every gallery item, (Q, G) float32, all at once.

    more: the further settings of ``k_reciprocal_rows``, which says what each means and raises. Raises
    UserError besides when the result would not fit into the memory that is free.
    """
    return _whole(k_reciprocal_rows(query, gallery, k1, k2, weight, **more))


def k_reciprocal_rows(
    query,
    gallery,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    *,
    query_stripes=None,
    gallery_stripes=None,
    use: str = "vector",
    unaligned: bool = False,
    precision: str = "float32",
    device=None,
    progress: bool = False,
    workers: int | None = None,
    keep: Path | None = None,
) -> Reranked:
    """Re-ranked distances block by block: a function of (start, stop) for ``ranking.evaluate_blocks``.

    query: (Q, D), gallery: (G, D), normalised by the caller where the method wants it: the original distance
        is the squared Euclidean one of the vectors as they are.
    k1: length of the neighbour lists, besides the item itself. k2: how many neighbours an item's description
        is averaged over; 1 for no averaging. Lists end where there are no more items; k2 may exceed k1.
    weight: of the original distance (divided by the query's largest) against the Jaccard distance; lambda in
        the paper.
    use: ``"vector"``, ``"stripes"`` (the alignment distance of query_stripes (Q, S, C) and gallery_stripes
        (G, S, C), of unit length; ``query`` and ``gallery`` are then not looked at), or ``"both"`` (the sum).
    unaligned: compare stripes at equal height instead of aligning them.
    precision: ``"float16"`` rounds the descriptions as the authors' code does, which changes results by up to
        3e-3.
    device: where distances are computed, by default where the features are.
    progress: show a bar with the time left, where the output is a terminal.
    workers: threads that make distances; the result is the same to the last bit whatever their number. None is this
        thread, with all of torch's.
    keep: a file for the neighbour lists, which take most of the time, written every few minutes; the same call goes
        on from there, and refuses nothing: a file of other features is begun anew. Whoever names it removes it.

    The set of a neighbour is taken in when strictly more than two thirds of it agree (the paper: at least),
    as in the authors' code. Equal distances are ordered by index, queries first. Raises UserError naming the
    first item that is not finite.
    """
    if use not in ("vector", "stripes", "both"):
        raise UserError(f"unknown choice {use!r} of what to re-rank by: choose vector, stripes or both")
    vectors = stripes = None
    if use != "stripes":
        vectors = _two(query, gallery, 2, "features", device)
    if use != "vector":
        if query_stripes is None or gallery_stripes is None:
            raise UserError(f"re-ranking by {use} needs the stripes of both the queries and the gallery")
        stripes = _two(query_stripes, gallery_stripes, 3, "stripes", device)
    source = _Features(vectors, stripes, unaligned)
    return _rerank(source, k1, k2, weight, precision, progress=progress, workers=workers, keep=keep)


def k_reciprocal_distance(
    query_gallery,
    query_query,
    gallery_gallery,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    *,
    squared: bool = False,
    precision: str = "float32",
) -> torch.Tensor:
    """Re-ranked distances (Q, G) from three distance matrices (Q, G), (Q, Q) and (G, G), the last two
    symmetric.

    squared: the distances are used as they are, as AlignedReID++ does with squared Euclidean ones. Otherwise
        they are squared first, as torchreid and fastreid do; giving those squared distances squares them
        twice.
    """
    matrices = [tensor(part).detach().float().cpu() for part in (query_gallery, query_query, gallery_gallery)]
    q, g = matrices[0].shape
    shapes = [tuple(part.shape) for part in matrices]
    if shapes != [(q, g), (q, q), (g, g)]:
        raise UserError(
            f"re-ranking needs matrices of the shapes (Q, G), (Q, Q) and (G, G), but they are {shapes}"
        )
    for name, matrix in zip(("query-gallery", "query-query", "gallery-gallery"), matrices):
        if matrix.numel() and not torch.isfinite(matrix.sum()):
            at = torch.nonzero(~torch.isfinite(matrix))
            if len(at):
                raise UserError(f"the {name} distance at {tuple(at[0].tolist())} is not a finite number")
    whole = _Matrices(matrices[0], matrices[1], matrices[2], squared)
    return _whole(_rerank(whole, k1, k2, weight, precision))


def expand_features(
    query, gallery, k: int = 5, alpha: float = 3.0, times: int = 1, *, queries_only: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Query expansion: every feature replaced by the mean of itself and its nearest ones.

    query: (Q, D), gallery: (G, D), of any length, which is kept in the means. Neighbours are by cosine, equal ones by
        index, among all features, queries and gallery alike.
    k: how many features take part, itself included. times: how often all of this is done.
    alpha: others weigh cosine ** alpha and itself 1 (Radenovic et al. 2019), negative cosines nothing; 0 is the plain
        mean (Chum et al. 2007).
    queries_only: only queries are replaced, by means with gallery features.

    Returns both sides, (Q, D) and (G, D).
    """
    if k < 1 or times < 1 or alpha < 0:
        raise UserError(
            f"query expansion with k {k}, times {times} and alpha {alpha}: k and times must be at "
            "least 1, alpha at least 0"
        )
    query, gallery = _two(query, gallery, 2, "features", None)
    for _ in range(times):
        if queries_only:
            query = _means_of_nearest(query, gallery, k, alpha)
        else:
            both = _means_of_nearest(torch.cat([query, gallery]), None, k, alpha)
            query, gallery = both[: len(query)], both[len(query) :]
    return query, gallery


def _means_of_nearest(features, others, k: int, alpha: float) -> torch.Tensor:
    """others: the features to take neighbours from, None for the others among ``features`` themselves."""
    from crossreid.ops.kernels import nearest_rows

    alone = others is None
    others = features if alone else others
    near = min(k - 1, len(others) - alone)
    if near < 1:
        return features
    unit, unit_others = (torch.nn.functional.normalize(part) for part in (features, others))
    out = features.clone()
    for start in range(0, len(features), 256):
        stop = min(start + 256, len(features))
        with full_products():
            away = (-(unit[start:stop] @ unit_others.T)).cpu().numpy()
        if alone:
            away[np.arange(stop - start), np.arange(start, stop)] = np.inf
        items = np.zeros((stop - start, near), np.int32)
        values = np.full((stop - start, near), np.inf, np.float32)
        nearest_rows(away, 0, 0, items, values, np.full(stop - start, -np.inf, np.float32))
        share = torch.from_numpy(-values).clamp_min(0).to(features) ** alpha
        out[start:stop] += (share[:, :, None] * others[torch.from_numpy(items).long()]).sum(1)
    return out / (near + 1)


@dataclass(frozen=True)
class Reranked:
    """Distances after re-ranking, made when asked for: ``rows(start, stop)`` gives (stop - start, G) float32.

    queries, gallery: how many there are. The other fields are descriptions: of the queries by rows, of the
    gallery items by columns (inverted lists).
    """

    queries: int
    gallery: int
    source: _Features | _Matrices
    largest: np.ndarray
    query_rows: tuple
    gallery_columns: tuple
    weight: float
    half: bool

    def __call__(self, start: int, stop: int) -> torch.Tensor:
        source, total = self.source, self.queries + self.gallery
        out = np.empty((stop - start, self.gallery), np.float32)
        for left in range(self.queries, total, neighbours.TILE[1]):
            right = min(left + neighbours.TILE[1], total)
            out[:, left - self.queries : right - self.queries] = source.tile(start, stop, left, right)
        out /= self.largest[start:stop, None]
        if self.half:
            return torch.from_numpy(self._half(start, stop, out))
        from crossreid.ops.kernels import jaccard_rows

        jaccard_rows(start, *self.query_rows, *self.gallery_columns, np.float32(self.weight), out)
        return torch.from_numpy(out)

    def _half(self, start, stop, out):
        """Rounded to float16 after every step, as the authors' code does."""
        ends, columns, values = self.query_rows
        column_ends, items, item_values = self.gallery_columns
        for query in range(start, stop):
            overlap = np.zeros(self.gallery, np.float16)
            for at in range(ends[query], ends[query + 1]):
                here = slice(column_ends[columns[at]], column_ends[columns[at] + 1])
                shared = np.minimum(item_values[here], values[at]).astype(np.float16)
                overlap[items[here]] += shared
            jaccard = np.float16(1) - overlap / (np.float16(2) - overlap)
            out[query - start] = jaccard * np.float16(1 - self.weight) + out[query - start] * np.float32(
                self.weight
            )
        return out


def _whole(reranked: Reranked) -> torch.Tensor:
    queries, gallery = reranked.queries, reranked.gallery
    memory.require(
        4 * queries * gallery,
        f"the re-ranked distances of {queries} queries to {gallery} gallery items, whole,",
        "take them block by block, rerank.k_reciprocal_rows into ranking.evaluate_blocks, as `crossreid "
        "evaluate --evaluate.rerank true` does",
    )
    out = torch.empty(queries, gallery)
    for start in range(0, queries, 64):
        out[start : start + 64] = reranked(start, min(start + 64, queries))
    return out


def _rerank(source, k1, k2, weight, precision, **how) -> Reranked:
    from crossreid.ops import kernels

    if k1 < 1 or k2 < 1:
        raise UserError(f"k1 and k2 must be at least 1, but they are {k1} and {k2}")
    if not 0 <= weight <= 1:
        raise UserError(f"the weight of the original distance must lie between 0 and 1, but it is {weight}")
    if precision not in ("float32", "float16"):
        raise UserError(f"unknown precision {precision!r}: choose float32 or float16")
    queries, gallery = source.queries, source.gallery
    total, half = queries + gallery, precision == "float16"
    nearest, distance, largest = neighbours.of_all(source, min(max(k1 + 1, k2), total), **how)
    if not np.isfinite(largest).all() or nearest.min(initial=0) < 0:
        item = int(np.argmax(~np.isfinite(largest) | (nearest < 0).any(axis=1)))
        raise UserError(f"distances of item {item} are not finite: are its features too large?")
    largest = np.where(largest > 0, largest, 1).astype(np.float32)
    reciprocal, reciprocal_count = kernels.reciprocal(nearest, min(k1 + 1, total))
    core, core_count = kernels.reciprocal(nearest, min(round(k1 / 2) + 1, total))
    ends, columns = _stack(
        kernels.expand(start, min(start + 2048, total), reciprocal, reciprocal_count, core, core_count)
        for start in range(0, total, 2048)
    )
    del reciprocal, core
    values = kernels.known(ends, columns, nearest, distance)
    del distance
    owners = np.repeat(np.arange(total, dtype=np.int32), np.diff(ends))
    missing = np.flatnonzero(np.isnan(values))
    values[missing] = source.pairs(owners[missing], columns[missing])
    del missing
    values = np.exp(-values / largest[owners])
    sums = np.bincount(owners, values, total).astype(np.float32)
    values /= sums[owners]
    if half:
        values = values.astype(np.float16).astype(np.float32)
    del owners
    if k2 > 1:
        near = np.ascontiguousarray(nearest[:, : min(k2, total)])
        parts = [
            kernels.average(start, min(start + 2048, total), near, ends, columns, values)
            for start in range(0, total, 2048)
        ]
        ends, columns = _stack((counts, columns) for counts, columns, _ in parts)
        values = np.concatenate([part for _, _, part in parts]) if parts else values
        if half:
            values = values.astype(np.float16).astype(np.float32)
    cut = ends[queries]
    query_rows = ends[: queries + 1], columns[:cut].copy(), values[:cut].copy()
    inverted = kernels.invert(ends[queries:] - cut, columns[cut:], values[cut:], total)
    return Reranked(queries, gallery, source, largest[:queries], query_rows, inverted, weight, half)


def _stack(parts):
    """Parts of (counts of rows, columns) -> ends with a leading 0, columns."""
    counts, columns = zip(*parts)
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64), np.concatenate(columns)


class _Features:
    """Distances among queries and gallery items, queries first, from vectors, stripes or both."""

    def __init__(self, vectors, stripes, unaligned):
        self.vectors, self.stripes = vectors, stripes
        self.queries, self.gallery = map(len, vectors or stripes)
        if vectors and stripes and [len(part) for part in stripes] != [self.queries, self.gallery]:
            raise UserError("vectors and stripes must describe the same images, but their numbers differ")
        if vectors:
            self.squares = [ranking.of_rows(part, lambda some: some.square().sum(1)) for part in vectors]
        self.compare = alignment.unaligned if unaligned else alignment.aligned
        self.compare_pairs = alignment.unaligned_pairs if unaligned else alignment.aligned_pairs

    def digest(self) -> str:
        """Changes when a feature does."""
        found = hashlib.blake2b(str((self.compare.__name__, self.queries)).encode(), digest_size=16)
        for part in (*(self.vectors or ()), *(self.stripes or ())):
            for _, _, some in ranking.pieces(part):
                found.update(some.cpu().contiguous().numpy().data)
        return found.hexdigest()

    def _part(self, pair, start, stop):
        side = int(start >= self.queries)
        shift = self.queries * side
        return pair[side][start - shift : stop - shift]

    @torch.no_grad()
    def tile(self, top, bottom, left, right) -> np.ndarray:
        parts = []
        if self.vectors:
            x, y = self._part(self.vectors, top, bottom), self._part(self.vectors, left, right)
            with full_products(), without_autocast(x.device.type):
                out = torch.mm(x, y.T).mul_(-2)
            out += self._part(self.squares, top, bottom)[:, None]
            out += self._part(self.squares, left, right)
            parts.append(out)
        if self.stripes:
            x, y = self._part(self.stripes, top, bottom), self._part(self.stripes, left, right)
            parts.append(self.compare(x, y))
        for pair in filter(None, (self.vectors, self.stripes)):
            for start, stop in ((top, bottom), (left, right)):
                ranking.let_go(self._part(pair, start, stop))
        return reduce(torch.add, parts).cpu().numpy()

    @torch.no_grad()
    def pairs(self, rows, columns) -> np.ndarray:
        out = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), 1024):
            here = slice(start, start + 1024)
            parts = []
            if self.vectors:
                x, y = self._pick(self.vectors, rows[here]), self._pick(self.vectors, columns[here])
                parts.append(x.square().sum(1) + y.square().sum(1) - 2 * (x * y).sum(1))
            if self.stripes:
                x, y = self._pick(self.stripes, rows[here]), self._pick(self.stripes, columns[here])
                parts.append(self.compare_pairs(x, y, floor=0.0))
            out[here] = reduce(torch.add, parts).cpu().numpy()
        return out

    def _pick(self, pair, items):
        items = torch.as_tensor(items, dtype=torch.int64, device=pair[0].device)
        picked = pair[0].new_empty(len(items), *pair[0].shape[1:])
        late = items >= self.queries
        picked[~late] = pair[0][items[~late]]
        picked[late] = pair[1][items[late] - self.queries]
        for part in pair:
            ranking.let_go(part)
        return picked


class _Matrices:
    """Distances among queries and gallery items, queries first, as given."""

    def __init__(self, query_gallery, query_query, gallery_gallery, squared):
        self.parts = [[query_query, query_gallery], [query_gallery.T, gallery_gallery]]
        self.parts = [[part.numpy() for part in row] for row in self.parts]
        self.queries, self.gallery = query_gallery.shape
        self.squared = squared

    def tile(self, top, bottom, left, right):
        below, beside = int(top >= self.queries), int(left >= self.queries)
        down, along = self.queries * below, self.queries * beside
        tile = self.parts[below][beside][top - down : bottom - down, left - along : right - along]
        return tile if self.squared else np.square(tile)

    def pairs(self, rows, columns):
        out = np.empty(len(rows), np.float32)
        for below in (0, 1):
            for beside in (0, 1):
                here = ((rows >= self.queries) == below) & ((columns >= self.queries) == beside)
                down, along = self.queries * below, self.queries * beside
                out[here] = self.parts[below][beside][rows[here] - down, columns[here] - along]
        return out if self.squared else np.square(out)


def _two(query, gallery, axes, name, device):
    query, gallery = tensor(query).detach().float(), tensor(gallery).detach().float()
    if query.ndim != axes or gallery.ndim != axes or query.shape[1:] != gallery.shape[1:]:
        raise UserError(
            f"query and gallery {name} need {axes} axes and equal shapes but for the first, "
            f"but they are {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    parts = []
    for side, part in (("query", query), ("gallery", gallery)):
        sums = ranking.of_rows(part, lambda some: some.flatten(1).sum(1))
        bad = torch.nonzero(~torch.isfinite(sums))
        if len(bad):
            raise UserError(
                f"the {side} {name} of row {int(bad[0])} are not finite numbers: look at that image"
            )
        parts.append(part if device is None else part.to(device))
    return tuple(parts)
