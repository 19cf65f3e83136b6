"""The ten random splits of the small data sets: the authors' files where present, else generated once and
kept.

Published means are over ten random halves of the identities. Scores of two sets of halves differ by about one
point, so a set is written where it was first made and never replaced.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from crossreid.data.source import Counts, Finding
from crossreid.files import write_json
from crossreid.formats.text import read_json
from crossreid.records import UserError

SPLITS = 10
FILE = "splits_crossreid.json"
SEED = 2020

log = logging.getLogger(__name__)


def permutation(count: int, generator: np.random.RandomState) -> np.ndarray:
    """A permutation of ``count`` positions: the stable order of as many uniform numbers.

    Uniform numbers of ``RandomState`` are the same on every machine and in every version of numpy, which is
    not promised of shuffling.
    """
    return np.argsort(generator.random_sample(count), kind="stable")


def load(path: Path, keys: Sequence[str]) -> list[dict]:
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
        kinds = {type(item) for key in keys for item in split[key]}
        if len(kinds) > 1 or not kinds <= {int, str, list}:
            raise UserError(f"{path}: the lists hold values of several kinds. {_mend(path)}")
    return splits


def stored(
    root: Path,
    name: str,
    theirs: Sequence[str],
    keys: Sequence[str],
    generate: Callable[[], list[dict]],
    *,
    seed: int = SEED,
    reproduced: bool = False,
) -> tuple[list[dict], Path | None]:
    """The splits of a data set and the file they came from.

    theirs: names of the authors' files, looked for first; then comes our file beside the data, then in the
        cache folder (``$CROSSREID_CACHE``, else the user's). If none exists, ``generate()`` gives the splits
        and they are written beside the data, or in the cache folder where the data may not be written to.
    seed: of the generated splits, for the record.
    reproduced: the generated splits are the authors' own.
    """
    ours = (root / FILE, cache_folder() / f"{name}_{FILE}")
    for path in (*(root / file for file in theirs), *ours):
        if path.is_file():
            return load(path, keys), path
    from crossreid import __version__

    splits = generate()
    content = {"data": name, "made by": f"crossreid {__version__}", "seed": seed, "splits": splits}
    for path in ours:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, content)
        except OSError:
            continue
        if reproduced:
            log.info("%s: the ten splits were computed and written to %s.", name, path)
        else:
            log.warning(
                "%s: no split file of the authors was found, so ten splits were generated and written to %s; "
                "single splits cannot be compared with the published ones, the mean can.",
                name,
                path,
            )
        return splits, path
    log.warning("%s: the ten generated splits could not be written beside the data nor to %s.", name, ours[1])
    return splits, None


def cache_folder() -> Path:
    """``$CROSSREID_CACHE``, else ``crossreid`` in the user's folder for caches."""
    given = os.environ.get("CROSSREID_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossreid"


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
            found = len({image.identity for image in splits[split]}), len(splits[split])
            if found != (counts.identities, counts.images):
                wrong.setdefault(split, []).append(
                    f"fold {fold}: {found[0]} identities and {found[1]} images found, {counts.identities} "
                    f"and {counts.images} expected"
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
