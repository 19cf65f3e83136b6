"""Checkpoints of TransReID's plain transformers: those without its jigsaw branch and its embedding of cameras."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crossreid.nn.timm_maps import TRANSREID
from crossreid.originals.naming import rename
from crossreid.records import UserError

_RULES = (
    (r"base\.(?=(cls_token|pos_embed|patch_embed|blocks|norm)\b)", "backbone.body."),
    (r"bottleneck\.", "neck."),
    (r"classifier\.", "classifier."),
)
_UNUSED = ((r"base\.fc\.", "classifies ImageNet, and is never called"),)
_BACK = ((r"backbone\.body\.", "base."), (r"neck\.", "bottleneck."), (r"classifier\.", "classifier."))
_SIZES = {(768, 12): "vit_base_patch16_224", (384, 12): "deit_small_patch16_224"}


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of one of the program's transformers."""
    return "base.cls_token" in state and "bottleneck.running_mean" in state


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """See ``crossreid.originals.agw.read``. The number of positions tells the size of the images and the step from
    patch to patch."""
    parts = (
        ("base.sie_embed", "an embedding of cameras (SIE), by whose number features differ"),
        ("b1.", "its jigsaw branch (JPM) of five vectors"),
    )
    for prefix, part in parts:
        if any(name.startswith(prefix) for name in state):
            raise UserError(
                f"the checkpoint is of TransReID with {part}, which no method here has: its plain transformers are "
                "read (vit_base, deit_small, overlapping patches too)"
            )
    width, blocks = (
        state["base.cls_token"].shape[-1],
        len({n.split(".")[2] for n in state if ".blocks." in n}),
    )
    backbone, size = _backbone(_SIZES.get((width, blocks)), state["base.pos_embed"].shape[1] - 1)
    if backbone is None:
        raise UserError(
            f"the checkpoint is of TransReID, but its transformer of {blocks} blocks of {width} channels and "
            f"{state['base.pos_embed'].shape[1] - 1} patches is none of those known here ({', '.join(TRANSREID)})"
        )
    weights, left_out = rename(state, _RULES, _UNUSED, "TransReID")
    described = {
        "method": "baseline",
        "config": {"pretrained": None, "backbone": backbone, "pooling": "token", "smoothing": 0.0},
        "classes": len(weights["classifier.weight"]),
        "domains": 1,
        "input": {
            "size": list(size),
            "interpolation": "bilinear",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
        "origin": f"TransReID, {backbone.removeprefix('transreid_')} (damo-cv/TransReID)",
        "unrecorded": {
            "feature": "the program's settings compare what is before the neck (TEST.NECK_FEAT): choose the feature "
            "global for that"
        },
    }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into theirs; the inverse of ``read``, with the classifier of ImageNet that they insist on."""
    theirs, _ = rename(state, _BACK, (), "our baseline")
    width = theirs["base.cls_token"].shape[-1]
    return theirs | {"base.fc.weight": torch.zeros(1000, width), "base.fc.bias": torch.zeros(1000)}


def _backbone(model: str | None, patches: int) -> tuple[str | None, tuple[int, int]]:
    for name, (of, stride, (height, width)) in TRANSREID.items():
        if of == model and ((height - 16) // stride + 1) * ((width - 16) // stride + 1) == patches:
            return name, (height, width)
    return None, (0, 0)
