"""Queries in one folder or table, the gallery in another: a test set without the layout of a data set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crossreid.files import is_address, place
from crossreid.images import labels, tables
from crossreid.images.listing import by_folder, by_name, folder_names, image_names
from crossreid.records import Image, UserError


def read(
    query: str | Path,
    gallery: str | Path,
    *,
    pattern: str | None = None,
    same_camera: bool = True,
    modalities: tuple[str | None, str | None] = (None, None),
    keep_junk: bool = False,
) -> tuple[list[Image], list[Image]]:
    """The queries and the gallery, each sorted by path; an identity has the same number in both.

    query, gallery: a folder, or a table as of ``crossreid.images.tables.read`` with the column identity, here or at an
        address.
    pattern: as of the data set ``folder``: a regular expression with the groups identity and, if wanted, camera and
        modality. Without one, sub-folders are identities; images that lie directly in a folder must be named as in
        Market-1501, 0002_c1s1_000451_03.jpg.
    same_camera: images of one identity by one camera will be excluded, so cameras must be told of all or of none;
        if of none, each folder is a camera.
    modalities: of the queries and of the gallery, where neither pattern nor table tells it.
    keep_junk: whether identity -1 is an identity like any other; else its images are left out.

    Where nothing tells the modality of an image, it is "". Raises UserError naming the first image that does not fit.
    """
    places = [place(side) if is_address(side) else Path(side).expanduser() for side in (query, gallery)]
    sides = []
    for where, word in zip(places, modalities):
        side = labels.without_junk(_side(where, pattern), str(where), keep_junk)
        if not side:
            raise UserError(
                f"no images were found in {where}: give a folder of images, or of folders of one identity each"
            )
        given = labels.modality(word, str(where)) if word else ""
        sides.append([image if image.modality else replace(image, modality=given) for image in side])
    there = any(map(is_address, places))
    apart = places[0] != places[1] if there else not places[0].samefile(places[1])
    both = with_cameras(
        [*sides[0], *sides[1]], len(sides[0]) if apart else 0, f"{query} and {gallery}", same_camera
    )
    both = labels.numbered(both, f"{query} and {gallery}")
    return both[: len(sides[0])], both[len(sides[0]) :]


def with_cameras(images: Sequence[Image], queries: int, where: str, same_camera: bool) -> list[Image]:
    """The images with a number for their camera where nothing tells it.

    Told of none, it is 1 for the first ``queries`` images and 2 for the others: two plain folders are two cameras.
    Raises UserError where it is told of some images only and ``same_camera`` makes it matter: an unknown camera must
    not be taken for a known one.
    """
    untold = [not image.extra.get("camera") for image in images]
    if same_camera and any(untold) and not all(untold):
        raise UserError(
            f"{where}: the camera of {sum(untold)} of {len(images)} images is not told, so whether they are by the "
            "query's camera is unknown. Tell it of all (in the names, a pattern with the group camera, or the column "
            "camera), or let images of one camera count (protocol.same_camera: false)"
        )
    if same_camera and images and all(untold) and queries:
        warnings.warn(
            f"{where}: no camera is known, so all queries count as camera 1 and the gallery as camera 2, and the "
            "same-camera rule leaves nothing out; scores are higher than with cameras. Where the names tell them, give "
            "a pattern with the group camera, or a table with the column camera",
            stacklevel=2,
        )
    return [
        replace(image, camera=1 if at < queries else 2) if missing else image
        for at, (image, missing) in enumerate(zip(images, untold))
    ]


def _side(where: Path, pattern: str | None) -> list[Image]:
    if where.suffix.lower() in tables.SUFFIXES:
        return [image for _, image in tables.read(where, ("path", "identity"))]
    if pattern is None and folder_names(where) and not image_names(where):
        return by_folder(where)
    return by_name(where, labels.compiled_pattern(pattern))
