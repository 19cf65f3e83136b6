"""Weights in files of PyTorch, safetensors and MindSpore, read without running anything that they hold."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from crossreid.formats.mindspore import read_checkpoint, torch_names
from crossreid.formats.pretenders import refuse_pretender
from crossreid.records import UserError


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a file with PyTorch's words for each layer, on the CPU, and what was left out: name -> reason.

    path: ``.safetensors`` of PyTorch or MindSpore, a MindSpore ``.ckpt``, anything else as a PyTorch file, which may
        hold its weights under ``state_dict``, ``model`` or ``net`` and with the prefixes that ``unwrapped`` removes.
    """
    path = Path(path)
    refuse_pretender(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if is_mindspore(path):
        values, left_out = torch_names(read_checkpoint(path))
        return {key: torch.from_numpy(np.array(value)) for key, value in values.items()}, left_out
    return state_dict(read_pickle(path), path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}
            program = (file.metadata() or {}).get("format")
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors: it is truncated, damaged, or something else "
            f"altogether ({first_line(error)}). Copy it again or use another one."
        ) from error
    # MindSpore names itself; a file that was written anew may not, but only MindSpore's has a moving mean.
    if program == "ms" or any(name.endswith(".moving_mean") for name in values):
        return torch_names(values)
    return unwrapped(values), {}


def state_dict(content, path) -> dict[str, torch.Tensor]:
    """The weights inside what a PyTorch file held, by the network's own names, see ``unwrapped``."""
    for name in ("state_dict", "model", "net"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not (isinstance(content, Mapping) and content and all(map(torch.is_tensor, content.values()))):
        raise UserError(
            f"{path} holds no weights by name: expected a state dict, alone or under 'state_dict', 'model' "
            "or 'net'. Save the state dict of the network and give that file."
        )
    return unwrapped(content)


def unwrapped(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights without the ``module.`` of data-parallel training and the ``_orig_mod.`` of torch.compile."""
    return {
        re.sub(r"^(module\.)+", "", name.replace("_orig_mod.", "")): value for name, value in weights.items()
    }


def is_mindspore(path: Path) -> bool:
    """Whether a ``.ckpt`` is one of MindSpore; programs on PyTorch save files of that name too."""
    if path.suffix != ".ckpt":
        return False
    with open(path, "rb") as file:
        return not file.read(4).startswith((b"PK", b"\x80"))


def read_pickle(path: str | Path):
    """The content of a PyTorch file on the CPU. Tensors, plain values and NumPy numbers and arrays are read;
    anything else is refused, because reading it could run code."""
    numbers = [
        (np._core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
        np._core.multiarray._reconstruct,
        np._core.multiarray.scalar,
        np.ndarray,
        np.dtype,
        *(type(np.dtype(kind)) for kind in "? b h i l q B H I L Q e f d".split()),
    ]
    refuse_pretender(Path(path))
    try:
        with torch.serialization.safe_globals(numbers):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} was refused: it holds objects other than tensors, plain values and NumPy numbers, and "
            "reading those could run code. If you trust where it comes from, load it in its own program and "
            "save the state dict alone."
        ) from error
    except Exception as error:  # damaged files make the reader raise errors of many kinds
        raise UserError(
            f"{path} cannot be read as a PyTorch file: it is truncated, damaged, or something else "
            f"altogether ({first_line(error)}). Copy it again or use another one."
        ) from error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no further words"])[0][:200]
