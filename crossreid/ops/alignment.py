"""Distances between images described stripe by stripe, which may stand at different heights.

AlignedReID++ (Luo et al. 2019), dynamically matching local information: the distance of two stripes is tanh(e
/ 2) of their Euclidean distance e, and two images are as far apart as the cheapest path from the pair of
top stripes to the pair of bottom stripes, going one stripe down in either image at each step. Stripes are
expected of unit length. The distance of an image to itself is not zero, since a path has to leave the
diagonal.
"""

from __future__ import annotations

import torch

from crossreid import memory
from crossreid.ops.distance import tensor
from crossreid.ops.precision import full_products, in_float32, without_autocast
from crossreid.records import UserError

BLOCK = 64, 256


def aligned(x, y, floor: float = 0.0, device=None) -> torch.Tensor:
    """Distance along the cheapest path for all pairs of images.

    x: (M, S, C), y: (N, S', C), unit stripes from top to bottom, tensors or arrays; S and S' may differ.
    floor: smallest value of the squared distance of two stripes; 0 in evaluation, 1e-12 in training.

    device: where it is computed, by default where ``x`` is.

    Returns (M, N), from 0 to S + S' - 1. Not differentiable, and made in blocks: no memory beyond the result
    grows with M x N. Raises UserError for stripes that do not fit together, naming the first one that is not
    finite, and when the result would not fit into the memory that is free.
    """
    return _all_pairs(x, y, floor, device, path=True)


def unaligned(x, y, floor: float = 0.0, device=None) -> torch.Tensor:
    """Sum of the distances of stripes at equal height for all pairs of images.

    x: (M, S, C), y: (N, S, C); the rest as in ``aligned``. Returns (M, N), from 0 to S.
    """
    return _all_pairs(x, y, floor, device, path=False)


@in_float32
def aligned_pairs(x: torch.Tensor, y: torch.Tensor, floor: float = 1e-12) -> torch.Tensor:
    """Distance along the cheapest path of x[n] to y[n]: (N, S, C), (N, S', C) -> (N,), differentiable."""
    _check(x, y)
    if len(x) != len(y):
        raise ValueError(f"pairs need as many images on both sides, but there are {len(x)} and {len(y)}")
    squares = x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None, :] - 2 * x @ y.mT
    return _cheapest(torch.tanh(squares.clamp_min(floor).sqrt() / 2).permute(1, 2, 0))


@in_float32
def unaligned_pairs(x: torch.Tensor, y: torch.Tensor, floor: float = 1e-12) -> torch.Tensor:
    """Sum of the distances of the stripes at equal height of x[n] and y[n]. (N, S, C) twice -> (N,)."""
    _check(x, y, equal=True)
    if len(x) != len(y):
        raise ValueError(f"pairs need as many images on both sides, but there are {len(x)} and {len(y)}")
    squares = x.square().sum(2) + y.square().sum(2) - 2 * (x * y).sum(2)
    return torch.tanh(squares.clamp_min(floor).sqrt() / 2).sum(1)


def alignment_path(x, y) -> list[tuple[int, int]]:
    """The cheapest path for one pair of images, (S, C) and (S', C): which stripe meets which, from top to
    bottom.

    Of two equally cheap ways back the one along the stripes of ``y`` is taken.
    """
    x, y = tensor(x).detach(), tensor(y).detach()
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"one image is (S, C), but the shapes are {tuple(x.shape)} and {tuple(y.shape)}")
    steps = torch.tanh(torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist") / 2)
    cost = [[0.0] * len(y) for _ in x]
    for i in range(len(x)):
        for j in range(len(y)):
            before = [cost[i - 1][j]] * (i > 0) + [cost[i][j - 1]] * (j > 0)
            cost[i][j] = float(steps[i, j]) + min(before, default=0.0)
    i, j = len(x) - 1, len(y) - 1
    path = [(i, j)]
    while i or j:
        if not i or (j and cost[i][j - 1] <= cost[i - 1][j]):
            j -= 1
        else:
            i -= 1
        path.append((i, j))
    return path[::-1]


def _cheapest(steps: torch.Tensor) -> torch.Tensor:
    """(S, S', ...) distances of stripes -> (...) cost of the cheapest path."""
    above: list[torch.Tensor] = []
    for row in steps:
        cost: list[torch.Tensor] = []
        for j, step in enumerate(row):
            if not above:
                cost.append(step + cost[-1] if j else step)
            else:
                cost.append(step + (torch.minimum(above[j], cost[-1]) if j else above[j]))
        above = cost
    return above[-1]


@torch.no_grad()
def _all_pairs(x, y, floor, device, path):
    x, y = tensor(x).detach(), tensor(y).detach()
    _check(x, y, equal=not path)
    device = x.device if device is None else torch.device(device)
    dtype = torch.float64 if x.dtype == y.dtype == torch.float64 else torch.float32
    x, y = x.to(device, dtype), y.to(device, dtype)
    x_square, y_square = _squares(x, "first"), _squares(y, "second")
    if device.type == "cpu":
        memory.require(
            dtype.itemsize * len(x) * len(y),
            f"the distances of {len(x)} to {len(y)} images, whole,",
            "compare a few hundred of the first with all of the second at a time, and give such blocks to "
            "ranking.evaluate_blocks, as `crossreid evaluate` does",
        )
    out = torch.empty(len(x), len(y), dtype=dtype, device=device)
    compiled = device.type == "cpu" and dtype == torch.float32 and floor < 1e-7
    compiled = compiled and bool((x_square <= 1.001).all()) and bool((y_square <= 1.001).all())
    high, wide = BLOCK if device.type == "cpu" else (512, 8192)
    with full_products(), without_autocast(device.type):
        for left in range(0, len(y), wide):
            # the image is the last axis, so that the product and every step run over contiguous images
            part = y[left : left + wide].permute(2, 1, 0).contiguous()
            part_square = y_square[left : left + wide].T.contiguous()
            for top in range(0, len(x), high):
                block = out[top : top + high, left : left + wide]
                rows = x[top : top + high]
                _block(rows, x_square[top : top + high], part, part_square, floor, path, compiled, block)
    return out


def _block(x, x_square, y, y_square, floor, path, compiled, out):
    """x: (m, S, C), y: (C, S', n), their squared lengths (m, S) and (S', n) -> out (m, n)."""
    m, s, c = x.shape
    if not path:
        products = torch.bmm(x.transpose(0, 1), y.transpose(0, 1))
        squares = products.mul_(-2).add_(x_square.T[:, :, None]).add_(y_square[:, None, :])
        out.copy_(squares.clamp_min_(floor).sqrt_().div_(2).tanh_().sum(0))
        return
    products = torch.matmul(x.reshape(m * s, c), y.flatten(1)).view(m, s, *y.shape[1:])
    if compiled:
        from crossreid.ops.kernels import align_unit

        result = out.numpy()
        align_unit(products.numpy(), x_square.numpy(), y_square.numpy(), result)
        return
    products = products.permute(1, 2, 0, 3)
    squares = products.mul_(-2).add_(x_square.T[:, None, :, None]).add_(y_square[None, :, None, :])
    out.copy_(_cheapest(squares.clamp_min_(floor).sqrt_().div_(2).tanh_()))


def _squares(stripes, side):
    """Squared lengths (N, S), of a few images at a time so that no copy of all the stripes is made."""
    parts = [part.square().sum(2) for part in stripes.split(256)]
    squares = torch.cat(parts) if parts else stripes.new_empty(stripes.shape[:2])
    bad = torch.nonzero(~torch.isfinite(squares))
    if len(bad):
        image, stripe = bad[0].tolist()
        raise UserError(
            f"stripe {stripe} of image {image} of the {side} set is not made of finite numbers: look at "
            f"that image, and at the training that gave these weights"
        )
    return squares


def _check(x, y, equal=False):
    if x.ndim != 3 or y.ndim != 3 or x.shape[2] != y.shape[2] or (equal and x.shape[1] != y.shape[1]):
        raise UserError(
            "stripes need the shapes (M, S, C) and (N, S', C)"
            + (" with S = S', since without alignment only stripes at equal height meet" if equal else "")
            + f", but they are {tuple(x.shape)} and {tuple(y.shape)}: embed both sets with the same model and "
            "the same height of images"
        )
    if not x.shape[1] or not y.shape[1]:
        raise UserError(
            f"there are no stripes in {tuple(x.shape)} and {tuple(y.shape)}: at least one is needed"
        )
