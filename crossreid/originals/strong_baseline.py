"""Checkpoints of reid-strong-baseline, the bag of tricks, and of ReID-Survey, AGW for one modality, built upon it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crossreid.nn import resnet
from crossreid.originals.naming import rename, residual_network
from crossreid.originals.torchreid import INPUT
from crossreid.records import UserError

_RULES = (
    (r"base\.(?=(conv1|bn1|layer[1-4]|nonlocal[23])\.)", "backbone."),
    (r"global_pool\.p$", "pool.power"),
    (r"bottleneck\.", "neck."),
    (r"classifier\.", "classifier."),
)
_UNUSED = ((r"base\.fc\.", "classifies ImageNet, and is never called"),)


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of this program, and not of AlignedReID++, whose network has the same prefix."""
    return (
        "base.layer1.0.conv1.weight" in state
        and "classifier.weight" in state
        and "bn.running_mean" not in state
    )


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """See ``crossreid.originals.agw.read``. The program's plain residual networks have no rectifier in the stem, those
    with mixed normalisation have one."""
    backbone = residual_network(state, "base.", "reid-strong-baseline")
    weights, left_out = rename(resnet.named_as_ours(state), _RULES, _UNUSED, "reid-strong-baseline")
    attention, learned = "backbone.nonlocal2.0.theta.weight" in weights, "pool.power" in weights
    described = {
        "method": "baseline",
        "config": {
            "pretrained": None,
            "backbone": backbone,
            "variant": "torchvision" if "ibn" in backbone else "strong_baseline",
            "attention": attention,
            "pooling": "gem_learned" if learned else "average",
            "neck": "neck.weight" in weights,
        },
        "classes": len(weights["classifier.weight"]),
        "domains": 1,
        "input": dict(INPUT),
        "origin": "AGW for one modality (mangye16/ReID-Survey)"
        if attention or learned
        else "the bag of tricks (michuanhaohao/reid-strong-baseline)",
        "unrecorded": {
            "last_stride": "the file does not record the last stride: 1 is taken, as in the published models; give "
            "last_stride=2 where yours was that"
        },
    }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into theirs; the inverse of ``read``, with the classifier of ImageNet that those of mixed
    normalisation insist on."""
    if any(name.startswith("embedding.") for name in state):
        raise UserError(
            "reid-strong-baseline has no embedding layer: this model cannot be written in its form; keep our own "
            "checkpoint"
        )
    back = (
        (r"backbone\.", "base."),
        (r"pool\.power$", "global_pool.p"),
        (r"neck\.", "bottleneck."),
        (r"classifier\.", "classifier."),
    )
    theirs = resnet.named_as_theirs(rename(state, back, (), "our baseline")[0])
    if "base.layer1.0.bn1.IN.weight" in theirs:
        width = theirs["classifier.weight"].shape[1]
        theirs |= {"base.fc.weight": torch.zeros(1000, width), "base.fc.bias": torch.zeros(1000)}
    return theirs
