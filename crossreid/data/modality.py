"""Whether an image is visible or infrared, by the place where a visible-infrared data set keeps it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crossreid.data.sets import llcm, regdb, sysu_mm01
from crossreid.images.listing import name_of
from crossreid.records import INFRARED, MODALITIES, VISIBLE, Image, UserError


def modality_of(image) -> str:
    """``"visible"`` or ``"infrared"`` by the folders of a file, where a visible-infrared data set keeps it.

    SYSU-MM01 ``cam3/0001/0002.jpg``, RegDB ``Thermal/12/...``, LLCM ``nir/0001/...`` or ``test_nir/cam1/0001/...``.
    Pixels are not looked at: a grey image may well be of visible light.

    Raises UserError for any other place, and for anything but a path or an ``Image`` record.
    """
    if isinstance(image, Image) and image.modality:
        return image.modality
    place = image.path if isinstance(image, Image) else image
    if isinstance(place, (str, Path)) and (found := _by_place(Path(place).as_posix())):
        return found
    named = place if isinstance(place, (str, Path)) else f"an image given as {type(image).__name__}"
    raise UserError(
        f"whether {named} is visible or infrared cannot be guessed: it does not lie as in SYSU-MM01 "
        "(cam3/0001/0001.jpg), RegDB (Thermal/1/...) or LLCM (nir/0001/...). Pass modality='visible', "
        "modality='infrared', or one of them for each image"
    )


def with_modalities(images: Sequence[Image], needed: bool, options: str = "--modality") -> list[Image]:
    """The images with their modality; where nobody said it, by the place of the file.

    needed: whether a model tells modalities apart; then UserError names the first image of which neither says it, and
        otherwise such an image stays "". options: by which a user can say it.
    """
    found = [
        image if image.modality else replace(image, modality=_by_place(image.path.as_posix()))
        for image in images
    ]
    unknown = [image for image in found if not image.modality]
    if unknown and needed:
        others = f" and {len(unknown) - 1} others" if len(unknown) > 1 else ""
        raise UserError(
            f"this model treats visible and infrared images differently, and of {name_of(unknown[0])}{others} nothing "
            "says which they are: they do not lie as SYSU-MM01, RegDB or LLCM have them. Give "
            f"{options} visible or infrared, or list the images in a table with the columns path and modality"
        )
    return found


def _by_place(place: str) -> str:
    if found := re.search(r"(?:^|/)cam([1-6])/\d{4}/\d{4}\.\w+$", place):
        return INFRARED if int(found[1]) in sysu_mm01.INFRARED_CAMERAS else VISIBLE
    for modality in MODALITIES:
        thermal, near = regdb.MODALITIES[modality][0], llcm.MODALITIES[modality][0]
        if re.search(rf"(?:^|/){thermal.title()}/\d+/[^/]+$", place):
            return modality
        if re.search(rf"(?:^|/)(?:test_)?{near}/(?:cam\d/)?\d{{4}}/[^/]+$", place):
            return modality
    return ""
