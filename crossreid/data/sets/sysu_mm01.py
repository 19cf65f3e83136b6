"""SYSU-MM01 (Wu et al. 2017): four visible and two infrared cameras, in and around a building."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from crossreid.data import lists
from crossreid.data.source import Counts, Finding, Source, find_root, strays
from crossreid.formats import arrays, matlab
from crossreid.images.listing import folder_names, image_names
from crossreid.records import INFRARED, VISIBLE, Image, UserError

VISIBLE_CAMERAS = (1, 2, 4, 5)
INFRARED_CAMERAS = (3, 6)
FOLDERS = tuple(f"cam{camera}" for camera in range(1, 7))
PREPARED = {
    VISIBLE: ("train_rgb_resized_img.npy", "train_rgb_resized_label.npy"),
    INFRARED: ("train_ir_resized_img.npy", "train_ir_resized_label.npy"),
}

_VALIDATION = frozenset(range(334, 434)) - {347}
_TEST = frozenset(
    int(number)
    for number in """
    6 10 17 21 24 25 27 28 31 34 36 37 40 41 42 43 44 45 49 50 51 54 63 69 75 80 81 82 83 84 85 86 87 88 89
    90 93 102 104 105 106 108 112 116 117 122 125 129 130 134 138 139 150 152 162 166 167 170 172 176 185 190
    192 202 204 207 210 215 223 229 232 237 252 253 257 259 263 266 269 272 273 274 275 282 285 291 300 301
    302 303 307 312 315 318 331 333""".split()
)
_UNLISTED = frozenset(
    int(number)
    for number in """
    3 9 23 26 32 33 38 39 46 47 48 57 66 67 68 94 96 97 100 101 103 141 144 145 146 148 153 173 187 191 195
    233 236 238 239 241 242 347 485 500 511 529""".split()
)
OFFICIAL = {
    "train": frozenset(range(1, 534)) - _UNLISTED - _VALIDATION - _TEST,
    "val": _VALIDATION,
    "test": _TEST,
}
# (images, identities) in cameras 1 to 6 of a complete copy.
_PER_CAMERA = {
    "train": ((4721, 194), (5753, 195), (5929, 293), (4821, 283), (4989, 294), (4000, 200)),
    "val": ((0, 0), (0, 0), (1980, 99), (990, 99), (984, 96), (0, 0)),
    "test": ((1374, 56), (1565, 56), (1883, 93), (1918, 94), (1918, 95), (1920, 96)),
}


def read(root: Path, *, trainval: bool = True, prepared: bool = False) -> dict[str, list[Image]]:
    """Images by split. ``train`` and ``validation`` list the visible images, then the infrared ones; each
    list is in order of identity, camera and file name. ``query`` is every infrared and ``gallery`` every
    visible image of the test identities. A copy with the list of test identities alone has these two only.

    trainval: train on the 395 identities of ``train_id`` and ``val_id``, as is usual; False: on the 296 of
        ``train_id``, and ``validation`` holds the 99 of ``val_id``.
    prepared: take the training images from the resized arrays (``crossreid data prepare``) in the same order.
    """
    root = find(root)
    splits = tested(root)
    if not any(_list_of(root, part) for part in ("train", "val")):
        return splits
    ids = {part: read_ids(root, part) for part in ("train", "val", "test")}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        both = set(ids[one]) & set(ids[other])
        if both:
            raise UserError(
                f"SYSU-MM01 in {root}: identity {min(both)} is in the lists {one}_id and {other}_id, which "
                f"have no identity in common as handed out. Copy the folder exp again from the data set."
            )
    learned = sorted(ids["train"] + ids["val"])
    wanted = learned if trainval else ids["train"]
    if prepared:
        chosen = set(wanted)
        training = {"train": [image for image in _prepared(root, learned) if image.identity in chosen]}
    else:
        training = {"train": _both(root, wanted)}
    if not trainval:
        training["validation"] = _both(root, ids["val"])
    return _complete(root, training) | splits


def tested(root: Path) -> dict[str, list[Image]]:
    """``query`` and ``gallery``, for which the copy needs the list of test identities alone."""
    root = find(root)
    identities = read_ids(root, "test")
    splits = {
        "query": images_of(root, identities, INFRARED_CAMERAS),
        "gallery": images_of(root, identities, VISIBLE_CAMERAS),
    }
    return _complete(root, splits)


def _complete(root: Path, splits: dict[str, list[Image]]) -> dict[str, list[Image]]:
    for split, images in splits.items():
        if not images:
            raise UserError(
                f"SYSU-MM01 in {root} has no image for {split}: images are expected as "
                f"cam1/0001/0001.jpg, in folders of identities with four digits. Unpack the data set again."
            )
    return splits


def find(root: Path) -> Path:
    """The folder with cam1 to cam6, tolerating one level more than given."""
    return find_root(root, FOLDERS, SOURCE.title)


def read_ids(root: Path, part: str) -> list[int]:
    """Identities of ``exp/<part>_id.txt``, else ``.mat``, ascending. part: train, val or test."""
    file = _list_of(root, part)
    if file is not None:
        return lists.read_numbers(file) if file.suffix == ".txt" else _ids_of_matlab(file)
    folder = root / "exp"
    found = ", ".join(sorted(os.listdir(folder))) if folder.is_dir() else "no folder exp"
    raise UserError(
        f"SYSU-MM01 in {root} does not say which identities are its {part} part: looked for "
        f"exp/{part}_id.txt and exp/{part}_id.mat, found {found or 'an empty folder exp'}. Copy the folder "
        "exp of the data set there."
    )


def images_of(root: Path, identities: Iterable[int], cameras: Iterable[int]) -> list[Image]:
    """Images in order of identity, camera and file name; a person may be absent from a camera."""
    cameras = tuple(cameras)
    present = {camera: set(folder_names(root / f"cam{camera}")) for camera in cameras}
    images = []
    for identity in sorted(identities):
        name = f"{identity:04d}"
        for camera in cameras:
            if name in present[camera]:
                modality = INFRARED if camera in INFRARED_CAMERAS else VISIBLE
                folder = root / f"cam{camera}" / name
                images += [Image(folder / file, identity, camera, modality) for file in image_names(folder)]
    return images


def _both(root: Path, identities: list[int]) -> list[Image]:
    return images_of(root, identities, VISIBLE_CAMERAS) + images_of(root, identities, INFRARED_CAMERAS)


def _prepared(root: Path, identities: list[int]) -> list[Image]:
    rows = []
    for modality, cameras in ((VISIBLE, VISIBLE_CAMERAS), (INFRARED, INFRARED_CAMERAS)):
        images, labels = (root / name for name in PREPARED[modality])
        remake = f"Make them with: crossreid data prepare sysu_mm01 {root}; or leave data.prepared off."
        for file in (images, labels):
            if not file.exists():
                raise UserError(f"the resized images of SYSU-MM01 are missing: no {file}. {remake}")
        array = arrays.map_npy(images, f"an array of images was expected. {remake}")
        label = arrays.read_npy(labels, f"an array of labels was expected. {remake}")
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
            raise UserError(
                f"{images} holds {array.dtype} of shape {array.shape}, but bytes of shape (images, "
                f"height, width, 3) were expected. {remake}"
            )
        # The arrays do not record the camera; the listing they were made from does, in the same order.
        listed = images_of(root, identities, cameras)
        target = {identity: index for index, identity in enumerate(identities)}
        if len(array) != len(listed) or label.tolist() != [target[image.identity] for image in listed]:
            raise UserError(
                f"{images} was made from other images than those in {root}: it has {len(array)} rows, "
                f"and {len(listed)} images of {len(identities)} identities lie there. {remake}"
            )
        for row, image in enumerate(listed):
            rows.append(Image(images, image.identity, image.camera, modality, array_index=row))
    return rows


def _list_of(root: Path, part: str) -> Path | None:
    files = (root / "exp" / f"{part}_id{suffix}" for suffix in (".txt", ".mat"))
    return next((file for file in files if file.is_file()), None)


def _ids_of_matlab(file: Path) -> list[int]:
    ids = np.asarray(matlab.read_variables(file, ["id"])["id"]).ravel()
    if ids.dtype.kind not in "iuf" or not len(ids):
        raise UserError(
            f"{file}: the variable 'id' is not a list of numbers. Copy it again from the data set."
        )
    return sorted(int(number) for number in ids)


def permutations(root: Path) -> Path | None:
    """The file rand_perm_cam.mat of the data set's owner, in the root or in exp/, if the copy has it."""
    for file in (root / "rand_perm_cam.mat", root / "exp" / "rand_perm_cam.mat"):
        if file.exists():
            return file
    return None


def check(root: Path) -> Iterator[Finding]:
    """Compare identities and images with the official ones; name the first identity and camera to deviate.

    How many images each identity has in each camera is known from rand_perm_cam.mat where the copy has it.
    Without it the sums are compared, and a gap in the numbering shows where an image may be missing.
    """
    root = find(root)
    for part, official in OFFICIAL.items():
        yield from _check_ids(root, part, official)
    counts, gaps = {}, []
    for camera in range(1, 7):
        folder = root / f"cam{camera}"
        yield from _unexpected_folders(folder)
        for name in folder_names(folder):
            if not _is_identity(name):
                continue
            yield from strays(folder / name, re.compile(r"\d{4}\.jpe?g"))
            images = image_names(folder / name)
            counts[int(name), camera] = len(images)
            numbers = [int(match[0]) for match in map(re.compile(r"\d{4}").match, images) if match]
            gap = next((index for index, number in enumerate(numbers, 1) if number != index), None)
            if gap is not None:
                gaps.append((int(name), camera, gap))
    sums = list(_check_sums(counts))
    yield from sums
    file = permutations(root)
    if file is not None:
        yield from _check_each(counts, official_counts(file))
    elif sums and gaps:
        identity, camera, gap = min(gaps)
        yield Finding(
            "warning", f"identity {identity}, camera {camera}: {gap:04d}.jpg is not there, others are."
        )


def official_counts(file: Path) -> dict[tuple[int, int], int]:
    """Images by (identity, camera) according to rand_perm_cam.mat."""
    cells = matlab.read_variables(file, ["rand_perm_cam"])["rand_perm_cam"]
    try:
        return {
            (position + 1, camera + 1): matrix.shape[1]
            for camera in range(6)
            for position, matrix in enumerate(cells[camera, 0][:, 0])
            if matrix.size
        }
    except (IndexError, AttributeError) as error:
        raise UserError(f"{file} does not hold a list of permutations for each of six cameras.") from error


def _check_ids(root: Path, part: str, official: frozenset[int]) -> Iterator[Finding]:
    for suffix, parse in ((".txt", lists.read_numbers), (".mat", _ids_of_matlab)):
        file = root / "exp" / f"{part}_id{suffix}"
        if not file.is_file():
            continue
        try:
            found = parse(file)
        except UserError as error:
            yield Finding("error", str(error))
            continue
        differing = sorted(official.symmetric_difference(found))
        if differing:
            side = "missing" if differing[0] in official else "unexpected"
            yield Finding(
                "error",
                f"exp/{file.name}: {len(found)} identities, {len(official)} expected; the first that "
                f"differs is {differing[0]}, which is {side}.",
            )


def _unexpected_folders(folder: Path) -> Iterator[Finding]:
    if names := [name for name in folder_names(folder) if not _is_identity(name)]:
        yield Finding(
            "warning", f"{folder}: {len(names)} unexpected folders, not read, the first {names[0]}."
        )


def _is_identity(name: str) -> bool:
    return re.fullmatch(r"[0-9]{4}", name) is not None and 1 <= int(name) <= 533


def _check_sums(counts: dict[tuple[int, int], int]) -> Iterator[Finding]:
    for part, cameras in _PER_CAMERA.items():
        for camera, (images, identities) in enumerate(cameras, 1):
            found = [counts.get((identity, camera), 0) for identity in OFFICIAL[part]]
            found = [number for number in found if number]
            if (sum(found), len(found)) != (images, identities):
                yield Finding(
                    "error",
                    f"{part} identities in camera {camera}: {sum(found)} images of {len(found)} "
                    f"identities found, {images} of {identities} expected.",
                )


def _check_each(
    counts: dict[tuple[int, int], int], official: dict[tuple[int, int], int]
) -> Iterator[Finding]:
    differing = sorted(
        pair
        for pair in counts.keys() | official.keys()
        if pair[0] not in _UNLISTED and counts.get(pair, 0) != official.get(pair, 0)
    )
    if differing:
        identity, camera = differing[0]
        yield Finding(
            "error",
            f"{len(differing)} folders differ from the official numbers of images; the first is identity "
            f"{identity}, camera {camera} (cam{camera}/{identity:04d}): {counts.get((identity, camera), 0)} "
            f"images found, {official.get((identity, camera), 0)} expected.",
        )


SOURCE = Source(
    name="sysu_mm01",
    title="SYSU-MM01",
    paper="Wu et al., RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017",
    obtain="Its owners at Sun Yat-sen University hand it out by e-mail after a signed release agreement; the page "
    "has the agreement and the address.",
    address="https://github.com/wuancong/SYSU-MM01",
    paper_address="https://openaccess.thecvf.com/content_iccv_2017/html/"
    "Wu_RGB-Infrared_Cross-Modality_Person_ICCV_2017_paper.html",
    licence="signed agreement, research only",
    caveats="The totals in its paper include 22 persons outside the official lists, who are not read.",
    layout="""SYSU-MM01/
  cam1/0001/0001.jpg
  cam2/ ... cam6/
  exp/train_id.txt val_id.txt test_id.txt, or the same as .mat
  rand_perm_cam.mat (optional: the official galleries)""",
    folder="SYSU-MM01",
    settings=("trainval", "prepared"),
    read=read,
    protocol="sysu_mm01",
    expected={"train": Counts(395, 34167, 6), "query": Counts(96, 3803, 2), "gallery": Counts(96, 6775, 4)},
    check=check,
    validation={"trainval": False},
)
