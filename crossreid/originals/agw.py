"""Checkpoints of the AGW program (Cross-Modal-Re-ID-baseline) and of its plain variant ``base``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from crossreid.nn import resnet
from crossreid.originals.naming import rename
from crossreid.records import UserError

# The two stems and the body of the visible-infrared programs of these authors. Each of the three modules
# there is a whole ResNet-50, of which a slice is used.
TRUNK = (
    (r"visible_module\.visible\.", "stems.visible."),
    (r"thermal_module\.thermal\.", "stems.infrared."),
    (r"base_resnet\.base\.", "backbone."),
    (r"bottleneck\.", "neck."),
    (r"classifier\.", "classifier."),
)
UNUSED = (
    (r"visible_module\.visible\.(layer\d|fc)\.", "only the stem of this module is used"),
    (r"thermal_module\.thermal\.(layer\d|fc)\.", "only the stem of this module is used"),
    (r"base_resnet\.base\.(conv1|bn1|fc)\.", "only the body of this module is used"),
)
_ATTENTION = (r"nonlocal", "backbone.nonlocal")
TRUNK_BACK = (
    (r"stems\.visible\.", "visible_module.visible."),
    (r"stems\.infrared\.", "thermal_module.thermal."),
    (r"backbone\.", "base_resnet.base."),
    (r"neck\.", "bottleneck."),
    (r"classifier\.", "classifier."),
)
INPUT = {
    "size": [288, 144],
    "interpolation": "lanczos",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of this program and not of DDAG, which was built upon it."""
    own = {"visible_module.visible.conv1.weight", "bottleneck.running_mean"}
    return own <= set(state) and "wpa.gate" not in state and "resnet50.conv1.weight" not in state


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """Turn their weights into ours.

    Returns what is needed to build the method (method, config, classes, domains, input, origin), the weights
    by our names, and why each name left out was left out. Without non-local blocks the settings are those of
    ``base``.
    """
    weights, left_out = rename(resnet.named_as_ours(state), (*TRUNK, _ATTENTION), UNUSED, "AGW")
    attention = "backbone.nonlocal2.0.theta.weight" in weights
    config: dict[str, object] = {"pretrained": None, "attention": attention}
    if attention:
        widths = [len(weights[f"backbone.nonlocal{stage}.0.theta.weight"]) for stage in (2, 3)]
        config["attention_width"] = widths[0] if widths[0] == widths[1] else 0
    else:
        config |= {"pooling": "average", "loss": "hard"}
    described = {
        "method": "agw",
        "config": config,
        "classes": len(weights["classifier.weight"]),
        "domains": 1,
        "input": dict(INPUT),
        "origin": "AGW (mangye16/Cross-Modal-Re-ID-baseline)",
    }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into theirs; the inverse of ``read``, with the unused parts that they insist on."""
    if "stems.visible.conv1.weight" not in state or "backbone.layer3.5.conv3.weight" not in state:
        raise UserError(
            "the published AGW program has two streams and a resnet50: a model with method.streams 1 or "
            "another backbone cannot be written in its form; keep our own checkpoint"
        )
    if len(state.get("backbone.nonlocal2.0.theta.weight", "1")) != 1:
        raise UserError(
            "the non-local blocks of the published AGW program have one channel: a model with another "
            "method.attention_width cannot be written in its form; keep our own checkpoint"
        )
    back = ((r"backbone\.nonlocal", "nonlocal"), *TRUNK_BACK)
    theirs = resnet.named_as_theirs(rename(state, back, (), "our AGW")[0])
    # There the third of its convolutions is the first of a sequence of one.
    weights = {re.sub(r"^(NL_\d\.\d\.g)\.", r"\1.0.", name): value for name, value in theirs.items()}
    return with_unused(weights)


def with_unused(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Add what the program builds and never uses: a body behind each stem, a stem before the body."""
    body, visible = "base_resnet.base.", "visible_module.visible."
    full = dict(weights)
    for name, value in weights.items():
        if name.startswith(body):
            full[visible + name.removeprefix(body)] = value
            full["thermal_module.thermal." + name.removeprefix(body)] = value
        elif name.startswith(visible):
            full[body + name.removeprefix(visible)] = value
    return full
