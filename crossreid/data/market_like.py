"""The three folders of Market-1501, which other data sets have taken over with its names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from crossreid.data.naming import MARKET, named
from crossreid.data.source import Finding, find_root, strays
from crossreid.records import Image

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def read(root: Path, title: str, example: str) -> dict[str, list[Image]]:
    """Images by split, each sorted by name; no ``train`` where the copy holds the test images alone.

    example: a name as the data set has it.
    """
    return {split: named(folder, MARKET, example) for split, folder in folders(root, title).items()}


def check(root: Path, title: str, pattern: str) -> list[Finding]:
    """What does not belong in the folders. pattern: of a whole name."""
    return [
        finding for folder in folders(root, title).values() for finding in strays(folder, re.compile(pattern))
    ]


def reader(title: str, example: str) -> Callable[[Path], dict[str, list[Image]]]:
    """``read`` of one data set, for its ``Source``."""
    return lambda root: read(root, title, example)


def checker(title: str, pattern: str) -> Callable[[Path], list[Finding]]:
    """``check`` of one data set, for its ``Source``."""
    return lambda root: check(root, title, pattern)


def folders(root: Path, title: str) -> dict[str, Path]:
    """The folder of each split that the copy holds. Raises UserError without query and gallery."""
    root = find_root(root, (FOLDERS["query"], FOLDERS["gallery"]), title)
    return {split: root / folder for split, folder in FOLDERS.items() if (root / folder).is_dir()}
