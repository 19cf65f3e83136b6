"""A method's network for use alone, in a form that the processor runs faster."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Share of a vector's length by which results may differ; rounding alone gives less than a tenth of it.
TOLERANCE = 1e-5


def folded(method, size: Sequence[int], feature: str | None = None):
    """A copy of a method in evaluation mode whose batch normalisations are part of the convolutions before them, and
    whose maps have their channels last.

    size: height and width of its images. feature: the one that will be asked for.

    Two images of noise, one of each modality, go through the method, which shows which convolution feeds which
    normalisation, and through the copy. Where a vector differs by more than ``TOLERANCE`` of its length, as it may if a
    map is used twice, the method itself is returned, and likewise on an accelerator, in half precision and compiled.
    Normalisations that look at the single image stay as they are.
    """
    compiled = any(getattr(each, "_compiled_call_impl", None) for each in method.modules())
    if compiled or any(
        each.device.type != "cpu" or each.dtype != torch.float32 for each in method.parameters()
    ):
        return method
    noise = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))

    def embed(network) -> torch.Tensor:
        out = network.embed(noise, modality=[0, 1], feature=feature)
        return out.feature if out.stripes is None else torch.cat([out.feature, out.stripes.flatten(1)], 1)

    with torch.inference_mode():
        pairs, expected = _pairs(method, embed)
    faster = copy.deepcopy(method)
    for convolution, normalisation in pairs:
        layer = faster.get_submodule(convolution)
        fused = fuse_conv_bn_eval(layer, faster.get_submodule(normalisation))
        layer.weight, layer.bias = fused.weight, fused.bias
        parent, _, name = normalisation.rpartition(".")
        setattr(faster.get_submodule(parent), name, nn.Identity())
    faster.requires_grad_(False).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        apart = (embed(faster) - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-6)
    return faster if bool((apart <= TOLERANCE).all()) else method


def _pairs(
    network: nn.Module, run: Callable[[nn.Module], torch.Tensor]
) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """Names of convolutions, each with that of the normalisation which alone takes what it gives and nothing else, and
    what the network gave."""
    made: list[tuple[torch.Tensor, str]] = []
    takes: dict[str, set[str]] = {}
    feeds: dict[str, set[str]] = {}

    def came_out(name):
        return lambda module, inputs, output: made.append((output, name))

    def went_in(name):
        def hook(module, inputs):
            source = next((each for tensor, each in reversed(made) if tensor is inputs[0]), "")
            takes.setdefault(name, set()).add(source)
            feeds.setdefault(source, set()).add(name)

        return hook

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(came_out(name)))
        elif type(module) is nn.BatchNorm2d and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(went_in(name)))
    try:
        given = run(network)
    finally:
        for handle in handles:
            handle.remove()
    found = ((min(sources), name) for name, sources in takes.items() if len(sources) == 1)
    return [(source, name) for source, name in found if source and len(feeds[source]) == 1], given
