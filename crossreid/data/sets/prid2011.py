"""PRID 2011 (Hirzer et al. 2011), the part with a single image for each camera and person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crossreid.data import split_files
from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.records import Image

CAMERAS = {1: "single_shot/cam_a", 2: "single_shot/cam_b"}
PERSONS = {1: 385, 2: 749}
# Only these are the same persons in both cameras; higher numbers are strangers, though both cameras use them.
SHARED = range(1, 201)
THEIRS = ("splits_single_shot.json",)

_NAME = re.compile(r"person_(?P<identity>\d+)\.png$", re.IGNORECASE)


def read(root: Path, *, fold: int = 1) -> dict[str, list[Image]]:
    """One of the ten random halves of the 200 shared persons; camera 1 is cam_a and 2 is cam_b.

    The query is camera 1 of the test half; the gallery is camera 2 of the test half, then of the strangers.

    fold: 1 to 10.
    """
    position = split_files.number(fold)
    root = find_root(root, tuple(CAMERAS.values()), SOURCE.title)
    crops = {camera: _images(root, camera) for camera in CAMERAS}
    shared = _shared(crops)
    splits, path = split_files.stored(root, SOURCE.name, THEIRS, ("train", "test"), lambda: _generate(shared))
    chosen = splits[position]
    train, test = chosen["train"], chosen["test"]
    split_files.require(not set(train) & set(test), path, "a person is in both halves of a split")
    split_files.require(
        set(train) | set(test) == set(shared),
        path,
        "the halves do not hold exactly the persons of both cameras",
    )

    def images(camera: int, identities) -> list[Image]:
        return [crops[camera][identity] for identity in identities]

    return {
        "train": [image for identity in train for camera in CAMERAS for image in images(camera, [identity])],
        "query": images(1, test),
        "gallery": images(2, [*test, *(identity for identity in crops[2] if identity not in SHARED)]),
    }


def check(root: Path) -> Iterator[Finding]:
    """Persons 1 to 385 in camera A and 1 to 749 in camera B, and nothing else."""
    root = find_root(root, tuple(CAMERAS.values()), SOURCE.title)
    for camera, folder in CAMERAS.items():
        yield from strays(root / folder, _NAME)
        missing = sorted(set(range(1, PERSONS[camera] + 1)) - _images(root, camera).keys())
        if missing:
            text = f"{folder}: {len(missing)} persons are missing, first {missing[0]}."
            yield Finding("error", text)
    yield from split_files.check_folds(read, root, SOURCE.expected)


def generated(root: Path) -> tuple[Path, list[dict]]:
    """Where the ten halves belong, and the halves."""
    root = find_root(root, tuple(CAMERAS.values()), SOURCE.title)
    return root, _generate(_shared({camera: _images(root, camera) for camera in CAMERAS}))


def _images(root: Path, camera: int) -> dict[int, Image]:
    return {image.identity: image for image in named(root / CAMERAS[camera], _NAME, camera=camera)}


def _shared(crops: dict[int, dict[int, Image]]) -> list[int]:
    """Identities in both cameras."""
    return [identity for identity in SHARED if all(identity in found for found in crops.values())]


def _generate(shared: list[int]) -> list[dict]:
    # The whole range is ordered, so that a complete copy has the same halves whatever was missing elsewhere.
    generator = np.random.RandomState(split_files.SEED)
    splits = []
    for _ in range(split_files.SPLITS):
        order = [SHARED[position] for position in split_files.permutation(len(SHARED), generator)]
        present = [identity for identity in order if identity in set(shared)]
        half = len(present) // 2
        splits.append({"train": sorted(present[:half]), "test": sorted(present[half:])})
    return splits


SOURCE = Source(
    name="prid2011",
    title="PRID 2011",
    paper="Hirzer et al., Person Re-Identification by Descriptive and Discriminative Classification, SCIA 2011",
    obtain="Its authors hand it out from the data set's page, for research only.",
    address="https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/PRID11/",
    licence="research only",
    caveats="Ten random halves: the authors' splits_single_shot.json is used when it lies beside the folders.",
    layout="""prid_2011/
  single_shot/cam_a/person_0001.png
  single_shot/cam_b/
  splits_single_shot.json   (optional)""",
    folder="prid_2011",
    folds=10,
    splits=generated,
    read=read,
    protocol="generalization",
    expected={"train": Counts(100, 200, 2), "query": Counts(100, 100, 1), "gallery": Counts(649, 649, 1)},
    check=check,
)
