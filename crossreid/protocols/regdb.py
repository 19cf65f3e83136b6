"""RegDB: every test image of one modality searches all test images of the other, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid.data.sets import regdb
from crossreid.protocols.base import Protocol
from crossreid.records import INFRARED, VISIBLE, Image, Trial, UserError

DIRECTIONS = {"visible to thermal": (VISIBLE, INFRARED), "thermal to visible": (INFRARED, VISIBLE)}


class RegDB(Protocol):
    """The protocol of Ye et al. 2018, for one of the ten folds.

    fold: 1 to 10, the one that the model was trained on: other folds test on persons it knows. The published
        numbers are the mean over ten models, one for each fold.
    split: ``"test"``, or ``"validation"`` for held-out training images.
    images: those held-out images, of both modalities.
    """

    name = "regdb"
    folds = True
    title = regdb.SOURCE.title

    def __init__(
        self, root: str | Path, *, fold: int = 1, split: str = "test", images: Sequence[Image] | None = None
    ):
        if split == "test":
            splits = regdb.read(Path(root), fold=fold)
            self.images = splits["query"] + splits["gallery"]
        elif split == "validation" and images:
            self.images = list(images)
        else:
            raise UserError(
                f"RegDB has no split {split!r} of its own: choose 'test', or hold out training identities "
                f"(data.validation) to validate on."
            )
        self._of = {
            modality: np.array(
                [i for i, image in enumerate(self.images) if image.modality == modality], dtype=int
            )
            for modality in (VISIBLE, INFRARED)
        }
        who = "test" if split == "test" else "held-out training"
        self.description = (
            f"{self.called}, fold {fold} of 10. Every image of the {who} identities of "
            "one modality is a query; the gallery is every image of the other. No pair is left out. The curve counts "
            "images. Published numbers are means over ten models, each trained and tested on its own fold."
        )

    def trials(self) -> list[Trial]:
        return [
            Trial(row, self._of[query], self._of[gallery]) for row, (query, gallery) in DIRECTIONS.items()
        ]
