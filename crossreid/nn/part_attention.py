"""Attention between the horizontal parts of one image."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.nn.neck import neck
from crossreid.ops.precision import in_float32


class PartAttention(nn.Module):
    """Adds to the vector of an image what its parts say of one another.

    Ye et al., ECCV 2020, arXiv 2007.09314, section 3.2 (intra-modality weighted-part attention): the map is
    averaged over p bands; part i gathers the values of all parts j with the weights softmax_j(q_i . k_j), not
    scaled; the gathered parts are summed with softmaxed learned weights, added to the vector and normalised
    over the batch.

    width: channels of the map. parts: p. frozen_bias: see ``crossreid.nn.neck.neck``. bias: whether q, k and
        the values have one.
    """

    def __init__(self, width: int, parts: int = 3, frozen_bias: bool = True, bias: bool = True):
        super().__init__()
        self.parts = parts
        self.query, self.key, self.value = (nn.Linear(width, width, bias) for _ in range(3))
        self.gate = nn.Parameter(torch.full((parts,), 1 / parts))
        self.neck = neck(width, frozen_bias)

    def forward(self, maps: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """maps (N, C, H, W), vectors (N, C) after batch normalisation. Returns (N, C)."""
        parts = bands(maps, self.parts)
        gathered = self.attention(parts).to(parts.dtype) @ self.value(parts).to(parts.dtype)
        summed = (gathered * self.gate.softmax(0).to(parts.dtype)[:, None]).sum(1)
        return self.neck(summed + vectors)

    def attention(self, parts: torch.Tensor) -> torch.Tensor:
        """Weights (N, p, p) between the parts (N, p, C) of each image; rows sum to 1."""
        return _attention(self.query(parts), self.key(parts))


@in_float32
def bands(maps: torch.Tensor, parts: int) -> torch.Tensor:
    """Means of a map (N, C, H, W) over horizontal bands, (N, parts, C), from top to bottom. When ``parts``
    does not divide H, band i reaches from row floor(i H / parts) to ceil((i + 1) H / parts), so that bands
    overlap."""
    return F.adaptive_avg_pool2d(maps, (parts, 1)).flatten(2).transpose(1, 2)


@in_float32
def _attention(query, key):
    # Products over thousands of channels without a scale: half precision would overflow.
    return (query @ key.transpose(1, 2)).softmax(2)
