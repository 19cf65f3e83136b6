"""How well distances rank the gallery: CMC, average precision, inverse negative penalty, verification rates.

Only the rank of each correct match is needed, never the order of the whole gallery, and never more than a
block of distances: cost grows with Q x G, memory with G. Equal distances rank in gallery order, as a stable
sort has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from crossreid.ops.distance import tensor
from crossreid.ops.precision import full_products, without_autocast
from crossreid.records import Scores, UserError

METRICS = ("cosine", "euclidean", "squared_euclidean_unit")
RATES = (1e-4, 1e-3, 1e-2)
BLOCK_BYTES = 20 * 2**20


@dataclass(frozen=True)
class Rows:
    """Distances made block by block: called with (start, stop), gives those of these queries, for the taker to
    overwrite. shape: (Q, G)."""

    shape: tuple[int, int]
    make: Callable[[int, int], object]

    def __call__(self, start: int, stop: int):
        return self.make(start, stop)


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
    verification: bool = False,
    progress: bool = False,
) -> Scores:
    """Scores of a search whose distances are made block by block.

    rows: called with the first and the last query plus one, returns their distances (stop - start, G). It is
        called once a block, in order; what it returns is left as it is, unless it is a ``Rows``.
    query_ids, gallery_ids, query_cameras, gallery_cameras: (Q,) and (G,) whole numbers; cameras may be left
        out.
    excluded: which pairs are disregarded: ``"same_camera"`` those of the same identity and camera (nothing
        when no cameras are given), None nothing, or two arrays (Q,) and (G,): pairs whose numbers are equal,
        of any identity.
    cmc: ``"image"`` ranks images, ``"identity"`` the nearest image of each identity (SYSU-MM01, LLCM).
    ranks: length of the CMC curve; beyond the end of the gallery it stays at its last value.
    block: queries at a time; by default as many as fill 20 MiB.
    verification: also rates of accepting pairs. This keeps and sorts all distances, 4 bytes a pair and more.
    progress: show a bar with the time left, where the output is a terminal.

    Raises UserError naming the first distance that is not finite, or when no query has a valid match.
    """
    task = _Task(query_ids, gallery_ids, query_cameras, gallery_cameras, excluded, cmc, ranks, verification)
    if isinstance(rows, Rows):
        task.check(*rows.shape)
    _run(rows, [(task, None)], task.queries, len(task.gallery_identity), block, progress)
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
    verification: bool = False,
    progress: bool = False,
) -> list[Scores]:
    """Scores of several trials that share their queries, from one pass over all their gallery images.

    rows: as in ``evaluate_blocks``: distances to every image that any trial has in its gallery, the G of
        gallery_ids (G,).
    trials: for each the gallery rows (T,) in the trial's order, and its excluded pairs as None or two arrays
        (Q,) and (T,).
    The rest as in ``evaluate_blocks``. Returns one Scores a trial.
    """
    gallery_ids = _codes_of(gallery_ids, "gallery identities")
    tasks = []
    for chosen, excluded in trials:
        chosen = np.asarray(chosen)
        task = _Task(query_ids, gallery_ids[chosen], None, None, excluded, cmc, ranks, verification)
        tasks.append((task, chosen))
    _run(rows, tasks, len(query_ids), len(gallery_ids), block, progress)
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
    query_key, gallery_key = _excluded(excluded, query_ids, gallery_ids, query_cameras, gallery_cameras)
    nearest = np.full((queries, top), -1, np.int64)
    for start in range(0, queries, 256):
        stop = min(start + 256, queries)
        values = _checked(_array(distance(start, stop)), start)
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
    overwritten by the next one's. Raises UserError naming the first row that is not finite.
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
    buffer = torch.empty(0, len(gallery), dtype=dtype, device=device)

    @torch.no_grad()
    def rows(start: int, stop: int) -> torch.Tensor:
        nonlocal buffer
        if len(buffer) < stop - start:
            buffer = torch.empty(stop - start, len(gallery), dtype=dtype, device=device)
        out = buffer[: stop - start]
        part = query[start:stop]
        if metric != "euclidean":
            part = part / query_square[start:stop, None].sqrt().clamp_min(1e-12)
        with full_products(), without_autocast(device.type):
            torch.mm(part, gallery.T, out=out)
        if metric == "euclidean":
            return (
                out.mul_(-2).add_(query_square[start:stop, None]).add_(gallery_square).clamp_min_(0).sqrt_()
            )
        out.mul_(inverse).neg_().add_(1)
        return out.mul_(2) if metric == "squared_euclidean_unit" else out

    return Rows((len(query), len(gallery)), rows)


def verification_rates(genuine, impostor, rates: Sequence[float] = RATES) -> dict[str, float]:
    """True positive rates of accepting the pairs nearer than a threshold.

    genuine, impostor: distances of pairs of one identity and of two.
    rates: of false positives.

    ``TPR@FAR=x`` is the largest share of genuine pairs accepted by a threshold that accepts at most the share
    x of the impostors. ``legacy TPR@FPR=x`` is what the tables of MetaBIN (Choi et al. 2021) print under
    TPR@FPR: the roles are swapped, the positives are rejected impostors, and the value is that of the first
    point of the curve whose false positive rate is closest to x. It is 0 where a hundred genuine pairs cannot
    resolve x. NaN without pairs of either kind.
    """
    genuine, impostor = np.sort(np.asarray(genuine)), np.sort(np.asarray(impostor))
    if not len(genuine) or not len(impostor):
        return {f"{name}={rate:g}": float("nan") for name in ("TPR@FAR", "legacy TPR@FPR") for rate in rates}
    found = {}
    for rate in rates:
        accepted = int(np.floor(rate * len(impostor) * (1 + 1e-12)))
        below = np.searchsorted(genuine, impostor[accepted]) if accepted < len(impostor) else len(genuine)
        found[f"TPR@FAR={rate:g}"] = float(below / len(genuine))
    false_positive, true_positive = _swapped_curve(genuine, impostor)
    for rate in rates:
        at = np.argmin(np.abs(false_positive - rate))
        found[f"legacy TPR@FPR={rate:g}"] = float(true_positive[at])
    return found


def _swapped_curve(genuine, impostor):
    """Shares of genuine pairs and of impostors at least as far apart as each threshold.

    genuine, impostor: sorted. Thresholds run from the largest downwards. Points in the middle of a straight
    and evenly stepped run are left out, as scikit-learn's ``roc_curve`` does by default.
    """
    thresholds = np.unique(np.concatenate([genuine, impostor]))[::-1]
    false_positive = len(genuine) - np.searchsorted(genuine, thresholds)
    true_positive = len(impostor) - np.searchsorted(impostor, thresholds)
    if len(thresholds) > 2:
        bent = np.logical_or(np.diff(false_positive, 2), np.diff(true_positive, 2))
        kept = np.r_[True, bent, True]
        false_positive, true_positive = false_positive[kept], true_positive[kept]
    return np.r_[0, false_positive] / len(genuine), np.r_[0, true_positive] / len(impostor)


class _Task:
    """What is asked of one set of queries against one gallery, and what has been found so far."""

    def __init__(
        self, query_ids, gallery_ids, query_cameras, gallery_cameras, excluded, cmc, ranks, verification
    ):
        if cmc not in ("image", "identity"):
            raise UserError(f"unknown kind of CMC {cmc!r}: choose image or identity")
        if ranks < 1:
            raise UserError(f"the CMC curve needs at least one rank, but ranks is {ranks}")
        self.cmc, self.ranks = cmc, ranks
        keys = _excluded(excluded, query_ids, gallery_ids, query_cameras, gallery_cameras)
        self.cameras = (
            None if query_cameras is None else (np.unique(query_cameras), np.unique(gallery_cameras))
        )
        self.query_identity, self.gallery_identity = _codes(
            _codes_of(query_ids, "query identities"), _codes_of(gallery_ids, "gallery identities")
        )
        self.queries = len(self.query_identity)
        self.restricted = keys[0] is not None
        if self.restricted:
            self.query_key, self.gallery_key = _codes(*keys)
        else:
            self.query_key = np.full(self.queries, -1)
            self.gallery_key = np.full(len(self.gallery_identity), -2)
        self.members, self.ends = _groups(self.gallery_identity)
        self.same_key, self.key_ends = (
            _groups(self.gallery_key) if self.restricted else (np.zeros(0, int),) * 2
        )
        self.found = np.full((self.queries, 4), np.nan)
        self.genuine, self.impostor = ([], []) if verification else (None, None)

    def check(self, queries: int, gallery: int):
        if (queries, gallery) != (self.queries, len(self.gallery_identity)):
            raise UserError(
                f"{self.queries} query and {len(self.gallery_identity)} gallery identities are given for "
                f"{queries} queries and {gallery} gallery items: give one identity each"
            )

    def add(self, start: int, values):
        """values: (B, G) of the queries from ``start`` on, overwritten; ranked by torch on an accelerator."""
        stop = start + len(values)
        if isinstance(values, torch.Tensor) and values.device.type != "cpu":
            values = self._rank_sorted(start, values)
        else:
            values = _array(values)
        if self.genuine is not None:
            self._keep(values, start, stop)
        if isinstance(values, np.ndarray):
            from crossreid.ops.kernels import rank_rows

            rank_rows(
                values,
                self.query_identity[start:stop],
                self.query_key[start:stop],
                self.gallery_identity,
                self.gallery_key,
                self.members,
                self.ends,
                self.same_key,
                self.key_ends,
                self.cmc == "identity",
                self.found[start:stop],
            )

    def _rank_sorted(self, start, values):
        """The same numbers as the compiled path, from a stable sort on the device."""
        stop = start + len(values)
        self.found[start:stop] = rank_sorted(
            values,
            self.query_identity[start:stop],
            self.query_key[start:stop],
            self.gallery_identity,
            self.gallery_key,
            self.cmc == "identity",
        )
        return values

    def _keep(self, values, start, stop):
        values = values if isinstance(values, np.ndarray) else values.cpu().numpy()
        same = self.query_identity[start:stop, None] == self.gallery_identity
        allowed = self.query_key[start:stop, None] != self.gallery_key
        self.genuine.append(values[same & allowed])
        self.impostor.append(values[~same & allowed])

    def scores(self) -> Scores:
        valid = ~np.isnan(self.found[:, 0])
        if not valid.any():
            raise UserError(self._nothing())
        precision, penalty, first, first_identity = self.found.T
        hit = (first_identity if self.cmc == "identity" else first)[valid]
        counts = np.bincount(hit[hit <= self.ranks].astype(np.int64), minlength=self.ranks + 1)[1:]
        per_query = {
            "average_precision": precision.copy(),
            "inverse_negative_penalty": penalty.copy(),
            "first_rank": first.copy(),
        }
        if self.cmc == "identity":
            per_query["first_identity_rank"] = first_identity.copy()
        rates = {}
        if self.genuine is not None:
            rates = verification_rates(np.concatenate(self.genuine), np.concatenate(self.impostor))
        return Scores(
            cmc=np.cumsum(counts) / valid.sum(),
            mean_ap=float(precision[valid].mean()),
            mean_inp=float(penalty[valid].mean()),
            verification=rates,
            per_query=per_query,
            valid=int(valid.sum()),
            queries=self.queries,
        )

    def _nothing(self) -> str:
        shared = int((self.query_identity >= 0).sum())
        text = (
            f"none of the {self.queries} queries has a valid match among the {len(self.gallery_identity)} "
            f"gallery items: {shared} queries have their identity in the gallery"
        )
        if not self.restricted:
            return text + ". Check that query and gallery number their identities alike."
        if self.cameras is not None:
            listed = [", ".join(map(str, cameras[:8])) for cameras in self.cameras]
            text += f", the query cameras are {listed[0]} and the gallery cameras {listed[1]}"
        return text + (
            ", and every match is disregarded by the rule on cameras. Either switch the same-camera rule "
            "off, or give the images the distinct cameras that took them."
        )


def rank_sorted(values: torch.Tensor, identity, key, gallery_identity, gallery_key, by_identity: bool):
    """What the compiled kernel counts, (B, 4) or NaN for an invalid query, from a stable sort in torch."""
    device = values.device
    identity, key, gallery_identity, gallery_key = (
        torch.as_tensor(codes, device=device) for codes in (identity, key, gallery_identity, gallery_key)
    )
    banned = key[:, None] == gallery_key
    order = values.masked_fill(banned, torch.inf).argsort(dim=1, stable=True)
    sorted_identity = gallery_identity[order]
    match = (sorted_identity == identity[:, None]) & ~banned.gather(1, order)
    rank = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=device)
    count = match.sum(1)
    precision = (match.cumsum(1) / rank * match).sum(1) / count
    last = (match * rank).amax(1)
    first = torch.where(match, rank, torch.inf).amin(1)
    found = torch.stack([precision, count / last, first, torch.full_like(first, torch.nan)], dim=1)
    if by_identity:
        nearer = torch.where(rank < first[:, None], 1, 0)
        seen = torch.zeros(len(values), int(gallery_identity.max()) + 1, dtype=torch.int64, device=device)
        seen.scatter_reduce_(1, sorted_identity, nearer, "amax")
        found[:, 3] = seen.sum(1) + 1
    found[count == 0] = torch.nan
    return found.cpu().numpy()


def _run(rows, tasks, queries, gallery, block, progress):
    """Feed the distances block by block to each task, a pair (task, its gallery rows or None for all)."""
    if not queries or not gallery:
        raise UserError(f"{queries} queries and {gallery} gallery items: there must be at least one of each")
    if block is None:
        block = int(np.clip(BLOCK_BYTES // (4 * gallery), 16, 1024))
    overwritten = isinstance(rows, Rows) or any(chosen is not None for _, chosen in tasks)
    bar = tqdm(
        total=queries, desc="ranking", disable=None if progress else True, leave=False, unit=" queries"
    )
    for start in range(0, queries, block):
        stop = min(start + block, queries)
        values = rows(start, stop) if overwritten else _copy(rows(start, stop))
        if tuple(values.shape) != (stop - start, gallery):
            raise UserError(
                f"the distances of the queries {start} to {stop - 1} have the shape {tuple(values.shape)}, "
                f"where {(stop - start, gallery)} was expected"
            )
        values = _checked(values, start)
        for task, chosen in tasks:
            if chosen is not None:
                at = (
                    torch.as_tensor(chosen, device=values.device)
                    if isinstance(values, torch.Tensor)
                    else chosen
                )
                task.add(start, values[:, at])
            else:
                task.add(start, values)
        bar.update(stop - start)
    bar.close()


def _matrix(distance):
    if not isinstance(distance, torch.Tensor):
        distance = np.asarray(distance)
    if distance.ndim != 2:
        raise UserError(f"distances need the shape (Q, G), but the shape is {tuple(distance.shape)}")
    return distance


def _rows_of(distance):
    return lambda start, stop: _copy(distance[start:stop])


def _copy(values):
    """Ranking writes into its block, which must not be the caller's."""
    return values.detach().clone() if isinstance(values, torch.Tensor) else np.array(values)


def _array(values) -> np.ndarray:
    """float32 or float64 rows, contiguous."""
    values = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    if isinstance(values, torch.Tensor):
        values = (values if values.dtype in (torch.float32, torch.float64) else values.float()).numpy()
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    return np.ascontiguousarray(values)


def _checked(values, start):
    """The same values, once known to be finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(float(values.sum()))
    if not finite:
        good = torch.isfinite(torch.as_tensor(values)).cpu().numpy()
        if not good.all():
            row, column = np.argwhere(~good)[0]
            raise UserError(
                f"the distance of query {start + row} to gallery item {column} is not a finite number: "
                f"look for the cause in the features of these two"
            )
    return values


def _squares(vectors, name):
    """Squared lengths (N,), made without a second copy of the vectors."""
    squares = torch.linalg.vector_norm(vectors, dim=1).square()
    bad = torch.nonzero(~torch.isfinite(squares))
    if len(bad):
        raise UserError(
            f"the {name} features of row {int(bad[0])} are not finite numbers, or too large to square: look "
            f"at that image, and at the training that gave these weights"
        )
    return squares


def _codes_of(values, name) -> np.ndarray:
    values = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    if values.ndim != 1:
        raise UserError(f"{name} need one number for each item, (N,), but the shape is {values.shape}")
    return values


def _codes(query, gallery):
    """Both relabelled to 0, 1, ... by the gallery's values; -1 for a query value that the gallery lacks."""
    known, gallery = np.unique(gallery, return_inverse=True)
    if not len(known):
        return np.full(len(query), -1), gallery
    at = np.minimum(np.searchsorted(known, query), len(known) - 1)
    return np.where(known[at] == query, at, -1).astype(np.int64), gallery.astype(np.int64)


def _groups(codes):
    """Indices grouped by code, ascending in each group, and the end of each group."""
    return np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))


def _excluded(rule, query_ids, gallery_ids, query_cameras, gallery_cameras):
    """Two arrays of keys, or (None, None) when nothing is excluded."""
    if rule is None:
        return None, None
    if not isinstance(rule, str):
        query_key, gallery_key = (_codes_of(keys, "excluded keys") for keys in rule)
        if query_ids is not None:
            _same_length(query_key, query_ids, "excluded keys of queries")
            _same_length(gallery_key, gallery_ids, "excluded keys of gallery items")
        return query_key, gallery_key
    if rule != "same_camera":
        raise UserError(f"unknown rule {rule!r} for excluded pairs: choose same_camera, None or two arrays")
    if query_cameras is None and gallery_cameras is None:
        return None, None
    if query_cameras is None or gallery_cameras is None or query_ids is None or gallery_ids is None:
        raise UserError("the same-camera rule needs identities and cameras of both queries and gallery")
    query_cameras = _codes_of(query_cameras, "query cameras")
    gallery_cameras = _codes_of(gallery_cameras, "gallery cameras")
    _same_length(query_cameras, query_ids, "query cameras")
    _same_length(gallery_cameras, gallery_ids, "gallery cameras")
    identity = _both(_codes_of(query_ids, "query identities"), _codes_of(gallery_ids, "gallery identities"))
    camera = _both(query_cameras, gallery_cameras)
    pair = identity * (camera.max(initial=0) + 1) + camera
    return pair[: len(query_ids)], pair[len(query_ids) :]


def _both(query, gallery):
    return np.unique(np.concatenate([query, gallery]), return_inverse=True)[1].astype(np.int64)


def _same_length(keys, items, name):
    if len(keys) != len(items):
        raise UserError(f"{len(keys)} {name} for {len(items)} identities: give one each")
