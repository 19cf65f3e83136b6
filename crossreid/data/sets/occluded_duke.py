"""Occluded-DukeMTMC (Miao et al. 2019): DukeMTMC-reID divided anew so that something stands before every query."""

from __future__ import annotations

from pathlib import Path

from crossreid.data import market_like
from crossreid.data.source import Counts, Finding, Source
from crossreid.records import Image


def read(root: Path) -> dict[str, list[Image]]:
    """Images by split, sorted by file name; cameras 1 to 8."""
    return market_like.read(root, SOURCE.title, "0001_c2_f0046182.jpg")


def check(root: Path) -> list[Finding]:
    """What does not belong in the folders."""
    return market_like.check(root, SOURCE.title, r"\d{4}_c[1-8]_f\d+\.jpg")


SOURCE = Source(
    name="occluded_duke",
    title="Occluded-DukeMTMC",
    paper="Miao et al., Pose-Guided Feature Alignment for Occluded Person Re-Identification, ICCV 2019",
    obtain="Its authors give lists of names and a script that takes the images from a copy of DukeMTMC-reID that you "
    "hold lawfully; DukeMTMC-reID itself is withdrawn.",
    address="https://github.com/lightas/Occluded-DukeMTMC-Dataset",
    licence="that of DukeMTMC-reID: withdrawn by its authors; formerly research only",
    caveats="Its images are those of DukeMTMC-reID: never train on one and test on the other.",
    basis="the authors' lists of names, whose lines were counted",
    layout="""Occluded_Duke/
  bounding_box_train/0001_c2_f0046182.jpg
  bounding_box_test/
  query/""",
    folder="Occluded_Duke",
    read=read,
    protocol="single_query",
    expected={
        "train": Counts(702, 15618, 8),
        "query": Counts(519, 2210, 8),
        "gallery": Counts(1110, 17661, 8),
    },
    check=check,
)
