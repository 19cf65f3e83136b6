"""iLIDS-VID (Wang et al. 2014): a sequence of each of 300 identities before two airport cameras, read as images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crossreid.data import split_files
from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.formats import matlab
from crossreid.images.listing import folder_names, image_names
from crossreid.records import Image, UserError

CAMERAS = {camera: f"i-LIDS-VID/sequences/cam{camera}" for camera in (1, 2)}
PARTITIONS = "train-test people splits/train_test_splits_ilidsvid.mat"


def read(root: Path, *, fold: int = 1, tracklets: bool = False) -> dict[str, list[Image]]:
    """One of the ten official partitions into halves. ``train``: every image of one half; ``query``: the first image of
    each other identity before camera 1; ``gallery``: all their images of camera 2. Identity is the number of the
    folder.

    fold: 1 to 10. tracklets: query and gallery have one image for each sequence, its first, with the others in
        ``Image.others``: they are then evaluated by their mean, as published numbers are.
    """
    position = split_files.number(fold)
    root = find_root(root, (*CAMERAS.values(), PARTITIONS), SOURCE.title)
    identities = _identities(root)
    partition = _partition(root / PARTITIONS, position, len(identities))
    half = len(partition) // 2
    # The file counts places in the sorted list of folders; the first half is for testing.
    test, train = (
        [identities[place - 1] for place in sorted(part)] for part in (partition[:half], partition[half:])
    )
    return {
        "train": [image for camera in CAMERAS for name in train for image in _sequence(root, camera, name)],
        "query": [
            image
            for name in test
            for image in (
                split_files.tracklet(_sequence(root, 1, name)) if tracklets else _sequence(root, 1, name)[:1]
            )
        ],
        "gallery": [
            image
            for name in test
            for image in (
                split_files.tracklet(_sequence(root, 2, name)) if tracklets else _sequence(root, 2, name)
            )
        ],
    }


def check(root: Path) -> Iterator[Finding]:
    """All ten partitions can be read, and every identity has images of both cameras."""
    home = find_root(root, (*CAMERAS.values(), PARTITIONS), SOURCE.title)
    empty = [
        f"{folder}/{name}"
        for camera, folder in CAMERAS.items()
        for name in _identities(home)
        if not _sequence(home, camera, name)
    ]
    if empty:
        yield Finding("error", f"{len(empty)} sequences are empty, first {empty[0]}.")
    for fold in range(1, split_files.SPLITS + 1):
        try:
            read(root, fold=fold)
        except UserError as error:
            yield Finding("error", f"fold {fold}: {error}")


def _identities(root: Path) -> list[str]:
    one, other = (folder_names(root / folder) for folder in CAMERAS.values())
    if one != other or not all(name.removeprefix("person").isdecimal() for name in one):
        raise UserError(
            f"iLIDS-VID: both cameras in {root} should hold the same folders, such as person001, but differ. Unpack "
            "the data set again."
        )
    return one


def _partition(file: Path, position: int, identities: int) -> list[int]:
    found = np.asarray(matlab.read_variables(file, ["ls_set"])["ls_set"])
    if (
        found.ndim != 2
        or len(found) < split_files.SPLITS
        or sorted(found[position].tolist()) != [*range(1, identities + 1)]
    ):
        raise UserError(
            f"{file}: the variable ls_set does not hold ten orders of the {identities} identities of this copy. Copy "
            "the file again, or complete the copy."
        )
    return found[position].astype(int).tolist()


def _sequence(root: Path, camera: int, name: str) -> list[Image]:
    folder, identity = os.path.join(root, CAMERAS[camera], name), int(name.removeprefix("person"))
    return [Image(Path(os.path.join(folder, file)), identity, camera) for file in image_names(folder)]


SOURCE = Source(
    name="ilids_vid",
    title="iLIDS-VID",
    paper="Wang et al., Person Re-Identification by Video Ranking, ECCV 2014",
    obtain="Its authors hand it out from the data set's page, for research only.",
    address="https://xiatian-zhu.github.io/downloads_qmul_iLIDS-VID_ReID_dataset.html",
    licence="research only; the footage belongs to the British Home Office",
    settings=("tracklets",),
    caveats="It is read as images unless the setting tracklets is on; published numbers compare whole sequences. "
    "It is not QMUL i-LIDS, though it is from the same airport.",
    basis="a published reader of the data set (deep-person-reid)",
    layout="""iLIDS-VID/
  i-LIDS-VID/sequences/cam1/person001/cam1_person001_00317.png  cam2/
  train-test people splits/train_test_splits_ilidsvid.mat""",
    folder="iLIDS-VID",
    folds=10,
    read=read,
    protocol="generalization",
    expected={
        "train": Counts(150, None, 2),
        "query": Counts(150, 150, 1),
        "gallery": Counts(150, None, 1),
    },
    check=check,
)
