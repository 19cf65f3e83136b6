"""Distances between all pairs of two sets of vectors."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from crossreid.ops.precision import in_float32


def euclidean(x, y, squared: bool = False, floor: float = 1e-12) -> torch.Tensor:
    """Euclidean distance of every row of ``x`` to every row of ``y``.

    x: (M, D), y: (N, D), tensors or arrays; computed in float32, or in float64 if both are.
    squared: leave out the square root.
    floor: smallest value of the squared distance; the square root has no gradient at zero. A pair below it
        gets the gradient zero.

    Returns (M, N), differentiable. Raises ValueError naming both shapes when they do not fit.
    """
    return _euclidean(*_pair(x, y), squared, floor)


def cosine(x, y) -> torch.Tensor:
    """One minus the cosine of every row of ``x`` with every row of ``y``, from 0 to 2.

    x: (M, D), y: (N, D), tensors or arrays, of any length; computed in float32, or in float64 if both are. A
    zero vector has the distance 1 to everything.

    Returns (M, N), differentiable. Raises ValueError naming both shapes when they do not fit.
    """
    return _cosine(*_pair(x, y))


@in_float32
def _euclidean(x, y, squared, floor):
    squares = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    squares = torch.addmm(squares, x, y.T, alpha=-2).clamp_min(floor)
    return squares if squared else squares.sqrt()


@in_float32
def _cosine(x, y):
    return 1 - torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(y).T


def tensor(values) -> torch.Tensor:
    """A floating tensor of the values; an array of float32 or float64 is shared, not copied."""
    if not isinstance(values, torch.Tensor):
        with warnings.catch_warnings():
            # Said of memory maps that are open for reading; nobody writes here.
            warnings.filterwarnings("ignore", "The given NumPy array is not writ")
            values = torch.as_tensor(np.asarray(values))
    return values if values.is_floating_point() else values.float()


def _pair(x, y):
    x, y = tensor(x), tensor(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"distances need two matrices of vectors of equal length, (M, D) and (N, D), "
            f"but the shapes are {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.dtype != y.dtype:
        x, y = x.float(), y.float()
    return x, y
