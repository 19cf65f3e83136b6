"""How a trained model is scored: the heading ``evaluate`` of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossreid import outside
from crossreid.records import UserError, check_choice

SIDES = ("both", "query")
METRICS = ("cosine", "euclidean", "squared_euclidean_unit")


@dataclass
class ExpandConfig:
    """Query expansion, before distances are computed: see ``crossreid.ops.rerank.expand_features``.

    k: how many features a mean is taken over, itself included; 0 leaves features as they are.
    side: both, every feature is replaced (as fast-reid's TEST.AQE does); query, only those of the queries.
    alpha: others weigh their cosine to this power; 0 is the plain mean. times: how often it is done.
    """

    k: int = 0
    side: str = "both"
    alpha: float = 3.0
    times: int = 1

    def __post_init__(self):
        check_choice("evaluate.expand.side", self.side, SIDES)
        for name, least in (("k", 0), ("times", 1)):
            if getattr(self, name) < least:
                raise UserError(
                    f"evaluate.expand.{name} is {getattr(self, name)}: expected a whole number from {least}"
                )
        if self.alpha < 0:
            raise UserError(f"evaluate.expand.alpha is {self.alpha}: expected 0 or more")
        if not self.k and (self.side, self.alpha, self.times) != ("both", 3.0, 1):
            raise UserError(
                "evaluate.expand says how features are expanded, but evaluate.expand.k is 0, which leaves them as they "
                "are: give k, such as 5"
            )


@dataclass
class EvaluateConfig:
    """How a trained model is scored.

    feature: which of the method's features; none is its default.
    metric: how features are compared, cosine, euclidean or squared_euclidean_unit; none is the method's own way.
    batch: images embedded at once.
    ranks: length of the CMC curve.
    verification: also report true positive rates at fixed false accept rates.
    expand: query expansion.
    rerank: add a second table with k-reciprocal re-ranking (k1, k2, weight of the original distance).
    baseline: also score colour histograms and raw pixels, to know what the numbers are worth.
    examples: how many good, median and worst queries the report shows of each kind.
    features: save features and stripes as features.npz, which `crossreid evaluate` scores again without the model.
    half_stripes: stripes in that file in float16, half of the size.
    workers: threads that compare and rank, on the CPU; none is as many as torch uses. What comes out is the same to
        the last bit whatever their number.
    measures: further ones of your own, as ``package.module:Name``; see ``crossreid.evaluation.measures``.
    """

    feature: str | None = None
    metric: str | None = None
    batch: int = 64
    ranks: int = 50
    verification: bool = False
    expand: ExpandConfig = field(default_factory=ExpandConfig)
    rerank: bool = False
    k1: int = 20
    k2: int = 6
    weight: float = 0.3
    baseline: bool = False
    examples: int = 3
    features: bool = False
    half_stripes: bool = False
    workers: int | None = None
    measures: tuple[str, ...] = ()

    def __post_init__(self):
        self.measures = tuple(outside.named_in(self.measures))
        for name in self.measures:
            if not outside.named(name):
                raise UserError(
                    f"evaluate.measures names {name!r}: expected measures of your own, as package.module:Name; those "
                    "of the library are always there, or have a setting of their own"
                )
            outside.find(name)
        if self.metric is not None:
            check_choice("evaluate.metric", self.metric, METRICS)
        if self.ranks < 20:
            raise UserError(
                f"evaluate.ranks is {self.ranks}: the table shows ranks up to 20, so give 20 or more"
            )
        for name, least in (("batch", 1), ("k1", 1), ("k2", 1), ("examples", 0), ("workers", 1)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise UserError(
                    f"evaluate.{name} is {getattr(self, name)}: expected a whole number from {least}"
                )
        if not 0 <= self.weight <= 1:
            raise UserError(
                f"evaluate.weight is {self.weight}: the weight of the original distance lies between 0 and 1"
            )
