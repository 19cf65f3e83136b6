"""Images inside of tar archives, as WebDataset's shards are: found by the place of their header, never unpacked."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crossreid import files
from crossreid.images.decode import BYTE_LIMIT
from crossreid.records import UserError

SUFFIX = ".tar"
# What is fetched at once with a header: most images of persons are smaller.
_AHEAD = 2**16
# Long names and other headers of headers, which tarfile reads into memory at once.
_HEADER_LIMIT = 2**20


@dataclass(frozen=True)
class Member:
    """A file in an archive. offset: of its header, in bytes from the beginning; size: of its content, in bytes."""

    name: str
    offset: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """The files in an archive, in order; folders and links are passed over.

    Raises UserError for an archive that is compressed, so that nothing in it can be read by its place, for one that
    breaks off, and for one that is damaged or claims more than it holds.
    """
    with files.opened(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            with tarfile.open(fileobj=_Careful(file, path), mode="r:") as archive:
                while (found := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # which keeps every one otherwise
                    if found.isfile():
                        _check(found, path)
                        yield Member(found.name, found.offset_data - tarfile.BLOCKSIZE, found.size)
                end = archive.offset
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise _damaged(path, str(error)) from error
        # tarfile takes a header that it does not understand for the end.
        file.seek(min(end, size))
        if any(file.read(tarfile.BLOCKSIZE)):
            raise _damaged(path, f"what stands at byte {end} is no header")


def content(path: Path, offset: int) -> bytes:
    """The file whose header lies so many bytes from the beginning of an archive. Raises UserError where none does."""
    begun = files.piece(path, offset, tarfile.BLOCKSIZE + _AHEAD) if 0 <= offset < 2**62 else b""
    try:
        found = tarfile.TarInfo.frombuf(begun[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise UserError(
            f"{path}: no file begins at byte {offset}, where the table says one does ({error}); make the table again "
            "with `crossreid data index`"
        ) from error
    _check(found, path)
    held = begun[tarfile.BLOCKSIZE : tarfile.BLOCKSIZE + found.size]
    if found.size > len(held):
        rest = offset + tarfile.BLOCKSIZE + len(held)
        held += files.piece(path, rest, found.size - len(held))
    if len(held) < found.size:
        raise UserError(f"{path}: breaks off in {found.name}; copy the archive again")
    return held


def _check(found: tarfile.TarInfo, path: Path) -> None:
    """Raise UserError for a file that is not what an image can be."""
    if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or found.issparse():
        raise _damaged(path, f"{found.name} is no plain file in it")
    if not 0 <= found.size <= BYTE_LIMIT:
        raise UserError(
            f"{path}: {found.name} would have {found.size / 1e6:.0f} MB, more than the {BYTE_LIMIT / 1e6:.0f} MB "
            "allowed; expected photographs: leave it out of the archive"
        )


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} was refused as an archive of images ({' '.join(reason.split())[:200]}): expected a tar that is not "
        "compressed, such as `crossreid data shards` or webdataset writes; copy it again"
    )


class _Careful(io.RawIOBase):
    """The file, for tarfile, which reads as much of it at once as a header claims."""

    def __init__(self, file, path: Path):
        self._file, self._path = file, path

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT:
            raise _damaged(self._path, f"a header claims {size} bytes")
        return self._file.read(size)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()
