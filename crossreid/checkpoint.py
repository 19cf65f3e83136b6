"""One file holds a trained model: weights, settings, classes, and how its input is made."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from crossreid import __version__
from crossreid.bundled import located
from crossreid.engine import check_device, choose_device
from crossreid.files import FULL, check_folder, replacing, understood
from crossreid.formats.pytorch import is_mindspore, read_pickle, unwrapped
from crossreid.formats.shape import unlike
from crossreid.formats.text import check_plain
from crossreid.images.resize import FILTERS
from crossreid.methods import get as get_method
from crossreid.methods import method_name
from crossreid.methods.base import Method
from crossreid.records import UserError, by_key, counted, did_you_mean

FORMAT = 1
# What a file of ours holds, and of which kind.
FIELDS = {
    "crossreid": str,
    "format": int,
    "method": str,
    "config": dict,
    "classes": int,
    "domains": int,
    "input": dict,
    "settings": dict,
    "trained": dict,
    "weights": dict,
}
HEADINGS = ("method", "data", "protocol", "train", "evaluate")
LARGEST_INPUT = 2**20


def build(name: str, config: dict, classes: int, domains: int = 1) -> Method:
    """A method by name, with a plain dict of its settings."""
    method = get_method(name)
    known = {field.name: field for field in dataclasses.fields(method.Config)}
    for key in config:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UserError(f"method {name!r} has no setting {key!r}{hint}: it has {', '.join(known)}")
    values = {
        key: tuple(value) if isinstance(value, list) and isinstance(known[key].default, tuple) else value
        for key, value in config.items()
    }
    hints = typing.get_type_hints(method.Config)
    for key, value in values.items():
        if not _is_a(value, hints[key]):
            raise UserError(f"method.{key} is {value!r}, which is not of the kind {known[key].type}")
    return method(method.Config(**values), classes, domains)


def _is_a(value, kind) -> bool:
    """Whether a plain value is of the kind that a dataclass names, and a number of a size that a setting can have."""
    parts, origin = typing.get_args(kind), typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return any(_is_a(value, part) for part in parts)
    if origin is tuple:
        each = parts[:1] * len(value) if parts[-1] is Ellipsis and isinstance(value, tuple) else parts
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_is_a, value, each))
    if kind in (int, float):
        return type(value) in {int, kind} and abs(value) < 1e6
    return isinstance(value, kind if origin is None else origin)


def save(path: Path, content: dict) -> None:
    """Write a checkpoint whole or not at all: a full disk or a crash leaves the earlier file as it was."""
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # torch's zip writer may turn a failed write into a RuntimeError with the cause behind it.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        why = str(error)
        if isinstance(cause, OSError):
            why = "the disk is full" if cause.errno in FULL else cause.strerror or str(cause)
        there = path.exists()
        was = "the checkpoint written before it is intact" if there else "there was none before it"
        raise UserError(
            f"could not save {path}: {why}; {was}. Mend that, for example by freeing some space, "
            + ("then continue with --resume." if there else "then start again.")
        ) from error


def read(path: str | Path) -> dict:
    """The content of one of our checkpoints, on the CPU. Never runs code from the file."""
    path = located(path)
    content = _read_file(path)
    if not _is_ours(content):
        raise UserError(
            f"{path} is not a checkpoint written by crossreid. If it comes from one of the published systems, load it "
            "with crossreid.load or convert it with `crossreid convert`."
        )
    return _checked(content, path)


def _is_ours(content) -> bool:
    return isinstance(content, dict) and "crossreid" in content


def _checked(content: dict, path: Path) -> dict:
    """The content of a checkpoint of ours, its weights by the method's own names."""
    if type(content.get("format")) is int and content["format"] > FORMAT:
        raise UserError(
            f"{path} was written by crossreid {content['crossreid']} in a newer form (format {content['format']}, this "
            f"version reads up to {FORMAT}): install a newer crossreid."
        )
    _check(content, path)
    return content | {"weights": unwrapped(content["weights"])}


def _check(content: dict, path: Path) -> None:
    """Raise UserError unless every field is of the kind that we write, within bounds."""
    wrong = [name for name, kind in FIELDS.items() if type(content.get(name)) is not kind]
    wrong += [name for name in ("classes", "domains") if name not in wrong and content[name] < 1]
    if not wrong and not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in content["weights"].items()
    ):
        wrong.append("weights")
    if not wrong and (part := unlike(content["settings"], {f"{heading}?": {} for heading in HEADINGS})):
        wrong.append(f"settings.{part}")
    if wrong:
        raise UserError(
            f"{path} was written by crossreid, but its {wrong[0]} is missing or not as it is ever written: it is "
            "damaged or was changed; copy it again"
        )
    for name in ("config", "settings", "trained"):
        check_plain(content[name], f"the {name} in {path}")
    check_input(content["input"], path)


def check_input(given: dict, path: Path) -> None:
    """Raise UserError unless a file says of its model's input what a network can be given."""
    size, filter = given.get("size"), given.get("interpolation")
    numbers: dict[str, Any] = {"mean": given.get("mean"), "std": given.get("std")}
    wrong = [
        name
        for name, values in numbers.items()
        if not (isinstance(values, (list, tuple)) and len(values) == 3 and all(map(_is_number, values)))
    ]
    if not wrong and not all(value > 0 for value in numbers["std"]):
        wrong.append("std")
    if not (
        isinstance(size, (list, tuple)) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
    ):
        wrong.append("size")
    elif size[0] * size[1] > LARGEST_INPUT:
        raise UserError(
            f"{path} says that its model takes images of {size[0]} x {size[1]} pixels: up to {LARGEST_INPUT} pixels "
            "are accepted; the file is damaged or was changed, copy it again"
        )
    if not isinstance(filter, str) or filter not in FILTERS:
        wrong.append("interpolation")
    if wrong:
        raise UserError(
            f"{path} does not say how the input of its model is made: its input.{wrong[0]} is {given.get(wrong[0])!r}; "
            "the file is damaged or was changed, copy it again"
        )


def _is_number(value) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6


def _read_file(path: Path):
    """What a PyTorch file holds; None for files of other formats, which ``originals`` reads."""
    if (path / "last.pt").is_file():
        raise UserError(f"{path} is a folder and no checkpoint: give the file in it, {path / 'last.pt'}")
    if path.suffix in (".yaml", ".yml") and path.is_file():
        raise UserError(f"{path} holds settings and no model: give a checkpoint, and settings by --config")
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        near = sorted(p.name for p in folder.glob("*.pt")) if folder.is_dir() else []
        raise UserError(
            f"there is no checkpoint at {path}: give the path of a file such as last.pt"
            + (f"; the folder holds {', '.join(near)}" if near else "")
        )
    return None if path.suffix == ".safetensors" or is_mindspore(path) else read_pickle(path)


def load(path: str | Path, device: str = "cpu", **settings) -> Method:
    """Load a trained model for use: evaluation mode, strict.

    path: our own checkpoint, or one of a published system (PyTorch or MindSpore).
    settings: what a foreign file does not record, such as ``size=(288, 144)``; for our own files nothing is needed
        and anything given must be a setting of the method.

    The method carries ``input``, ``settings`` and ``trained`` as the file says them, see ``Method``.
    """
    if str(device) == "auto":
        device = str(choose_device())
    check_device(device)
    path = located(path)
    content = _read_file(path)
    if _is_ours(content):
        content = _checked(content, path)
        size = settings.pop("size", None)
        config = without_start(content["config"]) | settings
        method = fitted(
            content["method"], config, content["classes"], content["domains"], content["weights"], path
        )
        method.input = content["input"] | ({"size": list(size)} if size else {})
        method.settings, method.trained = content["settings"], content["trained"]
    else:
        method, notes, _ = _official(content, path, settings)
        for note in notes:
            warnings.warn(f"{path}: {note}", stacklevel=2)
    return method.to(device).eval()


def _official(content, path: Path, settings: dict) -> tuple[Method, list[str], dict[str, str]]:
    """The method of an official checkpoint, notes for its user, and why each weight that was left out was left out."""
    from crossreid import originals

    described, weights, left_out = originals.read(path, content, **settings)
    config = without_start(described["config"])
    domains = described.get("domains", 1)
    method = fitted(described["method"], config, described["classes"], domains, weights, path)
    method.input = described["input"]
    method.trained = {"origin": described.get("origin", "published system")}
    return method, described["notes"], left_out


def without_start(config: dict) -> dict:
    """Pretrained weights are not wanted where all weights are loaded: they may not even be at hand any more."""
    return config | {"pretrained": None} if "pretrained" in config else config


def fitted(name: str, config: dict, classes: int, domains: int, weights: dict, path: Path) -> Method:
    """The method that a file describes, with its weights. Names and shapes are compared before any memory is taken,
    so that a file cannot ask for more than it holds. Raises UserError where description and weights do not fit."""
    expected = "its settings do not describe a model; it is damaged, was changed, or lacks settings that you can give"
    with understood(path, expected):
        with torch.device("meta"), _Unfilled(), _no_more_parts_than(20 * len(weights) + 1000, path):
            outline = build(name, config, classes, domains)
        compare_weights(outline, weights, path)
        method = build(name, config, classes, domains)
        method.load_state_dict(weights)
    return method


class _Unfilled(TorchFunctionMode):
    """Inside, weights are not filled with random numbers. For those that have a shape and no memory, torch would load
    its compiler to do so, which takes longer than all else."""

    def __torch_function__(self, function, types, arguments=(), named=None):
        if getattr(function, "__name__", "") in ("normal_", "uniform_"):
            return arguments[0] if arguments else (named or {})["tensor"]
        return function(*arguments, **(named or {}))


@contextmanager
def _no_more_parts_than(limit: int, path: Path) -> Iterator[None]:
    count = 0

    def counted(*_) -> None:
        nonlocal count
        count += 1
        if count > limit:
            raise UserError(f"{path} describes a model of far more layers than it has weights: it is damaged")

    with ExitStack() as hooks:
        for register in (
            register_module_module_registration_hook,
            register_module_parameter_registration_hook,
        ):
            hooks.callback(register(counted).remove)
        yield


def load_strictly(method: Method, weights: dict, path: Path) -> None:
    """Load weights by name; every difference in names or shapes is one UserError that counts them."""
    compare_weights(method, weights, path)
    method.load_state_dict(weights)


def compare_weights(method: Method, weights: dict, path: Path) -> None:
    """Raise UserError that counts what is missing, unknown, or of another shape."""
    own = method.state_dict()
    missing, extra = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    shapes = [key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape]
    if missing or extra or shapes:
        found = [
            f"{len(keys)} {what} (first: {keys[0]})"
            for keys, what in (
                (missing, "weights are missing"),
                (extra, "are unknown"),
                (sorted(shapes), "have another shape"),
            )
            if keys
        ]
        raise UserError(
            f"{path} does not fit the method {type(method).__name__} with these settings: {'; '.join(found)}. It was "
            "probably made by another method or with other settings; give the settings it was trained with."
        )


def convert(path: Path, out: Path, *, to: str = "ours", **settings) -> list[str]:
    """Turn a checkpoint of a published system into ours, or (``to="original"``) ours into one its program loads.

    settings: what a foreign file does not record, as for ``load``.
    Returns lines that say what was written, and which weights were left out for which reason.
    """
    if to == "original":
        from crossreid import originals

        if settings:
            raise UserError(
                f"method.{next(iter(settings))} was given, but a checkpoint of ours records its settings: settings are "
                "for files of the published systems; leave them out"
            )
        content = read(path)
        check_folder(Path(out).parent)
        program = originals.to_original(content["method"], content["weights"], out, content["config"])
        return [f"wrote {out}, as the published program of {program} saves it"]
    content = _read_file(located(path))
    if _is_ours(content):
        raise UserError(
            f"{path} is a checkpoint of crossreid already, and needs no conversion: use it as it is, or add --to "
            "original to write it as the published program saves it"
        )
    method, notes, left_out = _official(content, path, settings)
    check_folder(Path(out).parent)
    save(out, describe(method, method_name(method)))
    reasons = by_key((why, key) for key, why in left_out.items())
    return [
        *(
            f"left out {counted(len(keys), 'weight')} ({', '.join(keys[:2])}{', ...' * (len(keys) > 2)}): {why}"
            for why, keys in reasons.items()
        ),
        *(f"note: {note}" for note in notes),
        f"wrote {out}: {method_name(method)}, {len(method.state_dict())} weights, {method.classes} classes",
    ]


def init_from(method: Method, path: str | Path) -> list[str]:
    """Fill a new method with the weights of a trained one, whatever identities that one knew.

    Weights whose shape follows from the number of classes may differ, and those that serve training alone may be
    missing or too many; these keep their fresh values and are returned by name. Any other difference is an error.
    """
    source = load(path)
    if type(source) is not type(method):
        raise UserError(
            f"train.init_from: {path} holds the method {type(source).__name__}, this run trains "
            f"{type(method).__name__}: choose a checkpoint of the same method"
        )
    weights, own = source.state_dict(), method.state_dict()
    fresh = []
    for key in type(method).training_only:
        if key not in own:
            weights.pop(key, None)
        elif key not in weights:
            weights[key] = own[key]
            fresh.append(key)
    for key in sorted(own.keys() & weights.keys()):
        if own[key].shape != weights[key].shape:
            pairs = list(zip(weights[key].shape, own[key].shape, strict=False))
            follows = own[key].ndim == weights[key].ndim and all(
                a == b or (a % source.classes == 0 and a // source.classes * method.classes == b)
                for a, b in pairs
            )
            if follows:
                weights[key] = own[key]
                fresh.append(key)
    load_strictly(method, weights, Path(path))
    return fresh


def describe(
    method: Method,
    name: str,
    *,
    input: Mapping | None = None,
    settings: dict | None = None,
    trained: dict | None = None,
) -> dict:
    """The content of a checkpoint, without training state. What is not given is what the method carries."""
    return {
        "crossreid": __version__,
        "format": FORMAT,
        "method": name,
        "config": plain(dataclasses.asdict(method.config)),
        "classes": method.classes,
        "domains": method.domains,
        "input": plain(method.input if input is None else input),
        "settings": plain(method.settings if settings is None else settings),
        "trained": plain(method.trained if trained is None else trained),
        "weights": {key: value.detach().cpu().clone() for key, value in method.state_dict().items()},
    }


def plain(value):
    """Dataclasses, tuples and paths as the dicts, lists and strings that YAML and safe loading know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
