"""Tiny copies of data sets, and scores of known embeddings, for the tests of readers and protocols."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image as PILImage

from crossreid.ops import ranking
from crossreid.protocols.results import mean_scores


def image(path: Path, shade: int = 0, size=(4, 8)) -> Path:
    """An image of one shade, width 4 and height 8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.new("RGB", size, (shade % 256, 128, 255 - shade % 256)).save(path)
    return path


def images(root: Path, names) -> None:
    for shade, name in enumerate(names):
        image(root / name, shade)


def scores(protocol, vectors) -> dict:
    """Mean scores of each row of a protocol, for vectors (N, D) of its images."""
    vectors = torch.as_tensor(np.asarray(vectors), dtype=torch.float32)
    identity = np.array([image.identity for image in protocol.images])
    rows = {}
    for trial in protocol.trials():
        found = ranking.evaluate(
            vectors[trial.query],
            vectors[trial.gallery],
            identity[trial.query],
            identity[trial.gallery],
            metric="euclidean",
            excluded=trial.excluded,
            cmc=protocol.cmc,
            ranks=20,
        )
        rows.setdefault(trial.subset, []).append(found)
    return {row: mean_scores(found, protocol.average) for row, found in rows.items()}


def one_hot(images) -> np.ndarray:
    """Perfect vectors: one direction for each identity of each domain."""
    keys = sorted({(image.domain, image.identity) for image in images})
    return np.eye(len(keys))[[keys.index((image.domain, image.identity)) for image in images]]


def noise(images, seed: int = 0) -> np.ndarray:
    """Random vectors that know nothing."""
    return np.random.default_rng(seed).normal(size=(len(images), 8))


def assert_perfect(protocol, rows) -> None:
    found = scores(protocol, one_hot(protocol.images))
    assert set(found) == set(rows)
    for score in found.values():
        assert score.cmc[0] == score.mean_ap == score.mean_inp == 1


def plain_scores(trial, images, vectors, cmc: str):
    """First-rank rate and mean average precision of one trial, query by query, the slow way."""
    hits, precisions = [], []
    for q, query in enumerate(trial.query):
        order = sorted(
            range(len(trial.gallery)), key=lambda g: np.sum((vectors[query] - vectors[trial.gallery[g]]) ** 2)
        )
        if trial.excluded is not None:
            order = [g for g in order if trial.excluded[0][q] != trial.excluded[1][g]]
        right = [images[trial.gallery[g]].identity == images[query].identity for g in order]
        if not any(right):
            continue
        hits.append(right[0])
        places = np.flatnonzero(right) + 1
        precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
    return np.mean(hits), np.mean(precisions)
