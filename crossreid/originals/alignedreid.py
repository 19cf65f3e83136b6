"""Checkpoints of AlignedReID++: the authors' PyTorch program and its port to MindSpore.

The two networks have the same weights by other names, and pad and normalise differently.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crossreid.originals.naming import rename
from crossreid.records import UserError

# Top-level ``conv1`` and ``bn`` belong to the stripes, in both programs.
_LOCAL = ((r"bn\.", "local_bn."), (r"conv1\.", "local_conv."))
_PYTORCH = (
    (r"base\.0\.", "backbone.conv1."),
    (r"base\.1\.", "backbone.bn1."),
    *((rf"base\.{stage + 3}\.", f"backbone.layer{stage}.") for stage in (1, 2, 3, 4)),
    *_LOCAL,
    (r"classifier\.", "classifier."),
)
_MINDSPORE = ((r"base\.", "backbone."), *_LOCAL, (r"end_point\.", "classifier."))
_BACK = (
    (r"backbone\.conv1\.", "base.0."),
    (r"backbone\.bn1\.", "base.1."),
    *((rf"backbone\.layer{stage}\.", f"base.{stage + 3}.") for stage in (1, 2, 3, 4)),
    (r"local_bn\.", "bn."),
    (r"local_conv\.", "conv1."),
    (r"classifier\.", "classifier."),
)
_MINDSPORE_BACK = (
    (r"backbone\.", "base."),
    (r"local_bn\.", "bn."),
    (r"local_conv\.", "conv1."),
    (r"classifier\.", "end_point."),
)
VARIANT = "mindspore_alignedreid"
# torchvision's own names, below ``base``.
_DENSENET = ((r"base\.", "backbone."), *_LOCAL, (r"classifier\.", "classifier."))
_DENSENET_BACK = (
    (r"backbone\.", "base."),
    (r"local_bn\.", "bn."),
    (r"local_conv\.", "conv1."),
    (r"classifier\.", "classifier."),
)
# Blocks in the third stage of the residual networks there are, with their way of evaluating stripes: the
# program of the deeper one does not leave the projection out.
_DEPTHS = {6: ("resnet50", "raw"), 23: ("resnet101", "projected")}


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of one of the two programs, with a residual network or DenseNet-121."""
    stem = {"base.0.weight", "base.conv1.weight", "base.conv0.weight"}
    return not stem.isdisjoint(state) and {"bn.running_mean", "conv1.weight"} <= set(state)


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """Turn their weights into ours.

    state: a MindSpore file's with PyTorch's words for each layer (``crossreid.formats.mindspore.torch_names``).

    Returns what is needed to build the method (method, config, classes, domains, input, origin), the weights
    by our names, and nothing left out. A MindSpore file sets the backbone's variant. Raises UserError for a
    network other than the published ones.
    """
    mindspore = "base.conv1.weight" in state
    dense = "base.conv0.weight" in state
    rules = _MINDSPORE if mindspore else _DENSENET if dense else _PYTORCH
    weights, left_out = rename(state, rules, (), "AlignedReID++")
    backbone, stripes = ("densenet121", "projected") if dense else _residual(weights)
    if "classifier.weight" not in weights:
        raise UserError(
            "the checkpoint has no classifier (one row for each training identity): give the file as the "
            "program saved it in training"
        )
    described = {
        "method": "alignedreid",
        "config": {
            "backbone": backbone,
            "pretrained": None,
            "variant": VARIANT if mindspore else "torchvision",
            "evaluate_stripes": stripes,
        },
        "classes": len(weights["classifier.weight"]),
        "domains": 1,
        "input": {
            "size": [256, 128],
            "interpolation": "bilinear",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
        "origin": "AlignedReID++ (MindSpore models, research/cv/AlignedReID++)"
        if mindspore
        else "AlignedReID++ (michuanhaohao/AlignedReID)",
    }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into those of the PyTorch program; the inverse of ``read``.

    The form does not record the variant: of weights trained with ``mindspore_alignedreid`` that program
    computes other vectors.
    """
    _writable(state)
    dense = "backbone.conv0.weight" in state
    return rename(state, _DENSENET_BACK if dense else _BACK, (), "our AlignedReID++")[0]


def write_mindspore(state: Mapping[str, torch.Tensor], config: Mapping) -> dict[str, torch.Tensor]:
    """Turn our weights into those of the port to MindSpore, with PyTorch's words for each layer.

    config: settings of the method; only weights trained with the variant ``mindspore_alignedreid`` mean the same there.
    """
    _writable(state)
    variant = config.get("variant")
    if variant != VARIANT or "backbone.layer3.5.conv3.weight" not in state:
        raise UserError(
            "the port of AlignedReID++ to MindSpore has a residual network that pads otherwise, and would compute "
            f"other vectors from weights of the variant {variant!r} or of another network: only models with "
            f"method.variant {VARIANT!r} can be written in its form"
        )
    return rename(state, _MINDSPORE_BACK, (), "our AlignedReID++")[0]


def _residual(weights) -> tuple[str, str]:
    """The name of the residual network, and its program's way of evaluating stripes."""
    blocks = {name.split(".")[2] for name in weights if name.startswith("backbone.layer3.")}
    if len(blocks) not in _DEPTHS or "backbone.layer3.0.conv3.weight" not in weights:
        raise UserError(
            "the checkpoint's backbone is neither the ResNet-50 nor the ResNet-101 of AlignedReID++: it has "
            f"{len(blocks)} blocks in its third stage. Only these two and DenseNet-121 can be converted."
        )
    return _DEPTHS[len(blocks)]


def _writable(state) -> None:
    published = ("backbone.layer3.5.conv3.weight", "backbone.denseblock4.denselayer16.conv2.weight")
    heads = {"local_conv.weight", "classifier.weight"} <= set(state)
    if not heads or not any(name in state for name in published):
        raise UserError(
            "the published AlignedReID++ program has a resnet50, resnet101 or densenet121, a classifier and a "
            "projection of the stripes: a model with another backbone, or without the losses 'identity' or 'local', "
            "cannot be written in its form; keep our own checkpoint"
        )
