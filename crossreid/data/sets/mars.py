"""MARS (Zheng et al. 2016): tracklets of 1261 identities before six cameras, read as a set of images."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from crossreid.data import lists, split_files
from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.formats import matlab
from crossreid.images.labels import JUNK
from crossreid.records import Image, UserError

_NAME = re.compile(r"(\d{4})C(\d+)T\d+F\d+\.[^.]+$")


def read(root: Path, *, tracklets: bool = False) -> dict[str, list[Image]]:
    """``train``: every image of the training tracklets; ``query``: the first image of each query tracklet; ``gallery``:
    every image of the other test tracklets, without junk. In the order of the lists; cameras 1 to 6, identity 0 for the
    distractors of the gallery. There is no ``train`` where the copy holds the test tracklets alone.

    tracklets: query and gallery have one image for each tracklet, its first, with the others in ``Image.others``: they
        are then evaluated by their mean, as published numbers are.
    """
    root = find_root(root, ("bbox_test", "info"), SOURCE.title)
    names, table = _listed(root, "test")
    file = root / "info" / "query_IDX.mat"
    rows = np.asarray(matlab.read_variables(file, ["query_IDX"])["query_IDX"]).ravel().astype(int) - 1
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(table):
        raise UserError(
            f"{file} points outside the list of tracklets. Copy it again from the authors' archive."
        )
    query = table[rows]
    if not tracklets:
        query[:, 1] = query[:, 0]
    splits = (
        {"train": _images(root / "bbox_train", *_listed(root, "train"))}
        if (root / "bbox_train").is_dir()
        else {}
    )
    splits["query"] = _images(root / "bbox_test", names, query, tracklets)
    splits["gallery"] = _images(root / "bbox_test", names, np.delete(table, rows, axis=0), tracklets)
    return splits


def check(root: Path) -> list[Finding]:
    """Every listed image is there."""
    images = [image for found in read(root).values() for image in found]
    root = find_root(root, ("bbox_test", "info"), SOURCE.title)
    return lists.absent(root, [image.path.relative_to(root).as_posix() for image in images])


def _listed(root: Path, part: str) -> tuple[list[str], np.ndarray]:
    """Names of all images of a part; for each tracklet (N, 4) its first and last image, from 1, identity and camera."""
    names = lists.text(root / "info" / f"{part}_name.txt").split()
    file, variable = root / "info" / f"tracks_{part}_info.mat", f"track_{part}_info"
    tracklets = np.asarray(matlab.read_variables(file, [variable])[variable])
    if tracklets.ndim != 2 or tracklets.shape[1] != 4 or tracklets[:, :2].max(initial=0) > len(names):
        raise UserError(
            f"{file} does not list tracklets among the {len(names)} names of {part}_name.txt. Copy both again from the "
            "authors' archive."
        )
    return names, tracklets.astype(int)


def _images(folder: Path, names: list[str], table: np.ndarray, tracklets: bool = False) -> list[Image]:
    images: list[Image] = []
    for first, last, identity, camera in table.tolist():
        before = len(images)
        for name in names[first - 1 : last] if identity != JUNK else ():
            match = _NAME.fullmatch(name)
            if match is None or (int(match[1]), int(match[2])) != (identity, camera):
                raise UserError(
                    f"the lists of MARS beside {folder} give {name} to identity {identity} and camera {camera}; "
                    "names such as 0001C1T0001F001.jpg are expected to say the same. Copy the folder info again."
                )
            images.append(Image(Path(os.path.join(folder, match[1], name)), identity, camera))
        if tracklets:
            images[before:] = split_files.tracklet(images[before:])
    return images


SOURCE = Source(
    name="mars",
    title="MARS",
    paper="Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-identification, ECCV 2016",
    obtain="Its authors hand it out from the data set's page, for research only; the folder info comes with their "
    "evaluation code.",
    address="http://www.liangzheng.com.cn/Project/project_mars.html",
    licence="research only",
    settings=("tracklets",),
    caveats="It is read as images unless the setting tracklets is on; published numbers compare whole tracklets. "
    "The lists are in the folder info of https://github.com/liangzheng06/MARS-evaluation. 14 query identities have no "
    "other tracklet.",
    basis="the authors' lists, whose tracklets were counted",
    layout="""MARS/
  bbox_train/0001/0001C1T0001F001.jpg
  bbox_test/0000 0002 ...
  info/train_name.txt test_name.txt tracks_train_info.mat tracks_test_info.mat query_IDX.mat""",
    folder="MARS",
    read=read,
    protocol="single_query",
    expected={
        "train": Counts(625, 509914, 6),
        "query": Counts(626, 1980, 6),
        "gallery": Counts(621, 543216, 6),
    },
    check=check,
)
