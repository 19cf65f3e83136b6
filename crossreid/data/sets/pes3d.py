"""3DPeS (Baltieri et al. 2011): 192 identities before the cameras of a campus, some several times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from crossreid.data.naming import named
from crossreid.data.source import Finding, Source, find_root, strays
from crossreid.data.splitting import query_and_gallery
from crossreid.records import Image

FOLDER = "RGB"
IDENTITIES, IMAGES = 192, 1011

_NAME = re.compile(r"(?P<identity>\d+)_(?P<camera>\d+)_FRAME_\d+_RGB\.[^.]+$", re.IGNORECASE)


def read(root: Path) -> dict[str, list[Image]]:
    """``query``: the first image of each identity in each sequence; ``gallery``: all others.

    The second number of a name tells the sequence. It takes the camera's place, so that an image is searched for in
    other sequences than its own.
    """
    folder = find_root(root, (FOLDER,), SOURCE.title) / FOLDER
    query, gallery = query_and_gallery(named(folder, _NAME, "100_3_FRAME_26_RGB.bmp"))
    return {"query": query, "gallery": gallery}


def check(root: Path) -> Iterator[Finding]:
    """What does not belong among the images, and whether there are as many as papers say."""
    folder = find_root(root, (FOLDER,), SOURCE.title) / FOLDER
    images = named(folder, _NAME)
    found = len({image.identity for image in images}), len(images)
    yield from strays(folder, _NAME)
    if found != (IDENTITIES, IMAGES):
        yield Finding(
            "warning",
            f"{FOLDER}: {found[0]} identities and {found[1]} images found; papers say {IDENTITIES} and {IMAGES}.",
        )


SOURCE = Source(
    name="pes3d",
    title="3DPeS",
    paper="Baltieri, Vezzani and Cucchiara, 3DPeS: 3D People Dataset for Surveillance and Forensics, J-HGBU 2011",
    obtain="Its authors hand it out from the data set's page, for research only; the archive of snapshots for "
    "re-identification is the one that is read.",
    address="http://www.openvisor.org/3dpes.asp",
    licence="research only",
    caveats="There is no official division. To train on all of it, set all_images: true. The silhouettes in MASK are "
    "not read.",
    basis="the authors' readme in the archive; that the second number tells the sequence is how published programs "
    "read it",
    layout="""3DPeS/
  RGB/100_3_FRAME_26_RGB.bmp   (identity, sequence, frame)""",
    folder="3DPeS",
    read=read,
    protocol="generalization",
    check=check,
)
