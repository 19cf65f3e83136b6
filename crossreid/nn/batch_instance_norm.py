"""Normalisations that weigh batch statistics against those of the single image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

# How gates begin: channels -> their values, from 0 (instance normalisation) to 1 (batch normalisation).
GATES: dict[str, Callable[[int], torch.Tensor]] = {
    "one": torch.ones,
    "zero": torch.zeros,
    "half": lambda channels: torch.full((channels,), 0.5),
    "random": torch.rand,
}


class BatchInstanceNorm(nn.BatchNorm2d):
    """Batch and instance normalisation, mixed in each channel by a learned gate g between 0 and 1.

    Nam and Kim 2018, with one affine pair behind the mixture; the code and models that Choi et al. 2021
    (MetaBIN, arXiv 2011.14670) released have one in each branch:

        two pairs    y = g (w b + c) + (1 - g) (w' i + c')
        shared       y = w (g b + (1 - g) i) + c

    where b is the input normalised by the statistics of the batch and i by those of its image.

    ``weight``, ``bias`` and the running statistics are those of the batch branch, under the names of
    ``torch.nn.BatchNorm2d``, so that weights of a plain network load as they are. With gates of 1 the layer is
    that batch normalisation.

    channels: C of the maps (N, C, H, W). shared: whether both branches share one affine pair. gates: how they
    begin, a name of ``GATES``.
    """

    num_batches_tracked: torch.Tensor
    momentum: float

    def __init__(self, channels: int, shared: bool = False, gates: str = "one"):
        super().__init__(channels)
        self.shared = shared
        self.gate = nn.Parameter(GATES[gates](channels))
        if not shared:
            self.instance_weight = nn.Parameter(torch.ones(channels))
            self.instance_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        gate, rest = self.gate, 1 - self.gate
        bias: torch.Tensor | None
        instance_bias: torch.Tensor | None
        # The gate goes into the affine pairs: the same function, two products of whole maps fewer.
        if self.shared:
            weight, bias = self.weight * gate, self.bias
            instance_weight, instance_bias = self.weight * rest, None
        else:
            weight, bias = self.weight * gate, self.bias * gate
            instance_weight, instance_bias = self.instance_weight * rest, self.instance_bias * rest
        track = self.training and self.track_running_stats
        if track:
            self.num_batches_tracked.add_(1)
        mean, variance = (self.running_mean, self.running_var) if track or not self.training else (None, None)
        by_batch = F.batch_norm(maps, mean, variance, weight, bias, self.training, self.momentum, self.eps)
        return by_batch + F.instance_norm(maps, weight=instance_weight, bias=instance_bias, eps=self.eps)


class HalfInstanceNorm(nn.Module):
    """Instance normalisation of half of the channels, rounded down, batch normalisation of the others.

    Pan et al. 2018 (IBN-Net). instance_first: which half comes first: the instance's in the authors' IBN-a, the
    batch's as MetaBIN compares with it.
    """

    def __init__(self, channels: int, instance_first: bool = False):
        super().__init__()
        self.instance_first = instance_first
        self.batch = nn.BatchNorm2d(channels - channels // 2)
        self.instance = nn.InstanceNorm2d(channels // 2, affine=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        norms = (self.instance, self.batch) if self.instance_first else (self.batch, self.instance)
        parts = maps.split([norm.num_features for norm in norms], dim=1)
        return torch.cat([norm(part) for norm, part in zip(norms, parts)], dim=1)


@contextmanager
def statistics_held(*modules: nn.Module) -> Iterator[None]:
    """Inside, the batch normalisations of ``modules`` use the batch's statistics without recording them."""
    layers = (layer for module in modules for layer in module.modules())
    norms = [layer for layer in layers if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    before = [norm.track_running_stats for norm in norms]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm, track in zip(norms, before):
            norm.track_running_stats = track
