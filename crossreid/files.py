"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crossreid.records import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)


class Unwritable(OSError, UserError):
    """A file that could not be written; ``errno`` and ``strerror`` say why, for those who have better words for it."""

    def __init__(self, path: Path, error: OSError):
        # NumPy's errors of a full disk have no number.
        full = error.errno in (None, *FULL)
        remedy = "make room there, or choose another place" if full else "choose another place"
        super().__init__(f"{path} could not be written ({error.strerror or error}): {remedy}")
        self.errno, self.strerror = error.errno, error.strerror

    def __str__(self) -> str:
        return self.args[0]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``; what is written there becomes ``path`` when the block ends without
    error.

    After an error nothing is left and ``path`` is as it was. Raises Unwritable when the file cannot be opened, written
    or given its name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and not isinstance(error, UserError):
            if error.filename in (None, str(temporary)):
                raise Unwritable(path, error) from error
        raise


def check_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises UserError when no file can be written in it: a look ahead of long
    work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or error
        raise UserError(
            f"{folder.absolute()} cannot be written to ({reason}): choose another place"
        ) from error


def clear_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote ``path``."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        leftover.unlink()


def write_json(path: Path, value) -> None:
    """Write a value as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
