"""All splits of a data set as one training set."""

from __future__ import annotations

from collections.abc import Mapping

from crossreid.data.naming import DISTRACTOR
from crossreid.records import Image


def everything(splits: Mapping[str, list[Image]]) -> dict[str, list[Image]]:
    """All images of all splits as the split ``train``, each once and without distractors.

    Distractors are the images of identity 0 where only the gallery has that number. There is no query and no gallery
    afterwards: what was trained on is never tested on.
    """
    elsewhere = {image.identity for split, images in splits.items() if split != "gallery" for image in images}
    dropped = {DISTRACTOR} - elsewhere if "gallery" in splits else set()
    images = {
        (image.path, image.array_index, image.box): image
        for split in splits.values()
        for image in split
        if image.identity not in dropped
    }
    return {"train": list(images.values())}
