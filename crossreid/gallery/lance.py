"""Rows in a folder, kept by LanceDB: no server, and nothing but files.

    gallery.json     the metadata; a folder without it is no gallery
    entries.lance    the table
    flat             a copy of its rows for searching, see ``flat``
    lock             held while a process writes

The table decides what is there. Where there is no copy yet, as in a gallery of an earlier version that was not written
since, the table itself is searched, see ``lance_table``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from crossreid.files import sync_folder, write_json
from crossreid.gallery.blocks import Block, block_from, block_of
from crossreid.gallery.cleaning import clean
from crossreid.gallery.entries import Entry, Filter
from crossreid.gallery.flat import FLAT, Flat, Snapshot
from crossreid.gallery.lance_rows import (
    FIELDS,
    again,
    connector,
    entries_of,
    expression,
    matrix,
    rows_table,
    schema,
)
from crossreid.gallery.lance_table import BLOCK, TableStore
from crossreid.gallery.manifest import Fragment
from crossreid.gallery.sentences import in_sentences, sentence
from crossreid.gallery.store import Existing, Metadata, NoGallery, Row, metadata_from
from crossreid.records import UserError

FACTS, TABLE, LOCK = "gallery.json", "entries", "lock"
# Every add is a file; more than these are merged, when adding and when closing.
MANY, SOME = 1000, 20
# Seconds that a process waits for another one to finish writing.
PATIENCE = 60.0


class LanceStore(TableStore):
    """See ``Store``."""

    def __init__(self, folder: Path, table):
        super().__init__(str(folder), table)
        self._folder, self._wrote = folder, False
        self._flat = Flat(folder, folder / f"{TABLE}.lance", self.metadata.dimension)
        self._built: tuple | None = None  # which index ``note`` speaks of

    @classmethod
    def create(cls, folder: Path, metadata: Metadata) -> LanceStore:
        connect = connector()
        _refuse_existing(folder)
        others = sorted(set(_names(folder)) - {f"{TABLE}.lance", FLAT, LOCK})
        # Another process may just be making it.
        others = [name for name in others if not name.startswith(f".{FACTS}.")]
        if others:
            raise UserError(
                f"{folder} holds {others[0]} and is not a gallery: give a folder that is empty or does not exist"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the folder {folder} cannot be made ({error.strerror})") from error
        with _locked(folder):
            _refuse_existing(folder)
            # Without the metadata this can only be what a process that was killed here had begun.
            mode = "overwrite" if (folder / f"{TABLE}.lance").exists() else "create"
            try:
                table = connect(folder).create_table(TABLE, schema=schema(metadata.dimension), mode=mode)
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(sentence(str(folder), error)) from error
            write_json(folder / FACTS, {"store": cls.name, **asdict(metadata)})
            sync_folder(folder, 0)
        return cls(folder, table)

    @classmethod
    def open(cls, folder: Path, read_only: bool) -> LanceStore:
        connect = connector()
        _read_metadata(folder)
        try:
            return cls(folder, again(lambda: connect(folder).open_table(TABLE)))
        except Exception as error:
            raise UserError(
                f"the table of the gallery {folder} cannot be opened ({str(error).splitlines()[0]}): the folder is not "
                "complete; copy it again, or index the images again into a new one"
            ) from error

    @property
    def metadata(self) -> Metadata:
        return _read_metadata(self._folder)

    @in_sentences
    def insert(self, rows: Sequence[Row]) -> int:
        with self._writing():
            known = self._known([row.entry.key for row in rows])
            rows = [row for row in rows if row.entry.key not in known]
            if rows:
                before = self._flat.names()
                block = block_of(rows)
                self._table.add(rows_table(rows, block.vectors))
                self._flat.offer(block, before)
            if self._files() > MANY:
                self._merge()
        return len(rows)

    def _known(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are in the latest version, for the only writer."""
        snapshot = self._snapshot()
        if snapshot is None:
            # A gallery of an earlier version, or a delete that was killed on its way.
            self._settle()
            self._flat.keep(self._blocks)
            snapshot = self._snapshot()
        if snapshot is None:
            return {entry.key for entry in TableStore.select(self, Filter(keys=tuple(keys)), 0, len(keys))}
        return snapshot.known(keys)

    @in_sentences
    def nearest(
        self, vectors: np.ndarray, top: int, filter: Filter, approximate: bool
    ) -> list[list[tuple[float, Entry]]]:
        if (snapshot := self._snapshot()) is not None:
            return snapshot.nearest(vectors, top, filter, approximate)
        return super().nearest(vectors, top, filter, approximate)

    @in_sentences
    def select(self, filter: Filter, start: int, count: int) -> list[Entry]:
        if (snapshot := self._snapshot()) is not None:
            return snapshot.select(filter, start, count)
        return super().select(filter, start, count)

    @in_sentences
    def count(self, filter: Filter) -> int:
        if (snapshot := self._snapshot()) is not None:
            return snapshot.count(filter)
        return super().count(filter)

    @in_sentences
    def vectors(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        if (snapshot := self._snapshot()) is not None:
            return snapshot.vectors(keys)
        return super().vectors(keys)

    @in_sentences
    def image(self, key: str) -> bytes | None:
        def at(table):
            return table.take_row_ids([address]).select(["key", "image"]).to_list()

        snapshot = self._snapshot()
        if snapshot is not None:
            if (address := snapshot.address(key)) is None:
                return None
            # The addresses of rows change when another process merges files.
            found = next(iter(self._read(at)), None)
            if found is not None and found["key"] == key:
                return found["image"]
        return super().image(key)

    @in_sentences
    def update(self, entries: Sequence[Entry]) -> int:
        with self._writing():
            updated = self._put(entries)
            if updated:
                # Nothing of what was there before stays.
                self._settle()
        return updated

    @in_sentences
    def delete(self, filter: Filter) -> int:
        condition = expression(filter)
        with self._writing():
            self._drop_indices()
            self._flat.drop_index()
            self._change_metadata(recall=None, recall_within=None)
            count = self._table.delete("true" if condition is None else condition).num_deleted_rows
            # The record of the latest version would keep the condition, and with it perhaps a name: have another.
            self._table.add(schema(self.metadata.dimension).empty_table())
            # Also after a delete that found nothing: an earlier one may have been killed on its way.
            self._settle()
            self._table.checkout_latest()
            left = self._table.count_rows()
            self._flat.keep(self._blocks)
            if others := self._flat.others():
                raise UserError(
                    f"the entries are found by no search any more, but copies of them are still there, such as "
                    f"{others[0]}: see who holds or protects it, then delete again"
                )
            clean(self._folder / f"{TABLE}.lance", self._table.version)
            if len(self._query(self._table, Filter(), ("key",)).to_arrow()) != left:
                raise UserError(
                    f"the gallery {self._folder} is damaged: not all of its {left} entries can be read"
                )
        return count

    @in_sentences
    def index(self) -> None:
        with self._writing():
            self._flat.keep(self._blocks)
            self._flat.index()
            self._built = self._flat.built()
            self._drop_indices()  # of an earlier version

    def note(self, recall: float | None, within: float | None) -> None:
        with _locked(self._folder):
            if self._flat.built() != self._built:
                raise UserError(
                    f"the recall that was measured in the gallery {self._folder} is not of the index that is there: "
                    "another process has deleted entries meanwhile, or built the index too; build it again"
                )
            self._change_metadata(recall=recall, recall_within=within)

    def remember(self, pattern: str) -> None:
        with _locked(self._folder):
            self._change_metadata(pattern=pattern)

    def _change_metadata(self, **changes) -> None:
        """The caller holds the lock: other processes change them too."""
        changed = replace(self.metadata, **changes)
        write_json(self._folder / FACTS, {"store": self.name, **asdict(changed)})

    @in_sentences
    def close(self) -> None:
        if self._wrote and self._files() > SOME:
            with self._writing():
                self._merge()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The only writer, from the latest version on; what was written is on the disk when the block ends."""
        with _locked(self._folder):
            started = time.time()
            self._table.checkout_latest()
            yield
            self._wrote = True
            self._flat.keep(self._blocks)
            sync_folder(self._folder, started)

    def _snapshot(self) -> Snapshot | None:
        return again(lambda: self._flat.snapshot(self._blocks))

    def _blocks(self, start: int, fragments: Sequence[Fragment]) -> Iterator[Block]:
        """The rows of fragments that follow each other, for ``flat``."""
        addresses = np.concatenate(
            [(fragment.number << 32) + np.arange(fragment.rows, dtype=np.uint64) for fragment in fragments]
        )
        query = self._table.search().select([*FIELDS, "vector"]).offset(start).limit(len(addresses))
        at = 0
        for batch in query.with_row_id(True).to_batches(batch_size=BLOCK):
            found = batch["_rowid"].to_numpy()
            if (found != addresses[at : at + len(found)]).any():
                raise RuntimeError("rows were not found where they were: another process has merged files")
            at += len(found)
            yield block_from(entries_of(batch), matrix(batch["vector"]))
        if at != len(addresses):
            raise RuntimeError("rows were not found: another process has merged files")

    def _merge(self) -> None:
        """Small files into large ones; nothing of earlier versions, or of writes that were killed, stays."""
        before = self._files()
        self._table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
        if self._files() >= before > 1:
            # LanceDB cleans by age, and now and then takes what was just merged for too young; by now it is not.
            self._table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)

    def _settle(self) -> None:
        """Merge, and write large files of which little was deleted anew, which merging leaves as they are."""
        self._merge()
        if _names(self._folder / f"{TABLE}.lance" / "_deletions"):
            self._table.update(values_sql={"modality": "modality"})
            self._merge()

    def _files(self) -> int:
        return len(_names(self._folder / f"{TABLE}.lance" / "data"))


def _refuse_existing(folder: Path) -> None:
    if (folder / FACTS).exists():
        raise Existing(f"{folder} holds a gallery already: open it, or give a folder that is empty")


def _read_metadata(folder: Path) -> Metadata:
    try:
        text = (folder / FACTS).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise NoGallery(
            f"there is no gallery in {folder} ({error.strerror}: {FACTS}): give the folder of one, or make one with "
            "`crossreid index`"
        ) from error
    return metadata_from(text, str(folder / FACTS))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the gallery. The system lets go of the lock when a process ends, however
    it ends. Raises UserError when another one holds it for too long, or when the folder may not be written."""
    lock = FileLock(folder / LOCK, timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"the gallery {folder} has been locked by another process for {PATIENCE:g} seconds: wait until that has "
            "written what it writes, or end it"
        ) from error
    except OSError as error:
        raise UserError(
            f"the gallery {folder} cannot be changed ({error.strerror}): change its permissions, or open it with "
            "read_only=True to search it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
