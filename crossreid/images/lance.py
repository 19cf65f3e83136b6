"""Images in a Lance data set: a column ``image`` with the bytes of their files, and columns as tables have them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

from crossreid.files import address, understood
from crossreid.records import UserError, pip_install

SUFFIX = ".lance"
# Columns of which nobody wants the text.
_NOT_TEXT = ("image", "vector", "vectors", "stripes")


def opened(path: Path):
    """The data set of a path, perhaps elsewhere, as LanceDB's table."""
    return _opened(str(path), os.getpid())


@functools.lru_cache(maxsize=16)
def _opened(path: str, process: int):
    """``process`` makes it another entry of the cache in a process that was forked."""
    try:
        import lancedb
    except ImportError as error:
        raise UserError(
            f"{path} is a Lance data set, which needs LanceDB, not installed here: {pip_install('search')}"
        ) from error
    place, _, name = (address(path) or os.path.abspath(path)).rpartition("/")
    with understood(path, "expected a Lance data set, the folder that ends in .lance; check the path"):
        return lancedb.connect(place).open_table(name.removesuffix(SUFFIX))


def text_columns(table) -> list[str]:
    """The columns of a data set that are not those of images and features."""
    return [name for name in table.schema.names if name.lower() not in _NOT_TEXT]


def texts(column) -> list[str]:
    """The values of a column of Arrow; empty where there is none."""
    return ["" if value is None else str(value).strip() for value in column.to_pylist()]


def labels(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """The columns in small letters, without those of images and features, and for each row its id and their text."""
    table = opened(path)
    names = text_columns(table)
    if "image" not in table.schema.names:
        raise UserError(
            f"{path} has the columns {', '.join(table.schema.names)}: expected image, the bytes of an image file, "
            "beside columns such as identity and camera"
        )

    def rows() -> Iterator[tuple[int, dict[str, str]]]:
        with understood(path, "write the data set again"):
            for batch in table.search().select(names).with_row_id(True).to_batches():
                columns = [texts(batch[name]) for name in names]
                ids = batch["_rowid"].to_pylist()
                for row, values in zip(ids, zip(*columns) if columns else ((),) * len(ids)):
                    yield row, dict(zip(map(str.lower, names), values))

    return [name.lower() for name in names], rows()


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
