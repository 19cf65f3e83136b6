"""CUHK01 (Li et al. 2012): 971 identities, two images from each of two cameras of a campus."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from crossreid.data import split_files
from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.records import Image

# Images 1 and 2 of an identity are of the first camera, 3 and 4 of the second.
_NAME = re.compile(r"(?P<identity>\d{4})(?P<camera>\d{3})\.[^.]+$")


def _images(root: Path) -> list[Image]:
    images = named(root / "campus", _NAME, "0001001.png")
    return [replace(image, camera=(image.camera + 1) // 2) for image in images]


read, generated = split_files.two_cameras("cuhk01", "CUHK01", ("campus",), _images)


def check(root: Path) -> list[Finding]:
    """What does not belong among the images, and folds that are not as large as the first should be."""
    folder = find_root(root, ("campus",), SOURCE.title) / "campus"
    return strays(folder, _NAME) + split_files.check_folds(read, root, SOURCE.expected)


SOURCE = Source(
    name="cuhk01",
    title="CUHK01",
    paper="Li, Zhao and Wang, Human Reidentification with Transferred Metric Learning, ACCV 2012",
    obtain="Its authors hand it out on request, for research only.",
    address="http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html",
    licence="research only",
    caveats="Its people are also in pair P1 of CUHK02: never train on one and test on the other. The ten halves are "
    "ours; published ones differ from paper to paper.",
    basis="published readers of the data set (deep-person-reid), which agree",
    layout="""CUHK01/
  campus/0001001.png  0001002.png  0001003.png  0001004.png""",
    folder="CUHK01",
    folds=10,
    splits=generated,
    read=read,
    protocol="generalization",
    expected={
        "train": Counts(485, 1940, 2),
        "query": Counts(486, 972, 1),
        "gallery": Counts(486, 972, 1),
    },
    check=check,
)
