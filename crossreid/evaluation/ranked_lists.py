"""Ranked lists of the best, the median and the worst queries, in the order in which the scores count the gallery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from crossreid.evaluation.measures import Subset
    from crossreid.ops.ranking import Block
    from crossreid.records import Image, Scores

LISTED = 10


class RankedLists:
    """Keeps the nearest images of each query of the first trial, and shows those of ``examples`` queries of each
    kind."""

    def __init__(self, subset: Subset):
        self._subset, trial = subset, subset.trials[0]
        self._items = np.full((len(trial.query), LISTED), -1, np.int64)
        self._distance = np.full((len(trial.query), LISTED), np.inf)

    def offer(self, block: Block) -> None:
        if block.trial == 0 and self._subset.config.examples:
            here = slice(block.start, block.start + len(block.distance))
            self._items[here], self._distance[here] = block.nearest(LISTED)

    def numbers(self) -> list[dict[str, float]]:
        return []

    def result(self, scores: Scores) -> dict:
        first = scores.per_trial[0] if scores.per_trial else scores
        precision, rank = first.per_query["average_precision"], first.per_query["first_rank"]
        order = [int(i) for i in np.argsort(-precision, kind="stable") if np.isfinite(precision[i])]
        count = self._subset.config.examples
        middle = max(0, len(order) // 2 - count // 2)
        chosen = {
            "good": order[:count],
            "median": order[middle : middle + count],
            "worst": order[::-1][:count],
        }
        return {
            "ranked": [
                {
                    "subset": self._subset.name,
                    "kind": kind,
                    "average_precision": float(precision[query]),
                    "first_rank": float(rank[query]),
                    "query": _shown(self._subset.images[self._subset.trials[0].query[query]]),
                    "gallery": self._gallery(query),
                }
                for kind, queries in chosen.items()
                for query in queries
            ]
        }

    def _gallery(self, query: int) -> list[dict]:
        trial, identity = self._subset.trials[0], self._subset.identity
        found = []
        for item, distance in zip(self._items[query], self._distance[query]):
            if item >= 0:
                at = trial.gallery[item]
                right = bool(identity[at] == identity[trial.query[query]])
                found.append(_shown(self._subset.images[at]) | {"distance": float(distance), "right": right})
        return found


def _shown(image: Image) -> dict:
    return {
        "path": str(image.path.absolute()),
        "identity": image.identity,
        "camera": image.camera,
        "modality": image.modality,
        "array_index": image.array_index,
        "box": image.box,
    }
