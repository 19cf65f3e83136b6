"""MSMT17 (Wei et al. 2018): fifteen cameras indoors and outdoors, four days, three times of day."""

from __future__ import annotations

import re
from pathlib import Path

from crossreid.data.combining import everything
from crossreid.data.lists import absent, read_list, require_folders
from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.records import Image, UserError

# The second edition differs in the names of the folders and in blurred faces.
FOLDERS = (("train", "test"), ("mask_train_v2", "mask_test_v2"))
LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
TRAINING_IDENTITIES = 1041

_NAME = re.compile(r"(?:.*/)?\d+_\d+_(\d+)_[^/]*$")


def read(root: Path, *, with_validation: bool = False, all_images: bool = False) -> dict[str, list[Image]]:
    """Images by split in the order of the lists; cameras 1 to 15.

    The lists number training and test persons from 0 each; test persons here follow the training ones, from
    1041.

    with_validation: add the images of ``list_val.txt``, which are of the same persons, to the training
        split. They are not offered as a split for validation, since that needs other persons.
    all_images: everything is training data, for training on several data sets.
    """
    root, train, test = _folders(root)
    splits = (
        {"train": _images(root, train, "list_train.txt", 0)} if (root / "list_train.txt").exists() else {}
    )
    splits |= {
        "query": _images(root, test, "list_query.txt", TRAINING_IDENTITIES),
        "gallery": _images(root, test, "list_gallery.txt", TRAINING_IDENTITIES),
    }
    if "train" in splits and (with_validation or all_images):
        splits["train"] += _images(root, train, "list_val.txt", 0)
    return everything(splits) if all_images else splits


def check(root: Path) -> list[Finding]:
    """Every listed image is there."""
    root, train, test = _folders(root)
    names = [
        f"{train if number < 2 else test}/{name}"
        for number, file in enumerate(LISTS)
        if (root / file).exists()
        for name, _ in read_list(root / file)
    ]
    return absent(root, names)


def _folders(root: Path) -> tuple[Path, str, str]:
    root = find_root(root, LISTS[2:], SOURCE.title)
    for train, test in FOLDERS:
        if (root / test).is_dir():
            return root, train, test
    raise UserError(
        f"{SOURCE.title}: {root} has the lists but neither the folders train and test nor mask_train_v2 and "
        f"mask_test_v2: unpack the images beside the lists."
    )


def _images(root: Path, folder: str, file: str, offset: int) -> list[Image]:
    entries = read_list(root / file)
    require_folders(root / folder, (name for name, _ in entries), SOURCE.title)
    images = []
    for name, identity in entries:
        match = _NAME.match(name)
        if match is None:
            raise UserError(
                f"{root / file} names {name!r}, which does not say the camera; names such as "
                f"0000/0000_000_01_0303morning_0008_0.jpg are expected. Copy the list again from the archive."
            )
        images.append(Image(root / folder / name, identity + offset, int(match[1])))
    return images


SOURCE = Source(
    name="msmt17",
    title="MSMT17",
    paper="Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018",
    paper_address="https://arxiv.org/abs/1711.08565",
    obtain="Its authors hand it out on signed request, for research only.",
    address="https://www.pkuvmc.com/publications/msmt17.html",
    licence="research only, signed agreement",
    caveats="The counts are the published ones. The second edition (blurred faces) is read too.",
    layout="""MSMT17_V1/                (or MSMT17_V2/ with mask_train_v2/ and mask_test_v2/)
  train/0000/0000_000_01_0303morning_0008_0.jpg
  test/
  list_train.txt  list_val.txt  list_query.txt  list_gallery.txt""",
    folder="MSMT17_V1",
    settings=("with_validation", "all_images"),
    read=read,
    protocol="single_query",
    expected={
        "train": Counts(1041, 30248, 15, exact=False),
        "query": Counts(3060, 11659, 15, exact=False),
        "gallery": Counts(3060, 82161, 15, exact=False),
    },
    check=check,
)
