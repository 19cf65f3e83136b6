"""Weights in files of PyTorch, safetensors and MindSpore, read without running anything that they hold."""

from __future__ import annotations

import io
import math
import mmap
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from crossreid import files
from crossreid.formats import archives, pickles
from crossreid.formats.mindspore import read_checkpoint, torch_names
from crossreid.formats.pretenders import refuse_pretender
from crossreid.records import UserError

# What PyTorch calls the numbers of a storage.
_KINDS = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
}
_MAGIC = 0x1950A86A20F9469CFC6C


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
    named = isinstance(content, Mapping) and all(isinstance(key, str) for key in content)
    if not (named and content and all(map(torch.is_tensor, content.values()))):
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
    anything else is refused, because reading it could run code. Memory taken is a few times the file's size at most."""
    path = Path(path)
    refuse_pretender(path)
    try:
        with files.opened(path) as file:
            head = file.read(4)
            if not head:
                raise pickles.Damaged("it is empty")
            if head == b"PK\x03\x04":
                return _read_zip(path)
            # A map and not the file, so that a forged length takes no memory.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
                return _read_stream(path, content)
    except UserError:
        raise
    except pickles.Refused as error:
        raise UserError(
            f"{path} was refused: {error}, and nothing but tensors, plain values and NumPy numbers is read, because "
            "reading other objects could run code. If you trust where it comes from, load it in its own program and "
            "save the state dict alone."
        ) from error
    except Exception as error:  # damaged files make the reader raise errors of many kinds
        raise UserError(
            f"{path} cannot be read as a PyTorch file: it is truncated, damaged, or something else "
            f"altogether ({first_line(error)}). Copy it again or use another one."
        ) from error


def _read_zip(path: Path):
    with archives.opened(path) as archive:
        names = archive.namelist()
        root = next((name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl")), None)
        if root is None or f"{root}constants.pkl" in names:
            raise pickles.Refused("it holds a program (TorchScript) or another kind of archive")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise pickles.Damaged("its numbers are in another order of bytes")
        tree = pickles.unpickled(io.BytesIO(archives.content(archive, f"{root}data.pkl")), _storage)
        held: dict[str, torch.Tensor] = {}

        def content(storage: pickles.Storage) -> torch.Tensor:
            if storage.key not in held:
                member = archives.content(archive, f"{root}data/{storage.key}")
                held[storage.key] = torch.frombuffer(member, dtype=torch.uint8) if member else _NOTHING
            return held[storage.key]

        return pickles.plain(tree, _maker(content, archives.room(path)))


def _read_stream(path: Path, content: mmap.mmap):
    """The form before PyTorch 1.6: five pickles, and behind them each storage with its length."""
    if pickles.unpickled(content, _storage) != _MAGIC:
        raise pickles.Damaged("it does not begin as such files do")
    pickles.unpickled(content, _storage)
    system = pickles.unpickled(content, _storage)
    if not (isinstance(system, dict) and system.get("little_endian", True)):
        raise pickles.Damaged("its numbers are in another order of bytes")
    seen: dict[str, torch.dtype] = {}

    def storage(parts):
        found = _storage(parts)
        seen.setdefault(found.key, _KINDS[found.kind])
        return found

    tree = pickles.unpickled(content, storage)
    held: dict[str, torch.Tensor] = {}
    for key in pickles.unpickled(content, _storage):
        length = int.from_bytes(content.read(8), "little") * seen[key].itemsize
        place = content.tell()
        if place + length > len(content):
            raise pickles.Damaged("its numbers break off")
        numbers = memoryview(content)[place : place + length]
        held[key] = torch.frombuffer(numbers, dtype=torch.uint8).clone() if length else _NOTHING
        content.seek(place + length)
    return pickles.plain(tree, _maker(lambda storage: held[storage.key], archives.room(path)))


_NOTHING = torch.empty(0, dtype=torch.uint8)


def _storage(parts) -> pickles.Storage:
    """What the name of a storage in the pickle says."""
    if not (isinstance(parts, tuple) and len(parts) in (5, 6) and parts[0] == "storage"):
        raise pickles.Refused("it refers to something outside of itself")
    _, kind, key, _, count, *view = parts
    if not (
        isinstance(kind, pickles.Type) and kind.name in _KINDS and isinstance(key, str) and type(count) is int
    ):
        raise pickles.Damaged("it describes numbers in a way that is never used")
    part = None
    if view and view[0] is not None:
        _, start, length = view[0]
        part = start, length
    return pickles.Storage(kind.name, key, count, part)


def _maker(
    content: Callable[[pickles.Storage], torch.Tensor], room: int
) -> Callable[[pickles.View], torch.Tensor]:
    """The tensor of a view, which must lie within its numbers, each of them at one place only."""
    taken = 0

    def tensor(view: pickles.View) -> torch.Tensor:
        nonlocal taken
        storage, kind = view.storage, _KINDS[view.storage.kind]
        numbers = content(storage)
        if storage.part is not None:
            start, length = (part * kind.itemsize for part in storage.part)
            numbers = numbers[start : start + length]
        if view.kind is not None:
            kind = getattr(torch, view.kind)
        numbers = numbers[: len(numbers) // kind.itemsize * kind.itemsize].view(kind)
        last, step = view.offset, 1
        for stride, size in sorted(zip(view.stride, view.size)):
            last += stride * max(size - 1, 0)
            if size > 1 and stride < step:
                raise pickles.Damaged("a tensor uses one number at several places")
            step = max(step, stride * size)
        count = math.prod(view.size)
        if count and last >= len(numbers):
            raise pickles.Damaged("a tensor is larger than the numbers that the file holds for it")
        taken += count * kind.itemsize
        if taken > room:
            raise pickles.Damaged("its tensors take many times as much room as the file")
        return (
            numbers.as_strided(view.size, view.stride, view.offset) if count else numbers.new_empty(view.size)
        )

    return tensor


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no further words"])[0][:200]
