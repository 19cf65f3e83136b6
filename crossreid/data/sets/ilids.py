"""QMUL i-LIDS (Zheng et al. 2009): 119 persons in the arrival hall of an airport."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from crossreid.data import split_files
from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.records import Image, by_key

IDENTITIES, IMAGES = 119, 476
THEIRS = ("splits.json",)

# The running number of an image takes the place of the camera, which is not known.
_NAME = re.compile(r"(?P<identity>\d{4})(?P<camera>\d{3})\.[^.]+$")


def read(root: Path, *, fold: int = 1) -> dict[str, list[Image]]:
    """One of ten random splits: about half of the persons for training, one query and one gallery image of
    each other.

    The camera of an image is not known; its running number takes that place, so that no image of a person
    is excluded as being of the same camera.

    fold: 1 to 10.
    """
    position = split_files.number(fold)
    root = find_root(root, ("images",), SOURCE.title)
    images = {image.path.name: image for image in _images(root)}
    splits, path = split_files.stored(
        root, SOURCE.name, THEIRS, ("train", "query", "gallery"), lambda: _generate(list(images.values()))
    )
    chosen = splits[position]
    found = {}
    for part in ("train", "query", "gallery"):
        names = [_base(name) for name in chosen[part]]
        missing = [name for name in names if name not in images]
        split_files.require(
            not missing, path, f"{part} names {missing[:1]}, which is not in {root / 'images'}"
        )
        found[part] = [images[name] for name in names]
    train, query, gallery = (
        {image.identity for image in found[part]} for part in ("train", "query", "gallery")
    )
    split_files.require(not train & query, path, "a person is both in training and in the test")
    split_files.require(query == gallery, path, "query and gallery are of different persons")
    return found


def check(root: Path) -> list[Finding]:
    """The images and persons of the whole folder."""
    home = find_root(root, ("images",), SOURCE.title)
    images = _images(home)
    counts = {"images": (len(images), IMAGES), "identities": (len({i.identity for i in images}), IDENTITIES)}
    folds = split_files.check_folds(read, root, SOURCE.expected)
    return (
        strays(home / "images", _NAME)
        + folds
        + [
            Finding("error", f"all: {found} {what} found, {expected} expected.")
            for what, (found, expected) in counts.items()
            if found != expected
        ]
    )


def _base(entry) -> str:
    # Some files of this kind hold [path, identity, camera] in the place of a name.
    return os.path.basename(str(entry[0] if isinstance(entry, list) else entry).replace("\\", "/"))


def generated(root: Path) -> tuple[Path, list[dict]]:
    """Where the ten splits belong, and the splits."""
    root = find_root(root, ("images",), SOURCE.title)
    return root, _generate(_images(root))


def _images(root: Path) -> list[Image]:
    return named(root / "images", _NAME)


def _generate(images: list[Image]) -> list[dict]:
    by_identity = by_key((image.identity, image.path.name) for image in images)
    identities = sorted(by_identity)
    generator = np.random.RandomState(split_files.SEED)
    splits = []
    for _ in range(split_files.SPLITS):
        order = [identities[position] for position in split_files.permutation(len(identities), generator)]
        split: dict[str, list[str]] = {"train": [], "query": [], "gallery": []}
        for place, identity in enumerate(order):
            names = by_identity[identity]
            if place < len(order) // 2:
                split["train"] += names
            elif len(names) > 1:
                first, second = split_files.permutation(len(names), generator)[:2]
                split["query"].append(names[first])
                split["gallery"].append(names[second])
        splits.append(split)
    return splits


SOURCE = Source(
    name="ilids",
    title="QMUL i-LIDS",
    paper="Zheng, Gong and Xiang, Associating Groups of People, BMVC 2009",
    obtain="Its authors hand it out from their page, for research only; the file names read here are those of the "
    "copy that https://github.com/BJTUJia/person_reID_DualNorm uses.",
    address="http://www.eecs.qmul.ac.uk/~jason/data/i-LIDS_Pedestrian.tgz",
    licence="research only; the footage belongs to the British Home Office",
    caveats="Ten random splits: the authors' splits.json is used when it lies beside the folder of images. "
    "There are no camera numbers.",
    layout="""QMUL-iLIDS/
  images/0001001.jpg
  splits.json   (optional)""",
    folder="QMUL-iLIDS",
    folds=10,
    splits=generated,
    read=read,
    protocol="generalization",
    expected={"query": Counts(60, 60), "gallery": Counts(60, 60)},
    check=check,
)
