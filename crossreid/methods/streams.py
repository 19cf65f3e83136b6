"""What methods have in common that give each modality a stem of its own, or treat all images alike."""

from __future__ import annotations

import torch
from torch import nn

from crossreid.methods.base import Method, modality_indices
from crossreid.nn.maps import Backbone
from crossreid.nn.stems import Stems
from crossreid.records import MODALITIES, UserError


def feature_map(backbone: Backbone, stems: Stems | None, images: torch.Tensor, modality) -> torch.Tensor:
    """The last map (N, C, H, W) of images (N, 3, H, W). modality: see ``Method.embed``; of no account without
    stems."""
    if stems is None:
        return backbone(images)
    if not (isinstance(modality, str) and modality in MODALITIES):
        modality = modality_indices(modality, len(images))
    return backbone(stems(images, modality))


def body_parameters(backbone: Backbone, stems: Stems | None) -> list[nn.Parameter]:
    """The parameters that start from pretrained weights."""
    return [*backbone.parameters(), *(stems.parameters() if stems is not None else ())]


def check(method: Method, name: str, batch_labels) -> None:
    """Both stems need images to learn from. name: of the method, for the reader of the error."""
    found = {MODALITIES[index] for index in set(batch_labels.modality.tolist())}
    if missing := [each for each in method.modalities if each not in found and len(method.modalities) > 1]:
        raise UserError(
            f"{name} with two streams learns from visible and infrared images, but the training data has no "
            f"{missing[0]} ones: set method.streams to 1, or train on a visible-infrared data set"
        )
