"""CUHK-SYSU (Xiao et al. 2017): persons cut out of street and film scenes; training data only."""

from __future__ import annotations

import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossreid.data.source import Counts, Finding, Source, find_root, strays, within
from crossreid.files import replacing
from crossreid.formats import matlab
from crossreid.images.decode import frame
from crossreid.images.listing import image_names
from crossreid.records import Image, UserError, by_key

FOLDERS = ("cropped_image", "cropped_images")
ANNOTATION = "annotation/Person.mat"
SCENES = "Image/SSM"
IDENTITIES, IMAGES = 11934, 34574

_NAME = re.compile(r"p(\d+)_n\d+_s(\d+)_hard[01]\.[^.]+$")

log = logging.getLogger(__name__)


def read(root: Path) -> dict[str, list[Image]]:
    """The split ``train``, by file name. The number of the scene takes the camera's place.

    Raises UserError if the persons have not been cut out of the scenes yet.
    """
    for name in FOLDERS:
        home = within(root, (name,), SOURCE.title)
        if home is None:
            continue
        folder = home / name
        names = image_names(folder)
        if not names:
            raise UserError(f"{folder} holds no images: remove it and prepare CUHK-SYSU again.")
        return {"train": [_image(folder, file) for file in names]}
    find_root(root, (SCENES,), SOURCE.title)
    raise UserError(
        f"CUHK-SYSU: the persons of {root} have not been cut out of the scenes yet (there is no "
        f"{FOLDERS[0]}). Do it once with 'crossreid data prepare cuhk_sysu {root}'; it needs {ANNOTATION}."
    )


def prepare(root: Path) -> None:
    """Cut the persons out of the scenes, unless there is a folder of them."""
    if not any(within(root, (name,), SOURCE.title) for name in FOLDERS):
        crop(root)


def check(root: Path) -> list[Finding]:
    """Nothing but images of persons lies among them."""
    return strays(read(root)["train"][0].path.parent, _NAME)


@dataclass(frozen=True)
class Appearance:
    """A person in a scene. box: x, y, width, height of the annotation, from 1, both ends included."""

    name: str
    scene: str
    box: tuple[int, int, int, int]


def crop(root: Path, *, workers: int | None = None) -> Path:
    """Cut every annotated person out of the scenes into ``cropped_image``, as PNG; the folder.

    The images are named ``p00001_n01_s15533_hard0.png``: person, number of the appearance, scene, and
    whether it is marked as hard. As in the authors' MATLAB script a box of width w and height h gives (h + 1)
    x (w + 1) pixels; where it leaves the scene it is clipped. After an interruption what was written is kept
    and the rest is added; the folder appears under its name only when it is complete.

    workers: threads, by default one for each core.
    Raises UserError if the annotation or a scene is missing, or the number of images is not the annotated
    one.
    """
    from tqdm import tqdm

    root = find_root(root, (SCENES,), "CUHK-SYSU")
    appearances = _appearances(root / ANNOTATION)
    folder = root / FOLDERS[0]
    target = folder if folder.is_dir() else folder.with_name(f"{folder.name}.partial")
    target.mkdir(exist_ok=True)
    done = set(os.listdir(target))
    by_scene = by_key((each.scene, each) for each in appearances if each.name not in done)
    scenes = set(image_names(root / SCENES))
    missing = sorted(set(by_scene) - scenes)
    if missing:
        raise UserError(
            f"{root / SCENES} lacks {len(missing)} scenes of the annotation, first {missing[0]}: unpack the "
            "data set again. Nothing was written."
        )
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = [
            pool.submit(_cut, root / SCENES / scene, wanted, target) for scene, wanted in by_scene.items()
        ]
        try:
            for job in tqdm(jobs, desc="CUHK-SYSU", unit="scene", disable=None, leave=False):
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for leftover in target.glob(".*.part"):
        leftover.unlink()
    written = image_names(target)
    if written != sorted(appearance.name for appearance in appearances):
        raise UserError(
            f"{target} holds {len(written)} images, but {len(appearances)} are annotated: it has files of "
            "other origin. Remove the folder and run the preparation again."
        )
    if target != folder:
        os.replace(target, folder)
    if len(written) != IMAGES:
        log.warning("CUHK-SYSU: %d images were cut out; the published data set has %d.", len(written), IMAGES)
    return folder


def _image(folder: Path, name: str) -> Image:
    match = _NAME.match(name)
    if match is None:
        raise UserError(
            f"{folder / name}: names such as p00001_n01_s15533_hard0.png are expected. Remove the file."
        )
    return Image(folder / name, int(match[1]), int(match[2]))


def _appearances(path: Path) -> list[Appearance]:
    if not path.is_file():
        raise UserError(
            f"{path} is missing, and without it nobody knows which persons are in which scene. Some downloads lack "
            "the annotation of identities: take the archive of the person search data set, which has it."
        )
    persons = matlab.read_variables(path, ["Person"])["Person"]
    appearances = []
    try:
        for person in persons.ravel():
            named = re.fullmatch(r"p(\d{1,6})", str(_only(person["idname"])))
            if named is None:
                raise ValueError("a person has another name than p1, p2, ...")
            identity = int(named[1])
            scenes = person["scene"].ravel()
            if len(scenes) != int(_only(person["nAppear"])):
                raise ValueError(
                    f"p{identity} appears {person['nAppear']} times but has {len(scenes)} scenes"
                )
            for number, scene in enumerate(scenes, 1):
                # The name becomes part of a path: nothing but the expected form is let through.
                match = re.fullmatch(r"s(\d{1,6})\.jpg", str(_only(scene["imname"])))
                if match is None:
                    raise ValueError(f"a scene of p{identity} has another name than s1.jpg, s2.jpg, ...")
                x, y, width, height = (int(value) for value in scene["idlocate"].ravel())
                hard = int(bool(_only(scene["ishard"])))
                name = f"p{identity:05d}_n{number:02d}_s{int(match[1]):05d}_hard{hard}.png"
                appearances.append(Appearance(name, match[0], (x, y, width, height)))
    except (AttributeError, IndexError, OverflowError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not describe persons as expected ({error}): the variable Person with idname, "
            "nAppear and scene (imname, idlocate, ishard). Copy it again from the archive."
        ) from error
    return appearances


def _only(values: np.ndarray):
    """The one value of a MATLAB array."""
    (value,) = values.ravel()
    return value


def _cut(path: Path, appearances: list[Appearance], folder: Path) -> None:
    from PIL import Image as PILImage

    with frame(path) as pixels:
        high, wide = pixels.shape[:2]
        for appearance in appearances:
            x, y, width, height = appearance.box
            left, top = max(x - 1, 0), max(y - 1, 0)
            right, bottom = min(x + width, wide), min(y + height, high)
            if right <= left or bottom <= top:
                raise UserError(
                    f"{path}: the box of {appearance.name} lies outside the image, so that scenes and "
                    "annotation do not belong together. Unpack the data set again."
                )
            with replacing(folder / appearance.name) as temporary:
                person = np.ascontiguousarray(pixels[top:bottom, left:right])
                PILImage.fromarray(person).save(temporary, format="PNG")


SOURCE = Source(
    name="cuhk_sysu",
    title="CUHK-SYSU",
    paper="Xiao et al., Joint Detection and Identification Feature Learning for Person Search, CVPR 2017",
    obtain="Its authors hand it out on request, for research only. You need the archive with the annotation for "
    "person search.",
    address="https://github.com/ShuangLI59/person_search",
    paper_address="https://arxiv.org/abs/1604.01850",
    licence="research only",
    caveats="For training only. Cut the persons out once with 'crossreid data prepare cuhk_sysu'.",
    layout="""CUHK-SYSU/
  annotation/Person.mat
  Image/SSM/s15533.jpg
  cropped_image/p00001_n01_s15533_hard0.png   (made from these; cropped_images too)""",
    folder="CUHK-SYSU",
    prepare=prepare,
    read=read,
    protocol="generalization",
    expected={"train": Counts(IDENTITIES, IMAGES)},
    check=check,
)
