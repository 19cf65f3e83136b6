"""Market-1501 (Zheng et al. 2015): six cameras before a supermarket, boxes drawn by a detector."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.images.listing import image_names
from crossreid.records import Image, UserError

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
JUNK, DISTRACTOR = -1, 0

_NAME = re.compile(r"(-1|\d+)_c(\d)")


def read(root: Path, *, distractors: bool = False) -> dict[str, list[Image]]:
    """Images by split, sorted by file name; camera 1 to 6, identity 0 for the distractors of the gallery.

    distractors: append the 500 000 extra images of the folder ``images`` to the gallery, as identity 0 and
        camera 0.
    """
    root = find_root(root, tuple(FOLDERS.values()), SOURCE.title)
    splits = {split: read_folder(root / folder) for split, folder in FOLDERS.items()}
    if distractors:
        extra = find_root(root, ("images",), "the 500 000 distractors of Market-1501") / "images"
        splits["gallery"] += [Image(extra / name, DISTRACTOR, 0) for name in image_names(extra)]
    return splits


def read_folder(folder: Path) -> list[Image]:
    """Images named ``PPPP_cC...``, sorted by name, without junk (identity -1).

    Raises UserError that names the first image whose name does not begin like that.
    """
    images = []
    for name in image_names(folder):
        match = _NAME.match(name)
        if match is None:
            raise UserError(
                f"{folder / name}: the name does not say identity and camera; names such as "
                f"0002_c1s1_000451_03.jpg are expected. Remove it, or read the folder as own data ('folder')."
            )
        identity = int(match[1])
        if identity != JUNK:
            images.append(Image(folder / name, identity, int(match[2])))
    return images


def check(root: Path) -> list[Finding]:
    """Files that do not belong, and identities that are in the wrong folder or in only one of the two."""
    root = find_root(root, tuple(FOLDERS.values()), SOURCE.title)
    findings = []
    for folder in FOLDERS.values():
        findings += strays(root / folder, re.compile(r"(-1|\d{4})_c[1-6]s\d_\d{6}_\d\d\.jpe?g(\.jpe?g)?"))
    identities = {
        split: {image.identity for image in read_folder(root / folder)} for split, folder in FOLDERS.items()
    }
    sought = {
        "in the training folder and also among the test images": identities["train"]
        & (identities["query"] | identities["gallery"]),
        "a query without any image in bounding_box_test": identities["query"] - identities["gallery"],
        "in bounding_box_test but not a query": identities["gallery"] - identities["query"] - {DISTRACTOR},
    }
    for what, numbers in sought.items():
        if numbers:
            more = f", and {len(numbers) - 1} more" if len(numbers) > 1 else ""
            findings.append(Finding("error", f"identity {min(numbers)} is {what}{more}."))
    return findings


SOURCE = Source(
    name="market1501",
    title="Market-1501",
    paper="Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015",
    obtain="Its authors hand it out from the data set's project page, for research only.",
    licence="research only",
    caveats="Gallery identity 0 is 2798 distractors; 3819 junk images (identity -1) are never read.",
    layout="""Market-1501-v15.09.15/
  bounding_box_train/0002_c1s1_000451_03.jpg
  bounding_box_test/
  query/""",
    folder="Market-1501-v15.09.15",
    read=read,
    protocol="single_query",
    expected={
        "train": Counts(751, 12936, 6),
        "query": Counts(750, 3368, 6),
        "gallery": Counts(751, 15913, 6),
    },
    check=check,
)
