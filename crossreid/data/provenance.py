"""Where images come from: what a rendered data set says of itself, and how its results are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from crossreid.data.source import MARK
from crossreid.files import write_json
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
    folders = Counter(os.path.dirname(image.path) for image in images)
    known: dict[str, bool] = {}

    def marked(folder: str) -> bool:
        if folder not in known:
            above = os.path.dirname(folder)
            known[folder] = os.path.isfile(os.path.join(folder, MARK)) or (above != folder and marked(above))
        return known[folder]

    below = sum(count for folder, count in folders.items() if marked(os.path.abspath(folder)))
    return below / folders.total() if folders else 0.0


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
