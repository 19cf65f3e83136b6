"""Losses that settings choose by name, each with options of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from crossreid import outside
from crossreid.losses.center import center
from crossreid.losses.circle import circle
from crossreid.losses.contrast import contrast
from crossreid.losses.deviation import deviation
from crossreid.losses.domain_triplet import domain_triplet, inter_domain_shuffle
from crossreid.losses.focal import focal
from crossreid.losses.identity import smoothed_identity
from crossreid.losses.mmd import mmd
from crossreid.losses.scatter import intra_domain_scatter
from crossreid.records import UserError

# Of a batch's ``logits`` (N, C) or ``features`` (N, D), and of what else they name: ``targets`` (N,), ``domains``
# (N,), ``count``, the number of domains there can be, and the method's ``centers`` (C, D), which are learned. All
# further parameters are options.
LOSSES: dict[str, Callable] = {
    "cross_entropy": smoothed_identity,
    "focal": focal,
    "triplet": domain_triplet,
    "shuffle": inter_domain_shuffle,
    "circle": circle,
    "contrast": contrast,
    "scatter": intra_domain_scatter,
    "deviation": deviation,
    "mmd": mmd,
    "center": center,
}
GIVEN = ("logits", "features", "targets", "domains", "count", "centers")


def _function(where: str, name: str) -> Callable:
    return outside.chosen(where, name, LOSSES)


@dataclass(frozen=True)
class Loss:
    """One entry of a list of losses.

    name: from ``LOSSES``. weight: its factor in the sum. feature: which of the method's features it takes, where
        it takes one.
    options: of its function.
    """

    name: str
    weight: float
    feature: str
    options: Mapping = field(default_factory=dict)

    def __call__(self, **given) -> torch.Tensor:
        """``given``: values by the names of ``GIVEN``."""
        function = _function("the loss", self.name)
        asked = inspect.signature(function).parameters
        taken = {name: given[name] for name in GIVEN if name in asked}
        if (centers := taken.get("centers")) is not None:
            # Their gradient is without the weight, as in reid-strong-baseline: they follow the features at a rate of
            # their own.
            taken["centers"] = centers.detach() + (centers - centers.detach()) / self.weight
        return self.weight * function(**taken, **self.options)

    def takes(self, name: str) -> bool:
        """Whether its function asks for what has that name in ``GIVEN``."""
        return name in inspect.signature(_function("the loss", self.name)).parameters

    @property
    def on_logits(self) -> bool:
        return self.takes("logits")


def chosen(
    where: str,
    entries: Sequence[str | Mapping],
    features: Sequence[str],
    defaults: Mapping[str, Mapping],
    *,
    centers: bool = False,
) -> tuple[Loss, ...]:
    """The losses that a setting lists: ``name``, or ``{name: ..., weight: ..., feature: ..., OPTION: ...}``.

    where: the setting, for messages. features: the method's, the default first. defaults: name -> options of it
    where the entry does not say. centers: whether the method learns some for a loss. Each is tried on a small batch, so
    that a wrong option is found before training.
    """
    if not entries:
        raise UserError(f"{where} is empty: choose one or more of {', '.join(LOSSES)}")
    losses = tuple(_one(where, entry, features, defaults) for entry in entries)
    with_centers = [loss for loss in losses if loss.takes("centers")]
    if with_centers and not centers:
        raise UserError(
            f"{where}: the loss {with_centers[0].name} wants centers that are learned, which this method does not "
            "have: leave it out, or take the method baseline"
        )
    if len(with_centers) > 1 or any(loss.weight <= 0 for loss in with_centers):
        raise UserError(f"{where}: a loss with centers is given once, with a weight above 0, or left out")
    return losses


def _one(where, entry, features, defaults) -> Loss:
    options: dict[str, Any] = {"name": entry} if isinstance(entry, str) else dict(entry)
    name = options.pop("name", None)
    function = _function(where, name)
    known = [option for option in inspect.signature(function).parameters if option not in GIVEN]
    weight, feature = options.pop("weight", 1.0), options.pop("feature", features[0])
    if wrong := [option for option in options if option not in known]:
        raise UserError(
            f"{where}: the loss {name} has no option {wrong[0]!r}: it has weight, feature, {', '.join(known)}"
        )
    if feature not in features:
        raise UserError(
            f"{where}: the loss {name} is given the feature {feature!r}: choose {' or '.join(features)}"
        )
    loss = Loss(name, weight, feature, {**defaults.get(name, {}), **options})
    try:
        # Also for the outline of a method on torch's device of shapes alone, whose arithmetic takes seconds to load.
        with torch.device("cpu"):
            rows = torch.arange(4.0)
            small = {"logits": torch.stack((rows, -rows), 1), "features": torch.stack((rows, 1 - rows), 1)}
            labels = torch.tensor([0, 0, 1, 1])
            value = loss(**small, targets=labels, domains=labels, count=2, centers=torch.eye(2))
    except (ValueError, TypeError) as error:
        asked = f"; of the batch a loss gets {', '.join(GIVEN)}" * outside.named(name)
        raise UserError(f"{where}: the loss {name} does not take these options: {error}{asked}") from error
    if not torch.is_tensor(value) or value.ndim:
        found = f"a tensor of shape {tuple(value.shape)}" if torch.is_tensor(value) else type(value).__name__
        raise UserError(
            f"{where}: the loss {name} gives {found}: expected one number, a tensor without dimensions"
        )
    return loss
