"""SenseReID (Zhao et al. 2017): queries and a gallery for testing; nothing to train on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.records import Image

_NAME = re.compile(r"(?P<identity>\d+)_(?P<camera>\d+)\.[^.]+$")


def read(root: Path) -> dict[str, list[Image]]:
    """``query`` and ``gallery``, by file name. Cameras are the second number of a name."""
    return {split: named(folder, _NAME, "00001_0.jpg") for split, folder in _folders(root).items()}


def check(root: Path) -> list[Finding]:
    """What does not belong among the images."""
    return [finding for folder in _folders(root).values() for finding in strays(folder, _NAME)]


def _folders(root: Path) -> dict[str, Path]:
    root = find_root(root, ("test_gallery",), SOURCE.title)
    # The queries' folder is written both ways.
    query = "test_prob" if os.path.isdir(root / "test_prob") else "test_probe"
    return {"query": root / query, "gallery": root / "test_gallery"}


SOURCE = Source(
    name="sensereid",
    title="SenseReID",
    paper="Zhao et al., Spindle Net: Person Re-identification with Human Body Region Guided Feature Decomposition and "
    "Fusion, CVPR 2017",
    obtain="Its authors handed it out for download, for research only.",
    address="https://drive.google.com/file/d/0B56OfSrVI8hubVJLTzkwV2VaOWM/view",
    licence="research only",
    caveats="For testing; to train on all of it, set all_images: true.",
    basis="published readers of the data set (deep-person-reid, fast-reid), which agree but for one letter; no copy "
    "was at hand",
    layout="""SenseReID/
  test_probe/00001_0.jpg   (identity, camera; or test_prob/)
  test_gallery/""",
    folder="SenseReID",
    read=read,
    protocol="generalization",
    expected={"query": Counts(522, 1040, exact=False), "gallery": Counts(1717, 3388, exact=False)},
    check=check,
)
