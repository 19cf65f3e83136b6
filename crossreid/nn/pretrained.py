"""Pretrained weights of a backbone: from timm, from torchvision's files, or from MindSpore's."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import nn

from crossreid.formats.pytorch import first_line, read_weights
from crossreid.nn.timm_maps import TRANSREID
from crossreid.records import UserError

# Ours -> timm's name, where it is not NAME.tv_in1k (torchvision's first weights).
TIMM = {
    "mobilenet_v2_1.0": "mobilenetv2_100.ra_in1k",
    "mobilenet_v2_1.4_timm": "mobilenetv2_140.ra_in1k",
    # Those that TransReID starts from.
    **{
        name: {"vit_base_patch16_224": f"{model}.orig_in21k_ft_in1k"}.get(model, f"{model}.fb_in1k")
        for name, (model, _, _) in TRANSREID.items()
    },
}
# Layers of ImageNet classifiers, of no use here.
_CLASSIFIERS = ("fc.", "end_point.", "classifier.")


def load_pretrained(
    backbone: nn.Module,
    pretrained: str | None,
    name: str,
    stems: tuple[nn.Module, ...] = (),
    adapt: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
) -> list[str]:
    """Fill a network, and further stems, with trained weights.

    backbone: a network of ``crossreid.nn.resnet``; its non-local blocks keep their fresh weights.
    pretrained: None (nothing happens); ``"timm"``, the ImageNet weights that timm offers for ``name``; or the
        path of a file: torchvision ``.pth`` (V1 or V2), ``.safetensors`` of PyTorch or MindSpore, or a MindSpore
        ``.ckpt``.
    name: the name of the network.
    stems: modules with ``conv1`` and ``bn1`` that get the same first layers.
    adapt: the weights of the source -> those by the network's own names, where they differ.

    Returns the names in the source that were left out. Raises UserError when the source cannot be had, or
    when not exactly every weight of the network is in it.
    """
    if pretrained is None:
        return []
    if pretrained == "timm":
        if name == "tiny":
            raise UserError(
                "nobody offers pretrained weights for the backbone 'tiny': set method.pretrained to null to "
                "start from random weights, or choose another backbone"
            )
        model = name.removeprefix("timm:") if ":" in name else TIMM.get(name, f"{name}.tv_in1k")
        source, values = f"timm's {model}", from_timm(model)
    else:
        source, values = pretrained, _read_file(pretrained)
    if adapt is not None:
        values = adapt(values)
    left_out = [key for key in values if key.startswith(_CLASSIFIERS)]
    values = {key: value for key, value in values.items() if not key.startswith(_CLASSIFIERS)}
    used = set()
    for module in (backbone, *stems):
        used |= _fill(module, values, source, name)
    if unknown := sorted(set(values) - used):
        raise UserError(
            f"{source} holds {len(unknown)} weights that the backbone {name} does not have (first: {unknown[0]}): it "
            f"belongs to another network. Give the weights of a {name}, or change the backbone."
        )
    return left_out


def from_timm(model: str) -> dict[str, torch.Tensor]:
    """The weights of a timm model by its full name, from the local cache or the network."""
    import timm
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    # Without network it would try again for minutes what is not in the cache.
    constants.HF_HUB_OFFLINE = offline or not _reachable(constants.ENDPOINT)
    try:
        return timm.create_model(model, pretrained=True).state_dict()
    except Exception as error:
        raise UserError(
            f"the pretrained weights {model} of timm could not be had ({type(error).__name__}: {first_line(error)}). "
            f"On a computer without network, copy the file model.safetensors of timm/{model}, or torchvision's .pth "
            "of the same network, from another computer to any folder and set method.pretrained to its path; or set "
            "method.pretrained to null to start from random weights."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _reachable(address: str, seconds: float = 5) -> bool:
    """Whether a server answers; a proxy, which asks for us, is taken to reach it."""
    if getproxies():
        return True
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname, parts.port or 443), timeout=seconds):
            return True
    except OSError:
        return False


def _read_file(path: str) -> dict[str, torch.Tensor]:
    if not Path(path).is_file():
        raise UserError(
            f"there are no pretrained weights at {path}: give the path of a torchvision .pth, a .safetensors "
            "or a MindSpore .ckpt file, 'timm' to download them, or null for random weights"
        )
    return read_weights(path)[0]


def _fill(module, values, source, name) -> set[str]:
    """Copy the values of the same names into the module; returns those used."""
    own = {key: value for key, value in module.state_dict().items() if not key.startswith("nonlocal")}
    missing = [key for key in own if key not in values and not key.endswith("num_batches_tracked")]
    shapes = [key for key in own if key in values and own[key].shape != values[key].shape]
    if missing or shapes:
        shape = missing or tuple(values[shapes[0]].shape)
        found = f"{missing[0]} is missing" if missing else f"{shapes[0]} has shape {shape}"
        raise UserError(
            f"{source} does not fit the backbone {name}: {found} ({len(missing)} missing, {len(shapes)} of "
            f"another shape). Give the weights of a {name}, or change the backbone."
        )
    module.load_state_dict({key: values[key] for key in own if key in values}, strict=False)
    return own.keys() & values.keys()
