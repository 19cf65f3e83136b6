"""Zip archives of other programs (``.pt``, ``.npz``), opened with an eye on what they would unpack to."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crossreid.records import UserError

# What reading a file may take in memory: so many times its own size, and a little for small ones.
TIMES, LITTLE = 4, 16 * 2**20
MEMBERS = 200_000


def room(path: Path) -> int:
    """Bytes that the content of a file may take in memory."""
    return TIMES * path.stat().st_size + LITTLE


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive. Raises UserError where the sizes that its directory declares are out of all proportion."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        swollen = sum(member.file_size for member in members)
        if swollen > room(path) or len(members) > MEMBERS:
            raise UserError(
                f"{path} was refused: its {len(members)} members would unpack to {swollen / 2**20:.0f} MiB, "
                f"and the file has {path.stat().st_size / 2**20:.2f}: an archive of weights or features is "
                "about as large as what it holds"
            )
        yield archive


def content(archive: zipfile.ZipFile, name: str) -> bytearray:
    """A member, in memory that can be written to."""
    held = bytearray(archive.getinfo(name).file_size)
    with archive.open(name) as member:
        place = 0
        with memoryview(held) as view:
            while piece := member.read(min(2**22, len(held) - place)):
                view[place : place + len(piece)] = piece
                place += len(piece)
        if place != len(held) or member.read(1):
            raise zipfile.BadZipFile(f"the member {name!r} has not the size that is declared")
    return held
