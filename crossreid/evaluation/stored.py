"""Features with all that scoring them needs, wherever they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from crossreid.evaluation.mapped import floats
from crossreid.protocols.base import Protocol
from crossreid.protocols.results import described
from crossreid.records import Embedding, Image, Metric, Trial, UserError


@dataclass(frozen=True)
class Stored:
    """Features with all that scoring them needs.

    protocol: as in ``crossreid.protocols``. embedding: of its images, float32 on the CPU. metrics: name of a feature
    -> how embeddings are compared by it, for all that these arrays serve; feature: the one meant. about: what
    ``evaluation.json`` says of their origin. settings: those of the evaluation that wrote them, a plain dict, where
    they are known.
    """

    protocol: Protocol | Recorded
    embedding: Embedding[torch.Tensor]
    metrics: Mapping[str, Metric]
    feature: str
    about: dict
    settings: dict | None = None

    def choose(self, feature: str | None = None) -> tuple[str, Metric]:
        """The name of a feature, by default the one meant, and how it is compared."""
        name = feature or self.feature
        if name not in self.metrics:
            raise UserError(
                f"evaluate.feature is {name!r}, but these features serve {', '.join(self.metrics)}: choose "
                "one of them, or embed the images again with the checkpoint and that feature"
            )
        return name, self.metrics[name]

    def under(self, protocol: Protocol) -> Stored:
        """The same features by another protocol, whose images must be among those embedded."""
        known = {_place(image): row for row, image in enumerate(self.protocol.images)}
        missing = [image for image in protocol.images if _place(image) not in known]
        if missing:
            raise UserError(
                f"the features lack {len(missing)} of the {len(protocol.images)} images that this protocol needs, "
                f"the first is {missing[0].path}: evaluate the checkpoint by this protocol, or score the features "
                "by the one they were made for"
            )
        rows = np.array([known[_place(image)] for image in protocol.images])
        about = self.about | {"protocol": described(protocol)}
        about["notes"] = list(protocol.notes)
        return replace(self, protocol=protocol, embedding=self.embedding[rows], about=about)


@dataclass(frozen=True)
class Recorded:
    """A protocol as a file recorded it."""

    name: str
    description: str
    cmc: str
    average: str
    notes: tuple[str, ...]
    images: list[Image]
    recorded: tuple[Trial, ...]
    provenance: str = ""

    def trials(self) -> list[Trial]:
        return list(self.recorded)


def embedding_of(arrays: Mapping[str, np.ndarray]) -> Embedding:
    stripes = arrays.get("stripes")
    return Embedding(
        torch.from_numpy(floats(arrays["vectors"])),
        None if stripes is None else torch.from_numpy(floats(stripes)),
    )


def _place(image: Image) -> tuple:
    return image.path.resolve(), image.array_index, image.box
