"""How well distances rank the gallery: CMC, average precision, inverse negative penalty.

Only the rank of each correct match is needed, never the order of the whole gallery, and never more than a
block of distances: cost grows with Q x G, memory with G. Equal distances rank in gallery order, as a stable
sort has them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from crossreid import memory
from crossreid.ops.distance import tensor
from crossreid.ops.precision import full_products, without_autocast
from crossreid.ops.ranks import (
    Block,
    Listener,
    Rows,
    Task,
    array,
    checked,
    codes_of,
    copy,
    excluded_keys,
    run,
)
from crossreid.records import Scores, UserError

__all__ = [
    "Block",
    "Listener",
    "Rows",
    "blocks",
    "evaluate",
    "evaluate_blocks",
    "evaluate_distance",
    "evaluate_trials",
    "ranked",
]

METRICS = ("cosine", "euclidean", "squared_euclidean_unit")
# Numbers of the gallery's features that are looked at together, 64 MiB.
PIECE = 2**24


def evaluate(
    query,
    gallery,
    query_ids,
    gallery_ids,
    query_cameras=None,
    gallery_cameras=None,
    *,
    metric: str = "cosine",
    device=None,
    **how,
) -> Scores:
    """Scores of a search among feature vectors.

    query: (Q, D), gallery: (G, D), tensors or arrays of any length of vector.
    metric: ``"cosine"`` (1 - cos), ``"euclidean"``, or ``"squared_euclidean_unit"`` (2 - 2 cos).
    device: where the products are computed, by default where ``query`` is.
    The rest as in ``evaluate_blocks``. Raises UserError naming the first row that is not finite.
    """
    rows = blocks(query, gallery, metric, device)
    return evaluate_blocks(rows, query_ids, gallery_ids, query_cameras, gallery_cameras, **how)


def evaluate_distance(
    distance, query_ids, gallery_ids, query_cameras=None, gallery_cameras=None, **how
) -> Scores:
    """Scores of a search with the distances given, (Q, G), smaller is nearer; the rest as in
    ``evaluate_blocks``."""
    distance = _matrix(distance)
    rows = Rows(tuple(distance.shape), _rows_of(distance))
    return evaluate_blocks(rows, query_ids, gallery_ids, query_cameras, gallery_cameras, **how)


def evaluate_blocks(
    rows: Callable[[int, int], object],
    query_ids,
    gallery_ids,
    query_cameras=None,
    gallery_cameras=None,
    *,
    excluded="same_camera",
    cmc: str = "image",
    ranks: int = 50,
    block: int | None = None,
    listeners: Sequence[Listener] = (),
    first: int = 0,
    progress: bool = False,
    workers: int | None = None,
) -> Scores:
    """Scores of a search whose distances are made block by block.

    rows: called with the first and the last query plus one, returns their distances (stop - start, G). It is
        called once for each block, in order where there are no ``workers``; what it returns is left as it is, unless
        it is a ``Rows``.
    query_ids, gallery_ids, query_cameras, gallery_cameras: (Q,) and (G,) whole numbers; cameras may be left
        out.
    excluded: which pairs are excluded: ``"same_camera"`` those of the same identity and camera (nothing
        when no cameras are given), None nothing, or two arrays (Q,) and (G,): pairs whose numbers are equal,
        of any identity.
    cmc: ``"image"`` ranks images, ``"identity"`` the nearest image of each identity (SYSU-MM01, LLCM).
    ranks: length of the CMC curve; beyond the end of the gallery it stays at its last value.
    block: queries at a time; by default as many as fill 20 MiB.
    listeners: each is offered every ``Block`` of distances. first: the number of this trial, as they are told it.
    progress: show a bar with the time left, where the output is a terminal.
    workers: threads that make and rank blocks; ``rows`` and the listeners are then called by several at a time. What
        comes out is the same to the last bit whatever their number. None is this thread alone, with all of torch's.

    Raises UserError naming the first distance that is not finite, or when no query has a valid match.
    """
    task = Task(query_ids, gallery_ids, query_cameras, gallery_cameras, excluded, cmc, ranks)
    if isinstance(rows, Rows):
        task.check(*rows.shape)
    run(
        rows,
        [(task, None)],
        task.queries,
        len(task.gallery_identity),
        block,
        progress,
        listeners,
        first,
        workers,
    )
    return task.scores()


def evaluate_trials(
    rows: Callable[[int, int], object],
    query_ids,
    gallery_ids,
    trials: Sequence[tuple],
    *,
    cmc: str = "image",
    ranks: int = 50,
    block: int | None = None,
    listeners: Sequence[Listener] = (),
    first: int = 0,
    progress: bool = False,
    workers: int | None = None,
) -> list[Scores]:
    """Scores of several trials that share their queries, from one pass over all their gallery images.

    rows: as in ``evaluate_blocks``: distances to every image that any trial has in its gallery, the G of
        gallery_ids (G,).
    trials: for each the gallery rows (T,) in the trial's order, and its excluded pairs as None or two arrays
        (Q,) and (T,).
    The rest as in ``evaluate_blocks``. Returns one Scores a trial.
    """
    gallery_ids = codes_of(gallery_ids, "gallery identities")
    tasks = []
    for chosen, excluded in trials:
        chosen = np.asarray(chosen)
        task = Task(query_ids, gallery_ids[chosen], None, None, excluded, cmc, ranks)
        tasks.append((task, chosen))
    run(rows, tasks, len(query_ids), len(gallery_ids), block, progress, listeners, first, workers)
    return [task.scores() for task, _ in tasks]


def ranked(
    distance,
    query_ids=None,
    gallery_ids=None,
    query_cameras=None,
    gallery_cameras=None,
    *,
    excluded="same_camera",
    top: int = 10,
    queries: int | None = None,
) -> np.ndarray:
    """The nearest gallery items of each query, in exactly the order the metrics count them.

    distance: (Q, G), or a function as ``evaluate_blocks`` takes it (then ``queries`` says how many, unless
        identities do).
    Identities, cameras, excluded: as in ``evaluate``; without identities nothing is excluded unless by two
        arrays.

    Returns (Q, top) int64 gallery indices, -1 where fewer items are left.
    """
    if not callable(distance):
        distance = _matrix(distance)
        queries = len(distance)
        distance = _rows_of(distance)
    elif query_ids is not None:
        queries = len(query_ids)
    elif queries is None:
        raise ValueError("distances given by a function need the number of queries: pass queries=")
    query_key, gallery_key = excluded_keys(excluded, query_ids, gallery_ids, query_cameras, gallery_cameras)
    nearest = np.full((queries, top), -1, np.int64)
    for start in range(0, queries, 256):
        stop = min(start + 256, queries)
        values = checked(array(distance(start, stop)), start)
        for query, row in enumerate(values, start):
            if query_key is None:
                allowed = np.arange(len(row))
            else:
                allowed = np.flatnonzero(gallery_key != query_key[query])
            row = row[allowed]
            if len(row) > top > 0:
                near = np.flatnonzero(row <= np.partition(row, top - 1)[top - 1])
                row, allowed = row[near], allowed[near]
            order = allowed[np.argsort(row, kind="stable")][:top]
            nearest[query, : len(order)] = order
    return nearest


def blocks(query, gallery, metric: str = "cosine", device=None) -> Rows:
    """The queries' distances to the gallery, block by block.

    query: (Q, D), gallery: (G, D); metric and device as in ``evaluate``. The distances of one block are
    overwritten by the next one's that the same thread asks for. Raises UserError naming the first row that is not
    finite.
    """
    if metric not in METRICS:
        raise UserError(f"unknown metric {metric!r}: choose one of {', '.join(METRICS)}")
    query, gallery = tensor(query).detach(), tensor(gallery).detach()
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"query and gallery features need the shapes (Q, D) and (G, D) with the same D, "
            f"but they are {tuple(query.shape)} and {tuple(gallery.shape)}"
        )
    device = query.device if device is None else torch.device(device)
    dtype = torch.float64 if query.dtype == gallery.dtype == torch.float64 else torch.float32
    query, gallery = query.to(device, dtype), gallery.to(device, dtype)
    query_square, gallery_square = _squares(query, "query"), _squares(gallery, "gallery")
    inverse = gallery_square.sqrt().clamp_min(1e-12).reciprocal()
    own = threading.local()

    @torch.no_grad()
    def rows(start: int, stop: int) -> torch.Tensor:
        if len(getattr(own, "buffer", ())) < stop - start:
            own.buffer = torch.empty(stop - start, len(gallery), dtype=dtype, device=device)
        out = own.buffer[: stop - start]
        part = query[start:stop]
        if metric != "euclidean":
            part = part / query_square[start:stop, None].sqrt().clamp_min(1e-12)
        with full_products(), without_autocast(device.type):
            for left, right, some in pieces(gallery):
                torch.mm(part, some.T, out=out[:, left:right])
        if metric == "euclidean":
            return (
                out.mul_(-2).add_(query_square[start:stop, None]).add_(gallery_square).clamp_min_(0).sqrt_()
            )
        out.mul_(inverse).neg_().add_(1)
        return out.mul_(2) if metric == "squared_euclidean_unit" else out

    return Rows((len(query), len(gallery)), rows)


def _matrix(distance):
    if not isinstance(distance, torch.Tensor):
        distance = np.asarray(distance)
    if distance.ndim != 2:
        raise UserError(f"distances need the shape (Q, G), but the shape is {tuple(distance.shape)}")
    return distance


def _rows_of(distance):
    return lambda start, stop: copy(distance[start:stop])


def pieces(vectors: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """The rows (N, ...) in turn, as many as fit into the memory of those that lie on the disk; where the first of them
    is, and the last plus one. On an accelerator all at once."""
    here = vectors.device.type == "cpu"
    step = max(1, PIECE // max(1, math.prod(vectors.shape[1:])) if here else len(vectors))
    for start in range(0, len(vectors), step):
        some = vectors[start : start + step]
        yield start, start + len(some), some
        let_go(some)


def let_go(vectors: torch.Tensor) -> None:
    """As ``crossreid.memory.let_go``, of a tensor wherever it is."""
    if vectors.device.type == "cpu":
        memory.let_go(vectors.numpy())


def of_rows(vectors: torch.Tensor, number: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """A number of each row, (N,), without a second copy of the vectors."""
    found = vectors.new_empty(len(vectors))
    for start, stop, some in pieces(vectors):
        found[start:stop] = number(some)
    return found


def _squares(vectors, name):
    """Squared lengths (N,)."""
    squares = of_rows(vectors, lambda some: torch.linalg.vector_norm(some, dim=1).square())
    bad = torch.nonzero(~torch.isfinite(squares))
    if len(bad):
        raise UserError(
            f"the {name} features of row {int(bad[0])} are not finite numbers, or too large to square: look "
            f"at that image, and at the training that gave these weights"
        )
    return squares
