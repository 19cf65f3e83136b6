"""Who of one camera is who of another: tracklets of several cameras get identities, without labels.

    linked = link(tracklets, gallery)

Clusters are made by average linkage (``crossreid.ops.linking``): two tracklets that overlap in time before one camera
are two people, and nobody gets from one camera to another in less time than is said. Identities that a gallery knows
keep their names, whatever comes in later.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossreid.evaluation import thresholds
from crossreid.files import legible, write_rows
from crossreid.gallery import Entry, Filter, Gallery
from crossreid.gallery.entries import EDGES
from crossreid.images.labels import plain, whole_number
from crossreid.images.tables import lines_of
from crossreid.ops.linking import average_linkage
from crossreid.records import UserError
from crossreid.tracklets import Tracklet, Tracklets

# Which entries of a gallery are tracklets.
KIND = Filter(columns={"kind": "tracklet"})
PAGE = 2000
# So many numbers are looked up at once to see whether they are free.
FREE = 100
FALSE_POSITIVE = 1e-3


@dataclass(frozen=True)
class Linked:
    """identities: of each tracklet given. new: how many of them nobody had before. distance: of each to the mean of the
    others of its identity, 1 - cosine; not a number where it is alone, or was there before. threshold: that was used.
    source: of it."""

    identities: tuple[str, ...]
    new: int
    distance: np.ndarray
    threshold: float
    source: str


def link(
    tracklets: Tracklets,
    gallery: Gallery | None = None,
    *,
    threshold: float | None = None,
    false_positive: float = FALSE_POSITIVE,
    travel: Mapping[tuple[str, str], float] | None = None,
) -> Linked:
    """Give every tracklet an identity, and keep it in the gallery.

    tracklets: of any number of cameras, by one model; see ``crossreid.tracklets``.
    gallery: of the same model, which may hold tracklets from earlier: these keep their identities, and those given join
        them or become new ones. Without a gallery nothing is kept.
    threshold: tracklets are put together while their average distance (1 - cosine) is below it; None takes the distance
        at which the evaluation of the model accepted the share ``false_positive`` of pairs of two people.
    travel: the least seconds that somebody needs from one camera to another, by their two names in either order.

    Raises UserError where nothing is known to take a threshold from, or the gallery is of another model.
    """
    if threshold is None:
        source = f"the model {tracklets.model} was not evaluated: give a threshold (--threshold), or evaluate it first"
        chosen = thresholds.strictest(tracklets.points, false_positive, None, source)
        threshold, source = chosen.distance, f"a false positive rate of {false_positive:g} in {chosen.subset}"
    else:
        source = "as it was given"
    keys = tracklets.keys()
    earlier, vectors, identity_of = _kept(gallery, tracklets)
    names = list(identity_of.values())
    fresh = [at for key, at in {key: at for at, key in enumerate(keys)}.items() if key not in identity_of]
    spans = [
        *earlier,
        *((plain(each.camera), each.start, each.end) for each in (tracklets.items[at] for at in fresh)),
    ]
    cameras = {name: number for number, name in enumerate(sorted({camera for camera, _, _ in spans}))}
    absent = sorted({name for names in travel or {} for name in map(plain, names)} - set(cameras))
    if absent:
        warnings.warn(
            f"travel times are given for {', '.join(map(repr, absent))}, and no tracklet is of a camera of that name: "
            "they change nothing",
            stacklevel=2,
        )
    known = np.full(len(spans), -1)
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names))}
    known[: len(names)] = [number_of[name] for name in names]
    every = np.concatenate([vectors, tracklets.vectors[fresh]])
    clusters = average_linkage(
        every,
        threshold,
        np.array([cameras[camera] for camera, _, _ in spans]),
        np.array([start for _, start, _ in spans], float),
        np.array([end for _, _, end in spans], float),
        known,
        _least(cameras, travel or {}),
    )
    given = _identities(clusters, names, gallery)
    apart = dict(zip(fresh, _distances(every, clusters)[len(names) :]))
    identity_of |= {keys[at]: identity for at, identity in zip(fresh, given[len(names) :])}
    if gallery is not None and fresh:
        entries = [_entry(keys[at], tracklets.items[at], identity_of[keys[at]]) for at in fresh]
        small = [tracklets.items[at].small or None for at in fresh]
        gallery.add(entries, tracklets.vectors[fresh], small)
    return Linked(
        tuple(identity_of[key] for key in keys),
        len(set(given) - set(names)),
        np.array([apart.get(at, np.nan) for at in range(len(keys))]),
        threshold,
        source,
    )


def _kept(
    gallery: Gallery | None, tracklets: Tracklets
) -> tuple[list[tuple[str, float, float]], np.ndarray, dict[str, str]]:
    """Camera, start and end of the tracklets in a gallery, their vectors, and their identities by their keys."""
    if gallery is None:
        return [], np.zeros((0, tracklets.vectors.shape[1]), np.float32), {}
    gallery.require(tracklets.fingerprint)
    spans: list[tuple[str, float, float]] = []
    vectors, start = [], 0
    identity_of: dict[str, str] = {}
    while entries := gallery.entries(KIND, start, PAGE):
        start += len(entries)
        found = gallery.vectors([entry.key for entry in entries])
        for entry in entries:
            if entry.key in found and entry.identity is not None:
                first, last = (float(entry.columns.get(name, np.nan)) for name in ("start", "end"))
                spans.append((entry.camera or "", first, last))
                identity_of[entry.key] = entry.identity
                vectors.append(found[entry.key])
    width = tracklets.vectors.shape[1]
    return spans, np.array(vectors, np.float32).reshape(len(vectors), width), identity_of


def _least(cameras: Mapping[str, int], travel: Mapping[tuple[str, str], float]) -> np.ndarray:
    least = np.where(np.eye(len(cameras), dtype=bool), 0.0, -np.inf)
    for names, seconds in travel.items():
        one, other = map(plain, names)
        if one in cameras and other in cameras and one != other:
            least[cameras[one], cameras[other]] = least[cameras[other], cameras[one]] = seconds
    return least


def _identities(clusters: np.ndarray, names: Sequence[str], gallery: Gallery | None) -> list[str]:
    """A name for each: that of its cluster where one is known, else the next number that is free."""
    name_of = dict(zip(clusters.tolist(), names))
    free = _free(names, gallery)
    for cluster in clusters.tolist():
        if cluster not in name_of:
            name_of[cluster] = next(free)
    return [name_of[cluster] for cluster in clusters.tolist()]


def _free(names: Sequence[str], gallery: Gallery | None) -> Iterator[str]:
    """Numbers above these names that no image in the gallery has as its identity either."""
    number = 1 + max((number for name in names if (number := whole_number(name)) is not None), default=0)
    while True:
        some, start = [str(number + at) for at in range(FREE)], 0
        taken: set[str | None] = set()
        while gallery is not None and (entries := gallery.entries(Filter(identities=some), start, PAGE)):
            start += len(entries)
            taken.update(entry.identity for entry in entries)
        yield from (name for name in some if name not in taken)
        number += FREE


def _distances(vectors: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    sums = np.zeros((clusters.max(initial=-1) + 1, vectors.shape[1]))
    np.add.at(sums, clusters, vectors)
    others = sums[clusters] - vectors
    lengths = np.linalg.norm(others, axis=1)
    alone = np.bincount(clusters)[clusters] == 1
    cosine = (others * vectors).sum(axis=1) / np.where(alone, np.nan, np.maximum(lengths, 1e-12))
    return 1 - cosine


def _entry(key: str, tracklet: Tracklet, identity: str) -> Entry:
    columns: dict = {"kind": "tracklet", "track": tracklet.name, "frames": tracklet.frames}
    if np.isfinite(tracklet.start):
        columns |= {"start": float(tracklet.start), "end": float(tracklet.end)}
    best = tracklet.crops[0]
    if best.box is not None:
        columns |= dict(zip(EDGES, map(int, best.box)))
    columns["crops"] = json.dumps([[legible(str(crop.path)), crop.box] for crop in tracklet.crops])
    # A start in seconds from the beginning of a video is no date.
    dated = np.isfinite(tracklet.start) and tracklet.start > 1e8
    return Entry(
        key,
        legible(str(best.path)),
        tracklet.modality,
        tracklet.camera or None,
        float(tracklet.start) if dated else None,
        identity,
        columns,
    )


def read_travel(path: Path) -> dict[tuple[str, str], float]:
    """The travel times of a CSV file with the columns ``from``, ``to`` and ``seconds``."""
    expected = "a CSV file with the columns from, to and seconds was expected, such as 1,4,30"

    def check(columns: list[str]) -> None:
        if not {"from", "to", "seconds"} <= set(columns):
            raise UserError(f"{path}, line 1: the columns are {', '.join(columns) or '(none)'}: {expected}")

    found = {}
    for number, line in lines_of(path, check):
        try:
            seconds = float(line["seconds"])
        except ValueError:
            seconds = np.nan
        if not 0 <= seconds < np.inf:
            raise UserError(
                f"{path}, line {number}: seconds are {line['seconds']!r}: expected a number from 0"
            )
        found[line["from"], line["to"]] = seconds
    if not found:
        raise UserError(f"{path} has no lines below that of its columns: {expected}")
    return found


def write_csv(path: Path, tracklets: Tracklets, linked: Linked) -> None:
    """A line for each tracklet: whom it shows, where and when."""
    rows = []
    for each, identity, distance in zip(tracklets.items, linked.identities, linked.distance):
        times = ["" if np.isnan(value) else f"{value:.3f}" for value in (each.start, each.end)]
        apart = "" if np.isnan(distance) else f"{distance:.6f}"
        seen = [identity, each.camera, each.name, *times]
        rows.append([*seen, str(each.frames), apart, str(each.crops[0].path)])
    names = ("identity", "camera", "track", "start", "end", "frames", "distance", "path")
    write_rows(path, names, rows)
