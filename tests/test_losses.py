"""Losses: cases done by hand, slow recomputations, edges."""

import math

import pytest
import torch

from crossreid.losses.identity import identity_loss
from crossreid.losses.triplet import batch_hard_triplet
from crossreid.losses.weighted_triplet import weighted_triplet


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    # Identities in no order and of unequal counts, two of them with a single row.
    identities = torch.tensor([3, 1, 3, 7, 1, 1, 3, 1, 0])
    return torch.randn(9, 5, dtype=torch.float64, generator=generator), identities


def test_identity_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert identity_loss(logits, torch.tensor([0])).item() == pytest.approx(-math.log(0.75))
    smoothed = identity_loss(logits, torch.tensor([0]), smoothing=0.1).item()
    assert smoothed == pytest.approx(-0.95 * math.log(0.75) - 0.05 * math.log(0.25))


def test_identity_is_in_float32():
    assert identity_loss(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1])).dtype == torch.float32


def test_batch_hard_by_hand():
    # On a line: identity 0 at 0 and 1, identity 1 at 3 and 10.
    vectors, identities = torch.tensor([[0.0], [1], [3], [10]]), torch.tensor([0, 0, 1, 1])
    gaps = [1 - 3, 1 - 2, 7 - 2, 7 - 9]
    expected = sum(max(gap + 1.5, 0) for gap in gaps) / 4
    assert batch_hard_triplet(vectors, identities, 1.5).item() == pytest.approx(expected)
    soft = sum(math.log(1 + math.exp(gap)) for gap in gaps) / 4
    assert batch_hard_triplet(vectors, identities, None).item() == pytest.approx(soft)


def distances(vectors):
    return [[max((a - b).pow(2).sum().item(), 1e-12) ** 0.5 for b in vectors] for a in vectors]


@pytest.mark.parametrize("margin", [0.3, None])
def test_batch_hard_slowly(batch, margin):
    vectors, identities = batch
    total = 0.0
    for row, own in zip(distances(vectors), identities):
        positive = max(d for d, other in zip(row, identities) if other == own)
        negative = min(d for d, other in zip(row, identities) if other != own)
        gap = positive - negative
        total += math.log1p(math.exp(gap)) if margin is None else max(gap + margin, 0)
    assert batch_hard_triplet(vectors, identities, margin).item() == pytest.approx(total / 9, abs=1e-9)


@pytest.mark.parametrize("stable, scale", [(False, 1), (True, 1), (False, 8), (True, 8)])
def test_weighted_slowly(batch, stable, scale):
    vectors, identities = batch[0] * scale, batch[1]
    total, positive_sum, negative_sum = 0.0, 0.0, 0.0
    small = 0 if stable else 1e-6
    for row, own in zip(distances(vectors), identities):
        near = [d for d, other in zip(row, identities) if other == own]
        far = [d for d, other in zip(row, identities) if other != own]
        positive = [math.exp(d - max(near)) for d in near]
        positive = [w / (sum(positive) + small) for w in positive]
        negative = [math.exp(-d) for d in far]
        negative = [w / (sum(negative) + small) for w in negative]
        gap = sum(w * d for w, d in zip(positive, near)) - sum(w * d for w, d in zip(negative, far))
        total += math.log1p(math.exp(gap))
        positive_sum, negative_sum = positive_sum + sum(positive), negative_sum + sum(negative)
    loss, positive, negative = weighted_triplet(vectors, identities, stable)
    assert loss.item() == pytest.approx(total / 9, rel=1e-8)
    assert positive.item() == pytest.approx(positive_sum / 9)
    assert negative.item() == pytest.approx(negative_sum / 9)


@pytest.mark.parametrize("stable", [False, True])
def test_weighted_of_equal_vectors_is_log_2(stable):
    loss, _, _ = weighted_triplet(torch.ones(6, 3), torch.tensor([0, 0, 0, 1, 1, 1]), stable)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_released_weights_vanish_when_negatives_are_far():
    """56 negatives at distance 20: the sums published for the released form, and 1 for the stable one."""
    for distance, expected in ((12, 0.997), (14, 0.98), (16, 0.86), (20, 0.10)):
        # Two identities, each in one place; the rows of one see 56 negatives.
        vectors = torch.cat((torch.zeros(56, 1), torch.full((56, 1), float(distance)))).double()
        identities = torch.arange(112) // 56
        assert weighted_triplet(vectors, identities)[2].item() == pytest.approx(expected, abs=6e-3)
        assert weighted_triplet(vectors, identities, stable=True)[2].item() == pytest.approx(1)


@pytest.mark.parametrize("stable", [False, True])
def test_weighted_stays_finite(stable):
    vectors = (torch.randn(8, 4, generator=torch.Generator().manual_seed(1)) * 300).requires_grad_()
    loss, _, _ = weighted_triplet(vectors, torch.arange(8) // 2, stable)
    loss.backward()
    assert loss.isfinite() and vectors.grad.isfinite().all()


def test_normalize(batch):
    vectors, identities = batch
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    assert weighted_triplet(vectors, identities, normalize=True)[0] == pytest.approx(
        weighted_triplet(unit, identities)[0].item()
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda v, i: batch_hard_triplet(v, i, 5.0),
        lambda v, i: batch_hard_triplet(v, i, None),
        lambda v, i: weighted_triplet(v, i)[0],
        lambda v, i: weighted_triplet(v, i, stable=True, normalize=True)[0],
    ],
)
def test_gradients(batch, loss):
    vectors, identities = batch
    assert torch.autograd.gradcheck(lambda v: loss(v, identities), vectors.requires_grad_(), atol=1e-6)


@pytest.mark.parametrize("loss", [batch_hard_triplet, weighted_triplet])
def test_single_identity_is_named(loss):
    with pytest.raises(ValueError, match=r"two identities.*identity 4"):
        loss(torch.randn(3, 2), torch.tensor([4, 4, 4]))


@pytest.mark.parametrize("loss", [batch_hard_triplet, lambda v, i: weighted_triplet(v, i)[0]])
def test_half_precision_is_widened(batch, loss):
    vectors, identities = batch
    half = vectors.half()
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(half, identities).item() == pytest.approx(loss(half.float(), identities).item(), rel=1e-6)
