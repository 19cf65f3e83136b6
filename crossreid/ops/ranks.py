"""The place of each right match among a query's distances, from blocks of them that are offered to others too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from crossreid.ops.precision import full_products
from crossreid.records import Scores, UserError, counted

BLOCK_BYTES = 20 * 2**20
SMALLEST_BLOCK = 64
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Rows:
    """Distances made block by block: called with (start, stop), gives those of these queries, for the taker to
    overwrite. shape: (Q, G)."""

    shape: tuple[int, int]
    make: Callable[[int, int], object]

    def __call__(self, start: int, stop: int):
        return self.make(start, stop)


@dataclass(frozen=True)
class Block:
    """Distances of some queries of a trial, as they are offered to whoever listens.

    trial: which, from 0. start: the first query. distance: (B, G) float32 or float64, to be left as it is.
    identity, key: (B,) codes; gallery_identity, gallery_key: (G,). Pairs of one identity have equal identity codes,
    pairs that are excluded equal keys.
    """

    trial: int
    start: int
    distance: np.ndarray
    identity: np.ndarray
    key: np.ndarray
    gallery_identity: np.ndarray
    gallery_key: np.ndarray

    def part(self, start: int, stop: int) -> Block:
        """The same of some of its queries."""
        here = slice(start, stop)
        return replace(
            self,
            start=self.start + start,
            distance=self.distance[here],
            identity=self.identity[here],
            key=self.key[here],
        )

    @cached_property
    def _codes(self) -> tuple[np.ndarray, ...]:
        return self.identity, self.key, self.gallery_identity, self.gallery_key

    def pairs(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of ``distance`` (B, G), which may be another one than the block's own, the values of pairs of one identity
        and of two, float32, without the pairs that are excluded."""
        from crossreid.ops.kernels import split_pairs

        genuine, impostor = (np.empty(distance.size, np.float32) for _ in range(2))
        counts = split_pairs(distance, *self._codes, genuine, impostor)
        return genuine[: counts[0]].copy(), impostor[: counts[1]].copy()

    def nearest(self, top: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest gallery items of each query, (B, top) with -1 where there are no more, and their distances."""
        from crossreid.ops.kernels import nearest_items

        items = np.empty((len(self.distance), top), np.int64)
        values = np.empty((len(self.distance), top), np.float64)
        nearest_items(self.distance, self.key, self.gallery_key, items, values)
        return items, values

    def tied(self) -> np.ndarray:
        """(B,) 1 where a wrong item is exactly as near as the first right one, 0 where none is, -1 without a right
        one."""
        from crossreid.ops.kernels import tied_rows

        found = np.empty(len(self.distance), np.int64)
        tied_rows(self.distance, *self._codes, found)
        return found


class Listener(Protocol):
    """Who is offered every block of distances once, before it is ranked; in any order, and by several threads where
    there are several workers."""

    def offer(self, block: Block) -> None: ...


class Task:
    """What is asked of one set of queries against one gallery, and what has been found so far."""

    def __init__(self, query_ids, gallery_ids, query_cameras, gallery_cameras, excluded, cmc, ranks):
        if cmc not in ("image", "identity"):
            raise UserError(f"unknown kind of CMC {cmc!r}: choose image or identity")
        if ranks < 1:
            raise UserError(f"the CMC curve needs at least one rank, but ranks is {ranks}")
        self.cmc, self.ranks = cmc, ranks
        keys = excluded_keys(excluded, query_ids, gallery_ids, query_cameras, gallery_cameras)
        self.cameras = (
            None if query_cameras is None else (np.unique(query_cameras), np.unique(gallery_cameras))
        )
        self.query_identity, self.gallery_identity = _codes(
            codes_of(query_ids, "query identities"), codes_of(gallery_ids, "gallery identities")
        )
        self.queries = len(self.query_identity)
        self.restricted = keys[0] is not None
        if self.restricted:
            self.query_key, self.gallery_key = _codes(*keys)
        else:
            self.query_key = np.full(self.queries, -1)
            self.gallery_key = np.full(len(self.gallery_identity), -2)
        self.members, self.ends = _groups(self.gallery_identity)
        self.same_key, self.key_ends = np.zeros(0, int), np.zeros(0, int)
        if self.restricted:
            self.same_key, self.key_ends = _groups(self.gallery_key)
        self.found = np.full((self.queries, 4), np.nan)
        self.there: list[tuple[int, torch.Tensor]] = []  # what was found on a device

    def check(self, queries: int, gallery: int):
        if (queries, gallery) != (self.queries, len(self.gallery_identity)):
            raise UserError(
                f"{self.queries} query and {len(self.gallery_identity)} gallery identities are given for "
                f"{counted(queries, 'query')} and {counted(gallery, 'gallery item')}: give one identity each"
            )

    def add(self, start: int, values, listeners, trial: int):
        """values: (B, G) of the queries from ``start`` on, overwritten; ranked by torch on an accelerator."""
        stop = start + len(values)
        there = on_accelerator(values)
        values_here = array(values) if listeners or not there else None
        if listeners and values_here is not None:
            codes = self.query_identity[start:stop], self.query_key[start:stop]
            block = Block(trial, start, values_here, *codes, self.gallery_identity, self.gallery_key)
            for listener in listeners:
                listener.offer(block)
        if there:
            self._rank_sorted(start, values)
        else:
            from crossreid.ops.kernels import rank_rows

            rank_rows(
                values_here,
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
        """The same numbers as the compiled path, from a stable sort on the device; ``scores`` brings them here."""
        stop = start + len(values)
        found = rank_sorted(
            values,
            self.query_identity[start:stop],
            self.query_key[start:stop],
            self.gallery_identity,
            self.gallery_key,
            self.cmc == "identity",
        )
        self.there.append((start, found))

    def scores(self) -> Scores:
        for start, found in self.there:
            self.found[start : start + len(found)] = found.cpu().numpy()
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
        return Scores(
            cmc=np.cumsum(counts) / valid.sum(),
            mean_ap=float(precision[valid].mean()),
            mean_inp=float(penalty[valid].mean()),
            verification={},
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
            ", and every match is excluded by the rule on cameras. Either switch the same-camera rule "
            "off, or give the images the distinct cameras that took them."
        )


def rank_sorted(
    values: torch.Tensor, identity, key, gallery_identity, gallery_key, by_identity: bool
) -> torch.Tensor:
    """What the compiled kernel counts, (B, 4) or NaN for an invalid query, from a stable sort in torch. Everything is
    made on the device of ``values``, and nobody waits for it."""
    device, width = values.device, int(gallery_identity.max()) + 1
    # Not every device has float64; counts of up to 16 million are exact in float32 too.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    identity, key, gallery_identity, gallery_key = (
        torch.from_numpy(codes).to(device, non_blocking=True)
        for codes in (identity, key, gallery_identity, gallery_key)
    )
    banned = key[:, None] == gallery_key
    order = values.masked_fill(banned, torch.inf).argsort(dim=1, stable=True)
    sorted_identity = gallery_identity[order]
    match = (sorted_identity == identity[:, None]) & ~banned.gather(1, order)
    rank = torch.arange(1, values.shape[1] + 1, dtype=dtype, device=device)
    count = match.sum(1)
    precision = (match.cumsum(1) / rank * match).sum(1) / count
    last = (match * rank).amax(1)
    first = torch.where(match, rank, torch.inf).amin(1)
    by = torch.full_like(first, torch.nan)
    if by_identity:
        nearer = torch.where(rank < first[:, None], 1, 0)
        seen = torch.zeros(len(values), width, dtype=torch.int64, device=device)
        by = seen.scatter_reduce(1, sorted_identity, nearer, "amax").sum(1).to(dtype) + 1
    found = torch.stack([precision, count / last, first, by], dim=1)
    return torch.where(count[:, None] == 0, torch.nan, found)


def run(rows, tasks, queries, gallery, block, progress, listeners, first, workers=None):
    """Feed the distances block by block to each task, a pair (task, its gallery rows or None for all).

    workers: threads that make and rank blocks, each with one thread of torch; None is this thread, with all of torch's.
    """
    if not queries or not gallery:
        raise UserError(f"{queries} queries and {gallery} gallery items: there must be at least one of each")
    if block is None:
        block = int(np.clip(BLOCK_BYTES // (4 * gallery), SMALLEST_BLOCK, 1024))
    overwritten = isinstance(rows, Rows) or any(chosen is not None for _, chosen in tasks)
    unchecked: list[tuple[int, torch.Tensor]] = []
    bar = tqdm(
        total=queries, desc="ranking", disable=None if progress else True, leave=False, unit=" queries"
    )

    def one(start: int) -> int:
        stop = min(start + block, queries)
        values = rows(start, stop) if overwritten else copy(rows(start, stop))
        if tuple(values.shape) != (stop - start, gallery):
            raise UserError(
                f"the distances of the queries {start} to {stop - 1} have the shape {tuple(values.shape)}, "
                f"where {(stop - start, gallery)} was expected"
            )
        if on_accelerator(values) and not listeners:
            # The host would wait for an answer; it asks for all of them when everything has been handed over.
            unchecked.append((start, first_wrong(values)))
        else:
            values = checked(values, start)
        for trial, (task, chosen) in enumerate(tasks, first):
            if chosen is not None and isinstance(values, torch.Tensor):
                chosen = torch.from_numpy(np.asarray(chosen)).to(values.device, non_blocking=True)
            task.add(start, values if chosen is None else values[:, chosen], listeners, trial)
        return stop - start

    with bar:
        for count in in_threads(one, range(0, queries, block), workers):
            bar.update(count)
    refuse_wrong(unchecked, gallery)


def in_threads(work: Callable[[T], R], items: Iterable[T], workers: int | None) -> Iterator[R]:
    """``work`` of each item, in order, by so many threads, each with one of torch's threads: what they compute is the
    same to the last bit whatever their number. workers: None is this thread, with all that torch has."""
    if workers is None:
        yield from map(work, items)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[R]] = deque()
    try:
        # Settings of torch that a context changes are those of the process: changed once, not by each thread.
        with full_products():
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def copy(values):
    """Ranking writes into its block, which must not be the caller's."""
    return values.detach().clone() if isinstance(values, torch.Tensor) else np.array(values)


def array(values) -> np.ndarray:
    """float32 or float64 rows, contiguous."""
    values = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    if isinstance(values, torch.Tensor):
        values = (values if values.dtype in (torch.float32, torch.float64) else values.float()).numpy()
    values = np.asarray(values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    return np.ascontiguousarray(values)


def on_accelerator(values) -> bool:
    return isinstance(values, torch.Tensor) and values.device.type != "cpu"


def first_wrong(values: torch.Tensor) -> torch.Tensor:
    """Whether a value of (B, G) is not a finite number, and where the first of them is, (2,) int64 on its device."""
    wrong = ~torch.isfinite(values).flatten()
    return torch.stack([wrong.any().long(), wrong.byte().argmax()])


def refuse_wrong(found: list[tuple[int, torch.Tensor]], gallery: int) -> None:
    """Raise the UserError of ``checked`` for the first block in which ``first_wrong`` found something. found: the first
    query of each block, and what was found."""
    if not found:
        return
    for (start, _), (wrong, place) in zip(found, torch.stack([each for _, each in found]).tolist()):
        if wrong:
            raise _not_finite(start + place // gallery, place % gallery)


def _not_finite(query: int, item: int) -> UserError:
    return UserError(
        f"the distance of query {query} to gallery item {item} is not a finite number: look for the cause in the "
        "features of these two"
    )


def checked(values, start):
    """The same values, once known to be finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(float(values.sum()))
    if not finite:
        good = torch.isfinite(torch.as_tensor(values)).cpu().numpy()
        if not good.all():
            row, column = np.argwhere(~good)[0]
            raise _not_finite(start + row, column)
    return values


def codes_of(values, name) -> np.ndarray:
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


def excluded_keys(rule, query_ids, gallery_ids, query_cameras, gallery_cameras):
    """Two arrays of keys, or (None, None) when nothing is excluded."""
    if rule is None:
        return None, None
    if not isinstance(rule, str):
        query_key, gallery_key = (codes_of(keys, "excluded keys") for keys in rule)
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
    query_cameras = codes_of(query_cameras, "query cameras")
    gallery_cameras = codes_of(gallery_cameras, "gallery cameras")
    _same_length(query_cameras, query_ids, "query cameras")
    _same_length(gallery_cameras, gallery_ids, "gallery cameras")
    identity = _both(codes_of(query_ids, "query identities"), codes_of(gallery_ids, "gallery identities"))
    camera = _both(query_cameras, gallery_cameras)
    pair = identity * (camera.max(initial=0) + 1) + camera
    return pair[: len(query_ids)], pair[len(query_ids) :]


def _both(query, gallery):
    return np.unique(np.concatenate([query, gallery]), return_inverse=True)[1].astype(np.int64)


def _same_length(keys, items, name):
    if len(keys) != len(items):
        raise UserError(f"{len(keys)} {name} for {len(items)} identities: give one each")
