"""Checkpoints of MVD: the authors' program and the MindSpore port."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from crossreid.originals.agw import INPUT
from crossreid.originals.naming import rename
from crossreid.records import UserError

_BRANCHES = {"IR": "infrared", "RGB": "visible", "shared": "shared"}


def _of_the_program(theirs, ours):
    """Beginnings of names of a branch, theirs and ours."""
    encoder, bottleneck = f"encoders.{ours}.", f"bottlenecks.{ours}."
    return (
        (f"{theirs}_backbone.cam_256._cam_module.", f"{encoder}attention.0."),
        (f"{theirs}_backbone.cam_512._cam_module.", f"{encoder}attention.1."),
        (f"{theirs}_backbone.cam_1024._cam_module.", f"{encoder}attention.2."),
        (f"{theirs}_backbone.base.layer", f"{encoder}backbone.layer"),
        (f"{theirs}_backbone.base.conv1.", f"{encoder}stem.conv1."),
        (f"{theirs}_backbone.base.bn1.", f"{encoder}stem.bn1."),
        (f"{theirs}_backbone.bottleneck.", f"{encoder}neck."),
        (f"{theirs}_backbone.classifier.0.", f"{encoder}classifier."),
        (f"{theirs}_Bottleneck.bottleneck.model.", f"{bottleneck}encoder."),
        (f"{theirs}_Bottleneck.classifier.", f"{bottleneck}classifier."),
    )


def _of_the_port(theirs, part, ours):
    encoder, bottleneck = f"encoders.{ours}.", f"bottlenecks.{ours}."
    return (
        (f"{theirs}_backbone.{part}.layer", f"{encoder}backbone.layer"),
        (f"{theirs}_backbone.{part}.conv1.", f"{encoder}stem.conv1."),
        (f"{theirs}_backbone.{part}.bn1.", f"{encoder}stem.bn1."),
        (f"{theirs}_backbone.{part}.bottleneck.", f"{encoder}neck."),
        (f"{theirs}_backbone.{part}.classifier.", f"{encoder}classifier."),
        (f"{theirs}_bottleneck.bottleneck.model.", f"{bottleneck}encoder."),
        (f"{theirs}_bottleneck.classifier.", f"{bottleneck}classifier."),
    )


_PAIRS = [pair for theirs, ours in _BRANCHES.items() for pair in _of_the_program(theirs, ours)]
_RULES = [(re.escape(theirs), ours) for theirs, ours in _PAIRS]
_BACK = [(re.escape(ours), theirs) for theirs, ours in _PAIRS]
_PORT_PAIRS = [
    *_of_the_port("ir", "thermal", "infrared"),
    *_of_the_port("rgb", "visible", "visible"),
    *_of_the_port("shared", "base", "shared"),
]
_PORT_RULES = [(re.escape(theirs), ours) for theirs, ours in _PORT_PAIRS]
_PORT_BACK = [(re.escape(ours), theirs) for theirs, ours in _PORT_PAIRS]
_UNUSED = (
    (r"(IR|RGB|shared)_backbone\.base\.fc\.", "the ImageNet classifier is never used"),
    (r"(IR|RGB|shared)_MIE\.", "this estimator of an early version is never used"),
)


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of the authors' program or of the port."""
    return "RGB_backbone.base.conv1.weight" in state or _is_port(state)


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """Turn their weights into ours.

    Returns what is needed to build the method (method, config, classes, domains, input, origin), the weights
    by our names, and why each name left out was left out.
    """
    port = _is_port(state)
    rules, unused = (_PORT_RULES, ()) if port else (_RULES, _UNUSED)
    weights, left_out = rename(state, rules, unused, "MVD's MindSpore port" if port else "MVD")
    needed = ("encoders.shared.classifier.weight", "bottlenecks.shared.encoder.6.weight")
    if missing := [name for name in needed if name not in weights]:
        raise UserError(
            f"the checkpoint looks like one of MVD, but nothing in it would become {missing[0]}: it was "
            "cut down or made by a changed program; give the file as the published program wrote it"
        )
    width = len(weights["bottlenecks.shared.encoder.6.weight"])
    config: dict[str, object] = {"pretrained": None, "width": width}
    if port:
        config["profile"] = "mindspore"
    described = {
        "method": "mvd",
        "config": config,
        "classes": len(weights["encoders.shared.classifier.weight"]),
        "domains": 1,
        "input": dict(INPUT) if port else INPUT | {"size": [256, 128], "interpolation": "bilinear"},
        "origin": "MVD, MindSpore port" if port else "MVD (FutabaSakuraXD/Farewell-to-Mutual-Information)",
    }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into those of the authors' program; the inverse of ``read``, with the unused
    classifiers that it insists on."""
    wanted = ("encoders.shared.attention.0.gamma", "encoders.shared.backbone.layer3.5.conv3.weight")
    if any(name not in state for name in wanted):
        raise UserError(
            "the published MVD program has three resnet50 with channel attention: a model with another backbone "
            "cannot be written in its form, one of the profile mindspore in that of its MindSpore port alone, with a "
            "name that ends in .ckpt; keep our own checkpoint"
        )
    encoded = len(state["bottlenecks.shared.encoder.6.weight"])
    if encoded != state["bottlenecks.shared.classifier.0.weight"].shape[1]:
        raise UserError(
            "the published MVD program has no bottleneck with a mean and a variance: a model of the profile "
            "conventional cannot be written in its form; keep our own checkpoint"
        )
    weights, _ = rename(state, _BACK, (), "our MVD")
    for branch in _BRANCHES:
        weights[f"{branch}_backbone.base.fc.weight"] = torch.zeros(1000, 2048)
        weights[f"{branch}_backbone.base.fc.bias"] = torch.zeros(1000)
    return weights


def write_mindspore(state: Mapping[str, torch.Tensor], config: Mapping) -> dict[str, torch.Tensor]:
    """Turn our weights into those of the MindSpore port, with PyTorch's words for each layer.

    config: settings of the method; only models of the profile ``mindspore`` mean the same there.
    """
    profile = config.get("profile")
    if profile != "mindspore" or "encoders.shared.backbone.layer3.5.conv3.weight" not in state:
        raise UserError(
            "the MindSpore port of MVD has three resnet50 with other padding and without channel attention: only a "
            "model with method.profile 'mindspore' and method.backbone 'resnet50' can be written in its form, but "
            f"this one has the profile {profile!r} or another backbone; keep our own checkpoint"
        )
    return rename(state, _PORT_BACK, (), "our MVD")[0]


def _is_port(state):
    return "rgb_backbone.visible.conv1.weight" in state
