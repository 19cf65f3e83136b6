"""Market-1501 (Zheng et al. 2015): six cameras before a supermarket, boxes drawn by a detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from crossreid.data import market_like
from crossreid.data.naming import DISTRACTOR
from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.images.listing import image_names
from crossreid.records import Image

EXAMPLE = "0002_c1s1_000451_03.jpg"


def read(root: Path, *, distractors: bool = False) -> dict[str, list[Image]]:
    """Images by split, sorted by file name; camera 1 to 6, identity 0 for the distractors of the gallery.

    distractors: append the 500 000 extra images of the folder ``images`` to the gallery, as identity 0 and
        camera 0.
    """
    splits = market_like.read(root, SOURCE.title, EXAMPLE)
    if distractors:
        extra = find_root(root, ("images",), "the 500 000 distractors of Market-1501") / "images"
        splits["gallery"] += [Image(extra / name, DISTRACTOR, 0) for name in image_names(extra)]
    return splits


def check(root: Path) -> Iterator[Finding]:
    """Files that do not belong, and identities that are in the wrong folder or in only one of the two."""
    yield from market_like.check(root, SOURCE.title, r"(-1|\d{4})_c[1-6]s\d_\d{6}_\d\d\.jpe?g(\.jpe?g)?")
    splits = market_like.read(root, SOURCE.title, EXAMPLE)
    identities = {split: {image.identity for image in splits.get(split, ())} for split in market_like.FOLDERS}
    sought = {
        "in the training folder and also among the test images": identities["train"]
        & (identities["query"] | identities["gallery"]),
        "a query without any image in bounding_box_test": identities["query"] - identities["gallery"],
        "in bounding_box_test but not a query": identities["gallery"] - identities["query"] - {DISTRACTOR},
    }
    for what, numbers in sought.items():
        if numbers:
            more = f", and {len(numbers) - 1} more" if len(numbers) > 1 else ""
            yield Finding("error", f"identity {min(numbers)} is {what}{more}.")


SOURCE = Source(
    name="market1501",
    title="Market-1501",
    paper="Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015",
    paper_address="https://www.cv-foundation.org/openaccess/content_iccv_2015/papers/"
    "Zheng_Scalable_Person_Re-Identification_ICCV_2015_paper.pdf",
    obtain="Its authors hand it out from the data set's project page, for research only.",
    address="http://www.liangzheng.org/Project/project_reid.html",
    licence="research only",
    caveats="Gallery identity 0 is 2798 distractors; 3819 junk images (identity -1) are never read.",
    layout="""Market-1501-v15.09.15/
  bounding_box_train/0002_c1s1_000451_03.jpg
  bounding_box_test/
  query/""",
    folder="Market-1501-v15.09.15",
    settings=("distractors",),
    read=read,
    protocol="single_query",
    expected={
        "train": Counts(751, 12936, 6),
        "query": Counts(750, 3368, 6),
        "gallery": Counts(751, 15913, 6),
    },
    check=check,
)

WITH_DISTRACTORS = replace(
    SOURCE,
    name="market1501_500k",
    title="Market-1501 + 500k",
    obtain="From the project page of Market-1501, distractors_500k.zip, for research only.",
    caveats="Market-1501 with half a million more images in its gallery, as identity 0 and camera 0.",
    basis="published readers of the data set (deep-person-reid); the number of images is the published one",
    layout=SOURCE.layout + "\n  images/   (the distractors)",
    settings=(),
    read=partial(read, distractors=True),
    expected={**SOURCE.expected, "gallery": Counts(751, 515913, 7, exact=False)},
)
