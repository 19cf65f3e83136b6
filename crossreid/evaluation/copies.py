"""Queries whose very file lies in the gallery again: they are found whatever the model has learned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid.files import stats
from crossreid.records import Image


def notes(protocol) -> list[str]:
    """A sentence for each subset in which queries have a byte-identical copy in the gallery that no rule excludes.

    Files that are not at hand, and prepared arrays, are passed over.
    """
    trials: dict = {}
    for trial in protocol.trials():
        trials.setdefault(trial.subset, trial)
    content = _content(protocol.images, [trial.query for trial in trials.values()])
    found = []
    for name, trial in trials.items():
        copies: dict[tuple, list[int]] = {}
        for at, index in enumerate(trial.gallery):
            if (key := content.get(int(index))) is not None:
                copies.setdefault(key, []).append(at)
        pairs = []
        for row, index in enumerate(trial.query):
            allowed = [
                at
                for at in copies.get(content.get(int(index), ()), ())
                if trial.excluded is None or trial.excluded[0][row] != trial.excluded[1][at]
            ]
            if allowed:
                pairs.append((protocol.images[index].path, protocol.images[trial.gallery[allowed[0]]].path))
        if pairs:
            found.append(
                f"{name}: {len(pairs)} of {len(trial.query)} queries lie in the gallery as byte-identical "
                f"copies, the first is {pairs[0][0]}, the same as {pairs[0][1]}. They are found by any "
                "model: take them out of one side."
            )
    return found


def _content(images: Sequence[Image], queries: Sequence[np.ndarray]) -> dict[int, tuple]:
    """Index of an image -> what equals for equal content, for those of which a query might be a copy."""
    known = stats(image.path for image in images if image.array_index is None)
    size = {path: each.st_size for path, each in known.items()}
    count: dict[int, set[Path]] = {}
    for path, each in size.items():
        count.setdefault(each, set()).add(path)
    wanted = {size[images[i].path] for i in np.unique(np.concatenate(queries)) if images[i].path in size}
    digest: dict[Path, bytes] = {}
    for each in wanted:
        for path in count[each]:
            # A file of which there is none other of its size is a copy of itself at most.
            digest[path] = _digest(path) if len(count[each]) > 1 else str(path).encode()
    return {
        index: (digest[image.path], image.box) for index, image in enumerate(images) if image.path in digest
    }


def _digest(path: Path) -> bytes:
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return str(path).encode()
