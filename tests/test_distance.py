import numpy as np
import pytest
import torch

from crossreid.ops import distance
from crossreid.ops.precision import full_products, in_float32


def test_by_hand():
    x, y = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 4.0], [0.0, 2.0]])
    np.testing.assert_allclose(distance.euclidean(x, y), [[5, 2], [1e-6, np.sqrt(13)]], atol=1e-6)
    np.testing.assert_allclose(distance.euclidean(x, y, squared=True, floor=0), [[25, 4], [0, 13]], atol=1e-9)
    np.testing.assert_allclose(distance.cosine(x, y), [[1, 1], [0, 0.2]], atol=1e-9)


def test_single_precision_under_autocast():
    x = torch.randn(5, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = distance.euclidean(x.bfloat16(), x.bfloat16()), distance.cosine(x, x)
    assert all(values.dtype == torch.float32 for values in inside)
    torch.testing.assert_close(inside[1], distance.cosine(x, x))
    inside[1].sum().backward()
    assert x.grad.dtype == torch.float32
    assert distance.cosine(x.double(), x.double()).dtype == torch.float64


def test_gradients():
    x, y = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.randn(5, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: distance.euclidean(x, y), x)
    assert torch.autograd.gradcheck(lambda x: distance.cosine(x, y), x)
    distance.euclidean(x, x).diagonal().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(4, 5\)"):
        distance.euclidean(np.zeros((2, 3)), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        distance.cosine(np.zeros(3), np.zeros((4, 3)))


def test_precision_helpers_restore():
    torch.set_float32_matmul_precision("high")
    try:
        with full_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")

    @in_float32
    def kind(value, other=None):
        return value.dtype, other.dtype

    assert kind(torch.zeros(1).half(), other=torch.zeros(1).double()) == (torch.float32, torch.float64)
