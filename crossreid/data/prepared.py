"""The array of decoded training images that ``crossreid data prepare`` made, in the place of the files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crossreid.files import is_address, understood
from crossreid.formats.arrays import map_npy
from crossreid.formats.text import read_json
from crossreid.images import tars
from crossreid.records import Image, UserError


def rows(
    images: Sequence[Image], root: str | os.PathLike, size: tuple[int, int], interpolation: str
) -> list[Image]:
    """The same images as rows of the array that ``prepare.write_array`` wrote for this size and interpolation.

    Raises UserError if there is none, or it lacks one of the images.
    """
    root = folder_of(root)
    array, index = array_of(root, size, interpolation)
    remake = (
        f"Make it with 'crossreid data prepare' for {root}, size {size[0]} {size[1]} and interpolation "
        f"{interpolation}, or train without prepared images."
    )
    if not (array.is_file() and index.is_file()):
        raise UserError(f"there is no complete array of prepared images {array.name} in {root}. {remake}")
    with understood(index, remake):
        row_of = {name: position for position, name in enumerate(read_json(index, remake)["images"])}
    shape = map_npy(array, remake).shape
    if shape != (len(row_of), *size, 3):
        raise UserError(f"{array} has the shape {shape}, but its index names {len(row_of)} images. {remake}")
    found = []
    for image in images:
        name = name_of(image, root)
        if name not in row_of:
            raise UserError(f"{array} does not hold {name}. {remake}")
        found.append(replace(image, path=array, array_index=row_of[name], box=None))
    return found


def folder_of(root: str | os.PathLike) -> Path:
    """The folder of a copy, which a reader may take the table in it for. Raises UserError for an address."""
    if is_address(root):
        raise UserError(
            f"{root} is an address, and prepared images are mapped from a disk of this computer: copy the data set "
            f"here (`crossreid data shards csv {root} FOLDER` copies a table with its images, then prepare "
            "FOLDER/index.csv), or train without prepared images (data.prepared false)"
        )
    root = Path(root).expanduser()
    return root.parent if root.is_file() else root


def array_of(root: Path, size: tuple[int, int], interpolation: str) -> tuple[Path, Path]:
    """The files of the array and of its index."""
    stem = f"crossreid_{size[0]}x{size[1]}_{interpolation}"
    return root / f"{stem}.npy", root / f"{stem}.json"


def name_of(image: Image, root: Path) -> str:
    """The name of an image in the index, with its place in a tar and its box where it has one."""
    path, root = image.path.absolute(), root.absolute()
    in_tar = image.array_index is not None and path.suffix.lower() == tars.SUFFIX
    if (image.array_index is not None and not in_tar) or not path.is_relative_to(root):
        raise UserError(
            f"{image.path} is not an image below {root}, and only these can be prepared: put the data set, or its "
            "table, into a folder above all images, or train without prepared images (data.prepared false)"
        )
    name = path.relative_to(root).as_posix() + f" at {image.array_index}" * in_tar
    return name if image.box is None else f"{name} {list(image.box)}"
