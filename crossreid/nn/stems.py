"""Two stems, one for each modality, in front of one shared body."""

from __future__ import annotations

import torch
from torch import nn

from crossreid.nn.resnet import ResNet
from crossreid.records import MODALITIES


class Stems(nn.Module):
    """The first layers of a residual network twice, for visible and for infrared images.

    An image goes through the stem of its modality, whatever its place in the batch or its role in a search.
    The body that follows sees both modalities mixed.
    """

    def __init__(self, body: ResNet):
        super().__init__()
        self.visible, self.infrared = body.new_stem(), body.new_stem()

    def forward(self, images: torch.Tensor, modality: str | torch.Tensor) -> torch.Tensor:
        """images (N, 3, H, W); modality: a name for all, or (N,) with 0 visible and 1 infrared. Returns the
        maps in the order of the images."""
        if isinstance(modality, str):
            return self[modality](images)
        order = torch.argsort(modality, stable=True)
        visible, infrared = (images[modality == index] for index in range(len(MODALITIES)))
        if not len(infrared):
            return self.visible(visible)
        if not len(visible):
            return self.infrared(infrared)
        maps = torch.cat((self.visible(visible), self.infrared(infrared)))
        return maps[torch.argsort(order)]

    def __getitem__(self, modality: str) -> nn.Module:
        return getattr(self, modality)
