"""What an evaluation measures beside the ranks: each measure is offered every block of distances once.

A measure is made for one subset of a protocol, and has

    offer(block)     a ``crossreid.ops.ranking.Block``: distances of some queries of one trial, to be left as they are
    numbers()        for each trial, name -> fraction: columns of the table, beside CMC, mAP and mINP; or an empty list
    result(scores)   heading -> what ``evaluation.json`` holds of this subset under that heading

A new one is a class in a file of its own and a line in ``MEASURES``.
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
    from crossreid.evaluation.settings import EvaluateConfig
    from crossreid.ops.ranking import Block
    from crossreid.records import Embedding, Image


class Measure(Protocol):
    """See the module."""

    def offer(self, block: Block) -> None: ...

    def numbers(self) -> list[dict[str, float]]: ...

    def result(self, scores: Scores) -> dict: ...


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

    def distances(self, trial: Trial, metric: str) -> Callable[[int, int], np.ndarray]:
        """Distances of the features of a trial by another metric: a function of the first query and the last plus
        one."""
        from crossreid.ops import ranking

        features = self.embedding.feature
        rows = ranking.blocks(features[trial.query], features[trial.gallery], metric)
        return lambda start, stop: rows(start, stop).cpu().numpy()


def _modality(found: set[str]) -> str:
    return next(name for name in MODALITIES if name in found) if len(found) == 1 else "both"


MEASURES: dict[str, Callable[[Subset], Measure]] = {
    "verification": Verification,
    "ranked_lists": RankedLists,
    "ties": Ties,
}
