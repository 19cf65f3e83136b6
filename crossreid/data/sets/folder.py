"""Own images in folders: one folder for each identity, or names that a pattern explains."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from crossreid.data import own
from crossreid.data.source import Finding, Source
from crossreid.images import labels
from crossreid.images.listing import by_folder, by_name, folder_names, image_names, passed_over
from crossreid.records import VISIBLE, Image, UserError, by_key


def read(
    root: Path,
    *,
    pattern: str | None = None,
    camera: int = 1,
    train_share: float = 0.5,
    seed: int = 0,
    keep_junk: bool = False,
) -> dict[str, list[Image]]:
    """Images by split, each sorted by path.

    The folders ``train``, ``validation``, ``query`` and ``gallery`` (or ``test``, which is divided into these
    two) directly in the root are splits. Without them, the identities are divided by ``train_share`` and
    ``seed``.

    pattern: regular expression, searched in the path of each image below its split (with ``/``), with the
        named groups ``identity`` and, if wanted, ``camera`` and ``modality``. Without a pattern every
        sub-folder is an identity.
    camera: of images whose path does not tell it.
    train_share: share of the identities to train on where there are no split folders; 0 none, 1 all.
    keep_junk: whether identity -1 is an identity like any other; else its images are left out.
    """
    expression = None if pattern is None else labels.compiled_pattern(pattern)
    root = _descend(root, expression)
    splits = {name: name.lower() for name in folder_names(root) if name.lower() in own.SPLITS} or {"": ""}
    found, split_of = [], []
    for name, split in splits.items():
        folder = root / name if name else root
        side = by_name(folder, expression) if expression else by_folder(folder)
        side = labels.without_junk(side, str(folder), keep_junk)
        found += [replace(image, camera=camera, modality=image.modality or VISIBLE) for image in side]
        split_of += [split] * len(side)
    if not found:
        raise UserError(
            f"no images were found in {root}: a sub-folder for each identity with images (jpg, png, bmp, "
            f"...) is expected, perhaps below train, query and gallery; found "
            f"{', '.join(os.listdir(root)) or 'nothing'}."
        )
    images = by_key(zip(split_of, labels.numbered(found, str(root))))
    return own.splits_of(images, train_share, seed)


def _descend(root: Path, expression: re.Pattern[str] | None) -> Path:
    names = folder_names(root)
    if expression or image_names(root) or len(names) != 1 or names[0].lower() in own.SPLITS:
        return root
    inner = root / names[0]
    return inner if not image_names(inner) and folder_names(inner) else root


def _check(root: Path) -> list[Finding]:
    others = passed_over(root)
    return [Finding("warning", f"passed over, not being named like images: {others}.")] if others else []


SOURCE = Source(
    name="folder",
    title="own images in folders",
    paper="",
    obtain="Your own images.",
    licence="yours",
    caveats="Without camera numbers the same-camera rule has to be switched off.",
    layout="""people/
  anna/any name.jpg
  bert/...
or below train/, query/ and gallery/; or any names, with a pattern""",
    folder="folder",
    settings=("pattern", "camera", "train_share", "seed", "keep_junk"),
    read=read,
    protocol="single_query",
    check=_check,
    remarks=own.remarks,
)
