"""Partial-REID (Zheng et al. 2015): 60 identities, of whom the queries show a part; nothing to train on."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.records import Image, UserError

GALLERY = "whole_body_images"
QUERIES = {"partial": "partial_body_images", "occluded": "occluded_body_images"}

_NAME = re.compile(r"(?P<identity>\d+)_\d+\.[^.]+$")


def read(root: Path, *, queries: str = "partial") -> dict[str, list[Image]]:
    """``query`` and ``gallery``, by file name. Cameras are not told: queries are of camera 1, the gallery of camera 2.

    queries: ``partial``, cut to what is seen of the person, or ``occluded``, with what stands in front.
    """
    if queries not in QUERIES:
        raise UserError(f"Partial-REID has no queries {queries!r}: choose one of {', '.join(QUERIES)}.")
    root = find_root(root, (QUERIES[queries], GALLERY), SOURCE.title)
    return {
        "query": named(root / QUERIES[queries], _NAME, "001_001.jpg", camera=1),
        "gallery": named(root / GALLERY, _NAME, "001_001.jpg", camera=2),
    }


def check(root: Path) -> list[Finding]:
    """What does not belong among the images."""
    root = find_root(root, (QUERIES["partial"], GALLERY), SOURCE.title)
    return [finding for folder in (QUERIES["partial"], GALLERY) for finding in strays(root / folder, _NAME)]


SOURCE = Source(
    name="partial_reid",
    title="Partial-REID",
    paper="Zheng et al., Partial Person Re-identification, ICCV 2015",
    obtain="It comes with the code of He et al. (CVPR 2018), for research only.",
    address="https://github.com/JDAI-CV/fast-reid/tree/master/projects/PartialReID",
    licence="research only",
    caveats="For testing; the models are usually trained on Market-1501.",
    basis="published readers of the data set (fast-reid and others), which agree",
    layout="""Partial_REID/
  partial_body_images/001_001.jpg   (identity, image)
  whole_body_images/
  occluded_body_images/   (optional)""",
    folder="Partial_REID",
    settings=("queries",),
    read=read,
    protocol="single_query",
    expected={"query": Counts(60, 300, 1), "gallery": Counts(60, 300, 1)},
    check=check,
)
