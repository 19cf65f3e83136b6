"""Every network that can stand under a method which asks for no more than a map: by name."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from crossreid.nn.mobilenet import MobileNetV2, named_as_ours
from crossreid.nn.pretrained import load_pretrained
from crossreid.nn.resnet import NETWORKS, ResNet, resnet
from crossreid.records import UserError, check_choice

# Name -> whose file of ImageNet weights fits; the residual networks have timm's besides.
OTHERS = {
    "densenet121": "torchvision's densenet121 .pth, or 'timm'",
    "shufflenet_v2_1.0": "torchvision's shufflenet_v2_x1_0 .pth",
    "mobilenet_v2_1.0": "torchvision's mobilenet_v2 .pth, deep-person-reid's mobilenetv2_1.0.pth, or 'timm'",
    "mobilenet_v2_1.4": "deep-person-reid's mobilenetv2_1.4.pth (timm's of that width are those of the backbone "
    "mobilenet_v2_1.4_timm)",
    "mobilenet_v2_1.4_timm": "timm's mobilenetv2_140 .safetensors, or 'timm'",
}
# Name of a MobileNetV2 -> its width, and of what its channels are multiples.
MOBILENETS = {"mobilenet_v2_1.0": (1.0, 1), "mobilenet_v2_1.4": (1.4, 1), "mobilenet_v2_1.4_timm": (1.4, 8)}


class LayersInOrder(nn.Sequential):
    """The layers of a network of torchvision up to its last map, by their names there. ``channels``: of that map."""

    channels = 1024


def backbone(
    name: str, last_stride: int = 1, variant: str = "torchvision"
) -> ResNet | MobileNetV2 | LayersInOrder:
    """A network with fresh weights: images (N, 3, H, W) to maps (N, channels, H/16 or 32, W/16 or 32).

    name: one of ``crossreid.nn.resnet.NETWORKS`` or of ``OTHERS``.
    last_stride: 1 or 2, of the step before the last stage; with 2 the map has 1/32 of the image's height.
    variant: see ``crossreid.nn.resnet``; the other networks have only ``torchvision``.

    The map of ``densenet121`` (Huang et al. 2017) is that of its last normalisation, before any rectifier, as
    AlignedReID++ uses it. ``shufflenet_v2_1.0`` is Ma et al. 2018, for which trained weights exist; the program of
    AlignedReID++ has version 1 (Zhang et al. 2018) with three groups, without trained weights.
    ``channels`` is the width of the map.
    """
    if name not in OTHERS:
        check_choice("method.backbone", name, (*NETWORKS, *OTHERS))
        return resnet(name, last_stride, variant)
    if variant != "torchvision":
        raise UserError(
            f"the backbone {name} has no variant {variant!r}, which belongs to residual networks: use 'torchvision'"
        )
    if name in MOBILENETS:
        width, multiple = MOBILENETS[name]
        return MobileNetV2(width, last_stride=last_stride, multiple=multiple)
    return _densenet(last_stride) if name == "densenet121" else _shufflenet(last_stride)


def start(network: nn.Module, pretrained: str | None, name: str) -> list[str]:
    """Fill it with pretrained weights; see ``crossreid.nn.pretrained.load_pretrained`` for what may be given."""
    if pretrained is not None and name in OTHERS:
        offered = pretrained == "timm" and "'timm'" in OTHERS[name]
        if not offered and not Path(pretrained).is_file():
            lacking = (
                "timm has no weights" if pretrained == "timm" else f"there are no weights at {pretrained}"
            )
            raise UserError(
                f"{lacking} for the backbone {name}: set method.pretrained to the path of {OTHERS[name]}, "
                "copied from any computer, or to null to start from random weights"
            )
    adapt = named_as_ours if name in MOBILENETS else _dense_names if name == "densenet121" else None
    return load_pretrained(network, pretrained, name, adapt=adapt)


def _dense_names(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Files of DenseNet have their names below ``features``, and old ones ``norm.1`` for ``norm1``."""
    return {
        re.sub(r"\b(norm|relu|conv)\.([12])\b", r"\1\2", key.removeprefix("features.")): value
        for key, value in values.items()
    }


def _densenet(last_stride: int) -> LayersInOrder:
    from torchvision.models import densenet121

    network = LayersInOrder(OrderedDict(densenet121(weights=None).features.named_children()))
    if last_stride == 1:
        network.get_submodule("transition3").pool = nn.Identity()
    return network


def _shufflenet(last_stride: int) -> LayersInOrder:
    from torchvision.models import shufflenet_v2_x1_0

    whole = shufflenet_v2_x1_0(weights=None)
    parts = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")
    network = LayersInOrder(OrderedDict((part, getattr(whole, part)) for part in parts))
    if last_stride == 1:
        for module in network.get_submodule("stage4.0").modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    return network
