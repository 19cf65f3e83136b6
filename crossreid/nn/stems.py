"""Two stems, one for each modality, in front of one shared body."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from crossreid.nn.mobilenet import MobileNetV2
from crossreid.nn.resnet import ResNet
from crossreid.records import take


class Stems(nn.Module):
    """The first layers of a network twice, for visible and for infrared images.

    An image goes through the stem of its modality, whatever its place in the batch or its role in a search.
    The body that follows sees both modalities mixed.
    """

    def __init__(self, body: ResNet | MobileNetV2):
        super().__init__()
        self.visible, self.infrared = body.new_stem(), body.new_stem()

    def forward(self, images: torch.Tensor, modality: str | np.ndarray) -> torch.Tensor:
        """images (N, 3, H, W); modality: a name for all, or (N,) with 0 visible and 1 infrared. Returns the
        maps in the order of the images."""
        if isinstance(modality, str):
            return self[modality](images)
        visible, infrared = np.flatnonzero(modality == 0), np.flatnonzero(modality == 1)
        if not len(infrared):
            return self.visible(images)
        if not len(visible):
            return self.infrared(images)
        maps = torch.cat((self.visible(take(images, visible)), self.infrared(take(images, infrared))))
        return take(maps, np.argsort(np.concatenate((visible, infrared))))

    def __getitem__(self, modality: str) -> nn.Module:
        return getattr(self, modality)
