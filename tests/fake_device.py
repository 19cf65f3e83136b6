"""A GPU that is not there: tensors that claim to be on one, and what would make the host wait for it.

Under torch's FakeTensorMode nothing is computed. A mix of devices is an error, and so is every question whose answer
the host would have to wait for. ``Waits`` collects the copies between host and device that block.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named = named or {}
        result = function(*arguments, **named)
        if function._schema.name in ("aten::_to_copy", "aten::copy_"):
            into, of = (arguments[0], arguments[1]) if "copy_" == function._opname else (result, arguments[0])
            blocks = not (named.get("non_blocking") or (len(arguments) > 2 and arguments[2]))
            if blocks and into.device.type != of.device.type:
                lines = [line for line in traceback.extract_stack() if "crossreid" in line.filename]
                where = f"{lines[-1].filename}:{lines[-1].lineno}" if lines else "the test"
                self.found.append(f"{of.device} to {into.device}, {tuple(of.shape)}, {where}")
        return result


@contextmanager
def autocast(dtype):
    """What ``torch.autocast("cuda", dtype)`` does where there is a GPU; None for nothing."""
    if dtype is None:
        yield
        return
    before = torch.get_autocast_dtype("cuda")
    torch.set_autocast_dtype("cuda", dtype)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", before)
        torch.clear_autocast_cache()


@contextmanager
def gpu(monkeypatch):
    """Inside, ``torch.device("cuda")`` can be named; yields the list of blocking copies so far.

    The inner gradient of a meta step cannot be taken on a device that is not there: zeros stand in for it. What is
    drawn on the host stays real.
    """

    def gradient(loss, inputs, **how):
        return [torch.zeros_like(value) for value in inputs]

    def permutation(count, whole=torch.randperm):
        with unset_fake_temporarily():
            return whole(count)

    monkeypatch.setattr(torch.autograd, "grad", gradient)
    monkeypatch.setattr(torch, "randperm", permutation)
    waits = Waits()
    with FakeTensorMode(allow_non_fake_inputs=True), waits:
        yield waits.found
