"""Identity and camera as the names of images tell them."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.images import labels
from crossreid.images.listing import image_names
from crossreid.records import Image, UserError

DISTRACTOR = 0
MARKET = re.compile(labels.NAME)


def named(
    folder: Path, pattern: re.Pattern, example: str | None = None, *, camera: int | None = None
) -> list[Image]:
    """The images directly in a folder, sorted by name, without junk (identity -1).

    pattern: what each name begins with; its groups are ``identity`` and, unless ``camera`` is given, ``camera``.
    example: such a name, to be shown where a name does not fit. Without one such images are left out: some data sets
        keep masks among their images.
    camera: of all images of the folder.
    Raises UserError that names the first image whose name does not fit.
    """
    images = []
    for name in image_names(folder):
        match = pattern.match(name)
        if match is None:
            if example is None:
                continue
            raise UserError(
                f"{folder / name}: the name does not say identity{'' if camera else ' and camera'}; names such as "
                f"{example} are expected. Remove it, or read the folder as own data ('folder')."
            )
        identity = int(match["identity"])
        if identity != labels.JUNK:
            images.append(Image(folder / name, identity, camera or int(match["camera"])))
    return images
