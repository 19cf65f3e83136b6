"""GRID (Loy et al. 2009): eight cameras of an underground station, and distractors in the gallery."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.data import split_files
from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.formats import matlab
from crossreid.records import Image, UserError

PARTS = ("probe", "gallery")
THEIRS = ("splits.json", "splits_single_shot.json")
MATRIX = "features_and_partitions.mat"
# Position of the training persons' numbers in the structure that holds one partition.
TRAINING_FIELD = 2

_NAME = re.compile(r"(?P<identity>\d+)_(?P<camera>\d+)_")


def read(root: Path, *, fold: int = 1) -> dict[str, list[Image]]:
    """One of the ten official partitions; cameras 1 to 8, identity 0 for the 775 distractors of the gallery.

    Training holds both images of 125 persons; the query is the probe images of the others, the gallery is
    their gallery images and the distractors.

    fold: 1 to 10.
    Raises UserError if there is neither a split file nor the authors' MATLAB file: the partitions cannot be
    guessed.
    """
    root = find_root(root, PARTS, SOURCE.title)
    crops = {part: named(root / part, _NAME) for part in PARTS}
    position = split_files.number(fold)
    path = next((root / name for name in THEIRS if (root / name).is_file()), None)
    if path is not None:
        training = _training_in_json(path, position, crops)
    elif (root / MATRIX).is_file():
        path = root / MATRIX
        training = _training_in_matrix(path, position)
    else:
        raise UserError(
            f"{SOURCE.title}: {root} has neither {MATRIX} nor {' nor '.join(THEIRS)}. The ten official "
            "partitions are in the first, which is part of the authors' archive: copy it there."
        )
    probes = {image.identity for image in crops["probe"]}
    split_files.require(
        bool(training) and training <= probes, path, "it trains on persons without a probe image"
    )

    def images(part: str, trained: bool) -> list[Image]:
        return [image for image in crops[part] if (image.identity in training) == trained]

    return {
        "train": images("probe", True) + images("gallery", True),
        "query": images("probe", False),
        "gallery": images("gallery", False),
    }


def check(root: Path) -> list[Finding]:
    """All ten partitions can be read, and nothing else lies among the images."""
    home = find_root(root, PARTS, SOURCE.title)
    findings = [finding for part in PARTS for finding in strays(home / part, re.compile(r"\d+_\d+_.*\.jpeg"))]
    return findings + split_files.check_folds(read, root, SOURCE.expected)


def _training_in_json(path: Path, position: int, crops: dict[str, list[Image]]) -> set[int]:
    split = split_files.read_splits(path, ("train", "query", "gallery"))[position]
    # The paths are of the machine that wrote them, so only the last two names count. A person's number in the
    # training list may be a class index; the one in the file's name is always the person's own.
    names = {f"{part}/{image.path.name}": image.identity for part in PARTS for image in crops[part]}
    identities: dict[str, set[int]] = {}
    for key in ("train", "query", "gallery"):
        for entry in split[key]:
            file = str(entry[0] if isinstance(entry, list) else entry).replace("\\", "/")
            name = "/".join(file.split("/")[-2:])
            split_files.require(name in names, path, f"it names {name}, which is not in the copy")
            identities.setdefault(key, set()).add(names[name])
    training = identities.get("train", set())
    split_files.require(
        not training & (identities.get("query", set()) | identities.get("gallery", set())),
        path,
        "a person is both in training and in the test",
    )
    return training


def _training_in_matrix(path: Path, position: int) -> set[int]:
    partitions = matlab.read_variables(path, ["trainIdxAll"])["trainIdxAll"]
    try:
        return {int(number) for number in partitions[0][position][0][0][TRAINING_FIELD].ravel()}
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: the variable trainIdxAll is not ten structures with the numbers of 125 training "
            "persons: copy the file again from the authors' archive."
        ) from error


SOURCE = Source(
    name="grid",
    title="GRID",
    paper="Loy, Xiang and Gong, Multi-Camera Activity Correlation Analysis, CVPR 2009",
    obtain="Its authors hand it out from the data set's page, for research only.",
    address="http://personal.ie.cuhk.edu.hk/~ccloy/downloads_qmul_underground_reid.html",
    licence="research only",
    caveats="775 images of the gallery are distractors with identity 0.",
    layout="""GRID/
  probe/0001_1_25004_107_32_106_221.jpeg
  gallery/
  features_and_partitions.mat   (or splits.json)""",
    folder="GRID",
    folds=10,
    read=read,
    protocol="generalization",
    expected={"train": Counts(125, 250), "query": Counts(125, 125), "gallery": Counts(126, 900)},
    check=check,
)
