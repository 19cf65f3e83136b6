"""Queries in one folder, the gallery in another, wherever they lie: a test set without the layout of a data set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from crossreid.data import own
from crossreid.data.sets import folder
from crossreid.data.source import folder_names, image_names
from crossreid.records import Image, UserError

# Names of Market-1501, which many others have taken over: identity and camera, of any number of digits.
NAME = r"^(?P<identity>-?\d+)_c(?P<camera>\d+)"
JUNK = "-1"


def read(
    query: str | Path,
    gallery: str | Path,
    *,
    pattern: str | None = None,
    same_camera: bool = True,
    modalities: tuple[str | None, str | None] = (None, None),
) -> tuple[list[Image], list[Image]]:
    """The queries and the gallery, each sorted by path; an identity has the same number in both.

    pattern: as of the data set ``folder``: a regular expression with the groups identity and, if wanted, camera and
        modality. Without one, sub-folders are persons; images that lie directly in a folder must be named as in
        Market-1501, 0002_c1s1_000451_03.jpg, and those of its junk identity -1 are left out.
    same_camera: images of one person by one camera will be disregarded, so cameras must be told of all or of none.
    modalities: of the queries and of the gallery, where the pattern does not tell it.

    Raises UserError naming the first image that does not fit.
    """
    sides = []
    for place, modality in zip((Path(query).expanduser(), Path(gallery).expanduser()), modalities):
        rows = _side(place, pattern)
        if not rows:
            raise UserError(
                f"no images were found in {place}: give a folder of images, or of folders of one person each"
            )
        if modality is not None:
            rows = [(*row[:3], own.modality(modality, str(place))) for row in rows]
        sides.append(rows)
    identities = own.numbers(row[1] for side in sides for row in side)
    cameras = camera_numbers(
        [[row[2] for row in side] for side in sides], f"{query} and {gallery}", same_camera
    )
    if Path(query).expanduser().resolve() == Path(gallery).expanduser().resolve():
        cameras[1] = cameras[0]
    queries, others = (
        [
            Image(path, identities[identity], camera, modality)
            for (path, identity, _, modality), camera in zip(side, seen)
        ]
        for side, seen in zip(sides, cameras)
    )
    return queries, others


def camera_numbers(sides: Sequence[Sequence[str | None]], place: str, same_camera: bool) -> list[list[int]]:
    """The camera of each image of the queries and of the gallery. Where none is told, each side is one of its own.

    Raises UserError where only some cameras are told and ``same_camera`` makes them matter: an unknown camera must
    not be taken for a known one.
    """
    cameras = [camera for side in sides for camera in side]
    numbers = own.numbers(camera for camera in cameras if camera is not None)
    if same_camera and numbers and None in cameras:
        raise UserError(
            f"{place}: the camera of {sum(camera is None for camera in cameras)} of {len(cameras)} images is not "
            "told, so whether they are by the query's camera is unknown. Tell it of all (in the names, a pattern with "
            "the group camera, or the column camera), or let images of one camera count (protocol.same_camera: "
            "false)"
        )
    if not numbers:
        return [[number] * len(side) for number, side in enumerate(sides, 1)]
    return [[1 if camera is None else numbers[camera] for camera in side] for side in sides]


def compiled(pattern: str | None) -> re.Pattern:
    """The expression that reads names."""
    return folder.compiled(pattern or NAME)


def fields(expression: re.Pattern, name: str, place) -> tuple[str, str | None]:
    """Identity and camera in a name, whose last part is searched when the whole does not fit."""
    match = expression.search(name) or expression.search(name.rpartition("/")[2])
    found = match.groupdict() if match else {}
    if not found.get("identity"):
        raise UserError(
            f"{place}: the name {name} does not say whom the image shows: names such as 0002_c1s1_000451_03.jpg, "
            "or a pattern with the groups identity and camera, are expected"
        )
    return found["identity"], found.get("camera") or None


def _side(place: Path, pattern: str | None):
    if pattern is None and folder_names(place) and not image_names(place):
        return folder.by_folder(place)
    rows = folder.by_pattern(place, compiled(pattern))
    return rows if pattern else [row for row in rows if row[1] != JUNK]
