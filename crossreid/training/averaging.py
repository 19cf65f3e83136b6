"""An exponential moving average of the weights: Polyak and Juditsky 1992, as recipes of transformers have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def start(module: nn.Module) -> dict[str, torch.Tensor]:
    """The average of what was there so far: a copy of the weights and buffers as they are."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@torch.no_grad()
def update(average: dict[str, torch.Tensor], module: nn.Module, share: float) -> None:
    """Keep ``share`` of the average and take the rest from the module; counters are taken as they are."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - share)
        else:
            average[name].copy_(value)


@contextmanager
def exchanged(module: nn.Module, average: dict[str, torch.Tensor] | None) -> Iterator[dict | None]:
    """Inside, the module has the averaged weights; yields copies of its own, on the CPU. Without an average nothing is
    exchanged, and None is yielded."""
    if average is None:
        yield None
        return
    own = start(module)
    module.load_state_dict(average)
    try:
        yield {name: value.cpu() for name, value in own.items()}
    finally:
        module.load_state_dict(own)
