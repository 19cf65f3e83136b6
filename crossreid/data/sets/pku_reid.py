"""PKU-Reid (Ma et al. 2016): 114 identities, eight orientations before each of two cameras."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.data import split_files
from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.records import Image

FOLDER = "PKUv1a_128x48"

_NAME = re.compile(r"(?P<identity>\d+)_(?P<camera>\d+)_\d+\.[^.]+$")


def _images(root: Path) -> list[Image]:
    return named(root / FOLDER, _NAME, "01_1_1.png")


read, generated = split_files.two_cameras("pku_reid", "PKU-Reid", (FOLDER,), _images)


def check(root: Path) -> list[Finding]:
    """What does not belong among the images, and folds that are not as large as the first should be."""
    folder = find_root(root, (FOLDER,), SOURCE.title) / FOLDER
    return strays(folder, _NAME) + split_files.check_folds(read, root, SOURCE.expected)


SOURCE = Source(
    name="pku_reid",
    title="PKU-Reid",
    paper="Ma et al., Orientation Driven Bag of Appearances for Person Re-identification, arXiv 1605.02464",
    paper_address="https://arxiv.org/abs/1605.02464",
    obtain="Its authors name the places to download it from.",
    address="https://github.com/charliememory/PKU-Reid-Dataset",
    licence="CC BY-NC-SA 4.0",
    caveats="The authors divide it into halves at random and do not say which; the ten halves here are ours.",
    basis="the authors' description of the names",
    layout="""PKU-Reid-Dataset/
  PKUv1a_128x48/01_1_1.png   (identity, camera, orientation)""",
    folder="PKU-Reid-Dataset",
    folds=10,
    splits=generated,
    read=read,
    protocol="generalization",
    expected={"train": Counts(57, 912, 2), "query": Counts(57, 456, 1), "gallery": Counts(57, 456, 1)},
    check=check,
)
