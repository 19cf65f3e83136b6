"""Attention between the channels of one map."""

from __future__ import annotations

import torch
from torch import nn

from crossreid.ops.precision import in_float32


class ChannelAttention(nn.Module):
    """X + g A X, A = softmax over the columns of -X X^T, for a map X with a row for each channel.

    Fu et al., arXiv 1809.02983, section 3.3, with the sign as MVD has it: a channel gathers from those least
    like itself. The scalar g is learned and starts at 0, so that the layer starts as the identity.
    """

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same shape."""
        gathered = self.attention(maps) @ maps.flatten(2).to(self.gamma.dtype)
        return maps + (self.gamma * gathered).to(maps.dtype).view_as(maps)

    def attention(self, maps: torch.Tensor) -> torch.Tensor:
        """Weights (N, C, C) between the channels of maps (N, C, H, W); rows sum to 1."""
        return _attention(maps.flatten(2))


@in_float32
def _attention(channels):
    # Sums over all positions, then a softmax without a scale: half precision would overflow.
    return (-channels @ channels.transpose(1, 2)).softmax(2)
