"""Distances in single precision, whatever the surrounding code computes in."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps

import torch

_HALF = (torch.float16, torch.bfloat16)


def in_float32(function):
    """Decorator: half-precision tensor arguments become float32 (float64 stays) and autocast is off inside.

    A squared distance is a small difference of large numbers, which half precision does not hold: close pairs
    would come out as zero or negative. Gradients pass through and arrive in the dtype of the arguments.
    """

    @wraps(function)
    def single(*arguments, **named):
        values = (*arguments, *named.values())
        devices = {value.device.type for value in values if isinstance(value, torch.Tensor)}
        with without_autocast(devices.pop() if devices else "cpu"):
            return function(*map(_widen, arguments), **{name: _widen(value) for name, value in named.items()})

    return single


def without_autocast(device: str):
    """Context in which autocast is off for a device type such as ``"cuda"``."""
    return torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False)


@contextmanager
def full_products():
    """Context in which float32 matrix products and convolutions are not shortened to TF32 or bfloat16.

    A shortened product changes which neighbours are nearest, so evaluation never uses it.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _widen(value):
    return value.float() if isinstance(value, torch.Tensor) and value.dtype in _HALF else value
