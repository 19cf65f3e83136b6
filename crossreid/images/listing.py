"""Which files are images, and which images folders, patterns and tables name."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossreid.files import is_address, place, reason_of
from crossreid.images import labels, tables, tars, timestamps
from crossreid.records import Image, UserError, counted

# Of the formats that ``decode`` opens.
SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .bmp .webp .gif .tif .tiff .ppm .pgm .pbm .pnm".split())
# Left by systems in every folder; hidden files are never spoken of either.
_UNSPOKEN = ("thumbs.db", "desktop.ini")


def is_image(name: str) -> bool:
    """Whether a file is named like an image, and not hidden."""
    name = os.path.basename(name)
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder is named like those that no user has made: ``.DS_Store``, ``._0001.jpg``, and
    ``__MACOSX``, the folder that macOS puts into archives."""
    return name == "__MACOSX" or (name[:1] == "." and name not in (".", ".."))


def image_names(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the images directly in a folder, sorted as plain strings.

    Hidden files, ``Thumbs.db``, folders and anything without the suffix of an image are skipped. The folder may be at
    an address. Raises UserError if it is missing or unreadable, or an image is a link that leads nowhere.
    """
    if is_address(folder):
        return [name for name in _names_at(folder, "file") if is_image(name)]
    names = []
    try:
        with os.scandir(os.fspath(folder)) as entries:
            for entry in entries:
                if not is_image(entry.name):
                    continue
                if entry.is_file():
                    names.append(entry.name)
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    raise UserError(
                        f"{entry.path} is a link to {os.readlink(entry.path)}, which does not "
                        "exist: mend or remove it."
                    )
    except OSError as error:
        raise unreadable(folder, error) from error
    names.sort()
    return names


def folder_names(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the folders directly in a folder, links to folders included, hidden ones not; sorted. The folder may be
    at an address."""
    if is_address(folder):
        return [name for name in _names_at(folder, "directory") if not is_hidden(name)]
    try:
        with os.scandir(os.fspath(folder)) as entries:
            return sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(folder: str | os.PathLike[str], error: OSError) -> UserError:
    """What to say of a folder that cannot be listed."""
    reason = {
        FileNotFoundError: "does not exist: check the path",
        NotADirectoryError: "is a file where a folder was expected: give its folder",
        PermissionError: "may not be read by this user: change its permissions",
    }.get(type(error), f"cannot be read ({error.strerror})")
    return UserError(f"{folder} {reason}.")


def files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a folder, hidden ones not, sorted in each folder; links are followed unless they lead back up."""
    try:
        real = folder.resolve()
        if real in above:
            return
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error
    for entry in entries:
        if is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from files_below(folder / entry.name, above | {real})
        else:
            yield folder / entry.name


def passed_over(folder: Path) -> str:
    """What lies below a folder and is not named like an image, such as ``3 files (.heic 2, .txt 1), the first is
    a/b.heic``; empty where there is nothing."""
    others = [
        path for path in files_below(folder) if not is_image(path.name) and path.name.lower() not in _UNSPOKEN
    ]
    if not others:
        return ""
    kinds = Counter(path.suffix.lower() or "no suffix" for path in others)
    listed = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(6))
    return (
        f"{counted(len(others), 'file')} ({listed}), the first is {others[0].relative_to(folder).as_posix()}"
    )


def listed(
    sources: Sequence[str | Path], modality: str | None = None, keep_junk: bool = False
) -> list[Image]:
    """The images that files, folders (with all below them), glob patterns and tables (``.csv``, ``.tsv``, ``.parquet``,
    ``.lance``; see ``tables.read``) name, here or at addresses such as ``s3://bucket/people``.

    modality: of every image whose line in a table does not give one; any of the words for it (rgb, ir, thermal, ...).
    keep_junk: also those lines of a table that have the identity -1.

    An image that several folders or patterns name counts once; the lines of a table are kept as they are. Hidden
    files, and files that are not named like images, are passed over in folders. Where nothing says the modality it is
    "", and identity and camera are 0. Raises UserError for a source without any image.
    """
    known = labels.modality(modality, "all images") if modality else ""
    images: list[Image] = []
    seen: set[Path] = set()
    for source in sources:
        path = place(source)
        if path.suffix.lower() in tables.SUFFIXES:
            lines = [image for _, image in tables.read(path, modality=known)]
            images += labels.without_junk(lines, str(path), keep_junk)
            continue
        for found in _found(source):
            if found.absolute() not in seen:
                seen.add(found.absolute())
                images.append(Image(found, modality=known))
    return images


def by_folder(folder: Path) -> list[Image]:
    """The images in the sub-folders of a folder, each of which is an identity and gives it its name. The folder may be
    at an address."""
    loose = image_names(folder)
    if loose:
        raise UserError(
            f"directly in {folder} lie images ({len(loose)}), the first is {loose[0]}, so that nothing says "
            f"whom they show: put the images of each identity into a sub-folder, or give a pattern that "
            f"finds the identity in the name, such as data.settings.pattern: '{labels.NAME}'."
        )
    if is_address(folder):  # which is listed once, where a request for each identity would take long
        return by_name(folder, re.compile("^(?P<identity>[^/]+)/[^/]+$"))
    images = []
    for name in folder_names(folder):
        files = image_names(folder / name)
        inner = folder_names(folder / name)
        if inner and not files:
            raise UserError(
                f"{folder / name} holds folders ({inner[0]}, ...) and no images: images directly in the folder "
                f"of each identity are expected. Give a pattern for deeper trees, such as "
                f"'(?P<camera>[^/]+)/(?P<identity>[^/]+)/'."
            )
        if not files:
            others = passed_over(folder / name)
            warnings.warn(
                f"{folder / name} holds no images{f', but {others}' if others else ''}: identity {name} is left out",
                stacklevel=2,
            )
        images += [Image(folder / name / file, modality="", extra={"identity": name}) for file in files]
    return images


def by_name(folder: Path, expression: re.Pattern[str]) -> list[Image]:
    """The images below a folder, with identity and, perhaps, camera and modality as the expression reads their paths
    below it. The folder may be at an address. Raises UserError for a path in which it finds no identity, or a part of a
    number."""
    images = []
    for path in _found_at(str(folder)) if is_address(folder) else _images_below(folder):
        told = labels.named(expression, path.relative_to(folder).as_posix(), str(folder))
        word = told.pop("modality", None)
        modality = labels.modality(word, str(path)) if word else ""
        images.append(Image(path, modality=modality, extra=told))
    return images


def named(sources: Sequence[str | Path], pattern: str, modality: str | None = None) -> list[Image]:
    """The images of ``listed``, with what a pattern or template reads in the path of each (``labels.compiled_pattern``
    with groups of any name): ``camera``, ``identity``, ``modality`` and ``time`` as tables have them, others in
    ``extra``.
    """
    expression = labels.compiled_pattern(pattern, own=True)
    return [with_labels(image, expression) for image in listed(sources, modality)]


def with_labels(image: Image, expression: re.Pattern[str]) -> Image:
    """An image with what an expression reads in its path; what is known of it already stays."""
    found = labels.told_by(expression, image.path.as_posix(), str(image.path.parent))
    word, when = found.pop("modality", None), found.pop("time", None)
    where = str(image.path)
    if word and not image.modality:
        image = replace(image, modality=labels.modality(word, where))
    if when and image.time is None:
        image = replace(image, time=timestamps.taken(when, f"{where}: time"))
    return replace(image, extra={**found, **{name: text for name, text in image.extra.items() if text}})


def _images_below(folder: Path) -> list[Path]:
    """Files first, then folders, both sorted."""
    paths = [folder / name for name in image_names(folder)]
    for name in folder_names(folder):
        paths += _images_below(folder / name)
    return paths


def name_of(image: Image) -> str:
    """The path of an image as its table gives it, or as it was found."""
    return image.extra.get("path", str(image.path))


def _found(source: str | Path) -> list[Path]:
    if is_address(source):
        return _found_at(str(source))
    path = Path(source)
    try:
        there = path.exists()
    except OSError as error:  # of a folder above it, or of its name
        raise unreadable(path, error) from error
    if path.is_dir():
        found = [each for each in files_below(path) if is_image(each.name)]
        others = passed_over(path)
        if not found:
            shards = f". {_shards(path)}" if tars.SUFFIX in others else ""
            raise UserError(
                f"{path} holds no images, nor do the folders in it{f', but {others}' if others else ''}: expected "
                f"files that end in {', '.join(sorted(SUFFIXES))}{shards}"
            )
        if others:
            warnings.warn(f"{path}: passed over, not being named like images: {others}", stacklevel=2)
        return found
    if there and path.suffix.lower() == tars.SUFFIX:
        raise UserError(
            f"{path} is a tar, and an image, a folder, a pattern or a table was expected. {_shards(path)}"
        )
    if there:
        return [path]
    if glob.has_magic(str(source)):
        found = sorted(
            Path(name) for name in glob.glob(str(source), recursive=True) if not os.path.isdir(name)
        )
        found = [each for each in found if is_image(each.name)]
        if found:
            return found
        raise UserError(f"no image fits the pattern {source}: check it, from the folder {Path.cwd()}")
    raise UserError(f"there is nothing at {path}: expected an image, a folder, a pattern or a table (.csv)")


def _shards(path: Path) -> str:
    return f"Images in tars are named by a table, which `crossreid data index {path} --out shards.csv` writes"


def _found_at(address: str) -> list[Path]:
    """The images at an address, in the order in which those of a folder come."""
    base: Any = place(address)
    with _answering(address):
        if glob.has_magic(address):
            names = base.fs.glob(base.path)
        else:
            names = base.fs.find(base.path)
    depth = len(base.path.rstrip("/").split("/")) if not glob.has_magic(address) else 0
    found = [
        parts
        for name in names
        if is_image(name) and not any(map(is_hidden, (parts := name.split("/"))[depth:]))
    ]
    if not found:
        raise UserError(
            f"{address} holds no images: expected files that end in {', '.join(sorted(SUFFIXES))}, or a table (.csv)"
        )
    return [place(base.fs.unstrip_protocol("/".join(parts))) for parts in sorted(found)]


def _names_at(folder: Any, kind: str) -> list[str]:
    """Names of the files ("file") or folders ("directory") directly in a folder at an address, sorted."""
    with _answering(folder):
        found = folder.fs.ls(folder.path, detail=True)
    return sorted(each["name"].rstrip("/").rpartition("/")[2] for each in found if each["type"] == kind)


@contextmanager
def _answering(address: object) -> Iterator[None]:
    """Turns what stores raise, each kind its own, into a UserError."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"{address} cannot be listed ({reason_of(error)}): check the address, and whether you may read it"
        ) from error
