"""The ten random splits of the small data sets: the authors' files where present, else generated.

Published means are over ten random halves of the identities. Scores of two sets of halves differ by about one
point. The same copy always gets the same halves; ``crossreid data prepare`` writes them beside it, for other programs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from crossreid.data.source import Counts, Finding, Source, find_root
from crossreid.files import write_json
from crossreid.formats.text import read_json
from crossreid.records import Image, UserError

SPLITS = 10
FILE = "splits_crossreid.json"
SEED = 2020

log = logging.getLogger(__name__)
_warned: set[Path] = set()


def permutation(count: int, generator: np.random.RandomState) -> np.ndarray:
    """A permutation of ``count`` positions: the stable order of as many uniform numbers.

    Uniform numbers of ``RandomState`` are the same on every machine and in every version of numpy, which is
    not promised of shuffling.
    """
    return np.argsort(generator.random_sample(count), kind="stable")


def read_splits(path: Path, keys: Sequence[str]) -> list[dict]:
    """The ten splits of a JSON file, each with lists under ``keys``.

    Takes a plain list of splits, as the authors write, or our form with the list under ``splits``.
    Raises UserError if it is anything else.
    """
    value = read_json(path, f"a list of {SPLITS} splits was expected. {_mend(path)}")
    splits = value.get("splits") if isinstance(value, dict) else value
    if not isinstance(splits, list) or len(splits) != SPLITS:
        raise UserError(f"{path}: a list of {SPLITS} splits was expected. {_mend(path)}")
    for split in splits:
        if not isinstance(split, dict) or not all(isinstance(split.get(key), list) for key in keys):
            raise UserError(
                f"{path}: every split was expected to have the lists {', '.join(keys)}. {_mend(path)}"
            )
        entries = [item for key in keys for item in split[key]]
        kinds = {type(item) for item in entries}
        named = all(item and isinstance(item[0], str) for item in entries if isinstance(item, list))
        # Paths may stand alone or first in a list, as the authors' files have both; numbers stand for identities.
        if not (named and (kinds <= {int} or kinds <= {str, list})):
            raise UserError(f"{path}: the lists hold values of several kinds. {_mend(path)}")
    return splits


def stored(
    root: Path,
    name: str,
    theirs: Sequence[str],
    keys: Sequence[str],
    generate: Callable[[], list[dict]],
    *,
    reproduced: bool = False,
) -> tuple[list[dict], Path | None]:
    """The splits of a data set and the file they came from, None where they were generated.

    theirs: names of the authors' files, looked for first; then comes the file that ``keep`` wrote. If there is none,
        ``generate()`` gives the splits. Nothing is written.
    reproduced: the generated splits are the authors' own.
    """
    for path in (*(root / file for file in theirs), root / FILE):
        if path.is_file():
            return read_splits(path, keys), path
    if not reproduced and root not in _warned:
        _warned.add(root)
        log.warning(
            "%s: no split file of the authors is in %s, so ten splits are generated; single splits cannot be "
            "compared with the published ones, the mean can.",
            name,
            root,
        )
    return generate(), None


def keep(source: Source, root: Path) -> None:
    """Write the generated splits of a copy beside it, in the form of ``load``, unless that file is there already."""
    if source.splits is None:
        return
    from crossreid import __version__

    home, splits = source.splits(root)
    if not (home / FILE).is_file():
        write_json(
            home / FILE, {"data": source.name, "made by": f"crossreid {__version__}", "splits": splits}
        )


def halves(images: Iterable[Image]) -> list[dict]:
    """Ten random divisions of the identities of images into halves, as lists ``train`` and ``test``."""
    ordered = sorted({image.identity for image in images})
    generator = np.random.RandomState(SEED)
    splits = []
    for _ in range(SPLITS):
        order = [ordered[position] for position in permutation(len(ordered), generator)]
        half = len(order) // 2
        splits.append({"train": sorted(order[:half]), "test": sorted(order[half:])})
    return splits


def two_cameras(
    name: str, title: str, wanted: Sequence[str], images: Callable[[Path], list[Image]]
) -> tuple[Callable[..., dict[str, list[Image]]], Callable[[Path], tuple[Path, list[dict]]]]:
    """``read`` and ``splits`` of a ``Source`` of two cameras without official halves: ``train`` is all images of one of
    ten random halves of the identities; of the other, ``query`` is camera 1 and ``gallery`` camera 2.

    wanted: what the folder of the data set holds, see ``find_root``. images: all those of that folder, whose order is
    kept.
    """

    def read(root: Path, *, fold: int = 1) -> dict[str, list[Image]]:
        home = find_root(root, wanted, title)
        return _half(home, name, images(home), number(fold))

    def generated(root: Path) -> tuple[Path, list[dict]]:
        home = find_root(root, wanted, title)
        return home, halves(images(home))

    return read, generated


def _half(root: Path, name: str, images: Sequence[Image], position: int) -> dict[str, list[Image]]:
    identities = sorted({image.identity for image in images})
    splits, path = stored(root, name, (), ("train", "test"), lambda: halves(images))
    chosen = splits[position]
    members = chosen["train"] + chosen["test"]
    require(
        all(isinstance(member, int) for member in members) and sorted(members) == identities,
        path,
        "the halves do not hold each identity once",
    )
    trained = set(chosen["train"])
    tested = [image for image in images if image.identity not in trained]
    return {
        "train": [image for image in images if image.identity in trained],
        "query": [image for image in tested if image.camera == 1],
        "gallery": [image for image in tested if image.camera == 2],
    }


def number(fold: int) -> int:
    """The position of a fold counted from 1. Raises UserError outside 1 to 10."""
    if not isinstance(fold, int) or not 1 <= fold <= SPLITS:
        raise UserError(f"there is no fold {fold!r}: choose one from 1 to {SPLITS}.")
    return fold - 1


def check_folds(read: Callable, root: Path, expected: Mapping[str, Counts]) -> list[Finding]:
    """Folds 2 to 10 can be read and are as large as the first should be; one finding for each trouble."""
    wrong: dict[str, list[str]] = {}
    for fold in range(2, SPLITS + 1):
        try:
            splits = read(root, fold=fold)
        except UserError as error:
            wrong.setdefault("cannot be read", []).append(f"fold {fold}: {error}")
            continue
        for split, counts in expected.items():
            images = splits.get(split, [])
            found = len({image.identity for image in images}), len(images)
            expected_here = counts.identities, len(images) if counts.images is None else counts.images
            if found != expected_here:
                wrong.setdefault(split, []).append(
                    f"fold {fold}: {found[0]} identities and {found[1]} images found, {expected_here[0]} "
                    f"and {expected_here[1]} expected"
                )
    return [
        Finding("error", f"{what} in {len(texts)} of the folds 2 to {SPLITS}, first {texts[0].rstrip('.')}.")
        for what, texts in wrong.items()
    ]


def require(condition: bool, path: Path | None, what: str) -> None:
    """Raise UserError saying that a split file does not fit the images, unless the condition holds."""
    if not condition:
        where = path or "the generated splits"
        raise UserError(f"{where}: {what}. {_mend(path) if path else ''}".strip())


def _mend(path: Path) -> str:
    return (
        f"Put back the file that belongs to this copy, or remove {path.name} to have the splits made anew "
        f"(the scores of single splits then change)."
    )


def tracklet(images: Sequence[Image]) -> list[Image]:
    """One image, the first, that stands for all of a tracklet; none for none."""
    return [replace(images[0], others=tuple(image.path for image in images[1:]))] if images else []
