"""Rows of a gallery as rows of a LanceDB table: its columns, filters as expressions, and reading what others write."""

from __future__ import annotations

import functools
import json
import operator
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from crossreid.gallery.entries import Entry, Filter, age, tags
from crossreid.gallery.store import Row
from crossreid.records import UserError, pip_install

FIELDS = ("key", "path", "modality", "camera", "time", "identity", "columns", "added")
_fields = operator.attrgetter(*FIELDS)
# Seconds between the tries of a read whose files another process has just removed.
PAUSES = (0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)


def again(function: Callable):
    """The function's value. Another process may remove the files of the version being read, or the list of files that
    was just found to be the latest: then the newest is looked for and read, a bounded number of times, since what is
    missing for good is damage."""
    for pause in PAUSES:
        try:
            return function()
        except (OSError, RuntimeError, ValueError) as error:
            if not isinstance(error, FileNotFoundError) and "not found" not in str(error).lower():
                raise
        time.sleep(pause)
    return function()


def connector():
    try:
        import lancedb
    except ImportError as error:
        raise UserError(
            f"a gallery in a folder needs LanceDB, which is not installed: {pip_install('search')}"
        ) from error
    # Each reading looks for what other processes have written since.
    return functools.partial(lancedb.connect, read_consistency_interval=timedelta(0))


def schema(dimension: int):
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


def rows_table(rows: Sequence[Row], vectors: np.ndarray | None = None):
    """Rows, at least one, as LanceDB takes them. vectors: (N, D) those of the rows, where somebody has put them
    together already."""
    import pyarrow as pa

    if vectors is None:
        vectors = np.stack([row.vector for row in rows])
    entries = [row.entry for row in rows]
    values: dict[str, Any] = dict(zip(FIELDS, zip(*map(_fields, entries))))
    values |= {
        "columns": [json.dumps(entry.columns) if entry.columns else "{}" for entry in entries],
        "tags": [_lines(sorted(tags(entry))) if entry.columns else "\n" for entry in entries],
        "names": [json.dumps(sorted(entry.columns)) if entry.columns else "[]" for entry in entries],
        "age": [age(entry) for entry in entries],
        "image": [row.image for row in rows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
    }
    return pa.table(values, schema=schema(vectors.shape[1]))


def entry_of(row: dict) -> Entry:
    fields = {name: row[name] for name in FIELDS}
    return Entry(**{**fields, "columns": json.loads(fields["columns"])})


def entries_of(batch) -> list[Entry]:
    """Of an Arrow batch, column by column, which is quicker than row by row."""
    values = zip(*(batch[name].to_pylist() for name in FIELDS))
    return [
        Entry(key, path, modality, camera, time, identity, json.loads(columns), added)
        for key, path, modality, camera, time, identity, columns, added in values
    ]


def matrix(vectors) -> np.ndarray:
    """(N, D) float32 of an Arrow array of lists."""
    return vectors.flatten().to_numpy().reshape(len(vectors), vectors.type.list_size)


def expression(filter: Filter):
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
    for any_of in filter.marks():
        parts.append(
            functools.reduce(operator.or_, (col("tags").contains(_lines([each])) for each in any_of))
        )
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def _lines(tags: Sequence[str]) -> str:
    """Tags as one text in which each can be found whole: JSON holds no line breaks."""
    return "\n" + "".join(f"{tag}\n" for tag in tags)
