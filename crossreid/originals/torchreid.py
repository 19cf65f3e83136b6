"""Checkpoints of torchreid (deep-person-reid): OSNet, residual networks and MobileNetV2."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crossreid.nn import osnet, resnet
from crossreid.originals.naming import rename, residual_network
from crossreid.records import UserError

_HEAD = (
    (r"fc\.([01])\.", r"embedding.\1."),
    (r"classifier\.", "classifier."),
)
_BODY = ((r"(?=(conv|bn|layer|pool)\d)", "backbone."),)
_WIDTHS = {32: "mobilenet_v2_1.0", 44: "mobilenet_v2_1.4"}
INPUT = {
    "size": [256, 128],
    "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of one of the program's networks that are known here."""
    kinds = ("conv2.0.gate.fc1.weight", "layer1.0.conv1.weight", "conv9.conv.weight")
    return "classifier.bias" in state and any(name in state for name in kinds)


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """See ``crossreid.originals.agw.read``."""
    embedding = len(state["fc.0.weight"]) if "fc.0.weight" in state else 0
    if "fc.3.weight" in state:
        raise UserError(
            "the checkpoint has several embedding layers: one is known here, of which torchreid's models are"
        )
    if "fc_fusion.0.weight" in state:
        raise UserError(
            "the checkpoint is of torchreid's resnet50mid, whose features of two stages no method here has: its other "
            "residual networks, OSNet and MobileNetV2 are read"
        )
    if "conv2.0.gate.fc1.weight" in state:
        backbone, last_stride = _osnet(state), 1
        state = osnet.named_as_ours(state)
    elif "conv9.conv.weight" in state:
        width = len(state["conv1.conv.weight"])
        if width not in _WIDTHS:
            raise UserError(
                f"a MobileNetV2 of torchreid begins with 32 or 44 channels, and this one with {width}"
            )
        backbone, last_stride = _WIDTHS[width], 2
    else:
        backbone, last_stride = residual_network(state, "", "torchreid"), 1 if embedding else 2
        state = resnet.named_as_ours(state)
    weights, left_out = rename(state, (*_HEAD, *_BODY), (), "torchreid")
    described = {
        "method": "baseline",
        "config": {
            "pretrained": None,
            "backbone": backbone,
            "last_stride": last_stride,
            "embedding": embedding,
            "neck": False,
            "losses": ["cross_entropy"],
            "metric": "euclidean",
        },
        "classes": len(weights["classifier.weight"]),
        "domains": 1,
        "input": dict(INPUT),
        "origin": f"torchreid, {backbone} (KaiyangZhou/deep-person-reid)",
    }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into theirs; the inverse of ``read``."""
    back = ((r"embedding\.", "fc."), (r"classifier\.", "classifier."), (r"backbone\.", ""))
    if any(name.startswith("neck.") for name in state) or "classifier.bias" not in state:
        raise UserError(
            "networks of torchreid have no neck, and a classifier with a bias: a model with method.neck "
            "cannot be written in its form; keep our own checkpoint"
        )
    theirs, _ = rename(state, back, (), "our baseline")
    if "conv2.0.gate.fc1.weight" in theirs:
        return osnet.named_as_theirs(theirs)
    return resnet.named_as_theirs(theirs)


def _osnet(state: Mapping[str, torch.Tensor]) -> str:
    channels = len(state["conv1.conv.weight"])
    widths = {
        sizes[0]: name.rpartition("osnet_")[2]
        for name, (sizes, _) in osnet.NETWORKS.items()
        if "n_" not in name
    }
    if channels not in widths:
        raise UserError(f"OSNet begins with 64, 48, 32 or 16 channels, and this one with {channels}")
    if "conv2.0.conv2a.conv1.weight" not in state:
        return f"osnet_ain_{widths[channels]}"
    return f"osnet_{'ibn_' if 'conv2.0.IN.weight' in state else ''}{widths[channels]}"
