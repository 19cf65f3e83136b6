"""CUHK03's own metric: a gallery of a single image of each identity, drawn anew many times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crossreid.data.sets import cuhk03
from crossreid.data.splitting import query_and_gallery
from crossreid.protocols.base import Protocol
from crossreid.protocols.rules import identity_and_camera
from crossreid.records import Image, Trial, UserError


class CUHK03(Protocol):
    """The single-shot metric of Li et al. 2014 on the 700 test identities of the newer protocol.

    Each repetition draws one gallery image of each identity, evenly. A query counts in those repetitions whose
    image of its own identity is of the other camera: given that, the image is drawn evenly from the other
    camera's, exactly as when each query draws its own gallery after the images of its camera are left out, as
    published code does. A query's numbers are the means over those repetitions, and every query counts alike. So
    one gallery serves all queries, and the means agree with that code's up to the luck of the draw.

    The usual evaluation of this protocol is the one of Market-1501, with all gallery images:
    ``single_query``.

    boxes: ``detected`` or ``labelled``.
    repetitions: galleries drawn.
    seed: of the draws.
    split: ``"test"``, or ``"validation"`` for held-out training images.
    images: those held-out images.
    """

    name = "cuhk03"
    average = "queries"
    settings = ("boxes", "repetitions", "seed")
    title = cuhk03.SOURCE.title

    def __init__(
        self,
        root: str | Path,
        *,
        boxes: str = "detected",
        repetitions: int = 100,
        seed: int = 0,
        split: str = "test",
        images: Sequence[Image] | None = None,
    ):
        if repetitions < 1:
            raise UserError(
                f"protocol cuhk03: repetitions is {repetitions}, expected 1 or more; 100 is usual."
            )
        if split == "test":
            splits = cuhk03.read(Path(root), boxes=boxes)
            query, gallery = splits["query"], splits["gallery"]
        elif split == "validation" and images:
            query, gallery = query_and_gallery(images)
        else:
            raise UserError(
                f"CUHK03 has no split {split!r} of its own: choose 'test', or hold out training identities "
                f"(data.validation) to validate on."
            )
        self.images = query + gallery
        self._queries = np.arange(len(query))
        self._repetitions, self._seed = repetitions, seed
        self.description = (
            f"{self.called}, {boxes} boxes, 767 training and 700 test identities, "
            f"single-shot metric: mean of {repetitions} repetitions, each with one gallery image of each identity, "
            f"drawn at random (seed {seed}). A query's numbers are means over those repetitions that drew its "
            "identity from another camera than its own."
        )

    def trials(self) -> list[Trial]:
        key = identity_and_camera(self.images)
        identity = np.array([image.identity for image in self.images[len(self._queries) :]])
        order = np.argsort(identity, kind="stable") + len(self._queries)
        _, start, count = np.unique(np.sort(identity), return_index=True, return_counts=True)
        uniform = np.random.RandomState(self._seed).random_sample((self._repetitions, len(count)))
        drawn = order[start + (uniform * count).astype(int)]
        return [
            Trial("single shot", self._queries, gallery, (key[self._queries], key[gallery]))
            for gallery in drawn
        ]
