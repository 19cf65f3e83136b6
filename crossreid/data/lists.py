"""Text files that list images: a path below the data set's folder and a number on each line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from crossreid.data.source import Finding
from crossreid.records import UserError


def read_list(path: Path) -> list[tuple[str, int]]:
    """(relative path with ``/``, number) of each line; blank lines and Windows line ends are tolerated.

    Raises UserError naming the line that is not a relative path and a number, or leads out of the folder.
    """
    entries = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name = name.strip().replace("\\", "/")
        if not name or not label.isdecimal():
            raise UserError(
                f"{path}, line {number}, is {line.strip()[:80]!r}: an image's path and a number with one "
                "blank between them were expected. Copy the file again from the data set's archive."
            )
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or ":" in parts[0]:
            raise UserError(
                f"{path}, line {number}, leads out of the data set ({name[:80]!r}) and is refused: copy the "
                "file again from the data set's archive."
            )
        entries.append((name, int(label)))
    if not entries:
        raise UserError(f"{path} lists no images: copy it again from the data set's archive.")
    return entries


def read_numbers(path: Path) -> list[int]:
    """The comma-separated integers of the first line, sorted."""
    line = (_text(path).splitlines() or [""])[0]
    try:
        numbers = sorted(int(word) for word in line.split(",") if word.strip())
    except ValueError:
        numbers = []
    if not numbers:
        raise UserError(
            f"{path} begins with {line[:60]!r}: one line of integers with commas between them was expected. "
            f"Copy it again from the data set's archive."
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: copy it there from the data set's archive.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as text ({error}): copy it again from the archive."
        ) from error
