"""The images of a gallery's entries: files under one folder and nowhere else."""

from __future__ import annotations

from pathlib import Path

from crossreid.files import path_of
from crossreid.gallery import Entry
from crossreid.gallery.entries import box_of
from crossreid.images.apart import Closed, Decoders
from crossreid.records import UserError

THUMBNAIL, FULL = (160, 320), (1600, 1600)


class EntryImages:
    """Small and large copies of the images of entries.

    gallery: keeps small copies of some. root: the folder below which the files lie, or None for the small copies only.
    decoders: for files and copies, of which nobody knows who made them.

    What is sent is always a fresh JPEG, so no metadata of a file leaves the server, and no file that is not an image.
    """

    def __init__(self, gallery, root: Path | None, decoders: Decoders, limit_pixels: int):
        self._gallery, self._decoders = gallery, decoders
        self._root = None if root is None else root.resolve(strict=True)
        self._limit_pixels = limit_pixels

    def locate(self, path: str) -> Path | None:
        """The file that an entry's path means, None when it is not a file below the root.

        Links and ``..`` are followed first, and what counts is where they lead.
        """
        if self._root is None or not path:
            return None
        try:
            found = path_of(str(self._root / path)).resolve(strict=True)
            inside = found.is_relative_to(self._root) and found.is_file()
        except (OSError, ValueError, RuntimeError):
            return None
        return found if inside else None

    def jpeg(self, key: str, full: bool) -> bytes | None:
        """The image of the entry of that key as JPEG, None when there is none to be had.

        The small copy that the gallery keeps comes first, or last where the full image is asked for.
        """
        kept = self._gallery.image(key)
        entry = self._gallery.get(key) if full or not kept else None
        sources = [
            lambda: self._small(kept, None, full) if kept else None,
            lambda: self._read(entry, full) if entry else None,
        ]
        for source in reversed(sources) if full else sources:
            content = source()
            if content is not None:
                return content
        return None

    def name(self, entry: Entry) -> str:
        """The entry's path for reading: below the root, else the name of the file alone."""
        path = Path(entry.path)
        if self._root is not None and path.is_relative_to(self._root):
            return path.relative_to(self._root).as_posix()
        return path.name if path.is_absolute() or ".." in path.parts else entry.path

    def _read(self, entry: Entry, full: bool) -> bytes | None:
        file = self.locate(entry.path)
        return None if file is None else self._small(file, box_of(entry), full)

    def _small(self, source: bytes | Path, box, full: bool) -> bytes | None:
        try:
            return self._decoders(
                source, preview=FULL if full else THUMBNAIL, box=box, limit_pixels=self._limit_pixels
            )[0]
        except (UserError, Closed):
            return None
