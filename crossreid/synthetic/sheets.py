"""Contact sheets: many images at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from crossreid.synthetic.cameras import Camera
from crossreid.synthetic.people import person
from crossreid.synthetic.rendering import moment, render
from crossreid.synthetic.styles import Style


def contact_sheet(
    identities: Sequence[int],
    cameras: Sequence[Camera],
    *,
    seed: int = 0,
    domain: int | str | Style = "market1501",
    images: int = 1,
    size: tuple[int, int] = (128, 64),
    zoom: int = 1,
    jitter: float = 1.0,
    occlusion: float = 0.12,
) -> Image.Image:
    """An image with one row for each identity and ``images`` columns for each camera.

    size: (height, width) of each image in pixels; zoom: whole number by which they are enlarged.
    """
    gap = 2
    height, width = size
    columns = len(cameras) * images
    sheet = np.full((len(identities) * (height + gap), columns * (width + gap), 3), 255, np.uint8)
    for row, identity in enumerate(identities):
        who = person(identity, seed, domain)
        for column in range(columns):
            what = cameras[column // images]
            view = moment(identity, column % images)
            image = render(who, what, view, size=size, jitter=jitter, occlusion=occlusion)
            y, x = row * (height + gap), column * (width + gap)
            sheet[y : y + height, x : x + width] = image
    whole = Image.fromarray(sheet)
    return (
        whole.resize((whole.width * zoom, whole.height * zoom), Image.Resampling.NEAREST)
        if zoom > 1
        else whole
    )
