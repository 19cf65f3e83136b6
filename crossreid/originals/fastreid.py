"""Checkpoints of fast-reid's baselines: bag of tricks, AGW and SBS on residual networks, IBN-a too."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crossreid.nn import resnet
from crossreid.originals.naming import rename, residual_network
from crossreid.records import UserError

_RULES = (
    (r"backbone\.(?=(conv1|bn1|layer[1-4]|nonlocal[23])\.)", "backbone."),
    (r"heads\.(bottleneck\.0|bnneck)\.", "neck."),
    (r"heads\.(classifier\.)?weight$", "classifier.weight"),
    (r"heads\.pool_layer\.(0\.)?p$", "pool.power"),
)
_UNUSED = ((r"pixel_(mean|std)$", "images are normalised before the network, by the same numbers"),)
_BACK = (
    (r"backbone\.", "backbone."),
    (r"neck\.", "heads.bottleneck.0."),
    (r"classifier\.weight$", "heads.weight"),
    (r"pool\.power$", "heads.pool_layer.p"),
)
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of one of the program's networks and not of MetaBIN's, which was built upon it."""
    heads = any(name.startswith(("heads.", "b1_head.")) for name in state)
    return heads and "backbone.conv1.weight" in state and "heads.classifier_norm.weight" not in state


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """See ``crossreid.originals.agw.read``."""
    _refuse_others(state)
    backbone = residual_network(state, "backbone.", "fast-reid")
    weights, left_out = rename(resnet.named_as_ours(state), _RULES, _UNUSED, "fast-reid")
    attention = "backbone.nonlocal2.0.theta.weight" in weights
    learned = "pool.power" in weights
    pooling = "gem_learned" if learned else "gem" if attention else "average"
    config: dict[str, object] = {
        "pretrained": None,
        "backbone": backbone,
        "variant": "fastreid",
        "attention": attention,
        "pooling": pooling,
    }
    if learned:
        config |= {"classifier": "circle", "classifier_margin": 0.35, "classifier_scale": 64.0}
    mean, std = (
        [value / 255 for value in state[name].flatten().tolist()] if name in state else usual
        for name, usual in (("pixel_mean", _MEAN), ("pixel_std", _STD))
    )
    described = {
        "method": "baseline",
        "config": config,
        "classes": len(weights["classifier.weight"]),
        "domains": 1,
        "input": {
            "size": [384, 128] if learned else [256, 128],
            "interpolation": "bicubic",
            "mean": mean,
            "std": std,
        },
        "origin": "fast-reid, "
        + ("SBS" if learned else "AGW" if attention else "bag of tricks")
        + " (JDAI-CV/fast-reid)",
        "unrecorded": {
            "pooling": f"the file does not record a pooling without weights: {pooling} is taken, as the program's "
            f"settings of "
            "this kind have it; give pooling=... where yours were others"
        },
    }
    if learned:
        del described["unrecorded"]
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into theirs, as the program's present version has them; the inverse of ``read``."""
    if "neck.weight" not in state or any(name.startswith("embedding.") for name in state):
        raise UserError(
            "baselines of fast-reid have a neck and no embedding layer with a rectifier: this model cannot "
            "be written in its form; keep our own checkpoint"
        )
    theirs, _ = rename(state, _BACK, (), "our baseline")
    return resnet.named_as_theirs(theirs)


def _refuse_others(state: Mapping[str, torch.Tensor]) -> None:
    kinds = (
        ("b1_head.", "MGN, whose several branches"),
        ("backbone.conv1.0.", "ResNeSt, whose split attention"),
        ("backbone.layer1.0.se.", "a network with squeeze and excitation, which"),
    )
    for prefix, kind in kinds:
        if any(name.startswith(prefix) for name in state):
            raise UserError(
                f"the checkpoint is of fast-reid's {kind} no method here has: bag of tricks, AGW and SBS are read"
            )
    if "heads.bottleneck.0.weight" in state and state["heads.bottleneck.0.weight"].ndim > 1:
        raise UserError(
            "the checkpoint of fast-reid has an embedding layer before its neck "
            "(EMBEDDING_DIM), which no method here has"
        )
