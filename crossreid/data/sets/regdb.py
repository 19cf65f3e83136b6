"""RegDB (Nguyen et al. 2017): 412 persons, ten visible and ten thermal images each, ten folds."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from crossreid.data.lists import absent, read_list, require_folders
from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.data.split_files import SPLITS as FOLDS
from crossreid.data.split_files import check_folds
from crossreid.records import INFRARED, VISIBLE, Image, UserError

# modality: (folder and word in the lists' names, camera); the data set knows no cameras.
MODALITIES = {VISIBLE: ("visible", 1), INFRARED: ("thermal", 2)}

_NAME = re.compile(r"(Visible|Thermal)/(\d+)/[^/]+$")


def read(root: Path, *, fold: int = 1) -> dict[str, list[Image]]:
    """Images of one fold, in the order of its lists; identity is the number of the folder, 1 to 412.

    ``train`` holds visible then thermal images, ``query`` the visible test images and ``gallery`` the
    thermal ones; the protocol searches in both directions. There is no ``train`` where the copy has the test lists
    alone.

    fold: 1 to 10. Each fold has other training persons, so that a model belongs to the fold it was trained
        on.
    Raises UserError if the lists contradict each other, for instance if a person is in training and in the
    test.
    """
    if not isinstance(fold, int) or not 1 <= fold <= FOLDS:
        raise UserError(f"RegDB has no fold {fold!r}: choose one from 1 to {FOLDS}.")
    root = find_root(root, ("Visible", "Thermal", "idx"), SOURCE.title)
    parts = [part for part in ("train", "test") if part == "test" or _listed(root, part, fold)]
    lists = {
        (part, modality): _images(root, part, modality, fold) for part in parts for modality in MODALITIES
    }
    for part in parts:
        if len({tuple(sorted(_identities(lists[part, modality]).items())) for modality in MODALITIES}) > 1:
            raise UserError(
                f"{root / 'idx'}: the visible and the thermal {part} list of fold {fold} are not of the same "
                "persons. Copy the lists again from the data set's archive."
            )
    learned = _identities(lists["train", VISIBLE]).keys() if "train" in parts else set()
    leaked = sorted(learned & _identities(lists["test", VISIBLE]).keys())
    if leaked:
        raise UserError(
            f"{root / 'idx'}: {len(leaked)} persons of fold {fold} are both in training and in the test, "
            f"first {leaked[0]}. Copy the lists again from the data set's archive."
        )
    splits = {
        "train": ["train", VISIBLE, INFRARED],
        "query": ["test", VISIBLE],
        "gallery": ["test", INFRARED],
    }
    return {
        split: [image for modality in wanted for image, _ in lists[part, modality]]
        for split, (part, *wanted) in splits.items()
        if part in parts
    }


def check(root: Path) -> list[Finding]:
    """All ten folds are complete, and every listed image is there."""
    root = find_root(root, ("Visible", "Thermal", "idx"), SOURCE.title)
    names: set[str] = set()
    for fold in range(1, FOLDS + 1):
        # Lists that cannot be read are reported with the folds.
        with suppress(UserError):
            images = [image for split in read(root, fold=fold).values() for image in split]
            names.update(image.path.relative_to(root).as_posix() for image in images)
    return check_folds(read, root, SOURCE.expected) + absent(root, sorted(names))


def _listed(root: Path, part: str, fold: int) -> bool:
    return any((root / "idx" / f"{part}_{word}_{fold}.txt").exists() for word, _ in MODALITIES.values())


def _images(root: Path, part: str, modality: str, fold: int) -> list[tuple[Image, int]]:
    word, camera = MODALITIES[modality]
    file = root / "idx" / f"{part}_{word}_{fold}.txt"
    entries = read_list(file)
    require_folders(root, (name for name, _ in entries), SOURCE.title)
    images = []
    for name, label in entries:
        match = _NAME.match(name)
        if match is None or match[1].lower() != word:
            raise UserError(
                f"{file} names {name!r}, but images such as {word.title()}/285/male_back_x_05528_285.bmp "
                "are expected in it. Copy the list again from the data set's archive."
            )
        images.append((Image(root / name, int(match[2]), camera, modality), label))
    return images


def _identities(entries: list[tuple[Image, int]]) -> dict[int, int]:
    """identity -> label in the list; raises UserError unless they correspond one to one."""
    labels: dict[int, int] = {}
    for image, label in entries:
        if labels.setdefault(image.identity, label) != label:
            raise UserError(
                f"{image.path}: the lists give person {image.identity} the labels {labels[image.identity]} "
                f"and {label}. Copy the lists again from the data set's archive."
            )
    if len(set(labels.values())) != len(labels):
        raise UserError(
            f"the lists beside {entries[0][0].path} give one label to several persons. Copy the lists again "
            "from the data set's archive."
        )
    return labels


SOURCE = Source(
    name="regdb",
    title="RegDB",
    paper="Nguyen et al., Person Recognition System Based on a Combination of Body Images from Visible "
    "Light and Thermal Cameras, Sensors 2017",
    obtain="Dongguk University hands it out (DBPerson-Recog-DB1) after a signed agreement, for research only.",
    address="http://dm.dongguk.edu/link.html",
    paper_address="https://www.mdpi.com/1424-8220/17/3/605",
    licence="research only, signed agreement",
    caveats="Each of its ten folds has other training persons, and so a model of its own. Labels of the test "
    "lists start again at 0, so identities are read from the folders.",
    layout="""RegDB/
  Visible/285/male_back_v_05528_285.bmp
  Thermal/2/female_back_t_06300_2.bmp
  idx/train_visible_1.txt  train_thermal_1.txt  test_visible_1.txt  test_thermal_1.txt ... _10.txt""",
    folder="RegDB",
    folds=10,
    read=read,
    protocol="regdb",
    expected={"train": Counts(206, 4120, 2), "query": Counts(206, 2060, 1), "gallery": Counts(206, 2060, 1)},
    check=check,
)
