import numpy as np
import pytest
import torch

from crossreid import memory
from crossreid.ops import alignment
from crossreid.records import UserError


def unit(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    ).to(dtype)


def slow(x, y):
    """One pair in plain loops, float64."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    e = np.linalg.norm(x[:, None] - y[None], axis=2)
    d = (np.exp(e) - 1) / (np.exp(e) + 1)
    s = np.full(d.shape, np.inf)
    for i in range(len(x)):
        for j in range(len(y)):
            before = min([s[i - 1, j]] * (i > 0) + [s[i, j - 1]] * (j > 0), default=0)
            s[i, j] = d[i, j] + before
    return s[-1, -1], (np.trace(d) if len(x) == len(y) else None)


def test_by_hand():
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    far = np.tanh(np.sqrt(2) / 2)
    assert alignment.aligned(x, x).item() == pytest.approx(far, rel=1e-6)
    assert alignment.unaligned(x, x).item() == pytest.approx(0)
    assert alignment.aligned(x, x.flip(1)).item() == pytest.approx(2 * far, rel=1e-6)
    assert alignment.alignment_path(x[0], x[0]) == [(0, 0), (1, 0), (1, 1)]
    assert alignment.alignment_path(x[0], x[0, :1]) == [(0, 0), (1, 0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("heights", [(8, 8), (3, 5), (1, 4), (4, 1)])
def test_all_pairs_equal_plain_loops(heights, dtype):
    x, y = unit(70, heights[0], 16, dtype=dtype), unit(300, heights[1], 16, seed=1, dtype=dtype)
    got = alignment.aligned(x, y)
    same = alignment.unaligned(x, y) if heights[0] == heights[1] else None
    assert got.shape == (70, 300) and got.dtype == dtype
    for i, j in [(0, 0), (63, 255), (64, 256), (69, 299), (5, 100)]:
        path, diagonal = slow(x[i], y[j])
        assert got[i, j].item() == pytest.approx(path, rel=1e-5)
        if same is not None:
            assert same[i, j].item() == pytest.approx(diagonal, rel=1e-5)


def test_long_stripes_take_the_plain_form_and_both_agree():
    x, y = unit(9, 4, 8), unit(11, 4, 8, seed=1)
    plain = alignment.aligned(x, y, floor=1e-6)
    torch.testing.assert_close(alignment.aligned(x, y), plain, rtol=1e-5, atol=1e-6)
    assert alignment.aligned(30 * x, 30 * y)[2, 3].item() == pytest.approx(
        slow(30 * x[2], 30 * y[3])[0], rel=1e-5
    )


def test_pairs_equal_all_pairs_and_have_gradients():
    x, y = unit(6, 4, 8), unit(6, 4, 8, seed=1)
    torch.testing.assert_close(alignment.aligned_pairs(x, y), alignment.aligned(x, y).diagonal())
    torch.testing.assert_close(alignment.unaligned_pairs(x, y), alignment.unaligned(x, y).diagonal())
    x, y = x[:2].double().requires_grad_(), y[:2].double()
    assert torch.autograd.gradcheck(lambda x: alignment.aligned_pairs(x, y), x)
    alignment.aligned_pairs(x, x).sum().backward()
    assert torch.isfinite(x.grad).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert alignment.aligned_pairs(y.bfloat16(), y.bfloat16()).dtype == torch.float32


def test_path_costs_what_the_distance_says():
    x, y = unit(5, 8), unit(7, 8, seed=1)
    path = alignment.alignment_path(x, y)
    assert path[0] == (0, 0) and path[-1] == (4, 6) and len(path) == 11
    total = sum(np.tanh((x[i] - y[j]).norm().item() / 2) for i, j in path)
    assert alignment.aligned(x[None], y[None]).item() == pytest.approx(total, rel=1e-5)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"S = S'.*\(2, 3, 4\) and \(2, 5, 4\)"):
        alignment.unaligned(unit(2, 3, 4), unit(2, 5, 4))
    with pytest.raises(ValueError, match="3 and 2"):
        alignment.aligned_pairs(unit(3, 2, 4), unit(2, 2, 4))
    assert alignment.aligned(unit(0, 2, 4), unit(3, 2, 4)).shape == (0, 3)


def test_bad_stripes_are_named():
    x, y = unit(3, 4, 8), unit(5, 4, 8, seed=1)
    with pytest.raises(UserError, match=r"\(3, 4, 8\) and \(5, 4, 6\): embed both sets with the same model"):
        alignment.aligned(x, unit(5, 4, 6))
    with pytest.raises(UserError, match=r"\(3, 4, 8\) and \(5, 4, 6\)"):
        alignment.aligned_pairs(x, unit(5, 4, 6))
    for value in (np.nan, np.inf):
        broken = y.clone()
        broken[3, 1, 2] = value
        with pytest.raises(UserError, match="stripe 1 of image 3 of the second set is not made of finite"):
            alignment.aligned(x, broken)
        with pytest.raises(UserError, match="stripe 1 of image 3 of the first set"):
            alignment.unaligned(broken, x)


def test_equal_images_and_no_memory(monkeypatch):
    x = unit(1, 4, 8).repeat(6, 1, 1)
    distance = alignment.aligned(x, x)
    assert distance.isfinite().all() and distance.min() == distance.max()
    assert alignment.unaligned(x, x).max() < 2e-3
    monkeypatch.setattr(memory, "free", lambda: 100)
    with pytest.raises(UserError, match=r"of 6 to 6 images, whole, would take 144 bytes .*evaluate_blocks"):
        alignment.aligned(x, x)
    monkeypatch.setattr(memory, "free", lambda: 144)
    assert alignment.aligned(x, x).shape == (6, 6)


def test_free_memory_is_a_sensible_number():
    assert 2**20 < memory.free() < 2**60
