"""LLCM: all images of one modality search one image per identity and camera of the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid.data.sets import llcm
from crossreid.protocols.base import Protocol
from crossreid.protocols.rules import identity_and_camera
from crossreid.protocols.sysu_mm01 import seeded_gallery
from crossreid.records import INFRARED, VISIBLE, Image, Trial, UserError


class LLCM(Protocol):
    """The protocol of Zhang and Wang 2023, in both directions.

    trials: galleries drawn, by Python's generator seeded with the number of the trial from 0; averaged.
    flipped: for visible to infrared do as the released scripts do, not as they say: the drawn infrared
        images are the queries, and all visible images the gallery.
    split: ``"test"``, or ``"validation"`` for held-out training images.
    images: those held-out images, of both modalities.
    """

    name = "llcm"
    cmc = "identity"
    settings = ("trials", "flipped")
    title = llcm.SOURCE.title

    def __init__(
        self,
        root: str | Path,
        *,
        trials: int = 10,
        flipped: bool = False,
        split: str = "test",
        images: Sequence[Image] | None = None,
    ):
        if trials < 1:
            raise UserError(f"protocol llcm: trials is {trials}, expected 1 or more; 10 is usual.")
        if split == "test":
            splits = llcm.read(Path(root))
            self.images = splits["query"] + splits["gallery"]
        elif split == "validation" and images:
            self.images = list(images)
        else:
            raise UserError(
                f"LLCM has no split {split!r} of its own: choose 'test', or hold out training identities "
                f"(data.validation) to validate on."
            )
        self._trials, self._flipped = trials, flipped
        how = (
            "for visible to infrared with the roles exchanged as in the released scripts: the drawn infrared "
            "images search all visible ones"
            if flipped
            else "in both directions by the literal definition"
        )
        self.description = (
            f"{self.called}, {'one trial' if trials == 1 else f'mean of {trials} trials'}, {how}. Every "
            f"image of one modality of the {split} identities is a query; the gallery is one image of each "
            "identity in each camera of the other, drawn by Python's generator seeded with the number of the "
            "trial. Images of the query's identity from the query's camera are left out, and queries without "
            "a match. The curve counts identities, the average precision images."
        )

    def trials(self) -> list[Trial]:
        key = identity_and_camera(self.images)
        everyone = {modality: self._indices(modality) for modality in (INFRARED, VISIBLE)}
        found = []
        for query, gallery in ((INFRARED, VISIBLE), (VISIBLE, INFRARED)):
            flipped = self._flipped and query == VISIBLE
            row = f"{query} to {gallery}{' (flipped)' if flipped else ''}"
            for trial in range(self._trials):
                drawn = self._draw(everyone[gallery], trial)
                pair = (drawn, everyone[query]) if flipped else (everyone[query], drawn)
                found.append(Trial(row, *pair, (key[pair[0]], key[pair[1]])))
        return found

    def _indices(self, modality: str) -> np.ndarray:
        # In the order of the published listing, on which the draw depends: identity, camera, name.
        chosen = [index for index, image in enumerate(self.images) if image.modality == modality]
        chosen.sort(key=lambda index: (self.images[index].identity, self.images[index].camera))
        return np.array(chosen, dtype=int)

    def _draw(self, indices: np.ndarray, trial: int) -> np.ndarray:
        folders: dict[tuple[int, int], list[int]] = {}
        for index in indices:
            folders.setdefault((self.images[index].identity, self.images[index].camera), []).append(index)
        picks = seeded_gallery({folder: len(found) for folder, found in folders.items()}, 1, trial)
        return np.array(
            [folders[identity, camera][position] for identity, camera, position in picks], dtype=int
        )
