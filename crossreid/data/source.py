"""What is known of a data set, and what the readers share: finding the folder and listing its images."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossreid.images.listing import is_hidden, is_image, unreadable
from crossreid.records import Image, UserError

# The file by which a rendered data set says that it is one.
MARK = "rendered.json"


@dataclass(frozen=True)
class Counts:
    """What a complete split holds; ``identities`` counts distinct numbers, so distractors numbered 0 are one.

    images: None where it differs from fold to fold.
    exact: False for numbers that are only quoted in papers: a difference is then a warning and not an error.
    """

    identities: int
    images: int | None
    cameras: int | None = None
    exact: bool = True


@dataclass(frozen=True)
class Finding:
    """One thing that a check noticed. severity: ``"error"``, ``"warning"``, or ``"note"`` for what is merely said."""

    severity: str
    text: str


@dataclass(frozen=True)
class Source:
    """A data set: where it comes from, how it lies on disk, how it is read and what a complete copy holds.

    obtain: where to apply and under which terms. address: of the page to begin at. licence: the terms of use of the
        images in a few words. paper_address: of the paper, where it can be read.
    layout: the small tree that is expected on disk. basis: on what our knowledge of it rests, where that is less than a
        whole copy or the owners' own words. folder: usual folder name below ``CROSSREID_DATA``.
    read: ``read(root, **settings)`` gives images by split: ``train``, ``query``, ``gallery``, and
        ``validation`` where the data set defines one. A copy of the test images alone has no ``train``.
    settings: the names of the settings of ``read``, beside ``fold``.
    expected: counts by split under the default settings.
    protocol: name of the protocol that is usually applied.
    folds: how many official splits there are, each for a model of its own; the reader then takes ``fold``.
    check: further checks of the files at a root, beside the counts. remarks: of the splits that were read.
    validation: the settings of ``read`` that take the official validation split out of ``train``.
    prepare: what has to be done to a copy once, before it can be read.
    at_address: whether ``read`` takes a root such as ``s3://bucket/people.csv``.
    splits: where none of the authors' are found, the ten splits that ``read`` generates, with the folder they belong
    to.
    """

    name: str
    title: str
    paper: str
    obtain: str
    licence: str
    caveats: str
    layout: str
    folder: str
    read: Callable[..., dict[str, list[Image]]]
    protocol: str
    address: str = ""
    paper_address: str = ""
    basis: str = ""
    settings: tuple[str, ...] = ()
    expected: Mapping[str, Counts] = field(default_factory=dict)
    check: Callable[[Path], Iterable[Finding]] | None = None
    folds: int = 1
    remarks: Callable[[Mapping[str, Sequence[Image]]], Iterable[Finding]] | None = None
    validation: Mapping[str, object] = field(default_factory=dict)
    prepare: Callable[[Path], object] | None = None
    splits: Callable[[Path], tuple[Path, list[dict]]] | None = None
    at_address: bool = False

    def takes(self, setting: str) -> bool:
        """Whether ``read`` has a setting of that name."""
        return setting in self.settings or (setting == "fold" and self.folds > 1)


def find_root(root: str | os.PathLike, wanted: Sequence[str], title: str = "the data set") -> Path:
    """The folder that holds every entry of ``wanted``: ``root`` itself, or one folder below it.

    wanted: names of files or folders, with ``/`` between levels.
    Raises UserError that lists what was looked for and what was found, or the folders that fit where several do.
    """
    found = within(root, wanted, title)
    if found is not None:
        return found
    root = Path(root).expanduser()
    present = _names(root, title)
    missing = [name for name in wanted if not os.path.exists(root / name)]
    folders = {name.lower(): name for name in present}
    other_case = [folders[name.lower()] for name in missing if name.lower() in folders]
    hint = f" The case of letters matters: rename {first_of(other_case)}." if other_case else ""
    raise UserError(
        f"{title} was not found in {root}: looked for {first_of(wanted)} there and one folder below, missing "
        f"{first_of(missing)}; found {first_of(present) if present else 'an empty folder'}.{hint} Give the "
        f"folder that holds {first_of(wanted)}, as the data set is handed out."
    )


def within(root: str | os.PathLike, wanted: Sequence[str], title: str = "the data set") -> Path | None:
    """As ``find_root``, but None where no folder fits. Raises UserError where several do."""
    root = Path(root).expanduser()

    def fits(folder: Path) -> bool:
        # os.path answers False where Path raises, for a folder that may be listed but not entered.
        return all(os.path.exists(folder / name) for name in wanted)

    if fits(root):
        return root
    found = [root / name for name in _names(root, title) if not is_hidden(name) and fits(root / name)]
    if len({os.path.realpath(folder) for folder in found}) > 1:
        raise UserError(
            f"{title}: {len(found)} folders in {root} fit, {first_of([folder.name for folder in found])}, and which "
            "one is meant is not guessed. Give the one that is."
        )
    return found[0] if found else None


def strays(folder: Path, pattern: re.Pattern) -> list[Finding]:
    """What does not belong in a folder of images, for checks: one finding for each kind, naming the first.

    Files that are not images and folders are skipped by readers, thus warnings; images whose name does
    not match ``pattern`` in full, and images without a single byte, are errors. Hidden files are left
    unmentioned.
    """
    kinds: dict[tuple[str, str], list[str]] = {
        ("error", "images with an unexpected name"): [],
        ("error", "images of zero bytes"): [],
        ("warning", "entries that are not images and are not read"): [],
    }
    unexpected, empty, other = kinds.values()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name) or entry.name == MARK:
                    continue
                if not is_image(entry.name) or not entry.is_file():
                    other.append(entry.name)
                elif not pattern.fullmatch(entry.name):
                    unexpected.append(entry.name)
                elif not entry.stat().st_size:
                    empty.append(entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error
    return [
        Finding(severity, f"{folder}: {len(names)} {what}, the first is {min(names)}.")
        for (severity, what), names in kinds.items()
        if names
    ]


def deviation(what: str, images: Sequence[Image], identities: int, count: int) -> list[Finding]:
    """One error where there are not so many images of so many identities; or nothing. what: they are."""
    found = len({image.identity for image in images}), len(images)
    if found == (identities, count):
        return []
    return [
        Finding(
            "error",
            f"{what}: {found[0]} identities and {found[1]} images found, {identities} and {count} expected.",
        )
    ]


def _names(root: Path, title: str) -> list[str]:
    try:
        return sorted(os.listdir(root))
    except FileNotFoundError as error:
        parent = root.parent
        beside = sorted(os.listdir(parent)) if parent.is_dir() and os.access(parent, os.R_OK) else []
        found = f"{parent} holds {first_of(beside)}" if beside else f"{parent} is empty or does not exist"
        raise UserError(f"{title}: the folder {root} does not exist ({found}). Correct the path.") from error
    except OSError as error:
        raise unreadable(root, error) from error


def first_of(names: Sequence[str], limit: int = 12) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
