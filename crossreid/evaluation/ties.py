"""Queries whose rank hangs on the order of the gallery, because a wrong image is exactly as near as the right one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossreid.evaluation.measures import Subset
    from crossreid.ops.ranking import Block
    from crossreid.records import Scores

# A few ties are ordinary with features of few different values; more than this share make the scores doubtful.
MANY = 0.01


class Ties:
    """Counts, over the first trial, the queries whose first right image has a wrong one at exactly its distance."""

    def __init__(self, subset: Subset):
        self._subset, self._tied, self._valid = subset, 0, 0
        self._lock = threading.Lock()

    def offer(self, block: Block) -> None:
        if block.trial == 0:
            found = block.tied()
            with self._lock:
                self._tied += int((found == 1).sum())
                self._valid += int((found >= 0).sum())

    def numbers(self) -> list[dict[str, float]]:
        return []

    def result(self, scores: Scores) -> dict:
        if self._tied <= MANY * self._valid:
            return {}
        return {
            "notes": f"{self._subset.name}: the first right image of {self._tied} of {self._valid} queries is "
            "exactly as near as a wrong one, so that their ranks follow from the order of the gallery and say little. "
            "The features take too few different values."
        }
