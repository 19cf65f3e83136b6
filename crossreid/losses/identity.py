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


def smoothed_identity(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.1, adaptive: float | None = None
) -> torch.Tensor:
    """``identity_loss`` as fast-reid and MetaBIN have it: ``smoothing`` is spread over the other C - 1 classes alone.

    adaptive: in the place of ``smoothing``, of each image the share ``adaptive`` of the probability that its true
        class has now, so that what is known well is smoothed more. No gradient flows through it.
    """
    others = max(logits.shape[1] - 1, 1)
    if adaptive is None:
        return identity_loss(logits, targets, smoothing * logits.shape[1] / others)
    log_p = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(1)
    true = log_p.gather(1, targets[:, None])[:, 0]
    share = adaptive * true.detach().exp()
    return -((1 - share) * true + share / others * (log_p.sum(1) - true)).mean()
