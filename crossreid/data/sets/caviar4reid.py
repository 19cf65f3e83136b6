"""CAVIAR4REID (Cheng et al. 2011): 72 identities in a shopping centre, 50 of them seen by both cameras."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.records import Image

FOLDER = "CAVIARa"
IMAGES_OF_A_CAMERA = 10

# The second group tells the image of the identity.
_NAME = re.compile(r"(?P<identity>\d{4})(?P<camera>\d{3})\.[^.]+$")


def read(root: Path) -> dict[str, list[Image]]:
    """``query``: the first camera's images of the 50 identities that both saw; ``gallery``: all other images.

    Names do not tell the camera: each camera gave ten images of an identity, so images 1 to 10 are taken as the first
    camera's and later ones as the second's.
    """
    folder = find_root(root, (FOLDER,), SOURCE.title) / FOLDER
    images = [
        replace(image, camera=1 + (image.camera > IMAGES_OF_A_CAMERA))
        for image in named(folder, _NAME, "0001001.jpg")
    ]
    twice = {image.identity for image in images if image.camera == 2}
    asked = [image.camera == 1 and image.identity in twice for image in images]
    return {
        "query": [image for image, query in zip(images, asked) if query],
        "gallery": [image for image, query in zip(images, asked) if not query],
    }


def check(root: Path) -> list[Finding]:
    """What does not belong among the images."""
    return strays(find_root(root, (FOLDER,), SOURCE.title) / FOLDER, _NAME)


SOURCE = Source(
    name="caviar4reid",
    title="CAVIAR4REID",
    paper="Cheng et al., Custom Pictorial Structures for Re-identification, BMVC 2011",
    obtain="Its authors hand it out from the data set's page, for research only.",
    address="https://lorisbaz.github.io/caviar4reid.html",
    licence="research only",
    caveats="There is no official division: the first camera searches the second here. To train on all of it, set "
    "all_images: true.",
    basis="the authors' description of the names; which camera took an image is inferred from the numbers (50 "
    "identities of 20 images and 22 of 10 make the published 1220)",
    layout="""CAVIAR4REID/
  CAVIARa/0001001.jpg   (identity, image)""",
    folder="CAVIAR4REID",
    read=read,
    protocol="generalization",
    expected={"query": Counts(50, 500, 1, exact=False), "gallery": Counts(72, 720, 2, exact=False)},
    check=check,
)
