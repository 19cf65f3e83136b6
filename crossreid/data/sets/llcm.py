"""LLCM (Zhang and Wang 2023): 1064 persons in low light, nine cameras for visible and near-infrared."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from crossreid.data.lists import absent, read_list, read_numbers, require_folders
from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.images.listing import folder_names, image_names
from crossreid.records import INFRARED, VISIBLE, Image, UserError

# modality: (word in names of files and folders, cameras of the test)
MODALITIES = {VISIBLE: ("vis", (1, 2, 3, 4, 5, 6, 7, 8, 9)), INFRARED: ("nir", (1, 2, 4, 5, 6, 7, 8, 9))}

FOLDERS = ("idx", "test_vis", "test_nir")

_TRAIN = re.compile(r"(?:vis|nir)/(\d+)/\d+_c(\d+)_s\d+_f\d+_(vis|nir)\.[^./]+$")


def read(root: Path) -> dict[str, list[Image]]:
    """``train``: visible then infrared images in the order of the lists; ``query``: all infrared test
    images; ``gallery``: all visible ones, by identity, camera and name. The protocol draws its galleries
    from them, in both directions. Identities are the numbers of the folders, cameras 1 to 9 in both
    modalities. There is no ``train`` where the copy has no training lists.
    """
    root = find_root(root, FOLDERS, SOURCE.title)
    train = _train(root)
    tested = read_numbers(root / "idx" / "test_id.txt")
    leaked = sorted({image.identity for image in train} & set(tested))
    if leaked:
        raise UserError(
            f"{root / 'idx'}: {len(leaked)} persons of test_id.txt are also in the training lists, first "
            f"{leaked[0]}. Copy the lists again from the data set's archive."
        )
    splits = {"query": _test(root, INFRARED, tested), "gallery": _test(root, VISIBLE, tested)}
    return {"train": train} | splits if train else splits


def check(root: Path) -> Iterator[Finding]:
    """Every listed training image is there, and every test person has images of both modalities."""
    root = find_root(root, FOLDERS, SOURCE.title)
    train = _train(root)
    yield from absent(root, [image.path.relative_to(root).as_posix() for image in train])
    tested = read_numbers(root / "idx" / "test_id.txt")
    trained = len({image.identity for image in train})
    if trained != 713:
        yield Finding("error", f"training lists: {trained} identities found, 713 expected.")
    if len(tested) != 351:
        yield Finding("error", f"test_id.txt: {len(tested)} identities found, 351 expected.")
    for modality, (word, cameras) in MODALITIES.items():
        lacking = [camera for camera in cameras if not (root / f"test_{word}" / f"cam{camera}").is_dir()]
        if lacking:
            yield Finding("error", f"test_{word} has no folder cam{lacking[0]}.")
        without = sorted(set(tested) - {image.identity for image in _test(root, modality, tested)})
        if without:
            yield Finding(
                "error",
                f"test_{word} has no image of {len(without)} persons of test_id.txt, first {without[0]}.",
            )


def _train(root: Path) -> list[Image]:
    listed = [(root / "idx" / f"train_{word}.txt").exists() for word, _ in MODALITIES.values()]
    return [image for modality in MODALITIES for image in _listed(root, modality)] if any(listed) else []


def _listed(root: Path, modality: str) -> list[Image]:
    word, _ = MODALITIES[modality]
    file = root / "idx" / f"train_{word}.txt"
    entries = read_list(file)
    require_folders(root, (name for name, _ in entries), SOURCE.title)
    images = []
    labels: dict[int, int] = {}
    for name, label in entries:
        match = _TRAIN.match(name)
        if match is None or match[3] != word:
            raise UserError(
                f"{file} names {name!r}, but images such as {word}/0001/0001_c01_s179600_f4490_{word}.jpg "
                "are expected in it. Copy the list again from the data set's archive."
            )
        identity = int(match[1])
        if labels.setdefault(identity, label) != label:
            raise UserError(
                f"{file} gives person {identity} two labels. Copy it again from the data set's archive."
            )
        images.append(Image(root / name, identity, int(match[2]), modality))
    return images


def _test(root: Path, modality: str, identities: list[int]) -> list[Image]:
    word, cameras = MODALITIES[modality]
    wanted = set(identities)
    found = []
    for camera in cameras:
        # Built as text and once for each camera: a Path for each person would take most of the time.
        folder = os.path.join(root, f"test_{word}", f"cam{camera}")
        for name in folder_names(folder) if os.path.isdir(folder) else ():
            if name.isdecimal() and int(name) in wanted:
                person = os.path.join(folder, name)
                found += [(int(name), camera, os.path.join(person, file)) for file in image_names(person)]
    if not found:
        raise UserError(
            f"LLCM: {os.path.join(root, f'test_{word}')} has no image of a person of test_id.txt: images "
            f"are expected in folders such as cam1/{identities[0]:04d}. Unpack the data set again."
        )
    found.sort()
    return [Image(Path(path), identity, camera, modality) for identity, camera, path in found]


SOURCE = Source(
    name="llcm",
    title="LLCM",
    paper="Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for "
    "Visible-Infrared Person Re-identification, CVPR 2023",
    obtain="Its authors hand it out after a signed agreement, for research only.",
    address="https://github.com/ZYK100/LLCM",
    paper_address="https://arxiv.org/abs/2303.14481",
    licence="research only, signed agreement",
    caveats="The numbers of images are only quoted in papers, which disagree; the numbers of persons are certain.",
    layout="""LLCM/
  vis/0001/0001_c01_s179600_f4490_vis.jpg
  nir/0001/..._nir.jpg
  test_vis/cam1/0002/..._vis.jpg ... cam9
  test_nir/cam1 ... cam9 (no cam3)
  idx/train_vis.txt  train_nir.txt  test_id.txt""",
    folder="LLCM",
    read=read,
    protocol="llcm",
    expected={
        "train": Counts(713, 30921, exact=False),
        "query": Counts(351, 7166, 8, exact=False),
        "gallery": Counts(351, 8680, 9, exact=False),
    },
    check=check,
)
