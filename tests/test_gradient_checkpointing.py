"""Computing again for the gradient changes nothing but memory: losses, gradients and running statistics are equal."""

import pytest
import torch
from torch import nn

from crossreid import checkpoint
from crossreid.methods.base import Progress
from crossreid.nn.gradient_checkpointing import checkpointed
from crossreid.records import Batch

SETTINGS = {
    "agw": {},
    "ddag": {},
    "mvd": {},
    "mvd, port": {"profile": "mindspore"},
}


def step(name, gradient_checkpointing):
    torch.manual_seed(0)
    settings = {
        "backbone": "tiny",
        "pretrained": None,
        "gradient_checkpointing": gradient_checkpointing,
    } | SETTINGS[name]
    method = checkpoint.build(name.split(",")[0], settings, 3, 1).double().train()
    for parameter in method.parameters():  # the scalars of MVD's attention start at 0 and would hide it
        if parameter.numel() == 1:
            parameter.data.fill_(0.3)
    generator = torch.Generator().manual_seed(1)
    target = torch.tensor([0, 0, 1, 1, 2, 2] * 2)
    images = torch.randn(12, 3, 64, 32, generator=generator).double()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: kept.append(value) or value, lambda value: value
    ):
        losses = method(
            Batch(images, target, target * 0, torch.arange(12) // 6, target * 0), "train", Progress()
        )
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in kept}
    losses["total"].backward()
    return method, losses, sum(storages.values())


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_is_the_same(name):
    (plain, losses, much), (again, others, little) = step(name, False), step(name, True)
    assert losses.keys() == others.keys() and all(torch.equal(losses[key], others[key]) for key in losses)
    for (key, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), key
        if one.grad is not None:
            assert torch.equal(one.grad, other.grad), key
    for (key, one), other in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other), key
    assert any(key.endswith("num_batches_tracked") and value == 1 for key, value in again.named_buffers())
    assert little < 0.75 * much


def test_without_the_guard_the_statistics_would_move_twice():
    norm = nn.BatchNorm2d(2)
    maps = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    torch.utils.checkpoint.checkpoint(norm, maps, use_reentrant=False).sum().backward()
    assert norm.num_batches_tracked == 2
    norm.reset_running_stats()
    checkpointed(norm, maps).sum().backward()
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * maps.mean((0, 2, 3)))


def test_nothing_is_computed_again_outside_training():
    norm, calls = nn.BatchNorm2d(2), []
    norm.register_forward_hook(lambda *given: calls.append(1))
    maps = torch.randn(3, 2, 4, 4, requires_grad=True)
    checkpointed(norm.eval(), maps).sum().backward()
    with torch.no_grad():
        checkpointed(norm.train(), maps)
    assert len(calls) == 2
