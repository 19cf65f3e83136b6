"""Attention between the horizontal parts of one image."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from crossreid.nn.neck import neck
from crossreid.ops.precision import in_float32
from crossreid.records import UserError


class PartAttention(nn.Module):
    """Adds to the vector of an image what its parts say of one another.

    Ye et al., ECCV 2020, arXiv 2007.09314, section 3.2 (intra-modality weighted-part attention): the map is
    averaged over p bands; part i gathers the values of all parts j with the weights softmax_j(q_i . k_j), not
    scaled; the gathered parts are summed with softmaxed learned weights, added to the vector and normalised
    over the batch.

    width: channels of the map. parts: p. frozen_bias: see ``crossreid.nn.neck.neck``. bias: whether q, k and
        the values have one. pooling: ``bands`` or ``windows``, see these functions.
    """

    def __init__(
        self,
        width: int,
        parts: int = 3,
        frozen_bias: bool = True,
        bias: bool = True,
        pooling: str = "bands",
    ):
        super().__init__()
        self.parts, self.pool = parts, POOLINGS[pooling]
        self.query, self.key, self.value = (nn.Linear(width, width, bias) for _ in range(3))
        self.gate = nn.Parameter(torch.full((parts,), 1 / parts))
        self.neck = neck(width, frozen_bias)

    def forward(self, maps: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """maps (N, C, H, W), vectors (N, C) after batch normalisation. Returns (N, C)."""
        parts = self.pool(maps, self.parts)
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
def windows(maps: torch.Tensor, parts: int) -> torch.Tensor:
    """Means of a map (N, C, H, W) over ``parts`` equal windows of rows that overlap by about a half, (N, parts, C),
    from top to bottom: they begin floor(H / (parts + 1)) rows apart, and the last one ends with the map. Of 9 rows
    three windows are 0-4, 2-6, 4-8, as DDAG's MindSpore port has them off a GPU."""
    height, width = maps.shape[2:]
    if height < parts:
        raise UserError(
            f"the last map has {height} rows, too few for {parts} windows of the part attention: give larger images, "
            "or set method.part_pooling to bands"
        )
    step = max(height // (parts + 1), 1)
    means = F.avg_pool2d(maps, (height - (parts - 1) * step, width), stride=(step, 1))
    return means.flatten(2).transpose(1, 2)


POOLINGS = {"bands": bands, "windows": windows}


@in_float32
def _attention(query, key):
    # Products over thousands of channels without a scale: half precision would overflow.
    return (query @ key.transpose(1, 2)).softmax(2)
