"""Checkpoints of DDAG: the authors' program and the MindSpore port."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crossreid.originals.agw import INPUT, TRUNK, TRUNK_BACK, UNUSED, with_unused
from crossreid.originals.naming import rename
from crossreid.records import UserError

_HEADS = (
    (r"wpa\.fc1\.0\.", "part.query."),
    (r"wpa\.fc2\.", "part.key."),
    (r"wpa\.fc3\.", "part.value."),
    (r"wpa\.gate$", "part.gate"),
    (r"wpa\.bottleneck\.", "part.neck."),
    (r"attention_(\d+)\.W$", r"graph.heads.\1.weight"),
    (r"attention_(\d+)\.a$", r"graph.heads.\1.score"),
    (r"out_att\.W$", "graph.out.weight"),
    (r"out_att\.a$", "graph.out.score"),
)
_UNUSED = (
    *UNUSED,
    (r"classifier[12]\.", "this classifier is never used"),
    (r"wpa\.W\.", "this output layer of the part attention is never used"),
)
_BACK = (
    (r"part\.query\.", "wpa.fc1.0."),
    (r"part\.key\.", "wpa.fc2."),
    (r"part\.value\.", "wpa.fc3."),
    (r"part\.gate$", "wpa.gate"),
    (r"part\.neck\.", "wpa.bottleneck."),
    (r"graph\.heads\.(\d+)\.weight$", r"attention_\1.W"),
    (r"graph\.heads\.(\d+)\.score$", r"attention_\1.a"),
    (r"graph\.out\.weight$", "out_att.W"),
    (r"graph\.out\.score$", "out_att.a"),
)
_MINDSPORE = (
    (r"resnet50\.", "backbone."),
    (r"bottleneck\.", "neck."),
    (r"classifier\.", "classifier."),
    (r"wpa\.fc1\.", "part.query."),
    (r"wpa\.fc2\.", "part.key."),
    (r"wpa\.fc3\.", "part.value."),
    (r"wpa\.(gate|w)$", "part.gate"),
    (r"wpa\.bottleneck\.", "part.neck."),
    (r"graph_att\.out_attention\.W$", "graph.out.weight"),
    (r"graph_att\.out_attention\.a$", "graph.out.score"),
)
_MINDSPORE_BACK = (
    (r"backbone\.", "resnet50."),
    (r"neck\.", "bottleneck."),
    (r"classifier\.", "classifier."),
    (r"part\.query\.", "wpa.fc1."),
    (r"part\.key\.", "wpa.fc2."),
    (r"part\.value\.", "wpa.fc3."),
    (r"part\.gate$", "wpa.gate"),
    (r"part\.neck\.", "wpa.bottleneck."),
    (r"graph\.out\.weight$", "graph_att.out_attention.W"),
    (r"graph\.out\.score$", "graph_att.out_attention.a"),
)
# The settings under which our network is the port's.
_MINDSPORE_CONFIG = {
    "streams": 1,
    "last_stride": 2,
    "variant": "mindspore",
    "after_neck": True,
    "neck_bias": True,
    "part_bias": False,
}
_MINDSPORE_UNUSED = (
    (r"(visible_module|thermal_module|base_resnet)\.", "the port builds this module and never uses it"),
    (r"resnet50\.(fc|end_point)\.", "the ImageNet classifier is never used"),
    (r"wpa\.W\.", "this output layer of the part attention is never used"),
)


def recognises(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these weights are of the authors' program or of the port."""
    part = "wpa.gate" in state or "wpa.w" in state
    return part and ("visible_module.visible.conv1.weight" in state or "resnet50.conv1.weight" in state)


def read(state: Mapping[str, torch.Tensor]) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """Turn their weights into ours.

    Returns what is needed to build the method (method, config, classes, domains, input, origin; of the port also
    ``unrecorded``, settings that its file does not tell), the weights by our names, and why each name left out was
    left out. The programs write part attention and graph into
    every file, also of runs without them; such a model is used by its feature ``bn``.
    """
    port = "resnet50.conv1.weight" in state
    rules, unused = (_MINDSPORE, _MINDSPORE_UNUSED) if port else ((*_HEADS, *TRUNK), _UNUSED)
    weights, left_out = rename(state, rules, unused, "DDAG's MindSpore port" if port else "DDAG")
    needed = ("classifier.weight", "part.query.weight", "part.key.weight", "part.value.weight")
    if missing := [name for name in needed if name not in weights]:
        raise UserError(
            f"the checkpoint looks like one of DDAG, but nothing in it would become {missing[0]}: it was "
            "cut down or made by a changed program; give the file as the published program wrote it"
        )
    for name in ("query", "key", "value"):
        weight = f"part.{name}.weight"
        weights[weight] = weights[weight].flatten(1)
    heads = sum(name.startswith("graph.heads.") and name.endswith(".weight") for name in weights)
    config: dict[str, object] = {
        "pretrained": None,
        "part": len(weights["part.gate"]),
        "graph": "graph.out.weight" in weights,
        "heads": heads,
    }
    if heads:
        config["width"] = weights["graph.heads.0.weight"].shape[1]
    if config["graph"]:
        weights["graph_weight"] = torch.tensor(0.0)  # not in their files
    if port:
        config |= _MINDSPORE_CONFIG
    described = {
        "method": "ddag",
        "config": config,
        "classes": len(weights["classifier.weight"]),
        "domains": 1,
        "input": dict(INPUT),
        "origin": "DDAG (zhangzw12319/DDAG_mindspore)" if port else "DDAG (mangye16/DDAG)",
    }
    if port:
        described["unrecorded"] = {
            "part_pooling": "the file does not say on which device it was trained: off a GPU, as on Ascend, the last "
            "revision of DDAG's MindSpore port pools the parts by windows that overlap. If that is how it was trained, "
            "set part_pooling to windows (crossreid convert FILE OUT --method.part_pooling windows), or the feature "
            "`part` is off by about a hundredth of its length; set it to bands to silence this note"
        }
    return described, weights, left_out


def write(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn our weights into those of the authors' program; the inverse of ``read``, with the unused parts
    that they insist on."""
    wanted = (
        "stems.visible.conv1.weight",
        "backbone.layer3.5.conv3.weight",
        "part.gate",
        "graph.heads.0.weight",
    )
    if any(name not in state for name in wanted):
        raise UserError(
            "the published DDAG program has two streams, a resnet50, part attention and a graph with heads: "
            "a model without one of them cannot be written in its form. A name that ends in .ckpt writes the form of "
            "the MindSpore program, whose network has one stream and no heads; else keep our own checkpoint"
        )
    weights, _ = rename(state, (*_BACK, *TRUNK_BACK), ((r"graph_weight$", "not in their files"),), "our DDAG")
    for name in ("wpa.fc1.0.weight", "wpa.fc2.weight", "wpa.fc3.weight"):
        weights[name] = weights[name][:, :, None, None]
    channels = len(weights["bottleneck.weight"])
    weights["classifier1.weight"] = weights["classifier2.weight"] = weights["classifier.weight"]
    zeros, ones = torch.zeros(channels), torch.ones(channels)
    weights |= {"wpa.W.0.weight": torch.zeros(channels, channels, 1, 1), "wpa.W.0.bias": zeros}
    weights |= {"wpa.W.1.weight": zeros, "wpa.W.1.bias": zeros, "wpa.W.1.running_mean": zeros}
    weights |= {"wpa.W.1.running_var": ones, "wpa.W.1.num_batches_tracked": torch.tensor(0)}
    return with_unused(weights)


def write_mindspore(state: Mapping[str, torch.Tensor], config: Mapping) -> dict[str, torch.Tensor]:
    """Turn our weights into those of the MindSpore port, with PyTorch's words for each layer and with the modules that
    the port builds and never uses.

    config: settings of the method; only those under which our network is the port's can be written.
    """
    wanted = _MINDSPORE_CONFIG | {"heads": 0, "graph": True}
    other = [f"{key} {config.get(key)!r}" for key, value in wanted.items() if config.get(key) != value]
    other += [] if config.get("part") else ["part 0"]
    other += [] if "backbone.layer3.5.conv3.weight" in state else ["another backbone than resnet50"]
    if other:
        needed = ", ".join(f"{key} {value!r}" for key, value in wanted.items())
        raise UserError(
            f"the MindSpore port of DDAG has the settings {needed}, part above 0 and a resnet50, but this model has "
            f"{', '.join(other)}, and the port would compute other features from its weights: keep our own "
            "checkpoint, or train with the settings file ddag_mindspore_sysu_mm01"
        )
    unused = ((r"(graph_weight|epoch_total)$", "not in their files"),)
    weights, _ = rename(state, _MINDSPORE_BACK, unused, "our DDAG")
    for name in ("wpa.fc1.weight", "wpa.fc2.weight", "wpa.fc3.weight"):
        weights[name] = weights[name][:, :, None, None]
    for name, value in list(weights.items()):
        module, _, rest = name.partition(".")
        if module == "resnet50" and rest.startswith("layer"):
            weights[f"base_resnet.base.{rest}"] = value
        elif module == "resnet50":
            weights[f"visible_module.visible.{rest}"] = value
            weights[f"thermal_module.thermal.{rest}"] = value
    return weights
