"""What every backbone is: a network from images to maps."""

from __future__ import annotations

import torch
from torch import nn


class Backbone(nn.Module):
    """Images (N, 3, H, W) to the last map (N, channels, h, w). channels: of that map."""

    channels: int

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return super().__call__(images)

    def token(self, images: torch.Tensor) -> torch.Tensor:
        """The class token (N, channels), of transformers that have one."""
        raise NotImplementedError(f"{type(self).__name__} has no class token")
