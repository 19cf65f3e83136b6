"""VIPeR (Gray et al. 2007): 632 persons, one image from each of two cameras."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crossreid.data import split_files
from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays, within
from crossreid.records import Image, UserError

CAMERAS = {1: "cam_a", 2: "cam_b"}
IDENTITIES = 632
# variant: (the half that is tested on, camera of the query, camera of the gallery)
VARIANTS = {"a": ("test", 1, 2), "b": ("train", 1, 2), "c": ("test", 2, 1), "d": ("train", 2, 1)}
# MATLAB's rng(0), which the authors' script starts from, is the Mersenne twister seeded with this number.
MATLAB_SEED = 5489

_RAW = re.compile(r"(?P<identity>\d+)_\d+\.[^.]+$")
_DERIVED = re.compile(r"p(?P<identity>\d+)_c(?P<camera>[12])_d\d+\.[^.]+$")


def read(root: Path, *, fold: int = 1, variant: str = "a") -> dict[str, list[Image]]:
    """One of ten random halves, in one of four variants; cameras 1 (cam_a) and 2 (cam_b).

    Folders ``split_1a`` and so on, as the authors' script writes them, are used when present. Otherwise the
    halves are those of that script, reproduced from its random numbers, over the raw images.

    fold: 1 to 10.
    variant: a, query in camera 1 and gallery in camera 2; b, with the halves exchanged; c and d, as a and b
        with the cameras exchanged.
    """
    if variant not in VARIANTS:
        raise UserError(f"VIPeR has no variant {variant!r}: choose one of {', '.join(VARIANTS)}.")
    position = split_files.number(fold)
    derived = _derived(root, f"split_{fold}{variant}")
    return derived or _raw(root, position, variant)


def _derived(root: Path, folder: str) -> dict[str, list[Image]] | None:
    wanted = tuple(f"{folder}/{part}" for part in ("train", "query", "gallery"))
    home = within(root, wanted, SOURCE.title)
    if home is None:
        return None
    splits = {part.rpartition("/")[2]: named(home / part, _DERIVED, "p001_c1_d045.png") for part in wanted}
    query, gallery, train = (
        {image.identity for image in splits[part]} for part in ("query", "gallery", "train")
    )
    if query != gallery or query & train or not query:
        raise UserError(
            f"{home / folder}: query and gallery should be of the same identities and training of others. "
            f"Make the folders again, or remove them to have the split computed."
        )
    return splits


def _raw(root: Path, position: int, variant: str) -> dict[str, list[Image]]:
    root = find_root(root, tuple(CAMERAS.values()), SOURCE.title)
    crops = {camera: named(root / folder, _RAW, camera=camera) for camera, folder in CAMERAS.items()}
    identities = [image.identity for image in crops[1]]
    if identities != [image.identity for image in crops[2]]:
        lonely = sorted(set(identities) ^ {image.identity for image in crops[2]})
        raise UserError(
            f"VIPeR: cam_a and cam_b of {root} should hold one image of each identity, but differ (identities "
            f"{', '.join(map(str, lonely[:5])) or 'with two images'}): unpack the data set again."
        )
    splits, path = split_files.stored(
        root, SOURCE.name, (), ("train", "test"), lambda: _generate(identities), reproduced=True
    )
    halves = splits[position]
    split_files.require(
        sorted(halves["train"] + halves["test"]) == sorted(identities),
        path,
        "the halves do not hold each person once",
    )
    tested, query, gallery = VARIANTS[variant]
    trained = "train" if tested == "test" else "test"
    by_identity = {camera: {image.identity: image for image in images} for camera, images in crops.items()}
    return {
        "train": [
            by_identity[camera][identity] for camera in CAMERAS for identity in sorted(halves[trained])
        ],
        "query": [by_identity[query][identity] for identity in sorted(halves[tested])],
        "gallery": [by_identity[gallery][identity] for identity in sorted(halves[tested])],
    }


def generated(root: Path) -> tuple[Path, list[dict]]:
    """Where the ten halves belong, and the halves."""
    root = find_root(root, tuple(CAMERAS.values()), SOURCE.title)
    return root, _generate([image.identity for image in named(root / CAMERAS[1], _RAW, camera=1)])


def check(root: Path) -> Iterator[Finding]:
    """All folds are complete; the raw folders, where the copy has them, hold one image of each of 632
    persons and nothing else.
    """
    yield from split_files.check_folds(read, root, SOURCE.expected)
    home = within(root, tuple(CAMERAS.values()), SOURCE.title)
    if home is None:
        return
    for camera, folder in CAMERAS.items():
        yield from strays(home / folder, _RAW)
        found = len(named(home / folder, _RAW, camera=camera))
        if found != IDENTITIES:
            yield Finding("error", f"{folder}: {found} images found, {IDENTITIES} expected.")


def permutations(count: int) -> list[np.ndarray]:
    """Ten permutations of ``count`` positions, one after the other from MATLAB's stream of ``rng(0)``.

    MATLAB documents that ``randperm(6)`` is then 6 3 5 1 2 4, counted from 1.
    """
    generator = np.random.RandomState(MATLAB_SEED)
    return [split_files.permutation(count, generator) for _ in range(split_files.SPLITS)]


def _generate(identities: list[int]) -> list[dict]:
    half = len(identities) // 2
    return [
        {
            "train": [identities[position] for position in order[:half]],
            "test": [identities[position] for position in order[half:]],
        }
        for order in permutations(len(identities))
    ]


SOURCE = Source(
    name="viper",
    title="VIPeR",
    paper="Gray, Brennan and Tao, Evaluating Appearance Models for Recognition, Reacquisition, and Tracking, "
    "PETS 2007",
    obtain="Its authors hand it out from the data set's page, for research only.",
    address="https://vision.soe.ucsc.edu/node/178",
    licence="research only",
    caveats="The ten halves follow the published script's random numbers, derived from MATLAB's "
    "documentation; the folders split_1a to split_10d are used instead when they are there.",
    layout="""viper/
  cam_a/000_45.bmp
  cam_b/000_90.bmp
  split_1a/train/p000_c1_d045.png ...   (optional)""",
    folder="viper",
    folds=10,
    settings=("variant",),
    splits=generated,
    read=read,
    protocol="generalization",
    expected={"train": Counts(316, 632, 2), "query": Counts(316, 316, 1), "gallery": Counts(316, 316, 1)},
    check=check,
)
