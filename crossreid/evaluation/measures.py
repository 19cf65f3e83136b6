"""What an evaluation measures beside the ranks: each measure is offered every block of distances once.

A measure is made for one subset of a protocol, and has

    offer(block)     a ``crossreid.ops.ranking.Block``: distances of some queries of one trial, to be left as they are;
                     several threads may call it at once
    numbers()        for each trial, name -> fraction: columns of the table, beside CMC, mAP and mINP; or an empty list
    result(scores)   heading -> what ``evaluation.json`` holds of this subset under that heading

A new one is a class in a file of its own and a line in ``MEASURES``; one from elsewhere is named in
``evaluate.measures``, and what its ``result`` gives stands under its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from crossreid.evaluation.ranked_lists import RankedLists
from crossreid.evaluation.ties import Ties
from crossreid.evaluation.verification import Verification
from crossreid.records import MODALITIES, Metric, Scores, Trial

if TYPE_CHECKING:
    import torch

    from crossreid.evaluation.settings import EvaluateConfig
    from crossreid.ops.ranking import Block
    from crossreid.records import Embedding, Image


class Measure(Protocol):
    """See the module. One that is derived from this needs only what it has to say."""

    def offer(self, block: Block) -> None: ...

    def numbers(self) -> list[dict[str, float]]:
        return []

    def result(self, scores: Scores) -> dict:
        return {}


@dataclass(frozen=True)
class Subset:
    """What a measure may know of the subset that it is made for.

    name: its line in the table. trials: all of them. images, identity: of the protocol; the trials hold indices into
    them.
    embedding, metric: how images are compared. config: what was asked for.
    """

    name: str
    trials: Sequence[Trial]
    images: Sequence[Image]
    identity: np.ndarray
    embedding: Embedding
    metric: Metric
    config: EvaluateConfig

    @cached_property
    def modalities(self) -> tuple[str, str]:
        """Of the queries and of the gallery; ``"both"`` where they are mixed."""
        query, gallery = (
            {
                self.images[index].modality
                for trial in self.trials
                for index in np.unique(getattr(trial, side))
            }
            for side in ("query", "gallery")
        )
        return _modality(query), _modality(gallery)

    @cached_property
    def _inverse_lengths(self) -> torch.Tensor:
        import torch

        from crossreid.ops import ranking

        lengths = ranking.of_rows(self.embedding.feature, lambda some: torch.linalg.vector_norm(some, dim=1))
        return lengths.clamp_min(1e-12).reciprocal()

    def cosine(self, trial: Trial, start: int, stop: int) -> np.ndarray:
        """1 - cosine of the features themselves, of these queries of a trial to its gallery, whatever the metric is."""
        import torch

        from crossreid.ops import ranking
        from crossreid.ops.precision import full_products

        query, features = trial.query[start:stop], self.embedding.feature
        some, gallery = features[query], take(features, trial.gallery)
        similar = features.new_empty(len(query), len(gallery))
        with full_products():
            for left, right, piece in ranking.pieces(gallery):
                torch.mm(some, piece.T, out=similar[:, left:right])
        similar *= self._inverse_lengths[query][:, None]
        similar *= self._inverse_lengths[trial.gallery]
        return similar.neg_().add_(1).numpy()


def take(values, rows: np.ndarray):
    """The rows of an embedding or a tensor, without a copy where they follow each other."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return values[int(rows[0]) : int(rows[0]) + len(rows)]
    return values[rows]


def _modality(found: set[str]) -> str:
    return next(name for name in MODALITIES if name in found) if len(found) == 1 else "both"


MEASURES: dict[str, Callable[[Subset], Measure]] = {
    "verification": Verification,
    "ranked_lists": RankedLists,
    "ties": Ties,
}
