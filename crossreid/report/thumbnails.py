"""Images of people, small and inlined."""

from __future__ import annotations

import io

from crossreid.data.loading import read_image
from crossreid.records import UserError
from crossreid.report.drawing import data_uri
from crossreid.report.runs import Run, image_of

SIZE = (96, 160)


def thumbnail(run: Run, record: dict) -> str | None:
    """The image that a record of ``evaluation.json`` names, as a small JPEG in a data URI.

    None where it cannot be read, or lies neither below the run's data nor in its folder: a report of a run from
    another machine has its numbers all the same.
    """
    from PIL import Image as PILImage

    found = image_of(run, record)
    if found is None:
        return None
    try:
        image = PILImage.fromarray(read_image(found))
    except UserError:
        return None
    image.thumbnail(SIZE)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=82)
    return data_uri("image/jpeg", file.getvalue())
