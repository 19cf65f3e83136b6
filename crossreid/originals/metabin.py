"""Checkpoints of MetaBIN's program: names, and what the weights say of the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from crossreid.records import UserError

CONTAINER = "model"
# Blocks in the third stage, and whether they have three convolutions, of each residual network.
_DEPTHS = {(2, False): "resnet18", (6, False): "resnet34", (6, True): "resnet50", (23, True): "resnet101"}
_DEPTHS[36, True] = "resnet152"
_WIDTHS = {32: "mobilenet_v2_1.0", 44: "mobilenet_v2_1.4"}
# Their images are from 0 to 255 and are normalised inside the network, ours before it by the same numbers.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
_PIXELS = {"pixel_mean": [255 * value for value in _MEAN], "pixel_std": [255 * value for value in _STD]}

# theirs -> ours, tried in turn; all that fit apply
_MOBILENET = (
    (r"^backbone\.layer(\d)\.(\d)\.bn\.", r"backbone.conv\1.\2.conv3.1."),
    (r"^backbone\.layer(\d)\.(\d)\.conv3\.", r"backbone.conv\1.\2.conv3.0."),
    (r"^backbone\.layer(\d)\.", r"backbone.conv\1."),
)
_RESNET = ((r"\.downsample\.conv\.", ".downsample.0."), (r"\.downsample\.bn\.", ".downsample.1."))
_HEAD = (
    (r"^heads\.classifier_norm\.", "neck."),
    (r"^heads\.classifier_fc\.", "classifier."),
    (r"^heads\.pool_layer\.p$", "pool.power"),
)
_GATED = ((r"\.bat_n\.", "."), (r"\.ins_n\.", ".instance_"))
_HALVES = ((r"\.bat_n\.", ".batch."), (r"\.ins_n\.", ".instance."))

_MOBILENET_BACK = (
    (r"^backbone\.conv(\d)\.(\d)\.conv3\.1\.", r"backbone.layer\1.\2.bn."),
    (r"^backbone\.conv(\d)\.(\d)\.conv3\.0\.", r"backbone.layer\1.\2.conv3."),
    (r"^backbone\.conv(\d)\.", r"backbone.layer\1."),
)
_RESNET_BACK = ((r"\.downsample\.0\.", ".downsample.conv."), (r"\.downsample\.1\.", ".downsample.bn."))
_HEAD_BACK = (
    (r"^neck\.", "heads.classifier_norm."),
    (r"^classifier\.", "heads.classifier_fc."),
    (r"^pool\.power$", "heads.pool_layer.p"),
)
_HALVES_BACK = ((r"\.batch\.", ".bat_n."), (r"\.instance\.", ".ins_n."))
_BATCH = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of MetaBIN's program, with any of its normalisations."""
    return "heads.classifier_norm.weight" in state


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """Turn their weights into ours.

    Returns what ``crossreid.load`` needs to build the method (method, config, classes, domains, input,
    origin), the weights by our names, and for each name left out the reason. Raises UserError for a network
    we do not have.
    """
    left_out = {}
    for name, expected in _PIXELS.items():
        if name in state:
            found = state[name].flatten().double()
            if not torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-5):
                raise UserError(
                    f"the checkpoint normalises its images with {name} {found.tolist()}, but MetaBIN's "
                    f"models use {expected}: a changed program made it, and its features cannot be "
                    "reproduced here. Use a checkpoint of the published program."
                )
            left_out[name] = "a constant of the data pipeline, equal to ours"
    config: dict[str, object] = {"backbone": _backbone(state), "norm": (norm := _norm(state))}
    # The two settings that training without gates needs; a trained model embeds the same either way.
    config["meta"] = norm.startswith("bin")
    # Of heads and poolings only these two leave a trace; the others embed as the default does, or must be given.
    if "heads.classifier_fc.t" in state:
        config["classifier"] = "arc"
    if "heads.pool_layer.p" in state:
        config["pooling"] = "gem_learned"
    rules = _rules(config)
    weights = {_rename(name, rules): value for name, value in state.items() if name not in left_out}
    classifier = state.get("heads.classifier_fc.weight")
    if classifier is None or not len(classifier):
        raise UserError(
            "the checkpoint has no classifier (heads.classifier_fc.weight, one row for each training "
            "identity): give the file as the program saved it in training"
        )
    described = {
        "method": "metabin",
        "config": config,
        "classes": len(classifier),
        "domains": 1,
        "input": {
            "size": [256, 128],
            "interpolation": "bicubic",
            "mean": _MEAN,
            "std": _STD,
        },
        "origin": "MetaBIN (bismex/MetaBIN)",
    }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into theirs, pixel constants included: the inverse of ``read``."""
    names = set(state)
    gated = any(name.endswith(".gate") for name in names)
    own_pair = any(name.endswith(".instance_weight") for name in names)
    rules = _HEAD_BACK + (_MOBILENET_BACK if "backbone.conv9.conv.weight" in names else _RESNET_BACK)
    like = state["neck.weight"]
    theirs = {name: torch.tensor(value).view(1, 3, 1, 1).to(like) for name, value in _PIXELS.items()}
    for name, value in state.items():
        stem, _, last = name.rpartition(".")
        if own_pair and f"{stem}.gate" in names:
            if last.startswith("instance_"):
                name = f"{stem}.ins_n.{last.removeprefix('instance_')}"
            elif last in _BATCH:
                name = f"{stem}.bat_n.{last}"
        elif not gated:
            name = _rename(name, _HALVES_BACK)
        theirs[_rename(name, rules)] = value
    _backbone(theirs)  # refuses one that the program does not have
    return theirs


def _rename(name: str, rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _rules(config: dict):
    norm = {"bin": _GATED, "half": _HALVES}.get(config["norm"], ())
    return (_MOBILENET if config["backbone"].startswith("mobilenet") else _RESNET) + _HEAD + norm


def _backbone(state) -> str:
    if "backbone.layer9.conv.weight" in state:
        width = len(state["backbone.layer1.conv.weight"])
        if width in _WIDTHS:
            return _WIDTHS[width]
        raise UserError(
            f"the weights are of a MobileNetV2 with {width} channels in its first layer: MetaBIN was "
            "published with 32 (width 1.0) and 44 (width 1.4)"
        )
    blocks = {name.split(".")[2] for name in state if name.startswith("backbone.layer3.")}
    kind = (len(blocks), "backbone.layer3.0.conv3.weight" in state)
    if kind not in _DEPTHS:
        raise UserError(
            "the backbone is none of those MetaBIN was published with (MobileNetV2, ResNet 18 "
            f"to 152): it has {len(blocks)} blocks in its third stage"
        )
    return _DEPTHS[kind]


def _norm(state) -> str:
    first = "backbone.layer1.bn" if "backbone.layer9.conv.weight" in state else "backbone.bn1"
    has = {name for name in ("gate", "bat_n.weight", "weight", "running_mean") if f"{first}.{name}" in state}
    for norm, needed in (
        ("bin", {"gate", "bat_n.weight"}),
        ("half", {"bat_n.weight"}),
        ("bin_shared", {"gate", "weight", "running_mean"}),
        ("bn", {"weight", "running_mean"}),
        ("in", {"weight"}),
    ):
        if has == needed:
            return norm
    raise UserError(
        f"the checkpoint's first normalisation, {first}, holds {', '.join(sorted(has)) or 'nothing known'}: "
        "expected one of MetaBIN's layers BIN_gate2, BIN_gate1, BIN_half, BN or IN"
    )
