"""Memory of a training step for each settings file: will it fit?

Counted, not measured on an accelerator: weights, gradients and optimizer state from their sizes; what the forward
pass keeps for the gradient by looking at every tensor that autograd saves, for two small batches on the CPU, whose
difference is what one image costs. Prints a table in Markdown.

    python benchmarks/memory.py                       all settings files (a quarter of an hour on one core)
    python benchmarks/memory.py mvd_sysu_mm01 ...     these alone
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from crossreid import checkpoint, config
from crossreid.data.settings import DataConfig
from crossreid.methods import METHODS
from crossreid.methods.base import Method, Progress
from crossreid.nn import resnet
from crossreid.records import Batch

# Training identities, which decide the size of classifiers; of the last, five data sets together.
CLASSES = {
    "sysu_mm01": 395,
    "regdb": 206,
    "market1501": 751,
    "dukemtmc": 702,
    "cuhk03": 767,
    "msmt17": 1041,
    "folder": 100,
}
JOINED = 18_530
DOMAINS = 6
STATES = {"sgd": 1, "adam": 2}  # numbers kept by an optimizer for each parameter
MODES = (("float32", False), ("bfloat16", False), ("float32", True), ("bfloat16", True))
GIB = 2**30


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", default=list(config.bundled()), help="settings files; default all"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns = ["settings file", "batch", "size", "parameters, M", "always, GiB"]
    columns += [
        f"{precision}{', recomputed' * gradient_checkpointing}" for precision, gradient_checkpointing in MODES
    ]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    known = {}
    for name in given.names:
        settings = config.load(name)
        # Not of the number of identities: one number of each image for each of them.
        key = (settings.method_name, str(settings.method), settings.data.size)
        if key not in known:
            known[key] = [measure(settings, *mode) for mode in MODES if possible(settings, mode[1])]
        print(row(name, settings, known[key]), flush=True)


def row(name: str, settings, measured: list[dict]) -> str:
    """A line of the table; a step in GiB, and in brackets what one image more costs in MiB."""
    batch, (height, width) = images_of(settings.data), settings.data.size
    method = build(settings, False)
    always = standing(method, settings.train.optimizers)
    millions = sum(value.numel() for value in method.parameters()) / 1e6
    cells = [f"`{name}`", f"{batch}", f"{height} x {width}", f"{millions:.1f}", f"{always / GIB:.2f}"]
    for found in measured:
        step = (always + found["once"] + found["image"] * batch) / GIB
        image = found["image"] / 2**20
        cells.append(f"{step:.{1 if step >= 1 else 2}f} ({image:.{0 if image >= 10 else 1}f})")
    cells += ["-"] * (len(MODES) - len(measured))
    return "| " + " | ".join(cells) + " |"


def standing(method: Method, optimizers) -> int:
    """Bytes that are there throughout: weights and running statistics, gradients, the optimizers' states."""
    total = sum(value.nbytes for value in (*method.parameters(), *method.buffers()))
    for name, groups in method.parameter_groups().items():
        sizes = sum(value.nbytes for group in groups for value in group["params"])
        total += sizes * (1 + STATES[optimizers[name].name])
    return total


def measure(settings, precision: str, gradient_checkpointing: bool) -> dict[str, float]:
    """Bytes saved for the gradient: ``image``, for each further image, and ``once``, whatever the batch.

    With ``gradient_checkpointing`` the largest part that is computed again at one time is added to both.
    """
    method = build(settings, gradient_checkpointing)
    found = [saved_by(method, images, settings.data, precision) for images in (2, 4)]
    image = (found[1] - found[0]) / 2
    return {"image": image, "once": found[0] - 2 * image}


def saved_by(method: Method, images: int, data: DataConfig, precision: str) -> int:
    """Bytes that one forward pass of the first phase saves for the gradient, beside weights and buffers."""
    own = storages((*method.parameters(), *method.buffers()))
    parts, plain = [0], resnet.checkpointed

    def checkpointed(module, maps):
        parts.append(saved(lambda: module(maps), own))
        return plain(module, maps)

    phase = method.phases(Progress())[0].name
    target = torch.arange(images) % 2
    batch = Batch(
        torch.randn(images, 3, *data.size),
        target,
        target * 0,
        torch.arange(images) // 2,
        target % method.domains,
    )
    dtype = getattr(torch, precision)
    with (
        mock.patch.object(resnet, "checkpointed", checkpointed),
        torch.autocast("cpu", dtype, enabled=dtype is not torch.float32),
    ):
        return saved(lambda: method(batch, phase, Progress()), own) + max(parts)


def saved(compute: Callable, own: Mapping[int, object] = MappingProxyType({})) -> int:
    """Bytes of all tensors that ``compute`` saves for the gradient, each storage once, those of ``own`` left out.

    Nothing is really kept, so that counting takes no more memory than a forward pass without a gradient.
    """
    found, sizes = {}, {}

    def pack(value):
        (key, storage), *_ = storages([value]).items()
        if key not in own:
            found[key], sizes[key] = storage, value.untyped_storage().nbytes()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        compute()
    return sum(sizes.values())


def storages(values: Iterable[torch.Tensor]) -> dict[int, StorageWeakRef]:
    """The memory behind tensors by its address. A weak reference keeps the address from being given away again."""
    found = (StorageWeakRef(value.untyped_storage()) for value in values)
    return {reference.cdata: reference for reference in found}


def build(settings, gradient_checkpointing: bool) -> Method:
    """The method with its settings and random weights, in training mode."""
    choices = (
        settings.method
        | {"pretrained": None}
        | ({"gradient_checkpointing": True} if gradient_checkpointing else {})
    )
    return checkpoint.build(settings.method_name, choices, classes(settings.data), DOMAINS).train()


def possible(settings, gradient_checkpointing: bool) -> bool:
    """Whether the method can compute again."""
    return not gradient_checkpointing or hasattr(
        METHODS[settings.method_name].Config(), "gradient_checkpointing"
    )


def images_of(data: DataConfig) -> int:
    """Images in a batch of the first loader."""
    loader = next(iter(data.loaders.values()))
    return loader.identities * loader.instances * (2 if loader.sampler == "cross_modal" else 1)


def classes(data: DataConfig) -> int:
    return CLASSES.get(data.name, JOINED) if isinstance(data.name, str) else JOINED


if __name__ == "__main__":
    main()
