"""Classification of identities."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def accuracy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Share of images (N, C) whose class (N,) has the largest logit; for the log, without a gradient."""
    return (logits.detach().argmax(1) == target).float().mean()


def identity_loss(logits: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Cross entropy over the training identities, the mean over the batch, in float32.

    logits: (N, C). target: (N,) class indices. smoothing: the share of the target that is spread evenly over
    all C classes, the true one included.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(logits, target, label_smoothing=smoothing)
