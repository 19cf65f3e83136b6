"""CUHK02 (Li and Wang 2013): five pairs of cameras of a campus; for training on several data sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from crossreid.data.source import Counts, Finding, Source, deviation, find_root, strays
from crossreid.images.listing import image_names
from crossreid.records import Image, UserError

PAIRS = ("P1", "P2", "P3", "P4", "P5")
IDENTITIES = (971, 306, 107, 193, 239)
PERSONS_PER_PAIR = 10_000


def read(root: Path) -> dict[str, list[Image]]:
    """The split ``train`` by pair, camera and file name.

    Numbers of persons start anew in each pair: identity is the pair times 10000 plus the person's own number.
    Cameras are 1 to 10, two for each pair.
    """
    root = find_root(root, PAIRS, SOURCE.title)
    images = []
    for pair, folder in enumerate(PAIRS, 1):
        for side in (1, 2):
            camera = root / folder / f"cam{side}"
            images += [
                Image(camera / name, pair * PERSONS_PER_PAIR + _person(camera / name), 2 * (pair - 1) + side)
                for name in image_names(camera)
            ]
    return {"train": images}


def check(root: Path) -> Iterator[Finding]:
    """Two images of each person in each camera of each pair, and nothing else."""
    images = read(root)["train"]
    root = find_root(root, PAIRS, SOURCE.title)
    for pair, (folder, identities) in enumerate(zip(PAIRS, IDENTITIES), 1):
        for side in (1, 2):
            yield from strays(root / folder / f"cam{side}", re.compile(r"\d+_\d+\.png"))
            camera = 2 * (pair - 1) + side
            chosen = [image for image in images if image.camera == camera]
            yield from deviation(f"{folder}/cam{side}", chosen, identities, 2 * identities)


def _person(path: Path) -> int:
    number = path.name.partition("_")[0]
    if not number.isdecimal():
        raise UserError(
            f"{path}: the name does not begin with the person's number; names such as 012_2.png are "
            "expected. Remove the file, or copy the data set again."
        )
    return int(number)


SOURCE = Source(
    name="cuhk02",
    title="CUHK02",
    paper="Li and Wang, Locally Aligned Feature Transforms across Views, CVPR 2013",
    obtain="Its authors hand it out on request, for research only.",
    address="http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html",
    licence="research only",
    caveats="For training only. The persons of P1 are also in CUHK01. The published code numbers the "
    "cameras of every pair 1 and 2; here they are ten cameras.",
    layout="""cuhk02/
  P1/cam1/001_1.png  P1/cam2/
  P2/ ... P5/""",
    folder="cuhk02",
    read=read,
    protocol="generalization",
    expected={"train": Counts(1816, 7264, 10)},
    check=check,
)
