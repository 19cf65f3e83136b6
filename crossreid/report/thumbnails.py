"""Images of people, small and inlined."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from crossreid.report.drawing import data_uri

SIZE = (96, 160)


def thumbnail(record: dict) -> str | None:
    """The image that a ``path`` with an optional ``row`` or ``box`` names, as a small JPEG in a data URI.

    None where it cannot be read: a report of a run from another machine has its numbers all the same.
    """
    from PIL import Image

    try:
        path = Path(record["path"])
        if record.get("array_index") is not None:
            image = Image.fromarray(np.asarray(np.load(path, mmap_mode="r")[record["array_index"]]))
        else:
            image = Image.open(path)
            if record.get("box") is not None:
                image = image.crop(tuple(record["box"]))
        image = image.convert("RGB")
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        SyntaxError,
        KeyError,
        IndexError,
        Image.DecompressionBombError,
    ):
        return None
    image.thumbnail(SIZE)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=82)
    return data_uri("image/jpeg", file.getvalue())
