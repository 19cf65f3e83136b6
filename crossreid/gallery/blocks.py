"""Rows of a gallery as arrays, in memory or mapped from files: what can be searched as fast as memory is read.

A block in files is a folder with one file for each array, their bytes and nothing else; how many rows there are is said
by the manifest of the table that they are a copy of.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossreid.gallery.entries import Entry, Filter, age, tags
from crossreid.gallery.store import Row

# The arrays of a block, and of what their numbers are. The texts of entries, and the tags of all rows, follow each
# other; ``text_ends`` and ``tag_ends`` say where those of each row end.
KINDS = {
    "vectors": np.float32,
    "moments": np.float64,
    "words": np.uint64,
    "text": np.uint8,
    "text_ends": np.int64,
    "tags": np.uint64,
    "tag_ends": np.int64,
}
# Those whose rows are their second axis.
WIDE = ("moments", "words")
# Rows of ``words`` and ``moments``.
KEY, CAMERA, IDENTITY, MODALITY = range(4)
TIME, AGE = range(2)
_values = operator.attrgetter(*Entry.__slots__)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True)
class Block:
    """N rows.

    vectors: (N, D) float32 of unit length. moments: (2, N), the time (not a number where unknown) and the age.
    words: (4, N) digests of key, camera, identity and modality. tags: digests of all columns. text: of all entries.
    """

    vectors: np.ndarray
    moments: np.ndarray
    words: np.ndarray
    text: np.ndarray
    text_ends: np.ndarray
    tags: np.ndarray
    tag_ends: np.ndarray
    _sorted: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list, init=False)

    def __len__(self) -> int:
        return len(self.vectors)

    def entries(self, rows: np.ndarray) -> list[Entry]:
        """Of (N,) rows."""
        starts = np.where(rows > 0, self.text_ends[rows - 1], 0).tolist()
        text = self.text.data  # whose slices cost less than those of the array
        texts = [text[start:end] for start, end in zip(starts, self.text_ends[rows].tolist())]
        return [Entry(*values) for values in json.loads(b"[" + b",".join(texts) + b"]")]

    def find(self, keys: Sequence[str], digests: np.ndarray) -> dict[str, int]:
        """The row of each of these keys that is there; see ``by_digest``."""
        if not len(self):
            return {}
        if not self._sorted:
            order = np.argsort(self.words[KEY], kind="stable")
            self._sorted.append((order, self.words[KEY][order]))
        order, known = self._sorted[0]
        starts = np.searchsorted(known, digests)
        found = {}
        for at in np.flatnonzero(known[np.minimum(starts, len(known) - 1)] == digests).tolist():
            rows = order[starts[at] : np.searchsorted(known, digests[at], "right")]
            for row, entry in zip(rows.tolist(), self.entries(rows)):
                if entry.key == keys[at]:
                    found[entry.key] = row
        return found

    def within(self, filter: Filter) -> np.ndarray | None:
        """The rows within a filter, ascending; None for all of them."""
        if not filter:
            return None
        rows: np.ndarray | None = None

        def keep(column: np.ndarray, test) -> None:
            nonlocal rows
            rows = np.flatnonzero(test(column)) if rows is None else rows[test(column[rows])]

        if filter.keys:
            rows = np.array(sorted(self.find(*by_digest(filter.keys)).values()), np.int64)
        for place, wanted in (
            (CAMERA, filter.cameras),
            (IDENTITY, filter.identities),
            (MODALITY, (filter.modality,) if filter.modality else ()),
        ):
            if wanted:
                asked = np.array([digest(text) for text in wanted], np.uint64)
                keep(self.words[place], functools.partial(_any_of, asked))
        # A missing time is not a number, which every comparison refuses.
        if (since := filter.since) is not None:
            keep(self.moments[TIME], lambda times: times >= since)
        if (until := filter.until) is not None:
            keep(self.moments[TIME], lambda times: times < until)
        if (expired := filter.expired) is not None:
            keep(self.moments[AGE], lambda ages: ages < expired)
        for any_of in filter.marks():
            asked = np.array([digest(each) for each in any_of], np.uint64)
            places = np.flatnonzero(_any_of(asked, self.tags))
            held = np.unique(np.searchsorted(self.tag_ends, places, "right"))
            rows = held if rows is None else np.intersect1d(rows, held, assume_unique=True)
        return rows


def block_of(rows: Sequence[Row]) -> Block:
    """Rows, at least one, as a block in memory."""
    return block_from([row.entry for row in rows], np.stack([row.vector for row in rows]))


def block_from(entries: Sequence[Entry], vectors: np.ndarray) -> Block:
    """Entries with their (N, D) float32 vectors."""
    texts = [_text(entry) for entry in entries]
    marks = [[digest(text) for text in sorted(tags(entry))] if entry.columns else () for entry in entries]
    words = np.array(
        [
            [digest(entry.key) for entry in entries],
            [_known_digest(entry.camera) for entry in entries],
            [_known_digest(entry.identity) for entry in entries],
            [_known_digest(entry.modality) for entry in entries],
        ],
        np.uint64,
    )
    moments = [[entry.time for entry in entries], [age(entry) for entry in entries]]
    return Block(
        vectors,
        np.array(moments, np.float64),
        words,
        np.frombuffer(b"".join(texts), np.uint8),
        np.cumsum([len(text) for text in texts], dtype=np.int64),
        np.array([mark for each in marks for mark in each], np.uint64),
        np.cumsum([len(each) for each in marks], dtype=np.int64),
    )


def joined(blocks: Sequence[Block]) -> Block:
    """Blocks as one in memory."""
    if len(blocks) == 1:
        return blocks[0]
    parts = {name: [getattr(block, name) for block in blocks] for name in KINDS}
    for ends, values in (("text_ends", "text"), ("tag_ends", "tags")):
        before = np.cumsum([0, *map(len, parts[values])])
        parts[ends] = [part + start for part, start in zip(parts[ends], before)]
    return Block(
        **{name: np.concatenate(arrays, axis=-1 if name in WIDE else 0) for name, arrays in parts.items()}
    )


def write_block(folder: Path, blocks: Iterable[Block], count: int) -> None:
    """Blocks with ``count`` rows together as one, in the files of a new folder, handed to the disk."""
    folder.mkdir()
    files = {name: open(folder / name, "wb") for name in KINDS}
    try:
        at, lengths = 0, {"text_ends": 0, "tag_ends": 0}
        for block in blocks:
            for name in KINDS:
                array = getattr(block, name)
                if name in WIDE:
                    for line, part in enumerate(array):
                        files[name].seek((line * count + at) * 8)
                        files[name].write(np.ascontiguousarray(part).data)
                elif name in lengths:
                    files[name].write((array + lengths[name]).data)
                else:
                    files[name].write(np.ascontiguousarray(array).data)
            lengths["text_ends"] += len(block.text)
            lengths["tag_ends"] += len(block.tags)
            at += len(block)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()


def read_block(folder: Path, count: int, dimension: int) -> Block:
    """The block in a folder, mapped and not read. Raises ValueError where its files are not those of so many rows."""
    shapes: dict[str, tuple[int, ...]] = {
        "vectors": (count, dimension),
        "moments": (2, count),
        "words": (4, count),
    }
    shapes |= {"text_ends": (count,), "tag_ends": (count,)}
    arrays = {name: mapped(folder / name, kind, shapes.get(name)) for name, kind in KINDS.items()}
    for ends, values in (("text_ends", "text"), ("tag_ends", "tags")):
        if count and arrays[ends][-1] != len(arrays[values]):
            raise ValueError(f"{folder / ends} does not fit")
    return Block(**arrays)


def mapped(path: Path, kind, shape: tuple[int, ...] | None) -> np.ndarray:
    """The array in a file, mapped and not read; of one axis where no shape is given."""
    size, item = path.stat().st_size, np.dtype(kind).itemsize
    shape = (size // item,) if shape is None else shape
    if size != item * int(np.prod(shape)):
        raise ValueError(f"{path} has {size} bytes, and not those of {shape}")
    return np.memmap(path, kind, "r", shape=shape).view(np.ndarray) if size else np.empty(shape, kind)


def digest(text: str) -> int:
    """Of a text, 64 bits; never 0, which stands for none."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little") | 1


def by_digest(keys: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Keys in the order of their digests, and these: what follows each other is found much faster."""
    digests = np.array([digest(key) for key in keys], np.uint64)
    order = np.argsort(digests)
    return [keys[at] for at in order.tolist()], digests[order]


@functools.lru_cache(65536)
def _known_digest(text: str | None) -> int:
    return 0 if text is None else digest(text)


def _any_of(wanted: np.ndarray, column: np.ndarray) -> np.ndarray:
    return column == wanted[0] if len(wanted) == 1 else np.isin(column, wanted)


def _text(entry: Entry) -> bytes:
    return _encode(_values(entry)).encode("utf-8")
