"""Rewriting names of weights, strictly: every name is mapped, or left out for a reason, or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch

from crossreid.records import UserError

# Blocks in the third stage, and whether they have three convolutions, of each residual network.
_DEPTHS = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (23, True): "resnet101"}
_DEPTHS[36, True] = "resnet152"


def residual_network(state: Mapping[str, torch.Tensor], prefix: str, program: str) -> str:
    """The name of the residual network whose weights lie below ``prefix``, as ``crossreid.nn.resnet`` has it."""
    blocks = {
        name.removeprefix(prefix).split(".")[1] for name in state if name.startswith(f"{prefix}layer3.")
    }
    kind = (len(blocks), f"{prefix}layer3.0.conv3.weight" in state)
    wide = f"{prefix}layer1.0.conv2.weight"
    grouped = wide in state and state[wide].shape[1] != state[wide].shape[0]
    if kind not in _DEPTHS or grouped:
        raise UserError(
            f"the checkpoint is of {program}, but its backbone is none of those known here (ResNet 18 to "
            f"152, IBN too): its third stage has {len(blocks)} "
            f"blocks{' of grouped convolutions' if grouped else ''}"
        )
    form = ""
    if f"{prefix}layer1.0.bn1.IN.weight" in state:
        form = "_ibn_a"
    elif any(re.fullmatch(rf"{re.escape(prefix)}layer1\.\d+\.IN\.weight", name) for name in state):
        form = "_ibn_b"
    return _DEPTHS[kind] + form


def rename(
    state: Mapping[str, torch.Tensor],
    rules: Sequence[tuple[str, str]],
    unused: Sequence[tuple[str, str]],
    system: str,
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights by new names, and what was left out: name -> reason.

    rules: pairs (regular expression, replacement); the first that matches at the start of a name applies.
    unused: pairs (regular expression, reason) for names to leave out; tried before the rules.
    system: how messages call the system that the names belong to.
    """
    weights, left_out = {}, {}
    for name, value in state.items():
        reason = next((reason for pattern, reason in unused if re.match(pattern, name)), None)
        if reason is not None:
            left_out[name] = reason
            continue
        for pattern, replacement in rules:
            if re.match(pattern, name):
                new = re.sub(pattern, replacement, name, count=1)
                break
        else:
            raise UserError(
                f"the checkpoint looks like one of {system}, but that system has no weight {name!r}: it was "
                "made by a changed program. Remove what was added before converting it."
            )
        if new in weights:
            raise UserError(f"two weights of the checkpoint mean the same: {name!r} is {new!r} once more")
        weights[new] = value
    return weights, left_out
