"""Reading a LanceDB table: its rows, those nearest to a vector, and what all of them have in common.

Every reading sees the latest version. Values of filters are literals in expression trees, ``bypass_vector_index`` and
filters that come first keep exact search exact, and ``_distance`` is asked for by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np

from crossreid.gallery.comparing import FEW, compare, probes
from crossreid.gallery.entries import Entry, Filter
from crossreid.gallery.lance_rows import FIELDS, again, entry_of, expression, matrix, rows_table
from crossreid.gallery.nearest import Nearest
from crossreid.gallery.sentences import in_sentences
from crossreid.gallery.store import Row, Summary

# From so many vectors on, reading every row once for all of them is quicker than searching one by one.
MANY_QUERIES, BLOCK = 4, 8192
# So many rows are changed at once.
PART = 1000


class TableStore:
    """What reads of a ``Store``, for those that add what writes. where: for reading. table: of LanceDB."""

    name = "lancedb"

    def __init__(self, where: str, table):
        self.where, self._table = where, table
        self._summary: tuple[int, Summary] | None = None

    @in_sentences
    def nearest(
        self, vectors: np.ndarray, top: int, filter: Filter, approximate: bool
    ) -> list[list[tuple[float, Entry]]]:
        looked_at = 0
        if approximate:
            rows = self._read(lambda table: table.count_rows())
            kept = TableStore.count(self, filter) if filter else rows
            if kept > FEW:
                looked_at = probes(cells(rows), rows, kept)
        if len(vectors) >= MANY_QUERIES and not looked_at:
            return self._nearest_together(vectors, top, filter)
        condition = expression(filter)

        def search(table, vector):
            query = (
                table.search(vector, vector_column_name="vector").limit(top).select([*FIELDS, "_distance"])
            )
            if condition is not None:
                query = query.where(condition, prefilter=True)
            if looked_at:
                query = query.distance_type("cosine").minimum_nprobes(looked_at)
                # More cells are looked at where those hold too few rows within the filter.
                query = query.maximum_nprobes(0)
            else:
                query = query.distance_type("dot").bypass_vector_index()
            return [(row["_distance"], entry_of(row)) for row in query.to_list()]

        return [self._read(search, vector) for vector in vectors]

    def _nearest_together(
        self, vectors: np.ndarray, top: int, filter: Filter
    ) -> list[list[tuple[float, Entry]]]:
        """The same by reading the rows once for all vectors."""

        def search(table):
            nearest, keys, count = Nearest(len(vectors), top), [], 0
            for batch in self._query(table, filter, ("key", "vector")).to_batches(batch_size=BLOCK):
                compare(nearest, matrix(batch["vector"]), None, vectors, count)
                keys.append(batch["key"])
                count += len(batch)
            return nearest.lists(), keys

        import pyarrow as pa

        lists, keys = self._read(search)
        keys = pa.chunked_array(keys, pa.string())
        named = {place: keys[place].as_py() for hits in lists for _, place in hits}
        names = sorted(set(named.values()))
        entries = (
            {entry.key: entry for entry in TableStore.select(self, Filter(keys=names), 0, len(names))}
            if names
            else {}
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
            return [entry_of(row) for row in query.to_list()]

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
            return dict(zip(found["key"].to_pylist(), matrix(found["vector"].combine_chunks())))

        return self._read(vectors) if keys else {}

    @in_sentences
    def image(self, key: str) -> bytes | None:
        def image(table):
            return self._query(table, Filter(keys=(key,)), ("image",)).limit(1).to_list()

        return next((row["image"] for row in self._read(image)), None)

    @in_sentences
    def summary(self) -> Summary:
        def summary(table):
            import pyarrow.compute as pc

            version = table.version
            if self._summary is not None and self._summary[0] == version:
                return self._summary[1]
            seen: dict[str, set] = {"camera": set(), "modality": set(), "names": set()}
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

    def _put(self, entries: Sequence[Entry]) -> int:
        """Put entries in the place of those with their keys, a part at a time; how many were there. What stood there
        before stays in the files."""
        updated = 0
        for start in range(0, len(entries), PART):
            new = {entry.key: entry for entry in entries[start : start + PART]}
            found = self._query(self._table, Filter(keys=tuple(new)), ("key", "vector", "image")).limit(PART)
            rows = [
                Row(new[row["key"]], np.array(row["vector"], np.float32), row["image"])
                for row in found.to_list()
            ]
            if rows:
                merge = self._table.merge_insert("key").when_matched_update_all()
                merge.execute(rows_table(rows))
            updated += len(rows)
        return updated

    def _drop_indices(self) -> None:
        """An index holds copies of the vectors."""
        for index in self._table.list_indices():
            self._table.drop_index(index.name)

    def _read(self, function: Callable, *arguments):
        """The function's value for the latest version of the table."""
        return again(lambda: function(self._table, *arguments))

    def _query(self, table, filter: Filter, fields: Sequence[str]):
        query, condition = table.search().select(list(fields)), expression(filter)
        return query if condition is None else query.where(condition)


def cells(rows: int) -> int:
    """Of an index over so many rows."""
    return max(1, round(math.sqrt(rows)))
