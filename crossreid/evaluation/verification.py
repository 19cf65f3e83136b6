"""Accepting pairs by their distance: one definition of the true positive rate at a false positive rate.

A pair of images is genuine when both show one identity, an impostor pair otherwise. A threshold accepts the pairs that
are nearer than it. The threshold of a false positive rate r is the largest that accepts at most the share r of the
impostor pairs: with n of them, the distance of the impostor pair that ``floor(r n)`` others precede. The true positive
rate at r is the share of genuine pairs which that threshold accepts. The table of results, the curves and histograms of
the report, ``threshold`` and ``crossreid compare`` all take their numbers from here.

The numbers of the table are about the distance that the method itself ranks by. Operating points, by which two single
images are judged, are about 1 - cosine of the features, from 0 to 2, as the gallery and ``crossreid compare`` have it.

Needs no torch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from crossreid.evaluation.measures import Subset
    from crossreid.ops.ranking import Block
    from crossreid.records import Scores

# False positive rates of the table, and those of the curves.
RATES = (1e-4, 1e-3, 1e-2)
CURVE = tuple(sorted({*RATES, *(10.0 ** (power / 10) for power in range(-60, 1))}))
# Shares of the pairs whose distances are kept: finely where false positives are rare, as there thresholds are set.
SHARES = (
    *(digit * 10.0**power for power in range(-7, -2) for digit in (1, 2, 5)),
    *(percent / 100 for percent in range(1, 100)),
    0.995,
    0.999,
    1.0,
)
MOST_BINS = 60
# So many distances of a kind are kept as they are (256 MiB). Of more, so many of the smallest are, and the others with
# 11 binary digits behind the first.
LIMIT, EXACT = 2**26, 2**23
# Pairs that are told apart at once.
TOGETHER = 2**22


class Sample:
    """Distances of pairs of one kind, in the order of their size.

    Memory is bounded: see ``LIMIT``. A false positive rate up to 1 % is exact for up to 800 million impostor pairs. The
    order in which pairs are added, and by which thread, changes nothing.
    """

    def __init__(self, values=(), limit: int = LIMIT, exact: int = EXACT):
        self._limit, self._exact = limit, min(exact, limit // 4)
        self._near: list[np.ndarray] = []  # each value below the bound
        self._count = 0
        self._bound, self._at_bound = np.float32(np.inf), 0
        self._far: np.ndarray | None = None  # how many lie above it, by their first digits
        self._sorted: tuple[np.ndarray, np.ndarray | None] | None = None
        self._lock = threading.Lock()
        self.add(np.asarray(values, np.float32).reshape(-1))

    def add(self, values: np.ndarray) -> None:
        """Take in further distances, (N,) float32, which are kept: pass a copy where they will change."""
        with self._lock:
            self._sorted = None
            if self._far is not None:
                self._push(values)
                values = values[values < self._bound]
            if len(values):
                self._near.append(values)
                self._count += len(values)
            if self._count > (self._limit if self._far is None else 2 * self._exact):
                self._lower()

    @property
    def total(self) -> int:
        """How many pairs there are."""
        values, ends = self._settled()
        return len(values) if ends is None else int(ends[-1])

    def nearer(self, threshold) -> np.ndarray:
        """How many pairs are nearer than each threshold."""
        return self._up_to(threshold, "left")

    def within(self, threshold) -> np.ndarray:
        """How many pairs are at each threshold or nearer."""
        return self._up_to(threshold, "right")

    def at(self, rank) -> np.ndarray:
        """The distance that so many others precede, 0 to total - 1."""
        values, ends = self._settled()
        return values[rank if ends is None else np.searchsorted(ends, rank, side="right")]

    def distinct(self) -> np.ndarray:
        """Every distance that occurs, once, rising."""
        return np.unique(self._settled()[0])

    def merged(self, other: Sample) -> Sample:
        """The pairs of both."""
        both = Sample(limit=self._limit, exact=self._exact)
        for each in (self, other):
            if each._far is not None:
                both._far = each._far + (0 if both._far is None else both._far)
                both._bound = min(both._bound, each._bound)
        for each in (self, other):
            for values in each._near:
                both.add(values)
            if each._at_bound:
                both.add(np.full(each._at_bound, each._bound, np.float32))
        return both

    def _up_to(self, threshold, side: Literal["left", "right"]) -> np.ndarray:
        values, ends = self._settled()
        place = np.searchsorted(values, np.asarray(threshold, np.float64), side=side)
        return place if ends is None else np.concatenate([[0], ends])[place]

    def _push(self, values: np.ndarray) -> None:
        """Count the values that are at the bound, and those above it by their first digits."""
        assert self._far is not None
        for start in range(0, len(values), 2**22):
            part = values[start : start + 2**22]
            self._at_bound += int((part == self._bound).sum())
            self._far += np.bincount(_key(part[part > self._bound]) >> np.uint32(12), minlength=2**20)

    def _lower(self) -> None:
        """Keep the smallest values, and of the others only how many have the same first digits."""
        values, self._near = np.concatenate(self._near), []
        before, count = self._bound, self._at_bound
        values.partition(self._exact - 1)
        self._bound, self._at_bound = values[self._exact - 1], 0
        if self._far is None:
            self._far = np.zeros(2**20, np.int64)
        else:
            self._far[_key(np.array([before])) >> np.uint32(12)] += count
        self._push(values)
        self._near = [values[values < self._bound]]
        self._count = len(self._near[0])

    def _settled(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The values, rising, and how many pairs there are up to and with each; None where each is one pair."""
        with self._lock:
            if self._sorted is None:
                if self._far is not None and self._count >= self._exact:
                    self._lower()
                near = np.concatenate([np.zeros(0, np.float32), *self._near])
                near.sort()
                self._near = [near]
                self._sorted = near, None
                if self._far is not None:
                    digits = np.flatnonzero(self._far)
                    # What is rounded must not come before what is not.
                    rounded = np.maximum(_value(digits), self._bound)
                    values = np.concatenate([near, np.array([self._bound], np.float32), rounded])
                    counts = np.concatenate(
                        [np.ones(len(near), np.int64), np.array([self._at_bound]), self._far[digits]]
                    )
                    self._sorted = values, np.cumsum(counts)
            return self._sorted


def _key(values: np.ndarray) -> np.ndarray:
    """Whole numbers, uint32, in the order of the float32 values."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(2**31))


def _value(digits: np.ndarray) -> np.ndarray:
    """The middle of the values whose keys begin with these 20 bits."""
    keys = (digits.astype(np.uint32) << np.uint32(12)) | np.uint32(0x800)
    return np.where(keys >> np.uint32(31), keys & np.uint32(2**31 - 1), ~keys).view(np.float32)


def accepted(genuine: Sample, impostor: Sample, rates: Sequence[float] | np.ndarray = CURVE):
    """Thresholds (R,) of these false positive rates, infinite where every pair is accepted, and the true positive rates
    (R,) there: the definition that the module gives."""
    ranks = np.floor(np.asarray(rates) * impostor.total * (1 + 1e-12)).astype(np.int64)
    every = ranks >= impostor.total
    thresholds = np.where(every, np.inf, impostor.at(np.minimum(ranks, impostor.total - 1)))
    return thresholds, genuine.nearer(thresholds) / genuine.total


def verification_rates(genuine, impostor, rates: Sequence[float] = RATES) -> dict[str, float]:
    """True positive rates by the names that tables give them.

    genuine, impostor: distances of pairs of one identity and of two, as a ``Sample`` or as an array.
    rates: of false positives.

    ``TPR@FAR=x`` is what the module defines. ``legacy TPR@FPR=x`` is what the tables of MetaBIN (Choi et al. 2021)
    print under TPR@FPR: the roles are swapped, the positives are rejected impostors, and the value is that of the first
    point of the curve whose false positive rate is closest to x. It is 0 where a hundred genuine pairs cannot
    resolve x. NaN without pairs of either kind.
    """
    genuine, impostor = (each if isinstance(each, Sample) else Sample(each) for each in (genuine, impostor))
    names = [f"{kind}={rate:g}" for kind in ("TPR@FAR", "legacy TPR@FPR") for rate in rates]
    if not genuine.total or not impostor.total:
        return dict.fromkeys(names, math.nan)
    _, true = accepted(genuine, impostor, rates)
    level, swapped = _swapped_curve(genuine, impostor)
    legacy = [swapped[np.argmin(np.abs(level - rate))] for rate in rates]
    return dict(zip(names, map(float, [*true, *legacy])))


def _swapped_curve(genuine: Sample, impostor: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The first point of each level of the swapped curve: shares of genuine pairs, rising, and of impostors, at least
    as far apart as a threshold that runs from the largest distance downwards.

    Points in the middle of a straight and evenly stepped run are left out, as scikit-learn's ``roc_curve`` does by
    default: with a genuine pair at the next smaller distance too, and as many pairs of each kind at both.
    """
    values = genuine.distinct()[::-1]
    apart = genuine.total - genuine.nearer(values), impostor.total - impostor.nearer(values)
    at = genuine.within(values) - genuine.nearer(values), impostor.within(values) - impostor.nearer(values)
    kept = np.ones(len(values), bool)
    between = impostor.nearer(values[:-1]) - impostor.within(values[1:])
    kept[:-1] = (between > 0) | (at[0][:-1] != at[0][1:]) | (at[1][:-1] != at[1][1:])
    # The curve's first point is always there.
    kept[0] |= impostor.within(values[0]) == impostor.total
    return np.r_[0, apart[0][kept]] / genuine.total, np.r_[0, apart[1][kept]] / impostor.total


class Verification:
    """The pairs of a subset's trials: rates for the table, a curve and histograms for the report, and operating points.

    The rates and the curve are means over the trials, histograms and operating points count the pairs of all.
    """

    def __init__(self, subset: Subset):
        self._subset = subset
        trials = len(subset.trials)
        pairs = max(len(trial.query) * len(trial.gallery) for trial in subset.trials)
        # What will not be kept whole is not first gathered whole.
        limit = max(2**16, (LIMIT if pairs * trials <= LIMIT else 4 * EXACT) // trials)
        self._own = [(Sample(limit=limit), Sample(limit=limit)) for _ in range(trials)]
        # 1 - cosine of the features, where it does not follow from the distances that images are ranked by.
        self._scale = {"cosine": 1.0, "squared_euclidean_unit": 0.5}.get(subset.metric.feature or "")
        follows = subset.metric.stripes is None and self._scale is not None and not subset.config.expand.k
        self._apart = None if follows else (Sample(), Sample())

    def offer(self, block: Block) -> None:
        step = max(1, TOGETHER // block.distance.shape[1])
        for start in range(0, len(block.distance), step):
            self._take(block.part(start, start + step))

    def _take(self, block: Block) -> None:
        for sample, values in zip(self._own[block.trial], block.pairs(block.distance)):
            sample.add(values)
        if self._apart is not None:
            trial = self._subset.trials[block.trial]
            cosine = self._subset.cosine(trial, block.start, block.start + len(block.distance))
            for sample, values in zip(self._apart, block.pairs(cosine)):
                sample.add(values)

    def numbers(self) -> list[dict[str, float]]:
        return [verification_rates(*pair) for pair in self._own] if self._subset.config.verification else []

    def result(self, scores: Scores) -> dict:
        content = {"pairs": self._pairs()} if any(g.total or i.total for g, i in self._own) else {}
        pooled = self._apart
        if pooled is None:
            pooled = self._own[0]
            for pair in self._own[1:]:
                pooled = pooled[0].merged(pair[0]), pooled[1].merged(pair[1])
        if pooled[0].total and pooled[1].total:
            scale = self._scale if self._apart is None else 1.0
            content["operating_points"] = {
                "subset": self._subset.name,
                "modalities": list(self._subset.modalities),
                **operating_points(*pooled, scale=scale or 1.0),
            }
        return content

    def _pairs(self) -> dict:
        genuine, impostor = zip(*self._own)
        edges = histogram_edges([*genuine, *impostor], [genuine, impostor])
        content: dict = {
            "subset": self._subset.name,
            "metric": vars(self._subset.metric),
            "genuine": sum(each.total for each in genuine),
            "impostor": sum(each.total for each in impostor),
            "edges": edges.tolist(),
            "histogram": {
                kind: np.sum([histogram(each, edges) for each in samples], axis=0).tolist()
                for kind, samples in (("genuine", genuine), ("impostor", impostor))
            },
        }
        return content | curve([pair for pair in self._own if pair[0].total and pair[1].total])


def curve(trials: Sequence[tuple[Sample, Sample]]) -> dict[str, list[float]]:
    """False positive rates, and the means over the trials of the true positive rates and thresholds there.

    Rates below one impostor pair of the trial with the fewest are left out: they cannot be told. Where every pair is
    accepted, the threshold is the largest distance of the trial.
    """
    names = ("false_positive", "true_positive", "threshold")
    if not trials:
        return {name: [] for name in names}
    fewest = min(impostor.total for _, impostor in trials)
    rates = np.array([rate for rate in CURVE if rate * fewest >= 1 - 1e-9])
    found = []
    for genuine, impostor in trials:
        thresholds, true = accepted(genuine, impostor, rates)
        farthest = max(float(each.at(each.total - 1)) for each in (genuine, impostor))
        found.append((true, np.where(np.isfinite(thresholds), thresholds, farthest)))
    means = (np.mean([each[part] for each in found], axis=0) for part in (0, 1))
    return dict(zip(names, (_rounded(values) for values in (rates, *means))))


def histogram_edges(samples: Sequence[Sample], kinds: Sequence[Sequence[Sample]]) -> np.ndarray:
    """Edges of equal steps of a round width over all the samples, the fewer the fewer pairs the smallest kind has (as
    the rule of Rice has it, with half more of them)."""
    filled = [each for each in samples if each.total]
    low, high = (
        min(float(each.at(0)) for each in filled),
        max(float(each.at(each.total - 1)) for each in filled),
    )
    fewest = min(total for kind in kinds if (total := sum(each.total for each in kind)))
    bins = min(MOST_BINS, max(20, round(3 * fewest ** (1 / 3))))
    raw = max(high - low, 1e-6) / bins
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return np.round(np.arange(first, last + 1) * step, 12)


def histogram(sample: Sample, edges: np.ndarray) -> np.ndarray:
    """Pairs between each two edges, those at the last edge included."""
    return np.diff(np.append(sample.nearer(edges[:-1]), sample.total))


def operating_points(genuine: Sample, impostor: Sample, scale: float = 1.0) -> dict:
    """What is kept of the pairs of a subset, for JSON: distances at ``SHARES`` of each kind, and the curve.

    scale: by which distances are multiplied to be 1 - cosine.
    """
    curves = curve([(genuine, impostor)])
    return {
        "genuine": _thinned(genuine, scale),
        "impostor": _thinned(impostor, scale),
        "curve": curves | {"threshold": _rounded(np.asarray(curves["threshold"]) * scale)},
    }


def _thinned(sample: Sample, scale: float) -> dict:
    count = sample.total
    if not count or not np.isfinite(sample.at(np.array([0, count - 1]))).all():
        raise ValueError(f"{count} distances: expected one or more finite numbers")
    shares = [1 / count, *(share for share in SHARES if share > 1 / count)]
    # The smallest distance that accepts at least this share of the pairs.
    ranks = np.array([min(count, math.ceil(share * count - 1e-9)) - 1 for share in shares])
    return {
        "pairs": count,
        "share": [float(f"{share:.8g}") for share in shares],
        "distance": _rounded(sample.at(ranks).astype(np.float64) * scale, digits=7),
    }


def _rounded(values, digits: int = 9) -> list[float]:
    """Nine digits give every float32 back exactly."""
    return [float(f"{value:.{digits}g}") for value in np.asarray(values, np.float64)]
