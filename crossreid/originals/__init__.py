"""Checkpoints of the published systems, PyTorch and MindSpore: read them, and write them again.

A new system is a file here, with ``recognises(state)``, ``read(state)`` and ``write(state)``, and a line
below.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from crossreid.files import replacing, understood
from crossreid.formats.mindspore import mindspore_names, write_checkpoint
from crossreid.formats.pytorch import read_weights, state_dict
from crossreid.methods import METHODS
from crossreid.nn.timm_maps import TRANSREID
from crossreid.records import UserError, check_choice

# Program, by the method that it published or its own name -> the key under which its files keep the weights, None where
# they hold nothing else. Asked in this order.
SYSTEMS: dict[str, str | None] = {
    "metabin": "model",
    "alignedreid": "state_dict",
    "agw": "net",
    "ddag": "net",
    "mvd": "model",
    "fastreid": "model",
    "strong_baseline": None,
    "transreid": None,
    "torchreid": "state_dict",
}


def read(path: str | Path, content=None, **settings) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    """A checkpoint of a published system, recognised by the names in it.

    path: a PyTorch file, a MindSpore ``.ckpt``, or ``.safetensors`` of either. Nothing in it is run.
    content: what the PyTorch file holds, where it has been read already.
    settings: what the file does not record: ``size`` (height, width) of the input, settings of the method.

    Returns its description (method, config, classes, domains, input, origin, notes), the weights by our names, and
    what was left out: name -> reason. The notes are sentences about settings that the file does not record and that
    were not given. Raises UserError for a file that cannot be read, that is of an unknown system, or that a changed
    program wrote.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint at {path}: give that of a PyTorch or MindSpore program")
    state, left_out = read_weights(path) if content is None else (state_dict(content, path), {})
    damaged = "its weights are not shaped as those of a published system; it is damaged or was changed, copy it again"
    with understood(path, damaged):
        system = next((known for known in map(_system, SYSTEMS) if known.recognises(state)), None)
    if system is None:
        if ours := _ours(state):
            raise UserError(
                f"{path} holds the weights of our method {ours} and nothing else: a checkpoint also records the "
                "settings, the classes and how images are made. Give the file that training wrote, such as last.pt; or "
                "build the method in Python with the settings of its training, and fill it by load_state_dict."
            )
        some = ", ".join(list(state)[:3])
        raise UserError(
            f"{path} is not a checkpoint of a system known here ({', '.join(SYSTEMS)}): its weights are "
            f"called {some}, ... If it is of one of them, its network is not read (docs/methods/README.md), "
            "or a changed program saved it; give the file as the published program wrote it."
        )
    with understood(path, damaged):
        described, weights, dropped = system.read(state)
    for key in [key for key in weights if key.endswith(".running_mean")]:
        # Files of old PyTorch versions and of MindSpore lack this counter, which nothing of ours reads.
        weights.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    if (size := settings.pop("size", None)) is not None:
        described["input"] = described["input"] | {"size": list(size)}
    described["config"] = described["config"] | settings
    unrecorded = described.pop("unrecorded", {})
    described["notes"] = [note for setting, note in unrecorded.items() if setting not in settings]
    return described, weights, left_out | dropped


def to_original(
    name: str, state: Mapping[str, torch.Tensor], path: str | Path, config: Mapping | None = None
) -> str:
    """Write the weights of the method ``name`` as a file that its published program loads strictly; returns which.

    path: ending in ``.ckpt`` for the MindSpore program, where there is one; otherwise for the PyTorch one.
    config: settings of the method, which the MindSpore form asks for.
    """
    path = Path(path)
    if name == "baseline":
        state = {key: value for key, value in state.items() if key not in METHODS[name].training_only}
        name = _program(config or {})
    check_choice("the method of an official checkpoint", name, SYSTEMS)
    if path.suffix == ".ckpt":
        write = getattr(_system(name), "write_mindspore", None)
        if write is None:
            raise UserError(
                f"there is no MindSpore program of {name}: choose a name that does not end in .ckpt to write the form "
                "of the PyTorch program"
            )
        theirs = mindspore_names(write(state, config or {}))
        write_checkpoint(path, {key: value.detach().cpu().numpy() for key, value in theirs.items()})
        return name
    theirs = {key: value.detach().cpu().clone() for key, value in _system(name).write(state).items()}
    key = SYSTEMS[name]
    with replacing(path) as temporary:
        torch.save(theirs if key is None else {key: theirs, "epoch": 0}, temporary)
    return name


def _program(config: Mapping) -> str:
    """Which program has a baseline of these settings. One that would load the weights and compute something else with
    them is none."""
    made: dict[str, Any] = {
        "variant": "torchvision",
        "backbone": "resnet50",
        "neck": True,
        "pooling": "average",
        "last_stride": 1,
    }
    made |= {"embedding": 0, "attention": False, **config}
    if made["variant"] == "fastreid":
        return "fastreid"
    if made["variant"] == "strong_baseline" and made["pooling"] in ("average", "gem_learned"):
        return "strong_baseline"
    if (
        made["backbone"] in TRANSREID
        and made["neck"]
        and made["pooling"] == "token"
        and not made["embedding"]
    ):
        return "transreid"
    plain = made["variant"] == "torchvision" and made["pooling"] == "average" and not made["attention"]
    if plain and made["neck"] and made["backbone"] == "resnet50_ibn_a":
        return "strong_baseline"
    stride = 2 if made["backbone"].startswith(("resnet", "mobilenet")) and not made["embedding"] else 1
    known = made["backbone"].startswith(("resnet", "osnet", "mobilenet_v2_1."))
    # Its OSNet always has the layer behind the pooling, and timm's width 1.4 has other channels.
    known = known and not made["backbone"].endswith("_timm")
    known = known and bool(made["embedding"] or not made["backbone"].startswith("osnet"))
    if plain and known and not made["neck"] and made["last_stride"] == stride:
        return "torchreid"
    raise UserError(
        f"no published program has a baseline of these settings ({made['backbone']}, variant {made['variant']}, "
        f"pooling {made['pooling']}, {'a' if made['neck'] else 'no'} neck, last stride {made['last_stride']}): what "
        "loaded the weights would compute something else with them; keep our own checkpoint"
    )


def _ours(state: Mapping[str, torch.Tensor]) -> str | None:
    """Which method of ours has weights of these names, whatever its settings."""
    best, most = None, 0.5
    for name, kind in METHODS.items():
        for backbone in (kind.Config().backbone, "resnet50"):
            config = kind.Config(backbone=backbone, pretrained=None)
            with torch.device("meta"):
                own = kind(config, 2).state_dict()
            share = len(own.keys() & state.keys()) / len(state)
            if share > most:
                best, most = name, share
    return best


def _system(name):
    return import_module(f"{__name__}.{name}")
