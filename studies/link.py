"""Who of one camera is who of another, on rendered cameras whose truth is known.

    python studies/link.py [--people 60] [--seeds 0 1 2] [--write]

People walk past six cameras. Each is seen by four of them, about a minute apart, and at every camera the tracker
loses them once, for one second or for ten. What it followed at a stretch is a tracklet of six images, several of them
blurred or badly boxed as renderings are, and its vector the mean of the five best. `link` then gives identities without
labels; for comparison by the colour histogram, and by nothing at all. Nothing is trained here.
"""

from __future__ import annotations

import argparse
import platform
from dataclasses import dataclass

import numpy as np
from study import RESULTS, markdown

import crossreid
from crossreid import synthetic
from crossreid.evaluation import thresholds
from crossreid.evaluation.baselines import striped_histogram
from crossreid.evaluation.clusters import b_cubed, identification, pairwise
from crossreid.files import replacing
from crossreid.images.resize import fit
from crossreid.ops.linking import average_linkage
from crossreid.tracklets import mean_of_best, sharpness

CAMERAS, VISITS, CROPS, BEST = 6, 4, 6, 5
GAPS, FALSE_POSITIVES = (1, 10, 60), (1e-2, 1e-3, 1e-4)
# People and cameras that the bundled model was not trained on: of another seed.
WORLD = 20261128


@dataclass
class Walks:
    """Tracklets: identity, camera, start and end (N,), and images of each."""

    identity: np.ndarray
    camera: np.ndarray
    start: np.ndarray
    end: np.ndarray
    crops: list[np.ndarray]


def walk(people: range, seed: int) -> Walks:
    """All of these people pass within ten minutes."""
    rows, crops = [], []
    for identity in people:
        rng = np.random.default_rng((WORLD, seed, identity))
        who, moment, now = synthetic.person(identity, WORLD), 0, rng.uniform(0, 600)
        for camera in rng.permutation(CAMERAS)[:VISITS].tolist():
            for part in range(2):
                length = rng.uniform(4, 10)
                rows.append((identity, camera, now, now + length))
                here = synthetic.camera(camera + 1, WORLD)
                views = [(seed, identity, moment + at) for at in range(CROPS)]
                crops.append(np.stack([synthetic.render(who, here, ("link", *view)) for view in views]))
                moment += CROPS
                now += length + (rng.choice([1.0, 10.0]) if part == 0 else 60.0)
    return Walks(*(np.array(column) for column in zip(*rows)), crops)


def vectors_of(walks: Walks, embed, size) -> np.ndarray:
    """(N, D) means of the best crops. embed: (N, H, W, 3) of a size to unit vectors."""
    pixels = np.stack([fit(crop, size, "bilinear") for some in walks.crops for crop in some])
    found = embed(pixels).reshape(len(walks.crops), CROPS, -1)
    sharp = np.array([sharpness(crop) for crop in pixels]).reshape(len(walks.crops), CROPS)
    return np.stack([mean_of_best(some, np.ones(CROPS), own, BEST)[0] for some, own in zip(found, sharp)])


def calibrated(vectors: np.ndarray, identity: np.ndarray, share: float) -> float:
    """The distance below which this share of pairs of two people lies."""
    distance = 1 - vectors @ vectors.T
    return float(np.quantile(distance[identity[:, None] < identity[None]], share))


def reassociation(vectors: np.ndarray, walks: Walks, gap: int) -> tuple[float, float, int]:
    """Rank-1 and mAP of finding, among all tracklets that begin in the time after one ends, the one of the same person
    that begins a gap later; and how many such there were."""
    first, precision = [], []
    for at in range(len(vectors)):
        wait = walks.start - walks.end[at]
        later = np.flatnonzero((wait > 0) & (wait <= gap + 30) & (np.arange(len(vectors)) != at))
        right = (walks.identity[later] == walks.identity[at]) & (np.abs(wait[later] - gap) < 0.5)
        if not right.any():
            continue
        # Other tracklets of the same person, after other gaps, are neither right nor wrong.
        later = later[right | (walks.identity[later] != walks.identity[at])]
        order = later[np.argsort(-(vectors[later] @ vectors[at]), kind="stable")]
        hits = walks.identity[order] == walks.identity[at]
        first.append(hits[0])
        precision.append(np.mean(np.arange(1, hits.sum() + 1) / (np.flatnonzero(hits) + 1)))
    return float(np.mean(first)), float(np.mean(precision)), len(first)


def scores(walks: Walks, found: np.ndarray) -> list[float]:
    frames = np.round(25 * (walks.end - walks.start)).astype(int)
    return [
        pairwise(walks.identity, found)["f1"],
        b_cubed(walks.identity, found)["f1"],
        identification(walks.identity, found, frames)["f1"],
        len(set(found.tolist())),
    ]


def run(people: int, seed: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Numbers of linking, and of re-association, by what was compared."""
    walks, apart = walk(range(1000, 1000 + people), seed), walk(range(5000, 5000 + people), seed)
    model = crossreid.Embedder("small")
    modality = "visible" if len(model.modalities) > 1 else None
    ways = {
        "small model": lambda pixels: model(pixels, modality=modality),
        "colour histogram": striped_histogram,
    }
    points, _ = thresholds.known(model.path, model.fingerprint, model.feature)
    linked, again = {}, {}
    for name, embed in ways.items():
        size = model.size if name == "small model" else (64, 32)
        vectors, others = vectors_of(walks, embed, size), vectors_of(apart, embed, size)
        limits = {
            f"{name}, {share:g} of pairs of other people's tracklets": calibrated(
                others, apart.identity, share
            )
            for share in FALSE_POSITIVES
        }
        if name == "small model" and points:
            limits |= {
                f"{name}, its operating point {share:g}": thresholds.strictest(
                    points, share, None, ""
                ).distance
                for share in FALSE_POSITIVES[:2]
            }
        for words, limit in limits.items():
            for free in (False, True):
                start = np.full(len(vectors), np.nan) if free else walks.start
                end = np.full(len(vectors), np.nan) if free else walks.end
                found = average_linkage(
                    vectors, limit, walks.camera.astype(int), start, end, np.full(len(vectors), -1)
                )
                linked[words + (", without constraints" if free else "")] = scores(walks, found)
        again[name] = [value for gap in GAPS for value in reassociation(vectors, walks, gap)[:2]]
    linked["unlinked: each tracklet a person"] = scores(walks, np.arange(len(walks.identity)))
    return linked, again


def table(head: list[str], runs: list[dict[str, list[float]]], counts: int) -> list[str]:
    """Means and standard deviations over seeds in percent; the last ``counts`` columns are numbers of people."""
    rows = []
    for name in runs[0]:
        values = np.array([run[name] for run in runs])
        mean, spread = values.mean(axis=0), values.std(axis=0)
        cells = [
            f"{mean[at]:.0f}"
            if at >= len(mean) - counts
            else f"{100 * mean[at]:.1f} ± {100 * spread[at]:.1f}"
            for at in range(len(mean))
        ]
        rows.append([name, *cells])
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--write", action="store_true", help="also write docs/results/link.md")
    given = parser.parse_args()
    runs = [run(given.people, seed) for seed in given.seeds]
    columns = [f"{measure}, {gap} s" for gap in GAPS for measure in ("Rank-1", "mAP")]
    lines = [
        "# People across cameras, without labels",
        "",
        "*Measured here*, on rendered people and cameras; nothing on this page is a number of the literature. Made by",
        "",
        "<!-- not run: it takes some minutes -->",
        "```console",
        f"$ python studies/link.py --people {given.people} --seeds {' '.join(map(str, given.seeds))} --write",
        "```",
        "",
        f"on {platform.machine()}, one thread, crossreid {crossreid.__version__}. Mean ± standard deviation over the "
        "seeds, in percent.",
        "",
        f"{given.people} people pass {CAMERAS} cameras within ten minutes. Each passes {VISITS} of them, a minute "
        "apart, and each of these cameras loses the person once, for one second or for ten. The vector of a tracklet "
        f"is the mean of the {BEST} best of its {CROPS} crops.",
        "The model is the bundled `small`, which never saw these people or these cameras. Tracklets are linked up to "
        "a limit of distance: either one of the model's own operating points, measured on pairs of images, or the "
        "distance below which the given share of pairs of tracklets of two people lies, which you can measure with "
        "your own cameras too.",
        "",
        "## Identities across cameras",
        "",
        *table(
            ["limit", "pairwise F1", "B-cubed F1", "IDF1", "people found"], [linked for linked, _ in runs], 1
        ),
        "## Found again after a gap",
        "",
        "A tracklet is searched for among all tracklets, of anybody and by any camera, that begin after it ends, "
        "within the gap and half a minute more.",
        "",
        *table(["compared by", *columns], [again for _, again in runs], 0),
    ]
    print("\n".join(lines))
    if given.write:
        with replacing(RESULTS / "link.md") as temporary:
            temporary.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
