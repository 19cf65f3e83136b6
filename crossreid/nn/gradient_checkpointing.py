"""Trade of time for memory: what is between a module's input and output is computed again when the gradient asks."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """``module(maps)`` that keeps ``maps`` alone for the backward pass.

    Chen et al., arXiv 1604.06174. Losses, gradients and running statistics are those of a plain call: in the
    second computation batch normalisation leaves its running statistics alone. The module must draw nothing at
    random.
    """
    if not (module.training and torch.is_grad_enabled()):
        return module(maps)

    def contexts():
        return nullcontext(), _statistics_held(module)

    return checkpoint(module, maps, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


@contextmanager
def _statistics_held(module):
    """Batch normalisation records into copies, which are thrown away."""
    norms = [(each, dict(each.named_buffers())) for each in module.modules() if isinstance(each, _BatchNorm)]
    for norm, buffers in norms:
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in norms:
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
