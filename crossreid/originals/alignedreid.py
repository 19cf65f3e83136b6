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
# Blocks in the third stage of the residual networks there are, with their way of evaluating stripes: the
# program of the deeper one does not leave the projection out.
_DEPTHS = {6: ("resnet50", "raw"), 23: ("resnet101", "projected")}


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of one of the two programs, with a residual network."""
    stem = {"base.0.weight", "base.conv1.weight"}
    return not stem.isdisjoint(state) and {"bn.running_mean", "conv1.weight"} <= set(state)


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """Turn their weights into ours.

    state: a MindSpore file's with PyTorch's words for each layer (``crossreid.nn.mindspore.torch_names``).

    Returns what is needed to build the method (method, config, classes, domains, input, origin), the weights
    by our names, and nothing left out. A MindSpore file sets the backbone's flavour. Raises UserError for a
    network other than the published ones.
    """
    mindspore = "base.conv1.weight" in state
    weights, left_out = rename(state, _MINDSPORE if mindspore else _PYTORCH, (), "AlignedReID++")
    blocks = {name.split(".")[2] for name in weights if name.startswith("backbone.layer3.")}
    if len(blocks) not in _DEPTHS or "backbone.layer3.0.conv3.weight" not in weights:
        raise UserError(
            "the checkpoint's backbone is neither the ResNet-50 nor the ResNet-101 of AlignedReID++: it has "
            f"{len(blocks)} blocks in its third stage. Only these two can be converted."
        )
    if "classifier.weight" not in weights:
        raise UserError(
            "the checkpoint has no classifier (one row for each training identity): give the file as the "
            "program saved it in training"
        )
    backbone, stripes = _DEPTHS[len(blocks)]
    described = {
        "method": "alignedreid",
        "config": {
            "backbone": backbone,
            "pretrained": None,
            "flavour": "mindspore_alignedreid" if mindspore else "torchvision",
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

    The form does not record the flavour: of weights trained with ``mindspore_alignedreid`` that program
    computes other vectors.
    """
    needed = {"backbone.layer3.5.conv3.weight", "local_conv.weight", "classifier.weight"}
    if not needed <= set(state):
        raise UserError(
            "the published AlignedReID++ program has a resnet50 or resnet101, a classifier and a projection "
            "of the stripes: a model with another backbone, or without the losses 'identity' or 'local', "
            "cannot be written in its form; keep our own checkpoint"
        )
    return rename(state, _BACK, (), "our AlignedReID++")[0]
