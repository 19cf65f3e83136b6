"""Data sets in shards: tars in the layout of WebDataset, and the table of where in them the images are.

By the table any image of any shard is read when a batch draws it, so that samplers, resuming and the share of each
process are those of a folder of images. The shards are complete without it: of each image, the file ``KEY.jpg`` (or
.png, ...) and ``KEY.json`` with its labels, one behind the other.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from crossreid import files
from crossreid.data import provenance
from crossreid.formats.text import parse_json
from crossreid.images import tars
from crossreid.images.listing import is_hidden, is_image
from crossreid.images.reading import ahead, bar, cut, read
from crossreid.images.tables import BOX_COLUMNS, STORES
from crossreid.records import Image, UserError, counted

TABLE = "index.csv"
SIZE = 2**28
# Of labels, which are a line of text each.
_LABELS_LIMIT = 2**20


def write(splits: Mapping[str, Sequence[Image]], out: Path, size: int = SIZE) -> Path:
    """Write images into shards of about ``size`` bytes and the table beside them, and return the table.

    splits: as ``crossreid.data.read`` gives them. Files are copied as they are; what is a part of a file, by a box or
        in an array, becomes a PNG of just the pixels that training would see.
    out: a folder that is empty, or not there yet.
    Raises UserError before anything is written where an image cannot be decoded.
    """
    images = [(split, image) for split, some in splits.items() for image in some]
    share = provenance.rendered(image for _, image in images)
    if not images or 0 < share < 1:
        raise UserError("expected images that are all recorded or all rendered: write them into two folders")
    files.check_folder(out)
    if any(out.iterdir()):
        raise UserError(f"{out} is not empty: give a new folder for the shards")
    _check([image for _, image in images])
    if share:
        provenance.mark(out, "shards")
    begun = number = 0
    with bar("shards", len(images), leave=False) as progress:
        while begun < len(images):
            with (
                files.replacing(out / f"{number:06d}{tars.SUFFIX}") as temporary,
                tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as shard,
            ):
                while begun < len(images) and shard.offset < size:
                    split, image = images[begun]
                    suffix, content = _content(image)
                    for name, held in (
                        (suffix, content),
                        (".json", json.dumps(_labels(split, image)).encode()),
                    ):
                        member = tarfile.TarInfo(f"{begun:09d}{name}")
                        member.size = len(held)
                        shard.addfile(member, io.BytesIO(held))
                    begun += 1
                    progress.update(1)
            number += 1
    return index([out], out / TABLE)


def index(places: Sequence[str | Path], out: str | Path) -> Path:
    """Write the table of the images in shards, for data sets of the kind csv, and return it.

    places: tars, or folders of them, perhaps elsewhere (``s3://...``), in the layout of WebDataset: files that follow
        each other and have the same name up to its first dot belong together. Of each image, ``.json`` holds an object
        of labels (identity, camera, modality, split, ...), or ``.cls`` the identity alone.
    out: the table, perhaps elsewhere too. Shards on the same computer, or below its folder, are named relative to it.
    Raises UserError for a shard that no table may name there (``crossreid.images.tables.path_of``).
    """
    out, paths = _here(out), [path for place in places for path in _tars(place)]
    names = [_name(path, out) for path in paths]
    lines = [{"path": name, **line} for name, path in zip(names, paths) for line in _lines(path)]
    if not lines:
        raise UserError(f"there are no images in {', '.join(map(str, paths))}: expected JPEG, PNG, ...")
    if not any("camera" in line for line in lines):
        lines = [{**line, "camera": 1} for line in lines]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(map(files.cell, columns))
    table.writerows([files.cell(line.get(name, "")) for name in columns] for line in lines)
    files.write_whole(out, text.getvalue().encode())
    return out


def _check(images: Sequence[Image]) -> None:
    """Refuse images that a training could not decode: it would find out when it draws them."""
    bad = []
    with bar("check", len(images), leave=False) as progress:
        for _, found in ahead(images, lambda frame, image: cut(frame, image).shape):
            if isinstance(found, UserError):
                bad.append(str(found))
            progress.update(1)
    if bad:
        raise UserError(
            f"{len(bad)} of {counted(len(images), 'image')} cannot be read: {files.several(bad)}. Nothing was written "
            "yet: mend or remove them."
        )


def _here(place: str | Path) -> Path:
    """A place; of an address on this computer (``file://``) its path."""
    found: Any = files.place(place)
    return Path(found.path) if str(found).startswith(("file://", "local://")) else found


def _name(path: Path, out: Path) -> str:
    """What the table ``out`` calls a shard."""
    beside, there = f"{out.parent}/", files.is_address(path)
    if there and str(path).partition("://")[0] in STORES:
        return str(path)
    if not there and not files.is_address(out):
        return os.path.relpath(path, out.parent).replace(os.sep, "/")
    if there and str(path).startswith(beside):
        return str(path).removeprefix(beside)
    raise UserError(
        f"{path} cannot be named in {out}: a table names what lies below its own folder, or objects of "
        f"{', '.join(STORES)}; write the table beside the shards (--out), or copy them to where it is"
    )


def _content(image: Image) -> tuple[str, bytes]:
    if image.others:
        raise UserError(
            f"{image.path} begins a tracklet, and shards hold single images: leave such sets as they are"
        )
    if image.array_index is None and image.box is None:
        with files.opened(image.path) as file:
            return image.path.suffix.lower(), file.read()
    held = io.BytesIO()
    PILImage.fromarray(np.ascontiguousarray(read(image))).save(held, "PNG")
    return ".png", held.getvalue()


def _labels(split: str, image: Image) -> dict:
    own = {name: text for name, text in image.extra.items() if name not in ("path", "split")}
    labels = {
        "identity": image.identity,
        "camera": image.camera,
        "modality": image.modality,
        "split": split,
        **own,
    }
    return labels if image.time is None else {**labels, "time": image.time}


def _tars(place: str | Path) -> list[Path]:
    folder = _here(place)
    if folder.suffix.lower() == tars.SUFFIX:
        return [folder]
    found = [path for path in folder.glob(f"*{tars.SUFFIX}") if not is_hidden(path.name)]
    if not found:
        raise UserError(f"{place} holds no shards: expected files that end in {tars.SUFFIX}")
    return sorted(found)


def _lines(path: Path) -> Iterator[dict]:
    """Of each image its offset, and the labels that stand beside it."""

    def key(member: tars.Member) -> str:
        folder, name = os.path.split(member.name)
        return f"{folder}/{name.partition('.')[0]}"

    shown = (each for each in tars.members(path) if not any(map(is_hidden, each.name.split("/"))))
    for sample, some in groupby(shown, key):
        parts = {os.path.basename(each.name).partition(".")[2].lower(): each for each in some}
        images = [each for each in parts.values() if is_image(each.name)]
        if not images:
            continue
        where = f"{path}: {sample.lstrip('/')}"
        if len(images) > 1:
            raise UserError(
                f"{where} is {len(images)} images, {images[0].name} and {images[1].name}, and the labels beside them "
                "are of one: give each a name of its own"
            )
        yield {"offset": images[0].offset, **_told(path, parts, where)}


def _told(path: Path, parts: Mapping[str, tars.Member], where: str) -> dict:
    beside = next((parts[name] for name in ("json", "cls") if name in parts), None)
    expected = (
        "expected .json beside the image, an object with its identity and, if wanted, camera, modality and split; or "
        ".cls, with the identity alone"
    )
    if beside is None:
        raise UserError(f"{where} has no labels: {expected}")
    if beside.size > _LABELS_LIMIT:
        raise UserError(f"{beside.name} in {path} has {beside.size} bytes: {expected}")
    with files.understood(f"{path}: {beside.name}", expected):
        text = tars.content(path, beside.offset).decode("utf-8-sig")
        told = parse_json(text) if beside.name.lower().endswith("json") else {"identity": text.strip()}
        labels = {str(name).lower(): value for name, value in told.items()}
    plain = {
        name: value
        for name, value in labels.items()
        if isinstance(value, (str, int, float)) and name not in ("path", "offset", *BOX_COLUMNS)
    }
    if plain.get("identity", "") == "":
        raise UserError(f"{where} has no identity: {expected}")
    return plain
