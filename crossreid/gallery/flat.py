"""A copy of the rows of a table in files that are mapped into memory: what searches in a folder go through.

    flat/NAME/       rows of some fragments of the table, see ``blocks``; ``rows.json`` says of which
    flat/coding/     how vectors become codes for approximate search, see ``codes``; without it there is no index

The table decides what is in the gallery: a copy counts while its manifest names all fragments copied, whose names are
never used twice. Only who holds the gallery's lock writes copies, and removes those that no longer count. A few rows
need no copy: each process reads them from the table once.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crossreid.files import write_json
from crossreid.formats.shape import TEXT, WHOLE, unlike
from crossreid.formats.text import parse_json
from crossreid.gallery import codes, manifest
from crossreid.gallery.blocks import Block, by_digest, joined, mapped, read_block, write_block
from crossreid.gallery.comparing import Part, needed, search
from crossreid.gallery.entries import Entry, Filter
from crossreid.gallery.manifest import Fragment
from crossreid.records import UserError

FLAT, CODING, ROWS = "flat", "coding", "rows.json"
# So many rows without a copy are left so by who writes; so many are read into memory by who searches.
LOOSE, LIMIT = 16384, 65536
# Of those, so many pieces are searched one by one.
PIECES = 8
# Vectors whose mean is that of all, and queries that say how many rows must be compared exactly.
SAMPLE, QUERIES = 65536, 64
# Of the files in ``flat``; copies of another are not looked at, and made anew.
FORMAT = 1
_ROWS = {"format": WHOLE, "fragments": [{"name": TEXT, "rows": WHOLE}]}
# The rows of fragments that follow each other from one place of the table on, block by block.
Read = Callable[[int, Sequence[Fragment]], Iterator[Block]]


@dataclass(frozen=True)
class Snapshot:
    """All rows of one version of a table. coding: of the index, None without one."""

    parts: tuple[Part, ...]
    coding: codes.Coding | None
    numbers: dict[str, int]

    def nearest(
        self, vectors: np.ndarray, top: int, filter: Filter, approximate: bool
    ) -> list[list[tuple[float, Entry]]]:
        """See ``Store``."""
        return search(self.parts, self.coding if approximate else None, vectors, top, filter)

    def select(self, filter: Filter, start: int, count: int) -> list[Entry]:
        """See ``Store``."""
        entries: list[Entry] = []
        for part in self.parts:
            rows = part.block.within(filter)
            size = len(part.block) if rows is None else len(rows)
            stop = max(start, min(size, start + count - len(entries)))
            entries += part.block.entries(np.arange(start, stop) if rows is None else rows[start:stop])
            start = max(0, start - size)
        return entries

    def count(self, filter: Filter) -> int:
        """See ``Store``."""
        kept = ((len(part.block), part.block.within(filter)) for part in self.parts)
        return sum(size if rows is None else len(rows) for size, rows in kept)

    def vectors(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """See ``Store``."""
        asked = by_digest(keys)
        return {
            key: np.array(part.block.vectors[row])
            for part in self.parts
            for key, row in part.block.find(*asked).items()
        }

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are there."""
        asked = by_digest(keys)
        return {key for part in self.parts for key in part.block.find(*asked)}

    def address(self, key: str) -> int | None:
        """By which the table knows the row of a key."""
        asked = by_digest((key,))
        for part in self.parts:
            for row in part.block.find(*asked).values():
                for fragment in part.fragments:
                    if row < fragment.rows:
                        return (self.numbers[fragment.name] << 32) + row
                    row -= fragment.rows
        return None


class Flat:
    """The copies of the table in a gallery's folder."""

    def __init__(self, folder: Path, table: Path, dimension: int):
        self._folder, self._table, self._dimension = folder / FLAT, table, dimension
        self._listed: tuple[tuple, list[Fragment]] = ((), [])
        self._latest: tuple[tuple, Snapshot | None] | None = None
        self._copies: dict[str, Part] = {}
        self._loose: tuple[Part, ...] = ()
        # Threads search at the same time, and another writes: ``_loose`` is read once wherever it is used.
        self._guard = threading.Lock()

    def snapshot(self, read: Read) -> Snapshot | None:
        """Of the newest version; None where more than ``LIMIT`` rows have no copy, or rows were removed from a
        fragment: then the table itself must be asked."""
        with self._guard:
            return self._snapshot(read)

    def _snapshot(self, read: Read) -> Snapshot | None:
        listed, fragments = self._newest()
        state = listed, self.built()
        latest = self._latest
        if latest is not None and latest[0] == state:
            return latest[1]
        coding = self._coding()
        copies = self._found(fragments, coding)
        missing = _missing(fragments, copies)
        snapshot = None
        if not any(fragment.deleted for fragment in fragments) and _rows(missing) <= LIMIT:
            loose: tuple[Part, ...] = ()
            if missing:
                loose = self._loose = self._read_loose(fragments, missing, read)
            parts = (*copies.values(), *loose)
            numbers = {fragment.name: fragment.number for fragment in fragments}
            snapshot = Snapshot(parts, coding, numbers)
        self._latest = state, snapshot
        return snapshot

    def offer(self, block: Block, before: Sequence[str]) -> None:
        """The rows that this process has just written, which then need not be read: those of the one fragment that was
        not there before."""
        known = set(before)
        new = [fragment for fragment in self._fragments() if fragment.name not in known]
        if len(new) == 1 and new[0].rows == len(block):
            loose = self._loose
            loose = loose if {fragment.name for fragment in _of(loose)} <= known else ()
            self._loose = _few((*loose, Part(block, tuple(new))))

    def names(self) -> list[str]:
        """Of the fragments of the newest version."""
        return [fragment.name for fragment in self._fragments()]

    def keep(self, read: Read) -> None:
        """Part what has no copy, if it is more than ``LOOSE`` rows, and remove copies that no longer count. The caller
        holds the lock."""
        fragments, coding = self._fragments(), self._coding()
        copies = self._found(fragments, coding)
        missing = _missing(fragments, copies)
        if any(fragment.deleted for fragment in fragments):
            missing = []
        kept = {*copies, CODING}
        if _rows(missing) > LOOSE:
            loose = self._loose
            blocks = (
                (part.block for part in loose) if _of(loose) == missing else _runs(fragments, missing, read)
            )
            kept.add(self._write(missing, blocks, coding))
            self._loose = ()
        self._latest = None
        if self._folder.is_dir():
            for name in set(os.listdir(self._folder)) - kept:
                shutil.rmtree(self._folder / name)
        for name, copy in copies.items():
            if coding is not None and copy.codes is None:
                codes.write_codes(self._folder / name, codes.codes_of(coding, copy.block.vectors))

    def index(self) -> None:
        """Build the index of what has been copied. The caller holds the lock, and has copied all but a few rows."""
        self.drop_index()
        fragments = self._fragments()
        parts = list(self._found(fragments, None).values())
        if not parts:
            return
        random = np.random.default_rng(0)
        total = sum(len(part.block) for part in parts)
        sample = np.concatenate(
            [
                part.block.vectors[
                    np.sort(random.integers(0, len(part.block), SAMPLE * len(part.block) // total))
                ]
                for part in parts
            ]
        )
        coding = codes.coding_of(sample)
        temporary = self._folder / f"{CODING}.part"
        temporary.mkdir()
        codes.write_array(temporary / "mean", coding.mean)
        codes.write_array(temporary / "rotation", coding.rotation)
        write_json(temporary / ROWS, {"refined": total})
        os.replace(temporary, self._folder / CODING)
        for name, copy in self._found(fragments, None).items():
            codes.write_codes(self._folder / name, codes.codes_of(coding, copy.block.vectors))
        parts = list(self._found(fragments, coding).values())
        queries = random.permutation(sample)[:QUERIES]
        noise = random.standard_normal(queries.shape).astype(np.float32)
        queries = queries + noise * (0.3 / np.sqrt(queries.shape[1]))
        refined = needed(parts, coding, queries / np.linalg.norm(queries, axis=1, keepdims=True))
        write_json(self._folder / CODING / ROWS, {"refined": refined})
        self._latest = None

    def built(self) -> tuple | None:
        """What tells the index that is there from any other; None without one."""
        return _state(self._folder / CODING)

    def drop_index(self) -> None:
        """Remove the index and all codes."""
        for path in (self._folder / CODING, self._folder / f"{CODING}.part"):
            if path.is_dir():
                shutil.rmtree(path)
        for name in ("codes", "factors"):
            for path in self._folder.glob(f"*/{name}"):
                path.unlink()
        self._latest = None

    def clear(self) -> None:
        """Remove all copies."""
        if self._folder.is_dir():
            shutil.rmtree(self._folder)
        self._copies, self._loose, self._latest = {}, (), None

    def others(self) -> list[Path]:
        """Files of copies that do not count in the newest version."""
        found = {*self._found(self._fragments(), None), CODING}
        return sorted(
            path
            for path in self._folder.rglob("*")
            if path.is_file() and path.relative_to(self._folder).parts[0] not in found
        )

    def _newest(self) -> tuple[tuple, list[Fragment]]:
        """What tells the newest version from others, and its fragments."""
        newest, listed = manifest.newest(self._table), self._listed
        state = newest.name, _state(newest)
        if listed[0] != state:
            listed = self._listed = state, _fragments(newest)
        return listed

    def _fragments(self) -> list[Fragment]:
        return self._newest()[1]

    def _found(self, fragments: Sequence[Fragment], coding: codes.Coding | None) -> dict[str, Part]:
        """The copies that count, in the order of their first fragments."""
        named = {fragment.name: fragment for fragment in fragments}
        found = {}
        there = set(os.listdir(self._folder)) if self._folder.is_dir() else set()
        for name in filter(there.__contains__, named):
            copy = self._copies.get(name)
            if copy is None:
                copy = self._read(name, named)
            if copy is None or any(fragment.name not in named for fragment in copy.fragments):
                continue
            found[name] = copy
        self._copies = found
        if coding is None:
            return dict(found)
        # Codes are mapped anew each time: another process may have built the index again.
        return {
            name: replace(copy, codes=codes.read_codes(self._folder / name, len(copy.block), coding))
            for name, copy in found.items()
        }

    def _read(self, name: str, named: dict[str, Fragment]) -> Part | None:
        """The copy in a folder, None where it is of other fragments, of another format or damaged."""
        folder = self._folder / name
        try:
            given = parse_json((folder / ROWS).read_text("utf-8"))
            if unlike(given, _ROWS) or given["format"] != FORMAT or given["fields"] != list(Entry.__slots__):
                return None
            fragments = tuple(named[each["name"]] for each in given["fragments"])
            if [fragment.rows for fragment in fragments] != [each["rows"] for each in given["fragments"]]:
                return None
            return Part(read_block(folder, _rows(fragments), self._dimension), fragments)
        except (OSError, ValueError, KeyError):
            return None

    def _read_loose(self, fragments, missing: list[Fragment], read: Read) -> tuple[Part, ...]:
        """The rows without a copy; those that were read before are not read again."""
        loose = self._loose
        if missing[: len(_of(loose))] != _of(loose):
            loose = ()
        new = missing[len(_of(loose)) :]
        blocks = list(_runs(fragments, new, read))
        return _few((*loose, Part(joined(blocks), tuple(new)))) if blocks else loose

    def _write(self, fragments: Sequence[Fragment], blocks: Iterator[Block], coding) -> str:
        name = fragments[0].name
        temporary = self._folder / f"{name}.part"
        self._folder.mkdir(exist_ok=True)
        for path in (temporary, self._folder / name):
            if path.exists():
                shutil.rmtree(path)
        write_block(temporary, blocks, _rows(fragments))
        if coding is not None:
            block = read_block(temporary, _rows(fragments), self._dimension)
            codes.write_codes(temporary, codes.codes_of(coding, block.vectors))
        parts = [{"name": fragment.name, "rows": fragment.rows} for fragment in fragments]
        about = {"format": FORMAT, "fields": list(Entry.__slots__), "fragments": parts}
        write_json(temporary / ROWS, about)
        os.replace(temporary, self._folder / name)
        return name

    def _coding(self) -> codes.Coding | None:
        folder = self._folder / CODING
        try:
            given = parse_json((folder / ROWS).read_text("utf-8"))
            if unlike(given, {"refined": WHOLE}):
                return None
            width = -(-self._dimension // codes.WORD) * codes.WORD
            mean = mapped(folder / "mean", np.float32, (self._dimension,))
            rotation = mapped(folder / "rotation", np.float32, (width, self._dimension))
        except (OSError, ValueError):
            return None
        return codes.Coding(mean, rotation, max(1, given["refined"]))


def _fragments(path: Path) -> list[Fragment]:
    try:
        return manifest.fragments(path.read_bytes())
    except ValueError as error:
        raise UserError(
            f"the gallery {path.parent.parent.parent} cannot be read: the list of its files, {path.name}, cannot be "
            f"read ({error}); copy it again, or index the images again into a new one"
        ) from error


def _of(parts: Sequence[Part]) -> list[Fragment]:
    return [fragment for part in parts for fragment in part.fragments]


def _few(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Parts, or all of them as one where they have become many."""
    if len(parts) <= PIECES:
        return parts
    return (Part(joined([part.block for part in parts]), tuple(_of(parts))),)


def _missing(fragments: Sequence[Fragment], copies: dict[str, Part]) -> list[Fragment]:
    covered = {fragment.name for copy in copies.values() for fragment in copy.fragments}
    return [fragment for fragment in fragments if fragment.name not in covered]


def _runs(fragments: Sequence[Fragment], wanted: Sequence[Fragment], read: Read) -> Iterator[Block]:
    """The rows of the wanted ones, those that follow each other read at once."""
    names, start, run = {fragment.name for fragment in wanted}, 0, []
    for fragment in fragments:
        if fragment.name in names:
            run.append(fragment)
        elif run:
            yield from read(start - _rows(run), run)
            run = []
        start += fragment.rows
    if run:
        yield from read(start - _rows(run), run)


def _rows(fragments: Sequence[Fragment]) -> int:
    return sum(fragment.rows for fragment in fragments)


def _state(path: Path) -> tuple | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
