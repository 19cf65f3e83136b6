"""One writer at a time, among processes too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossreid.records import UserError

PATIENCE = 60.0


@contextmanager
def writing(path: Path, patience: float | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    The system lets go of the lock when a process ends, however it ends, so none is ever left behind.
    patience: seconds to wait for another process, by default a minute. Raises UserError when that is not enough, or
    when the folder may not be written.
    """
    patience = PATIENCE if patience is None else patience
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"the gallery {path.parent} cannot be changed ({error.strerror}): change its permissions, or open it with "
            "read_only=True to search it"
        ) from error
    try:
        until = time.monotonic() + patience
        while not _take(descriptor):
            if time.monotonic() > until:
                raise UserError(
                    f"the gallery {path.parent} has been locked by another process for {patience:g} seconds: wait "
                    "until that has written what it writes, or end it"
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
