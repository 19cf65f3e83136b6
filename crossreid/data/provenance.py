"""Where images come from: what a rendered data set says of itself, and how its results are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from crossreid.data.source import MARK
from crossreid.files import is_address, write_json
from crossreid.records import Image

# What stands before the title of a data set that was rendered.
LAYOUT_OF = "rendered identities in the layout of "


def mark(folder: Path, layout: str, **how) -> None:
    """Write into a folder that everything below it is rendered. layout: whose names it has; how: seed, size and so
    on."""
    from crossreid import __version__

    what = "rendered identities: no image here shows a real person"
    write_json(folder / MARK, {"what": what, "layout": layout, **how, "made by": f"crossreid {__version__}"})


def rendered(images: Iterable[Image]) -> float:
    """The share of the images that lie below a marked folder, 0 to 1."""
    folders = Counter(_above(image.path) for image in images)
    known: dict = {}

    def marked(folder) -> bool:
        if folder not in known:
            above = _above(folder)
            known[folder] = _holds_mark(folder) or (above != folder and marked(above))
        return known[folder]

    below = sum(
        count
        for folder, count in folders.items()
        if marked(folder if is_address(folder) else os.path.abspath(folder))
    )
    return below / folders.total() if folders else 0.0


def _above(place):
    """The folder of a file or folder: of a path as text, which is far quicker, of an address as one."""
    return place.parent if is_address(place) else os.path.dirname(place)


def _holds_mark(folder) -> bool:
    if not is_address(folder):
        return os.path.isfile(os.path.join(folder, MARK))
    try:
        return (folder / MARK).exists()
    except Exception:  # each kind of store has its own for what may not be asked
        return False


def title(of: str, images: Iterable[Image], *, layout: bool = True) -> str:
    """What results on these images are called: ``of``, the data set's title, or what they are instead of it.

    layout: whether ``of`` names a data set, whose layout alone rendered images have; False for names of one's own.
    """
    share = rendered(images)
    if share == 0:
        return of
    if share == 1 and layout:
        return f"{LAYOUT_OF}{of}"
    return f"{of} ({'' if share == 1 else f'{share:.0%} '}rendered identities)"
