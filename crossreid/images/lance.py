"""Lance data sets, as LanceDB's tables: images in a column ``image``, the bytes of their files."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from crossreid.files import is_address, understood
from crossreid.records import UserError, pip_install

SUFFIX = ".lance"
# What LanceDB calls the column of row ids, which stay when other rows are deleted.
ROW = "_rowid"


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
