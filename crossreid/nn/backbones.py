"""The one door to backbones: every network that can stand under a method, by name, and its pretrained weights."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import nn

from crossreid import outside
from crossreid.nn import mobilenet, osnet
from crossreid.nn import resnet as resnets
from crossreid.nn.maps import Backbone
from crossreid.nn.mobilenet import MobileNetV2
from crossreid.nn.osnet import OSNet
from crossreid.nn.pretrained import load_pretrained
from crossreid.nn.resnet import NETWORKS, PLAIN, ResNet, resnet
from crossreid.nn.timm_maps import TRANSREID, TimmMap, of_timm
from crossreid.records import UserError, check_choice

# Name -> whose file of ImageNet weights fits; the plain residual networks have timm's besides.
OTHERS = {
    "densenet121": "torchvision's densenet121 .pth, or 'timm'",
    "shufflenet_v2_1.0": "torchvision's shufflenet_v2_x1_0 .pth",
    "mobilenet_v2_1.0": "torchvision's mobilenet_v2 .pth, deep-person-reid's mobilenetv2_1.0.pth, or 'timm'",
    "mobilenet_v2_1.4": "deep-person-reid's mobilenetv2_1.4.pth (timm's of that width are those of the backbone "
    "mobilenet_v2_1.4_timm)",
    "mobilenet_v2_1.4_timm": "timm's mobilenetv2_140 .safetensors, or 'timm'",
    **{name: f"deep-person-reid's {name}_imagenet.pth" for name in osnet.NETWORKS},
    **{name: f"IBN-Net's {name} .pth" for name in NETWORKS if name not in PLAIN},
    **{name: f"timm's {model} .safetensors, or 'timm'" for name, (model, _, _) in TRANSREID.items()},
}
# Name of a MobileNetV2 -> its width, and of what its channels are multiples.
MOBILENETS = {"mobilenet_v2_1.0": (1.0, 1), "mobilenet_v2_1.4": (1.4, 1), "mobilenet_v2_1.4_timm": (1.4, 8)}
NAMES = (*NETWORKS, *(name for name in OTHERS if name not in NETWORKS))
# What a method may ask of a backbone beside a map: for whom it must not be asked, and what then helps.
STEM = "a stem for each modality"
STAGES = "stages, between which attention sits"
NORM = "normalisation that can be replaced"
EARLY = "narrow layers in its first stages"
VARIANT = "the padding and normalisation of another framework"
NOT_NEGATIVE = "maps that are never negative, which generalised-mean pooling needs"
TOKEN = "a class token"
_HELP = {
    STEM: "or a method and settings without streams of their own (agw and ddag: method.streams 1)",
    STAGES: "or method.attention false",
    NORM: "or method.norm bn and method.meta false",
    EARLY: "or method.norm bin",
    VARIANT: "or method.variant torchvision",
    NOT_NEGATIVE: "or method.pooling average",
    TOKEN: "or method.pooling average",
}


class LayersInOrder(nn.Sequential, Backbone):
    """The layers of a network of torchvision up to its last map, by their names there. ``channels``: of that map."""

    channels = 1024


def backbone(
    name: str,
    last_stride: int = 1,
    variant: str = "torchvision",
    *,
    norm: Callable[[int], nn.Module] | None = None,
    early_norm: Callable[[int], nn.Module] | None = None,
    nonlocal_width: int | str | None = None,
    gradient_checkpointing: bool = False,
    not_negative: bool = False,
    token: bool = False,
) -> Backbone:
    """A network with fresh weights: images (N, 3, H, W) to maps (N, channels, h, w), ``channels`` its attribute.

    name: one of ``NAMES``; ``timm:NAME`` for a network of timm by its name there, the patches of a transformer laid out
        as a map; or ``package.module:Name``, a class or function from elsewhere that takes nothing and gives such a
        network.
    last_stride: 1 or 2, of the step before the last stage; with 2 the map has 1/32 of the image's height. OSNet's is
        1/16 always, and networks of timm and from elsewhere have strides of their own.
    variant, norm, nonlocal_width, gradient_checkpointing: see ``crossreid.nn.resnet.resnet``. MobileNetV2 takes a
        ``norm`` too, and it alone an ``early_norm``, see there; networks of timm gradient checkpointing.
    not_negative: whether the method raises the map to a power. token: whether it takes a transformer's class token
        in the place of a map.

    The map of ``densenet121`` (Huang et al. 2017) is that of its last normalisation, before any rectifier, as
    AlignedReID++ uses it. ``shufflenet_v2_1.0`` is Ma et al. 2018, for which trained weights exist; the program of
    AlignedReID++ has version 1 (Zhang et al. 2018) with three groups, without trained weights.

    Raises UserError where the network lacks what is asked of it.
    """
    asked = {
        STAGES: nonlocal_width is not None,
        NORM: norm is not None,
        EARLY: early_norm is not None,
        VARIANT: variant != "torchvision",
        NOT_NEGATIVE: not_negative,
        TOKEN: token,
    }
    _check(name, [what for what, wanted in asked.items() if wanted])
    if name in NETWORKS:
        return resnet(name, last_stride, variant, norm, True, nonlocal_width, gradient_checkpointing)
    if name.startswith("timm:") or name in TRANSREID:
        network = TimmMap(*TRANSREID.get(name, (name.removeprefix("timm:"),)))
        if token and not network.has_token:
            _refuse(name, [TOKEN])
        if gradient_checkpointing:
            network.set_gradient_checkpointing()
        return network
    _check_spared(name, gradient_checkpointing)
    if outside.named(name):
        return _from_elsewhere(name)
    if name in MOBILENETS:
        width, multiple = MOBILENETS[name]
        return MobileNetV2(width, norm or nn.BatchNorm2d, last_stride, multiple, early_norm)
    if name in osnet.NETWORKS:
        return OSNet(name)
    return _densenet(last_stride) if name == "densenet121" else _shufflenet(last_stride)


def body(
    name: str,
    last_stride: int = 1,
    variant: str = "torchvision",
    nonlocal_width: int | str | None = None,
    gradient_checkpointing: bool = False,
) -> ResNet | MobileNetV2:
    """A network without its first layers, of which ``new_stem`` makes as many as a method has streams."""
    asked = {STEM: True, STAGES: nonlocal_width is not None, VARIANT: variant != "torchvision"}
    _check(name, [what for what, wanted in asked.items() if wanted])
    if name in MOBILENETS:
        _check_spared(name, gradient_checkpointing)
        width, multiple = MOBILENETS[name]
        return MobileNetV2(width, last_stride=last_stride, multiple=multiple, stem=False)
    return resnet(name, last_stride, variant, None, False, nonlocal_width, gradient_checkpointing)


def _check_spared(name: str, gradient_checkpointing: bool) -> None:
    if gradient_checkpointing:
        raise UserError(
            f"method.gradient_checkpointing is for residual networks and timm's: {name} has none, set it to false"
        )


def _from_elsewhere(name: str) -> Backbone:
    network = outside.find(name)()
    if not isinstance(network, nn.Module) or not isinstance(getattr(network, "channels", None), int):
        raise UserError(
            f"the backbone {name} has no number of channels: expected a torch.nn.Module from images (N, 3, H, W) to "
            "maps (N, channels, h, w), with that number as its attribute channels"
        )
    return cast(Backbone, network)


def _check(name: str, asked: list[str]) -> None:
    """Raise UserError unless there is such a network and it has all that is asked of it."""
    if name not in NAMES and not name.startswith("timm:") and not outside.named(name):
        check_choice("method.backbone", name, (*NAMES, *of_timm(name), "timm:NAME", "package.module:Name"))
    has = {STEM, STAGES, NORM, VARIANT, NOT_NEGATIVE}
    if name in NETWORKS and name not in PLAIN:
        has = has - {NORM}
    elif name in MOBILENETS:
        has = {STEM, NORM, EARLY, NOT_NEGATIVE}
    elif name in (*osnet.NETWORKS, "shufflenet_v2_1.0"):
        has = {NOT_NEGATIVE}
    elif name not in NETWORKS:
        has = {NOT_NEGATIVE} if outside.named(name) else {TOKEN}
    if lacking := [what for what in asked if what not in has]:
        _refuse(name, lacking)


def _refuse(name: str, lacking: list[str]) -> None:
    kinds = (
        "residual networks and MobileNetV2"
        if lacking in ([NORM], [STEM])
        else "MobileNetV2"
        if lacking == [EARLY]
        else "transformers (timm:vit_small_patch16_224, transreid_vit_base, ...)"
        if lacking == [TOKEN]
        else f"residual networks ({', '.join(PLAIN)})"
    )
    raise UserError(
        f"the settings of this method ask of its backbone {'; '.join(lacking)}: {name} lacks that. Choose one of "
        f"the {kinds}, {', '.join(_HELP[what] for what in lacking)}"
    )


def start(
    network: nn.Module, pretrained: str | None, name: str, stems: tuple[nn.Module, ...] = ()
) -> list[str]:
    """Fill it, and further stems, with pretrained weights; see ``crossreid.nn.pretrained.load_pretrained`` for what may
    be given."""
    if pretrained is None:
        return []
    if outside.named(name):
        raise UserError(
            f"method.pretrained is {pretrained!r}, but a backbone from elsewhere, {name}, fills itself: set "
            "method.pretrained to null"
        )
    if name in OTHERS:
        offered = pretrained == "timm" and "'timm'" in OTHERS[name]
        if not offered and not Path(pretrained).is_file():
            lacking = (
                "timm has no weights" if pretrained == "timm" else f"there are no weights at {pretrained}"
            )
            raise UserError(
                f"{lacking} for the backbone {name}: set method.pretrained to the path of {OTHERS[name]}, "
                "copied from any computer, or to null to start from random weights"
            )
    return load_pretrained(network, pretrained, name, stems, _adapt(name, network))


def _adapt(name: str, network: nn.Module) -> Callable | None:
    """What turns the names in files of a network into ours."""
    if isinstance(network, TimmMap):
        return network.named_as_ours
    if name in MOBILENETS:
        return mobilenet.named_as_ours
    if name in osnet.NETWORKS:
        return osnet.named_as_ours
    if name in NETWORKS and name not in PLAIN:
        return resnets.named_as_ours
    return _dense_names if name == "densenet121" else None


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
