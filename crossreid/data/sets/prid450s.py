"""PRID 450S (Roth et al. 2014): 450 identities, one image from each of two street cameras."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.data import split_files
from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source
from crossreid.records import Image

CAMERAS = {1: "cam_a", 2: "cam_b"}

_NAME = re.compile(r"img_(?P<identity>\d+)\.[^.]+$", re.IGNORECASE)


def _images(root: Path) -> list[Image]:
    # Masks and maps of body parts lie beside the images under other names.
    return [
        image for camera, folder in CAMERAS.items() for image in named(root / folder, _NAME, camera=camera)
    ]


read, generated = split_files.two_cameras("prid450s", "PRID 450S", tuple(CAMERAS.values()), _images)


def check(root: Path) -> list[Finding]:
    """Folds that are not as large as the first should be."""
    return split_files.check_folds(read, root, SOURCE.expected)


SOURCE = Source(
    name="prid450s",
    title="PRID 450S",
    paper="Roth et al., Mahalanobis Distance Learning for Person Re-Identification, in Person Re-Identification, "
    "Springer 2014",
    obtain="Its authors hand it out from the data set's page, for research only.",
    address="https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/prid450s/",
    licence="research only",
    caveats="The ten halves are ours; published ones differ from paper to paper. Not a part of PRID 2011, though "
    "made at the same place.",
    basis="a published reader of the data set; no copy was at hand",
    layout="""prid450s/
  cam_a/img_001.png
  cam_b/""",
    folder="prid450s",
    folds=10,
    splits=generated,
    read=read,
    protocol="generalization",
    expected={"train": Counts(225, 450, 2), "query": Counts(225, 225, 1), "gallery": Counts(225, 225, 1)},
    check=check,
)
