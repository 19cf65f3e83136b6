"""Rows in a folder, kept by LanceDB: no server, and nothing but files.

    gallery.json     the metadata; a folder without it is no gallery
    entries.lance    the table
    lock             held while a process writes

Exact search reads every row within the filter: ``bypass_vector_index``, filter first, ``_distance`` asked for by name.
"""

from __future__ import annotations

import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from crossreid.files import sync_folder, write_json
from crossreid.gallery.cleaning import clean
from crossreid.gallery.entries import Entry, Filter, age, tag, tags
from crossreid.gallery.nearest import Nearest
from crossreid.gallery.sentences import in_sentences, sentence
from crossreid.gallery.store import Metadata, NoGallery, Row, Summary, metadata_from
from crossreid.records import UserError, pip_install

FACTS, TABLE, LOCK = "gallery.json", "entries", "lock"
FIELDS = ("key", "path", "modality", "camera", "time", "identity", "columns", "added")
# Every add is a file; more than these are merged, when adding and when closing.
MANY, SOME = 1000, 20
# Seconds that a process waits for another one to finish writing.
PATIENCE = 60.0
# Seconds between the tries of a read whose files another process has just removed.
PAUSES = (0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
# From so many vectors on, reading every row once for all of them is quicker than searching one by one.
MANY_QUERIES, BLOCK = 4, 8192


class LanceStore:
    """See ``Store``."""

    name = "lancedb"

    def __init__(self, folder: Path, table):
        self.where, self._folder, self._table = str(folder), folder, table
        self._summary: tuple[int, Summary] | None = None
        self._wrote = False

    @classmethod
    def create(cls, folder: Path, metadata: Metadata) -> LanceStore:
        connect = _connector()
        _refuse_existing(folder)
        others = sorted(set(os.listdir(folder)) - {f"{TABLE}.lance", LOCK}) if folder.is_dir() else []
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
                table = connect(folder).create_table(TABLE, schema=_schema(metadata.dimension), mode=mode)
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(sentence(str(folder), error)) from error
            write_json(folder / FACTS, {"store": cls.name, **asdict(metadata)})
            sync_folder(folder, 0)
        return cls(folder, table)

    @classmethod
    def open(cls, folder: Path, read_only: bool) -> LanceStore:
        connect = _connector()
        _read_metadata(folder)
        try:
            return cls(folder, _again(lambda: connect(folder).open_table(TABLE)))
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
            inserted = self._add(_table(rows, len(rows[0].vector)))
            if self._files() > MANY:
                self._merge()
        return inserted

    @in_sentences
    def nearest(
        self, vectors: np.ndarray, top: int, filter: Filter, approximate: bool
    ) -> list[list[tuple[float, Entry]]]:
        if len(vectors) >= MANY_QUERIES and not approximate:
            return self._nearest_together(vectors, top, filter)
        condition = _condition(filter)
        probes = max(20, round(self._cells() / 10)) if approximate else 0

        def search(table, vector):
            query = (
                table.search(vector, vector_column_name="vector").limit(top).select([*FIELDS, "_distance"])
            )
            if condition is not None:
                query = query.where(condition, prefilter=True)
            if approximate:
                query = query.distance_type("cosine").minimum_nprobes(probes)
                # More cells are looked at where those hold too few rows within the filter.
                query = query.maximum_nprobes(0)
            else:
                query = query.distance_type("dot").bypass_vector_index()
            return [(row["_distance"], _entry(row)) for row in query.to_list()]

        return [self._read(search, vector) for vector in vectors]

    def _nearest_together(
        self, vectors: np.ndarray, top: int, filter: Filter
    ) -> list[list[tuple[float, Entry]]]:
        """The same by reading the rows once for all vectors."""

        def search(table):
            nearest, keys, count = Nearest(vectors, top), [], 0
            for batch in self._query(table, filter, ("key", "vector")).to_batches(batch_size=BLOCK):
                nearest.offer(_matrix(batch["vector"]), np.arange(count, count + len(batch)))
                keys.append(batch["key"])
                count += len(batch)
            return nearest.lists(), keys

        import pyarrow as pa

        lists, keys = self._read(search)
        keys = pa.chunked_array(keys, pa.string())
        named = {place: keys[place].as_py() for hits in lists for _, place in hits}
        names = sorted(set(named.values()))
        entries = (
            {entry.key: entry for entry in self.select(Filter(keys=names), 0, len(names))} if names else {}
        )
        # A row that another process has removed in between is no answer any more.
        return [
            [(distance, entries[named[place]]) for distance, place in hits if named[place] in entries]
            for hits in lists
        ]

    @in_sentences
    def select(self, filter: Filter, start: int, count: int) -> list[Entry]:
        def select(table):
            query = self._query(table, filter, FIELDS).limit(count).offset(start)
            return [_entry(row) for row in query.to_list()]

        return self._read(select)

    @in_sentences
    def count(self, filter: Filter) -> int:
        def count(table):
            # The call that counts rows knows filters as text only.
            return sum(map(len, self._query(table, filter, ("modality",)).to_batches(batch_size=65536)))

        return self._read(count if filter else lambda table: table.count_rows())

    @in_sentences
    def vectors(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        def vectors(table):
            found = self._query(table, Filter(keys=keys), ("key", "vector")).limit(len(keys)).to_arrow()
            return dict(zip(found["key"].to_pylist(), _matrix(found["vector"].combine_chunks())))

        return self._read(vectors) if keys else {}

    @in_sentences
    def image(self, key: str) -> bytes | None:
        def image(table):
            return self._query(table, Filter(keys=(key,)), ("image",)).limit(1).to_list()

        return next((row["image"] for row in self._read(image)), None)

    @in_sentences
    def update(self, entries: Sequence[Entry]) -> int:
        new = {entry.key: entry for entry in entries}
        with self._writing():
            found = self._query(self._table, Filter(keys=tuple(new)), ("key", "vector", "image")).limit(
                len(new)
            )
            rows = [
                Row(new[row["key"]], np.array(row["vector"], np.float32), row["image"])
                for row in found.to_list()
            ]
            if rows:
                merge = self._table.merge_insert("key").when_matched_update_all()
                merge.execute(_table(rows, len(rows[0].vector)))
                # Nothing of what was there before stays.
                self._merge()
        return len(rows)

    @in_sentences
    def delete(self, filter: Filter) -> int:
        condition = _condition(filter)
        with self._writing():
            if self.metadata.recall is not None:
                # An index holds copies of the vectors.
                for index in self._table.list_indices():
                    self._table.drop_index(index.name)
                self.note(None)
            count = self._table.delete("true" if condition is None else condition).num_deleted_rows
            # The record of the latest version would keep the condition, and with it perhaps a name: have another.
            self._add(_schema(self.metadata.dimension).empty_table())
            # Also after a delete that found nothing: an earlier one may have been killed on its way.
            self._merge()
            if _names(self._folder / f"{TABLE}.lance" / "_deletions"):
                # Large files of which little was deleted are left as they are by merging: write them anew.
                self._table.update(values_sql={"modality": "modality"})
                self._merge()
            self._table.checkout_latest()
            left = self._table.count_rows()
            clean(self._folder / f"{TABLE}.lance", self._table.version)
            if len(self._query(self._table, Filter(), ("key",)).to_arrow()) != left:
                raise UserError(
                    f"the gallery {self._folder} is damaged: not all of its {left} entries can be read"
                )
        return count

    @in_sentences
    def summary(self) -> Summary:
        def summary(table):
            import pyarrow.compute as pc

            version = table.version
            if self._summary is not None and self._summary[0] == version:
                return self._summary[1]
            seen = {"camera": set(), "modality": set(), "names": set()}
            times, count = [], 0
            for batch in table.search().select([*seen, "time"]).to_batches(batch_size=16384):
                count += len(batch)
                times += pc.min_max(batch["time"]).as_py().values()
                for name, values in seen.items():
                    values.update(pc.unique(batch[name]).to_pylist())
            times = [time for time in times if time is not None]
            found = Summary(
                count,
                tuple(sorted(seen["camera"] - {None})),
                tuple(sorted(seen["modality"])),
                min(times, default=None),
                max(times, default=None),
                tuple(sorted({name for names in seen["names"] for name in json.loads(names)})),
            )
            self._summary = version, found
            return found

        return self._read(summary)

    @in_sentences
    def index(self) -> None:
        with self._writing():
            self._table.create_index(
                metric="cosine",
                vector_column_name="vector",
                index_type="IVF_FLAT",
                num_partitions=self._cells(),
                # A quarter of the usual rows and a third of the usual rounds: cells need not be perfect, and the
                # k-means is what takes long.
                sample_rate=64,
                max_iterations=15,
                replace=True,
            )

    def note(self, recall: float | None) -> None:
        write_json(
            self._folder / FACTS, {"store": self.name, **asdict(replace(self.metadata, recall=recall))}
        )

    def remember(self, pattern: str) -> None:
        write_json(
            self._folder / FACTS, {"store": self.name, **asdict(replace(self.metadata, pattern=pattern))}
        )

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
            sync_folder(self._folder, started)

    def _read(self, function: Callable, *arguments):
        """The function's value for the latest version of the table."""
        return _again(lambda: function(self._table, *arguments))

    def _query(self, table, filter: Filter, fields: Sequence[str]):
        query, condition = table.search().select(list(fields)), _condition(filter)
        return query if condition is None else query.where(condition)

    def _add(self, rows) -> int:
        """Rows of an Arrow table whose key is new; how many they were."""
        merge = self._table.merge_insert("key").when_not_matched_insert_all()
        return merge.execute(rows).num_inserted_rows

    def _merge(self) -> None:
        """Small files into large ones; nothing of earlier versions, or of writes that were killed, stays."""
        before = self._files()
        self._table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
        if self._files() >= before > 1:
            # LanceDB cleans by age, and now and then takes what was just merged for too young; by now it is not.
            self._table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)

    def _files(self) -> int:
        return len(_names(self._folder / f"{TABLE}.lance" / "data"))

    def _cells(self) -> int:
        return max(1, round(math.sqrt(self._read(lambda table: table.count_rows()))))


def _again(function: Callable):
    """The function's value. Another process may remove the files of the version being read, or the list of files that
    was just found to be the latest: then the newest is looked for and read, a bounded number of times, since what is
    missing for good is damage."""
    for pause in PAUSES:
        try:
            return function()
        except (OSError, RuntimeError, ValueError) as error:
            if "not found" not in str(error).lower():
                raise
        time.sleep(pause)
    return function()


def _connector():
    try:
        import lancedb
    except ImportError as error:
        raise UserError(
            f"a gallery in a folder needs LanceDB, which is not installed: {pip_install('search')}"
        ) from error
    # Each reading looks for what other processes have written since.
    return functools.partial(lancedb.connect, read_consistency_interval=timedelta(0))


def _refuse_existing(folder: Path) -> None:
    if (folder / FACTS).exists():
        raise UserError(f"{folder} holds a gallery already: open it, or give a folder that is empty")


def _read_metadata(folder: Path) -> Metadata:
    try:
        text = (folder / FACTS).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise NoGallery(
            f"there is no gallery in {folder} ({error.strerror}: {FACTS}): give the folder of one, or make one with "
            "`crossreid index`"
        ) from error
    return metadata_from(text, str(folder / FACTS))


def _schema(dimension: int):
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            pa.field("key", text, nullable=False),
            pa.field("path", text, nullable=False),
            pa.field("modality", text, nullable=False),
            pa.field("camera", text),
            pa.field("time", number),
            pa.field("identity", text),
            pa.field("columns", text, nullable=False),
            pa.field("tags", text, nullable=False),
            pa.field("names", text, nullable=False),
            pa.field("added", number, nullable=False),
            pa.field("age", number, nullable=False),
            pa.field("image", pa.binary()),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def _table(rows: Sequence[Row], dimension: int):
    import pyarrow as pa

    schema = _schema(dimension)
    entries = [row.entry for row in rows]
    vectors = pa.array(np.concatenate([row.vector for row in rows]))
    values = {name: [getattr(entry, name) for entry in entries] for name in FIELDS}
    values |= {
        "columns": [json.dumps(entry.columns) for entry in entries],
        "tags": [_lines(sorted(tags(entry))) for entry in entries],
        "names": [json.dumps(sorted(entry.columns)) for entry in entries],
        "age": [age(entry) for entry in entries],
        "image": [row.image for row in rows],
        "vector": pa.FixedSizeListArray.from_arrays(vectors, dimension),
    }
    return pa.table(values, schema=schema)


def _entry(row: dict) -> Entry:
    fields = {name: row[name] for name in FIELDS}
    return Entry(**{**fields, "columns": json.loads(fields["columns"])})


def _matrix(vectors) -> np.ndarray:
    """(N, D) float32 of an Arrow array of lists."""
    return vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size)


def _condition(filter: Filter):
    """The filter as an expression tree of LanceDB, or None. Values are literals in it, never text that is parsed."""
    from lancedb.expr import col, lit

    parts = []
    for name, wanted in (
        ("key", filter.keys),
        ("camera", filter.cameras),
        ("identity", filter.identities),
        ("modality", (filter.modality,) if filter.modality else ()),
    ):
        if wanted:
            parts.append(col(name).isin(wanted))
    if filter.since is not None:
        parts.append(col("time") >= lit(float(filter.since)))
    if filter.until is not None:
        parts.append(col("time") < lit(float(filter.until)))
    if filter.expired is not None:
        parts.append(col("age") < lit(float(filter.expired)))
    for name, value in filter.columns.items():
        parts.append(col("tags").contains(_lines([tag(name, value)])))
    condition = None
    for part in parts:
        condition = part if condition is None else condition & part
    return condition


def _lines(tags: Sequence[str]) -> str:
    """Tags as one text in which each can be found whole: JSON holds no line breaks."""
    return "\n" + "".join(f"{tag}\n" for tag in tags)


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
