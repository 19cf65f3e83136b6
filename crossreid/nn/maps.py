"""What every backbone is: a network from images to maps."""

from __future__ import annotations

import torch
from torch import nn


class Backbone(nn.Module):
    """Images (N, 3, H, W) to the last map (N, channels, h, w). channels: of that map."""

    channels: int

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return super().__call__(images)
