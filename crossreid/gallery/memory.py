"""Rows in arrays of this process: exact, and gone with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from crossreid.gallery.comparing import compare
from crossreid.gallery.entries import Entry, Filter, age, tags
from crossreid.gallery.nearest import Nearest
from crossreid.gallery.store import Metadata, Row, Summary, summarised


class MemoryStore:
    """See ``Store``. Searching looks at every row, in blocks, so that memory beyond the rows stays small."""

    name, where = "memory", ""

    def __init__(self, metadata: Metadata):
        self.metadata = metadata
        self._entries: list[Entry] = []
        self._images: dict[str, bytes] = {}
        self._places: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._arrays: dict[str, np.ndarray] = {
            "vector": np.empty((0, metadata.dimension), np.float32),
            "camera": np.empty(0, np.int32),
            "modality": np.empty(0, np.int32),
            "identity": np.empty(0, np.int32),
            "time": np.empty(0, np.float64),
            "age": np.empty(0, np.float64),
        }

    def insert(self, rows: Sequence[Row]) -> int:
        rows = [row for row in rows if row.entry.key not in self._places]
        self._reserve(len(self._entries) + len(rows))
        for row in rows:
            place, entry = len(self._entries), row.entry
            for name, value in {"vector": row.vector, **self._values(entry)}.items():
                self._arrays[name][place] = value
            self._entries.append(entry)
            self._places[entry.key] = place
            if row.image is not None:
                self._images[entry.key] = row.image
        return len(rows)

    def update(self, entries: Sequence[Entry]) -> int:
        known = [entry for entry in entries if entry.key in self._places]
        for entry in known:
            place = self._places[entry.key]
            self._entries[place] = entry
            for name, value in self._values(entry).items():
                self._arrays[name][place] = value
        return len(known)

    def nearest(
        self, vectors: np.ndarray, top: int, filter: Filter, approximate: bool
    ) -> list[list[tuple[float, Entry]]]:
        chosen, nearest = self._chosen(filter), Nearest(len(vectors), top)
        every = len(chosen) == len(self._entries)
        rows = self._arrays["vector"][: len(self._entries)]
        compare(nearest, rows, None if every else chosen, vectors)
        return [[(distance, self._entries[place]) for distance, place in hits] for hits in nearest.lists()]

    def select(self, filter: Filter, start: int, count: int) -> list[Entry]:
        return [self._entries[place] for place in self._chosen(filter)[start : start + count]]

    def count(self, filter: Filter) -> int:
        return len(self._chosen(filter))

    def vectors(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        vectors = self._arrays["vector"]
        return {key: vectors[self._places[key]].copy() for key in keys if key in self._places}

    def image(self, key: str) -> bytes | None:
        return self._images.get(key)

    def delete(self, filter: Filter) -> int:
        gone = self._chosen(filter)
        kept = np.ones(len(self._entries), bool)
        kept[gone] = False
        for place in gone:
            self._images.pop(self._entries[place].key, None)
        # New arrays: what was deleted is not to linger behind the end of the old ones.
        self._arrays = {name: array[: len(kept)][kept] for name, array in self._arrays.items()}
        self._entries = [entry for entry, stays in zip(self._entries, kept) if stays]
        self._places = {entry.key: place for place, entry in enumerate(self._entries)}
        return len(gone)

    def summary(self) -> Summary:
        return summarised(self._entries)

    def index(self) -> None:
        """Nothing to build: approximate search is exact here."""

    def note(self, recall: float | None, within: float | None) -> None:
        self.metadata = replace(self.metadata, recall=recall, recall_within=within)

    def remember(self, pattern: str) -> None:
        self.metadata = replace(self.metadata, pattern=pattern)

    def close(self) -> None:
        pass

    def _values(self, entry: Entry) -> dict[str, float]:
        return {
            "camera": self._code(entry.camera),
            "modality": self._code(entry.modality),
            "identity": self._code(entry.identity),
            "time": np.nan if entry.time is None else entry.time,
            "age": age(entry),
        }

    def _code(self, text: str | None) -> int:
        return -1 if text is None else self._codes.setdefault(text, len(self._codes))

    def _reserve(self, rows: int) -> None:
        for name, array in self._arrays.items():
            if rows > len(array):
                larger = np.empty((max(rows, 2 * len(array), 1024), *array.shape[1:]), array.dtype)
                larger[: len(self._entries)] = array[: len(self._entries)]
                self._arrays[name] = larger

    def _chosen(self, filter: Filter) -> np.ndarray:
        """Places of the rows within the filter, ascending."""
        count = len(self._entries)
        if filter.keys:
            places = {self._places[key] for key in filter.keys if key in self._places}
            chosen = np.array(sorted(places), np.int64)
        else:
            chosen = np.arange(count)
        columns = {name: array[:count] for name, array in self._arrays.items()}
        for name, wanted in (
            ("camera", filter.cameras),
            ("identity", filter.identities),
            ("modality", (filter.modality,) if filter.modality else ()),
        ):
            if wanted:
                codes = [self._codes[text] for text in wanted if text in self._codes]
                chosen = chosen[np.isin(columns[name][chosen], codes)]
        # A missing time is not a number, which every metric refuses.
        if filter.since is not None:
            chosen = chosen[columns["time"][chosen] >= filter.since]
        if filter.until is not None:
            chosen = chosen[columns["time"][chosen] < filter.until]
        if filter.expired is not None:
            chosen = chosen[columns["age"][chosen] < filter.expired]
        if filter.columns:
            asked = filter.marks()
            held = (
                all(not held.isdisjoint(any_of) for any_of in asked)
                for held in (tags(self._entries[place]) for place in chosen)
            )
            chosen = chosen[np.fromiter(held, bool, len(chosen))]
        return chosen
