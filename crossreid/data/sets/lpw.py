"""LPW (Song et al. 2018): sequences of people in three streets, two to four views of each person."""

from __future__ import annotations

import os
from pathlib import Path

from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.images.listing import folder_names, image_names
from crossreid.records import Image, UserError

# scene: the number of its first camera; views of a scene are numbered on from there.
FIRST_CAMERA = {1: 1, 2: 4, 3: 8}
VIEWS = {1: 3, 2: 4, 3: 4}
QUERY_VIEW = 2
IDENTITIES_PER_SCENE = 100_000


def read(root: Path) -> dict[str, list[Image]]:
    """``train``: scenes 2 and 3; ``query``: view 2 of scene 1; ``gallery``: its views 1 and 3.

    Identities are numbered anew in each scene: identity is the scene times 100000 plus the folder's own number. Cameras
    are 1 to 11. Images are in order of scene, view, identity and name.
    """
    root = find_root(root, tuple(f"scen{scene}" for scene in VIEWS), SOURCE.title)
    return {
        "train": [
            image
            for scene in (2, 3)
            for view in range(1, VIEWS[scene] + 1)
            for image in _view(root, scene, view)
        ],
        "query": _view(root, 1, QUERY_VIEW),
        "gallery": [image for view in (1, 3) for image in _view(root, 1, view)],
    }


def check(root: Path) -> list[Finding]:
    """Folders of views that are missing."""
    root = find_root(root, tuple(f"scen{scene}" for scene in VIEWS), SOURCE.title)
    folders = [f"scen{scene}/view{view}" for scene, views in VIEWS.items() for view in range(1, views + 1)]
    return [Finding("error", f"{folder} is missing.") for folder in folders if not (root / folder).is_dir()]


def _view(root: Path, scene: int, view: int) -> list[Image]:
    camera, images = FIRST_CAMERA[scene] + view - 1, []
    # Built as text: a Path for each of 590 547 images would take most of the time.
    folder = os.path.join(root, f"scen{scene}", f"view{view}")
    for name in folder_names(folder) if os.path.isdir(folder) else ():
        if not name.isdecimal():
            raise UserError(
                f"{os.path.join(folder, name)}: folders are named by numbers of identities. Remove it."
            )
        identity, own = scene * IDENTITIES_PER_SCENE + int(name), os.path.join(folder, name)
        images += [(identity, os.path.join(own, file)) for file in image_names(own)]
    images.sort()
    return [Image(Path(path), identity, camera) for identity, path in images]


SOURCE = Source(
    name="lpw",
    title="LPW",
    paper="Song et al., Region-based Quality Estimation Network for Large-scale Person Re-identification, AAAI 2018",
    paper_address="https://arxiv.org/abs/1711.08766",
    obtain="Its authors hand it out from the data set's page, for research only.",
    address="https://liuyu.us/dataset/lpw/index.html",
    licence="research only",
    caveats="Consecutive frames are nearly alike: train on a share of them. A slimmed copy (data_slim) also goes "
    "round; it has fewer images and is read too.",
    basis="published readers of the data set, which agree on the division; counts are theirs",
    layout="""pep_256x128/
  scen1/view1/1/1.jpg   (scene, view, identity)
  scen1/view2 view3   scen2/view1 ... view4   scen3/view1 ... view4""",
    folder="pep_256x128",
    read=read,
    protocol="single_query",
    expected={
        "train": Counts(1975, 418739, 8, exact=False),
        "query": Counts(756, 63118, 1, exact=False),
        "gallery": Counts(756, 108690, 2, exact=False),
    },
    check=check,
)
