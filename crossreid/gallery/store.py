"""What a gallery asks of the place that keeps its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from crossreid.formats.shape import NOTHING, NUMBER, TEXT, WHOLE, unlike
from crossreid.formats.text import parse_json
from crossreid.gallery.entries import Entry, Filter
from crossreid.records import UserError

# Of what stores write. A newer number means rows that this version might misread.
FORMAT = 1


class NoGallery(UserError):
    """There is nothing at a place that could be opened."""


class Existing(UserError):
    """There is a gallery already where one was to be made."""


class NoAnswer(UserError):
    """What keeps a gallery does not answer, and may again later."""


@dataclass(frozen=True)
class Metadata:
    """What a store keeps about all of its rows. recall, recall_within: of its index, see ``Info``; None without one.
    pattern: by which names of images were read, see ``crossreid.images.labels.compiled_pattern``."""

    dimension: int
    fingerprint: str
    model: str = ""
    format: int = FORMAT
    recall: float | None = None
    recall_within: float | None = None
    pattern: str = ""


_FACTS = {
    "dimension": lambda value: WHOLE(value) and 0 < value < 10**6,
    "fingerprint": TEXT,
    "model": TEXT,
    "recall": (NUMBER, NOTHING),
    "recall_within?": (NUMBER, NOTHING),
    "pattern?": TEXT,
}


def metadata_from(text: str, where: str) -> Metadata:
    """The metadata that a store wrote as JSON. Raises UserError, for those of a newer version too."""
    damaged = f"{where} does not describe a gallery: it was not written by crossreid, or is damaged"
    try:
        given = parse_json(text)
    except ValueError as error:
        raise UserError(f"{damaged} ({error})") from error
    if wrong := unlike(given, {"format": WHOLE}):
        raise UserError(f"{damaged} ({wrong})")
    number = given["format"]
    if number <= FORMAT:
        if wrong := unlike(given, _FACTS):
            raise UserError(f"{damaged} ({wrong})")
        known = {"pattern": "", "recall_within": None, **given}  # which galleries of before do not say
        return Metadata(**{field.name: known[field.name] for field in fields(Metadata)})
    raise UserError(
        f"{where} is of format {number}, written by a newer version of crossreid; this version knows formats up to "
        f"{FORMAT}: update crossreid"
    )


@dataclass(frozen=True)
class Row:
    """An entry with its unit vector (D,) float32 and, perhaps, a small image as it was encoded."""

    entry: Entry
    vector: np.ndarray
    image: bytes | None = None


@dataclass(frozen=True)
class Summary:
    """What the rows have in common; the fields are those of ``Info``."""

    entries: int
    cameras: tuple[str, ...]
    modalities: tuple[str, ...]
    first: float | None
    last: float | None
    columns: tuple[str, ...]


def summarised(entries: Iterable[Entry]) -> Summary:
    """The summary of entries that are looked at one by one."""
    cameras: set[str] = set()
    modalities: set[str] = set()
    columns: set[str] = set()
    first, last, count = math.inf, -math.inf, 0
    for entry in entries:
        count += 1
        if entry.camera is not None:
            cameras.add(entry.camera)
        modalities.add(entry.modality)
        columns.update(entry.columns)
        if entry.time is not None:
            first, last = min(first, entry.time), max(last, entry.time)
    known = last >= first
    return Summary(
        count,
        tuple(sorted(cameras)),
        tuple(sorted(modalities)),
        first if known else None,
        last if known else None,
        tuple(sorted(columns)),
    )


class Store(Protocol):
    """Rows by key. The gallery has checked all that it passes on: finite unit vectors of the right length, entries
    that can be stored, no key twice in one call, ``top`` and ``count`` at least 1.

    name: ``"memory"``, ``"lancedb"`` or ``"milvus"``. where: for reading.
    """

    name: str
    where: str
    metadata: Metadata

    def insert(self, rows: Sequence[Row]) -> int:
        """Keep the rows whose key is new and return how many that were, once they would survive a crash."""

    def nearest(
        self, vectors: np.ndarray, top: int, filter: Filter, approximate: bool
    ) -> list[list[tuple[float, Entry]]]:
        """For each of (Q, D) unit vectors up to ``top`` entries with 1 - cosine, nearest first, all of them
        within the filter."""

    def select(self, filter: Filter, start: int, count: int) -> list[Entry]:
        """A page of entries, in an order that is the same while nothing is written."""

    def count(self, filter: Filter) -> int:
        """How many entries are within the filter."""

    def vectors(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Vectors (D,) float32 of those keys that are there."""

    def image(self, key: str) -> bytes | None:
        """The small image that was given with the entry."""

    def update(self, entries: Sequence[Entry]) -> int:
        """Put these in the place of the entries with their keys, whose vectors and images stay; how many they were."""

    def delete(self, filter: Filter) -> int:
        """Remove rows, from disk too, and return how many."""

    def summary(self) -> Summary: ...

    def index(self) -> None:
        """Build what approximate search looks through."""

    def note(self, recall: float | None, within: float | None) -> None:
        """Keep the recall of that index, and that within filters, with the metadata."""

    def remember(self, pattern: str) -> None:
        """Keep the pattern with the metadata."""

    def close(self) -> None: ...
