"""Text files that list images: a path below the data set's folder and a number on each line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from crossreid.data.source import Finding
from crossreid.records import UserError


def read_list(path: Path) -> list[tuple[str, int]]:
    """(relative path with ``/``, number) of each line. Blank lines, Windows line ends and separators, tabs and a
    leading ``./`` are tolerated.

    Raises UserError naming the line that is not a relative path and a number, or leads out of the folder.
    """
    entries = []
    for number, line in enumerate(text(path).splitlines(), 1):
        if not line.strip():
            continue
        *before, label = line.strip().rsplit(None, 1)
        name = PurePosixPath("".join(before).replace("\\", "/"))
        if not name.parts or not label.isdecimal():
            raise UserError(
                f"{path}, line {number}, is {line.strip()[:80]!r}: an image's path and a number with a "
                "blank between them were expected. Copy the file again from the data set's archive."
            )
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise UserError(
                f"{path}, line {number}, leads out of the data set ({str(name)[:80]!r}) and is refused: copy the "
                "file again from the data set's archive."
            )
        entries.append((str(name), int(label)))
    if not entries:
        raise UserError(f"{path} lists no images: copy it again from the data set's archive.")
    return entries


def read_numbers(path: Path) -> list[int]:
    """The integers of a file, ascending and each once: on one line with commas between them, or one on each line."""
    content = text(path)
    try:
        numbers = sorted({int(word) for word in content.replace(",", " ").split()})
    except ValueError:
        numbers = []
    if not numbers:
        begin = f"begins with {content.strip().splitlines()[0][:60]!r}" if content.strip() else "is empty"
        raise UserError(
            f"{path} {begin}: numbers with commas or line ends between them were expected. Copy it again "
            "from the data set's archive."
        )
    return numbers


def require_folders(root: Path, names: Iterable[str], title: str) -> None:
    """Raise UserError naming the first folder, of those the listed images lie in, that is missing."""
    for folder in sorted({os.path.dirname(name) for name in names}):
        if not os.path.isdir(os.path.join(root, folder)):
            raise UserError(
                f"{title}: {os.path.join(root, folder)} is missing, although the lists of the data set name "
                f"images in it. The copy is incomplete, or letters differ in case; unpack it again."
            )


def absent(root: Path, names: Sequence[str]) -> list[Finding]:
    """One error naming how many of the listed images are missing and the first of them; or nothing."""
    present: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, file = os.path.split(name)
        if folder not in present:
            try:
                present[folder] = set(os.listdir(os.path.join(root, folder)))
            except OSError:
                present[folder] = set()
        if file not in present[folder]:
            missing.append(name)
    if not missing:
        return []
    return [
        Finding("error", f"{len(missing)} of {len(names)} listed images are missing, first {missing[0]}.")
    ]


def text(path: Path) -> str:
    """The content of a text file. Raises UserError where it is missing or cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: copy it there from the data set's archive.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as text ({error}): copy it again from the archive."
        ) from error
