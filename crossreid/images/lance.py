"""Lance data sets, as LanceDB's tables: images in a column ``image``, the bytes of their files."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from crossreid.files import is_address, understood
from crossreid.records import UserError, pip_install

SUFFIX = ".lance"
# What LanceDB calls the column of row ids, which stay when other rows are deleted.
ROW = "_rowid"
# So many rows are looked at together for how long they are: a small data set can hold any number of equal long ones.
_FEW = 16


def opened(path: Path):
    """The data set of a path, as it was when this process opened it first."""
    return _opened(str(path if is_address(path) else path.absolute()), os.getpid())


@functools.lru_cache(maxsize=16)
def _opened(path: str, process: int):
    """``process`` makes it another entry of the cache in a process that was forked."""
    return latest(path)


def latest(path: str | Path):
    """The data set of a path, as it is now."""
    try:
        import lancedb
    except ImportError as error:
        raise UserError(f"{path} needs LanceDB, which is not installed: {pip_install('search')}") from error
    folder, _, name = str(path).replace(os.sep, "/").rpartition("/")
    with understood(path, "expected a Lance data set, a folder that ends in .lance and that Lance wrote"):
        return lancedb.connect(folder).open_table(name.removesuffix(SUFFIX))


def holds_images(path: Path) -> bool:
    """Whether it is a Lance data set with the images themselves, and no ``path`` that leads to their files."""
    if path.suffix.lower() != SUFFIX:
        return False
    names = opened(path).schema.names
    return "image" in names and "path" not in [name.lower() for name in names]


def long_text(rows, names: Sequence[str], limit: int) -> str | None:
    """The first of these columns of an opened data set in which a text has more than ``limit`` bytes; a few rows are in
    memory at a time."""
    from lancedb.expr import col, func
    from pyarrow import types

    for name in names:
        kind = rows.schema.field(name).type
        texts = types.is_string(kind) or types.is_large_string(kind)
        if texts and _any(rows, name, func("octet_length", col(name)) > limit):
            return name
    return None


def length_of_lists(rows, name: str) -> int | None:
    """How many items each list of this column of an opened data set has; None where some have others, or none. A few
    rows are in memory at a time."""
    items = f"array_length(`{name}`)"
    first = rows.search().select({"items": items}).limit(1).to_list()
    length = first[0]["items"] if first else None
    return None if length is None or _any(rows, name, f"{items} IS NULL OR {items} <> {length}") else length


def _any(rows, name: str, condition) -> bool:
    """Whether some row meets a condition on this column."""
    query = rows.search().where(condition).select([name]).limit(1)
    return any(len(batch) for batch in query.to_batches(batch_size=_FEW))


def content(path: Path, row: int) -> bytes:
    """The file of the image with that row id. Raises UserError where there is none."""
    remedy = (
        "the data set was changed since its rows were listed, or is damaged: begin again, or write it again"
    )
    with understood(path, remedy):
        found = opened(path).take_row_ids([row]).select(["image"]).to_arrow()
        if len(found) != 1 or found["image"][0].as_py() is None:
            raise UserError(f"{path} has no image in row {row}: {remedy}")
        return bytes(found["image"][0].as_py())
