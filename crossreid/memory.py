"""How much memory is free, so that what cannot fit is refused before hours of work and not after them; and pages of
files that are mapped into memory, which need not stay there."""

from __future__ import annotations

import mmap
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

from crossreid.records import UserError

# Limits of a container, in bytes, under which the machine may have more.
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
# The maps of ``mapped``, and the address at which each begins.
_MAPS: weakref.WeakKeyDictionary[mmap.mmap, int] = weakref.WeakKeyDictionary()


def mapped(array: np.memmap) -> np.ndarray:
    """The array of a memory map to which nobody writes any more, so that ``let_go`` may take its pages."""
    pages = array.base
    assert isinstance(pages, mmap.mmap)
    _MAPS[pages] = np.frombuffer(pages, np.uint8).ctypes.data
    return np.asarray(array)


def let_go(values: np.ndarray) -> None:
    """Take the pages of these contiguous values out of this process, where they are of a map of ``mapped``: whoever
    looks at them again gets them from the file. Values of other kinds stay as they are."""
    begin = values.ctypes.data
    for pages, start in list(_MAPS.items()):
        if start <= begin < start + len(pages) and hasattr(mmap, "MADV_DONTNEED"):
            first = (begin - start) // mmap.PAGESIZE * mmap.PAGESIZE
            pages.madvise(mmap.MADV_DONTNEED, first, begin - start + values.nbytes - first)


def free() -> int | None:
    """Bytes that this process can still take, of the machine and of the container it may run in; None where neither
    says."""
    found = []
    with suppress(ImportError):  # an exported model is used where nothing of the kind is installed
        import psutil

        found.append(psutil.virtual_memory().available)
    for limit, used in _LIMITS:
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such group, or the word "max"
            continue
    return min(found, default=None)


def require(size: int, what: str, instead: str) -> None:
    """Raise UserError when ``size`` bytes are more than are free.

    what: "the stripes of 93820 images"; instead: what the user can do, a clause after a colon.
    """
    available = free()
    if available is not None and size > available:
        raise UserError(
            f"{what} would take {size:,} bytes ({size / 2**30:.1f} GiB), but only "
            f"{max(available, 0) / 2**30:.1f} GiB of memory are free: {instead}"
        )
