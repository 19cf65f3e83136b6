"""Domain generalisation: a model is tested on data sets that it was not trained on as a rule, each a row of its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from crossreid import data
from crossreid.data import provenance, split_files
from crossreid.data.sets import viper
from crossreid.data.splitting import query_and_gallery
from crossreid.protocols.base import Protocol
from crossreid.protocols.rules import identity_and_camera
from crossreid.records import Image, Trial, UserError

# What published tables test on, and the names there.
USUAL = {"grid": "GRID", "viper": "VIPeR", "prid2011": "PRID", "ilids": "i-LIDS"}


class Generalization(Protocol):
    """Several targets in one run (Song et al. 2019; Choi et al. 2021): one row each, the mean over its folds.

    root: the folder of each target by its name, or one folder that holds them all.
    targets: names of data sets with a query and a gallery. Those with ten folds, such as GRID, VIPeR, PRID and i-LIDS,
        are tested on each, any other once.
    folds: how many of the ten folds are used.
    tracklets: of targets made of sequences (MARS, iLIDS-VID), compare whole ones and not their images.
    viper_variants: some of the letters abcd. The published tables use a, or the mean of all four.
    split: ``"test"``, or ``"validation"`` for held-out training images, each domain a row.
    images: those held-out images.
    """

    name = "generalization"
    settings = ("targets", "folds", "viper_variants", "tracklets")

    def __init__(
        self,
        root: str | Path | Mapping[str, str | Path],
        *,
        targets: Sequence[str] = tuple(USUAL),
        folds: int = 10,
        viper_variants: str = "a",
        tracklets: bool = False,
        split: str = "test",
        images: Sequence[Image] | None = None,
    ):
        if not targets or len(set(targets)) != len(targets):
            raise UserError(
                f"protocol generalization: targets is {list(targets)}, expected data sets, each once."
            )
        if not 1 <= folds <= split_files.SPLITS:
            raise UserError(f"protocol generalization: folds is {folds}, expected 1 to {split_files.SPLITS}.")
        if not viper_variants or not set(viper_variants) <= set(viper.VARIANTS):
            raise UserError(
                f"protocol generalization: viper_variants is {viper_variants!r}, expected some of the letters abcd."
            )
        self.images = []
        self._searches: list[tuple[str, np.ndarray, np.ndarray]] = []
        self._index: dict[tuple, int] = {}
        names = []
        if split == "test":
            for domain, target in enumerate(targets):
                name = USUAL.get(target, data.get(target).title)
                name += f" {viper_variants}" if target == "viper" and viper_variants != "a" else ""
                names.append(name)
                for query, gallery in _splits(target, _root(target, root), folds, viper_variants, tracklets):
                    row = provenance.title(name, [*query, *gallery])
                    self._add(row, domain, query, gallery)
        elif split == "validation" and images:
            for domain in sorted({image.domain for image in images}):
                names.append(f"validation {domain}")
                self._add(
                    f"validation {domain}",
                    domain,
                    *query_and_gallery([i for i in images if i.domain == domain]),
                )
        else:
            raise UserError(
                f"protocol generalization has no split {split!r}: choose 'test', or hold out training "
                "identities (data.validation) to validate on."
            )
        self.title, self._targets = ", ".join(names), tuple(targets)
        trials = Counter(row for row, *_ in self._searches)
        means = "".join(
            f" Means over {count} random splits: {', '.join(row for row, each in trials.items() if each == count)}."
            for count in sorted(set(trials.values()) - {1})
        )
        self.description = (
            f"Each data set is a row: {', '.join(trials)}.{means} Gallery images of the query's identity from the "
            "query's camera are left out. The curve counts images."
        )

    @classmethod
    def locate(cls, roots: Mapping[str, str] | None, settings: Mapping) -> dict[str, Path]:
        return {target: data.locate(target, roots) for target in settings.get("targets", USUAL)}

    def trained_on(self, names: Sequence[str]) -> None:
        """Say which targets are domains that the model has seen, if any. names: of the data sets it was trained on."""
        seen = [target for target in self._targets if target in names]
        which = "none of these is tested on"
        if len(seen) == 1:
            which = f"the row of {seen[0]} is not of an unseen domain"
        elif seen:
            which = f"the rows of {', '.join(seen)} are not of unseen domains"
        self.description += f" The model was trained on data.name {', '.join(names)}: {which}."

    def trials(self) -> list[Trial]:
        key = identity_and_camera(self.images)
        return [
            Trial(row, query, gallery, (key[query], key[gallery])) for row, query, gallery in self._searches
        ]

    def _add(self, row: str, domain: int, query: Iterable[Image], gallery: Iterable[Image]) -> None:
        self._searches.append((row, self._indices(domain, query), self._indices(domain, gallery)))

    def _indices(self, domain: int, images: Iterable[Image]) -> np.ndarray:
        """Indices of images, each of which is kept, and later embedded, once for all folds."""
        found = []
        for image in images:
            key = (domain, image.path, image.array_index, image.box, image.others)
            if key not in self._index:
                self._index[key] = len(self.images)
                self.images.append(replace(image, domain=domain))
            found.append(self._index[key])
        return np.array(found, dtype=int)


def _splits(
    target: str, root: Path, folds: int, variants: str, tracklets: bool = False
) -> Iterable[tuple[list[Image], list[Image]]]:
    source = data.get(target)
    every: list[dict] = [{}]
    if source.takes("fold"):
        every = [{"fold": fold} for fold in range(1, folds + 1)]
    if source.takes("variant"):
        every = [own | {"variant": variant} for variant in variants for own in every]
    if tracklets and source.takes("tracklets"):
        every = [own | {"tracklets": True} for own in every]
    for own in every:
        splits = source.read(root, **own)
        if not splits.get("query") or not splits.get("gallery"):
            raise UserError(f"{source.title} has no query and gallery: it is for training only.")
        yield splits["query"], splits["gallery"]


def _root(target: str, root: str | Path | Mapping[str, str | Path]) -> Path:
    if isinstance(root, Mapping):
        return data.locate(target, root)
    tried = [Path(root).expanduser() / name for name in dict.fromkeys((data.get(target).folder, target))]
    fitting = [folder for folder in tried if folder.is_dir()]
    if len({os.path.realpath(folder) for folder in fitting}) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"{data.get(target).title} may be {fitting[0]} or {fitting[1]}, and which one is meant is not guessed: "
            "give each target's own folder."
        )
    found = sorted(os.listdir(root)) if os.path.isdir(root) else []
    raise UserError(
        f"{data.get(target).title} was not found in {root}: looked for "
        f"{' and '.join(path.name for path in tried)}, found {', '.join(found[:12]) or 'nothing'}. Give the "
        "folder that holds the targets, or each one's own."
    )
