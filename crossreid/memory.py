"""How much memory is free, so that what cannot fit is refused before hours of work and not after them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from crossreid.records import UserError

# Limits of a container, in bytes, under which the machine may have more.
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


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
