"""Batch-normalisation neck and classifier (Luo et al., arXiv 1903.07071)."""

from __future__ import annotations

from torch import nn


def neck(width: int, frozen_bias: bool = True) -> nn.BatchNorm1d:
    """Batch normalisation between the pooled vector and the classifier: weight from N(1, 0.01), bias 0.

    frozen_bias: keep the bias at 0, so that the identity planes pass through the origin.
    """
    norm = nn.BatchNorm1d(width)
    nn.init.normal_(norm.weight, 1.0, 0.01)
    nn.init.zeros_(norm.bias)
    norm.bias.requires_grad_(not frozen_bias)
    return norm


def classifier(width: int, classes: int) -> nn.Linear:
    """Linear layer without bias, weights from N(0, 0.001)."""
    linear = nn.Linear(width, classes, bias=False)
    nn.init.normal_(linear.weight, 0.0, 0.001)
    return linear
