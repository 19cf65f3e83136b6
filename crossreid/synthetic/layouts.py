"""The true on-disk layouts and file names of the data sets: which pictures to render, and what lies beside them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crossreid.records import INFRARED, VISIBLE
from crossreid.synthetic.keys import between, generator

# People who are nobody's match are numbered from here, so that they look like nobody else.
STRANGERS = 1_000_000


@dataclass(frozen=True)
class Picture:
    """One file to render.

    path: below the root, with the data set's own name. identity: who is rendered. camera, place: see
    ``cameras.camera``. index: the moment. size: (height, width) in pixels. jitter: strength of box errors, times the
    user's.
    """

    path: str
    identity: int
    camera: int
    index: int
    modality: str = VISIBLE
    place: int | None = None
    size: tuple[int, int] = (128, 64)
    jitter: float = 1.0


@dataclass
class Plan:
    """pictures: what to render. files: path -> bytes to write as they are. finish: called with the root when all
    pictures are there, for containers of pictures."""

    pictures: list[Picture] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    finish: Callable[[Path], None] | None = None


def _cameras_of(rng: np.random.Generator, cameras: int, least: int = 2) -> list[int]:
    """The cameras, from 1, that one person passes."""
    count = int(rng.integers(min(least, cameras), cameras + 1))
    return sorted(int(c) + 1 for c in rng.permutation(cameras)[:count])


def _lines(rows) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def market1501(identities: int, images: int | None, seed: int) -> Plan:
    """Odd numbers train, even numbers test; six cameras, two to six for each person; ``images`` in each camera, and
    for test persons one query more; strangers 0000 and bad boxes -1 in the gallery."""
    plan, images = Plan(), images or 4

    def add(folder, number, who, camera, index, jitter=1.0):
        rng = generator("market name", seed, who, camera, index)
        sequence, frame, label = (
            1 + int(rng.integers(6)),
            int(rng.integers(1, 999999)),
            1 + int(rng.integers(4)),
        )
        name = f"{number}_c{camera}s{sequence}_{frame:06d}_{label:02d}.jpg"
        plan.pictures.append(Picture(f"{folder}/{name}", who, camera, index, jitter=jitter))

    for identity in range(1, identities + 1):
        train = identity % 2 == 1
        for camera in _cameras_of(generator("market cameras", seed, identity), 6):
            for index in range(images):
                add(
                    "bounding_box_train" if train else "bounding_box_test",
                    f"{identity:04d}",
                    identity,
                    camera,
                    index,
                )
            if not train:
                add("query", f"{identity:04d}", identity, camera, images)
    for number in range(max(4, identities // 2)):
        add("bounding_box_test", "0000", STRANGERS + number, 1 + number % 6, 0)
        add("bounding_box_test", "-1", STRANGERS + number, 1 + (number + 1) % 6, 1, jitter=5.0)
    return plan


def sysu_mm01(identities: int, images: int | None, seed: int) -> Plan:
    """Cameras 3 and 6 infrared; cameras 2 and 3 in one place; three fifths of the persons train, one fifth each
    validation and test. Validation persons pass cameras 3, 4 and 5 only, as in the original."""
    plan, images = Plan(), images or 10
    test = max(2, identities // 5)
    validation = max(1, identities // 5)
    numbers = list(range(1, identities + 1))
    order = [int(i) for i in generator("sysu split", seed).permutation(identities)]
    chosen = {
        "test": sorted(numbers[i] for i in order[:test]),
        "val": sorted(numbers[i] for i in order[test : test + validation]),
        "train": sorted(numbers[i] for i in order[test + validation :]),
    }
    for split, members in chosen.items():
        for position, identity in enumerate(members):
            rng = generator("sysu cameras", seed, identity)
            rooms = position % 2 == 0 if split == "test" else rng.random() < 0.65
            cameras = [3, 4, 5] if split == "val" else [*([1, 2] if rooms else []), 3, 4, 5, 6]
            for camera in cameras:
                for index in range(images):
                    shape = generator("sysu size", seed, identity, camera, index)
                    height = int(shape.integers(144, 185))
                    width = int(height * between(shape, 0.42, 0.52))
                    plan.pictures.append(
                        Picture(
                            f"cam{camera}/{identity:04d}/{index + 1:04d}.jpg",
                            identity,
                            camera,
                            index,
                            INFRARED if camera in (3, 6) else VISIBLE,
                            2 if camera == 3 else camera,
                            (height, width),
                        )
                    )
    chosen["available"] = numbers
    for split, members in chosen.items():
        plan.files[f"exp/{split}_id.txt"] = (",".join(map(str, members)) + "\n").encode()
        plan.files[f"exp/{split}_id.mat"] = _matlab({"id": np.array([members], np.uint16)})
    return plan


def _matlab(variables: dict) -> bytes:
    """A MATLAB file, version 5, without the time of writing that its header usually holds."""
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, variables)
    content = bytearray(stream.getvalue())
    content[:116] = b"MATLAB 5.0 MAT-file, synthetic people".ljust(116)
    return bytes(content)


def folder(identities: int, images: int | None, seed: int) -> Plan:
    """``train``, ``query`` and ``gallery``, a folder for each identity, the camera in the file's name."""
    plan = Plan()
    for split, identity, camera, index in _own(identities, images or 4, seed):
        plan.pictures.append(
            Picture(f"{split}/{identity:04d}/c{camera}_{index + 1:04d}.jpg", identity, camera, index)
        )
    return plan


def csv(identities: int, images: int | None, seed: int) -> Plan:
    """``images/`` in any order and ``images.csv`` that says what they are; cameras 1 to 3 visible, 4 infrared."""
    plan = Plan()
    rows = ["path,identity,camera,modality,split"]
    for number, (split, identity, camera, index) in enumerate(_own(identities, images or 4, seed)):
        modality = INFRARED if camera == 4 else VISIBLE
        path = f"images/{number:06d}.jpg"
        plan.pictures.append(Picture(path, identity, camera, index, modality))
        rows.append(f"{path},{identity},{camera},{modality},{split}")
    plan.files["images.csv"] = _lines(rows)
    return plan


def _own(identities: int, images: int, seed: int):
    """(split, identity, camera, index) of a small data set of one's own: odd identities train, even ones test; four
    cameras, of which each person passes two to four."""
    for identity in range(1, identities + 1):
        for camera in _cameras_of(generator("own cameras", seed, identity), 4):
            for index in range(images):
                yield "train" if identity % 2 else "gallery", identity, camera, index
            if identity % 2 == 0:
                yield "query", identity, camera, images


LAYOUTS = {"market1501": market1501, "sysu_mm01": sysu_mm01, "folder": folder, "csv": csv}
