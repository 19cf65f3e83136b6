"""Partial-iLIDS (He et al. 2018): 119 identities of i-LIDS, one cut query and one whole gallery image each."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.data.naming import named
from crossreid.data.source import Counts, Finding, Source, find_root, strays, within
from crossreid.records import Image

# Folders of the queries and of the gallery, as two ways of handing the data set on call them.
FOLDERS = (("Probe", "Gallery"), ("query", "gallery"))

_NAME = re.compile(r"(?P<identity>\d+)(?:_[^.]*)?\.[^.]+$")


def read(root: Path) -> dict[str, list[Image]]:
    """``query`` and ``gallery``, by file name. Cameras are not told: queries are of camera 1, the gallery of camera
    2."""
    query, gallery = _folders(root)
    return {
        "query": named(query, _NAME, "001.jpg", camera=1),
        "gallery": named(gallery, _NAME, "001.jpg", camera=2),
    }


def check(root: Path) -> list[Finding]:
    """What does not belong among the images."""
    return [finding for folder in _folders(root) for finding in strays(folder, _NAME)]


def _folders(root: Path) -> list[Path]:
    names = FOLDERS[1] if within(root, FOLDERS[1], SOURCE.title) else FOLDERS[0]
    home = find_root(root, names, SOURCE.title)
    return [home / name for name in names]


SOURCE = Source(
    name="partial_ilids",
    title="Partial-iLIDS",
    paper="He et al., Deep Spatial Feature Reconstruction for Partial Person Re-identification: Alignment-Free "
    "Approach, CVPR 2018",
    paper_address="https://arxiv.org/abs/1801.00881",
    obtain="It comes with the code of its authors, for research only.",
    address="https://github.com/JDAI-CV/fast-reid/tree/master/projects/PartialReID",
    licence="research only; the footage belongs to the British Home Office",
    caveats="For testing; the models are usually trained on Market-1501. Its people are those of QMUL i-LIDS.",
    basis="published readers of the data set (fast-reid and others), which call the folders differently; no copy was "
    "at hand",
    layout="""Partial_iLIDS/
  Probe/001.jpg    (identity; or query/)
  Gallery/         (or gallery/)""",
    folder="Partial_iLIDS",
    read=read,
    protocol="single_query",
    expected={"query": Counts(119, 119, 1), "gallery": Counts(119, 119, 1)},
    check=check,
)
