"""The losses that settings choose by name, heads and poolings: cases done by hand, slow recomputations, edges."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossreid.losses.by_name import LOSSES, chosen
from crossreid.losses.center import center
from crossreid.losses.circle import circle
from crossreid.losses.contrast import contrast
from crossreid.losses.deviation import deviation
from crossreid.losses.domain_triplet import domain_triplet
from crossreid.losses.focal import focal
from crossreid.losses.identity import smoothed_identity
from crossreid.losses.mmd import mmd
from crossreid.losses.scatter import intra_domain_scatter
from crossreid.nn.classifiers import CLASSIFIERS, ArcMargin
from crossreid.nn.pooling import GeneralizedMean, average_and_maximum, clipped_average, maximum
from crossreid.records import UserError

# Identities and domains in no order and of unequal counts; identity 3 and domain 1 have a single image.
TARGETS = torch.tensor([3, 1, 0, 2, 1, 1, 0, 2])
DOMAINS = torch.tensor([2, 0, 2, 0, 0, 0, 2, 1])


@pytest.fixture
def features():
    return torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# Center


def test_center_by_hand():
    centers = torch.tensor([[0.0, 0], [3, 4]])
    # 1 + 4 from the first center, 9 + 16 from the second, and one upon it.
    vectors = torch.tensor([[1.0, 2], [0, 0], [3, 4]])
    assert center(vectors, torch.tensor([0, 1, 1]), centers).item() == pytest.approx(30 / 3)


def test_center_slowly(features):
    centers = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    total = sum((features[i] - centers[TARGETS[i]]).norm().item() ** 2 for i in range(8))
    assert center(features, TARGETS, centers).item() == pytest.approx(total / 8, rel=1e-9)


def test_centers_learn_without_the_weight_of_their_loss(features):
    """At the learning rate 0.5 each goes to the mean of its features by twice the rate times its share of the batch."""
    vectors, targets = features.float().requires_grad_(), torch.tensor([0, 0, 0, 2, 2, 0, 0, 2])
    centers = torch.zeros(3, 5, requires_grad=True)
    (loss,) = chosen("method.losses", [{"name": "center", "weight": 5e-4}], ["global"], {}, centers=True)
    value = loss(features=vectors, targets=targets, centers=centers)
    assert value.item() == pytest.approx(5e-4 * vectors.square().sum().item() / 8, rel=1e-6)
    value.backward()
    assert torch.allclose(vectors.grad, 5e-4 * 2 * vectors / 8)
    torch.optim.SGD([centers], lr=0.5).step()
    assert torch.allclose(centers[0], 5 / 8 * vectors[targets == 0].mean(0), atol=1e-6)
    assert torch.allclose(centers[2], 3 / 8 * vectors[targets == 2].mean(0), atol=1e-6)
    assert not centers[1].any()


@pytest.mark.parametrize("losses", [[{"name": "center", "weight": 0}], ["center", "center"]])
def test_centers_are_refused_where_nothing_is_learned(losses):
    with pytest.raises(UserError, match="given once, with a weight above 0"):
        chosen("method.losses", losses, ["global"], {}, centers=True)
    with pytest.raises(UserError, match="centers that are learned, which this method does not have"):
        chosen("method.base_losses", losses, ["global"], {})


# Circle


def test_circle_by_hand():
    # Two of one identity at right angles, one of another opposite to the first and at right angles to the second.
    vectors = torch.tensor([[2.0, 0], [0, 3], [-1, 0]])
    pull = math.exp(2 * 1.25 * 0.75)
    first = math.log1p(pull * math.exp(0))  # similarity -1: the weight is 0
    second = math.log1p(pull * math.exp(2 * 0.25 * -0.25))
    assert circle(vectors, torch.tensor([0, 0, 1]), scale=2).item() == pytest.approx((first + second) / 3)


@pytest.mark.parametrize("margin, scale", [(0.25, 128), (0.4, 10)])
def test_circle_slowly(features, margin, scale):
    unit, total = F.normalize(features), 0.0
    for i, own in enumerate(TARGETS):
        similar = [((unit[i] @ unit[j]).item(), bool(own == TARGETS[j])) for j in range(8) if j != i]
        pull = sum(math.exp(scale * max(1 + margin - s, 0) * (1 - margin - s)) for s, same in similar if same)
        push = sum(math.exp(scale * max(s + margin, 0) * (s - margin)) for s, same in similar if not same)
        total += math.log1p(pull * push)
    assert circle(features, TARGETS, margin, scale).item() == pytest.approx(total / 8, rel=1e-9)


def test_circle_of_anchors_without_pairs_is_zero():
    vectors = torch.randn(3, 4, requires_grad=True)
    for targets in ([0, 1, 2], [0, 0, 0]):
        loss = circle(vectors, torch.tensor(targets))
        loss.backward()
        assert loss.item() == 0 and not vectors.grad.any()


# Contrast


def test_contrast_by_hand():
    # Two of one identity at right angles, one of another opposite to the first and at right angles to the second.
    vectors = torch.tensor([[2.0, 0], [0, 3], [-1, 0]])
    first = math.log(1 + math.exp(-2))  # similarities 0 and -1
    second = math.log(2)  # 0 and 0
    loss = contrast(vectors, torch.tensor([0, 0, 1]), temperature=0.5)
    assert loss.item() == pytest.approx((first + second) / 3)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_contrast_slowly(features, temperature):
    unit, total = F.normalize(features), 0.0
    for i, own in enumerate(TARGETS):
        likeness = {j: math.exp((unit[i] @ unit[j]).item() / temperature) for j in range(8) if j != i}
        logs = [math.log(likeness[j] / sum(likeness.values())) for j in likeness if TARGETS[j] == own]
        total -= sum(logs) / max(len(logs), 1)
    assert contrast(features, TARGETS, temperature).item() == pytest.approx(total / 8, rel=1e-9)


def test_contrast_of_anchors_without_positives_is_zero_and_alone_among_positives_is_the_log_of_their_number():
    vectors = torch.randn(3, 4, requires_grad=True)
    loss = contrast(vectors, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0 and not vectors.grad.any()
    assert contrast(torch.ones(4, 2), torch.zeros(4, dtype=torch.long)).item() == pytest.approx(math.log(3))


# Focal, and smoothing that follows what is known


def test_focal_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])
    assert focal(logits, torch.tensor([1])).item() == pytest.approx(-0.25 * 0.75**2 * math.log(0.25))


def test_focal_without_focus_is_cross_entropy(features):
    targets = TARGETS % 5
    torch.testing.assert_close(focal(features, targets, 1, 0), F.cross_entropy(features, targets))


def test_focal_of_what_is_certain_is_finite():
    logits = torch.tensor([[200.0, 0], [0, 200]], requires_grad=True)
    focal(logits, torch.tensor([0, 0])).backward()
    assert logits.grad.isfinite().all()


def test_adaptive_smoothing_slowly(features):
    targets, total = TARGETS % 5, 0.0
    for row, own in zip(features.softmax(1).tolist(), targets.tolist()):
        share = 0.2 * row[own]
        total -= sum((1 - share if place == own else share / 4) * math.log(p) for place, p in enumerate(row))
    assert smoothed_identity(features, targets, adaptive=0.2).item() == pytest.approx(total / 8)


def test_published_smoothing_spreads_over_the_others():
    logits = torch.tensor([[math.log(2.0), 0, 0]])
    expected = -0.9 * math.log(0.5) - 0.05 * 2 * math.log(0.25)
    assert smoothed_identity(logits, torch.tensor([0]), 0.1).item() == pytest.approx(expected)


# Distances between domains


@pytest.mark.parametrize("distance, bandwidth", [*itertools.product(("squared", "absolute"), (None, 1.5))])
def test_mmd_slowly(features, distance, bandwidth):
    def d(x, y):
        return ((x - y).abs() if distance == "absolute" else (x - y).square()).sum().item()

    groups, found = [features[DOMAINS == domain] for domain in (0, 1, 2)], []
    for first, second in itertools.combinations(groups, 2):
        both = [*first, *second]
        pairs = [d(x, y) for x, y in itertools.permutations(both, 2)]
        middle = bandwidth or sum(pairs) / len(pairs)

        def mean(xs, ys, middle=middle):
            kernels = [
                math.exp(-d(x, y) / (middle * 2**k)) for x in xs for y in ys for k in (-2, -1, 0, 1, 2)
            ]
            return sum(kernels) / (len(xs) * len(ys))

        found.append(mean(first, first) + mean(second, second) - 2 * mean(first, second))
    got = mmd(features, DOMAINS, 3, bandwidth=bandwidth, distance=distance, normalize=False)
    assert got.item() == pytest.approx(sum(found) / 3, abs=1e-12)
    # Numbers of domains that the batch lacks change nothing.
    torch.testing.assert_close(mmd(features, DOMAINS * 2, 9), mmd(features, DOMAINS, 3))


def test_mmd_of_equal_domains_and_of_one_domain_is_zero():
    vectors = torch.randn(3, 4, dtype=torch.float64).repeat(2, 1).requires_grad_()
    assert mmd(vectors, torch.tensor([0, 0, 0, 1, 1, 1]), 2).item() == pytest.approx(0, abs=1e-12)
    loss = mmd(vectors, torch.zeros(6, dtype=torch.int64), 1)
    loss.backward()
    assert loss.item() == 0 and vectors.grad.isfinite().all()


@pytest.mark.parametrize(
    "within, by_channel, logarithm", [*itertools.product(("domain", "batch"), (False, True), (False, True))]
)
def test_deviation_slowly(features, within, by_channel, logarithm):
    groups = [features[DOMAINS == domain] for domain in (0, 1, 2)] if within == "domain" else [features]
    if by_channel:
        groups = [group for group in groups if len(group) > 1]
    spread = [group.std(0).mean() if by_channel else group.std() for group in groups]
    expected = torch.stack([-each.log() if logarithm else -each for each in spread]).mean()
    got = deviation(features, DOMAINS, within, by_channel, logarithm, normalize=False)
    torch.testing.assert_close(got, expected)


def test_deviation_by_hand():
    # One of the four numbers of a domain is 1: variance 1/4, deviation 1/2.
    vectors = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    assert deviation(vectors, torch.tensor([0, 1])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("by_channel", [False, True])
def test_deviation_of_equal_or_single_images_is_finite(by_channel):
    for domains in ([0, 0, 0], [0, 1, 2]):
        vectors = torch.ones(3, 4, requires_grad=True)
        loss = deviation(vectors, torch.tensor(domains), by_channel=by_channel)
        loss.backward()
        assert loss.isfinite() and vectors.grad.isfinite().all()


@pytest.mark.parametrize("distance, normalize", [*itertools.product(("cosine", "euclidean"), (True, False))])
def test_scatter_slowly(features, distance, normalize):
    vectors, means = F.normalize(features) if normalize else features, []
    for domain in (0, 1, 2):
        own = vectors[DOMAINS == domain]
        centre = own.mean(0)
        near = F.cosine_similarity(own, centre[None]) if distance == "cosine" else -(own - centre).norm(dim=1)
        means.append(near.mean())
    got = intra_domain_scatter(features, DOMAINS, distance, normalize)
    torch.testing.assert_close(got, torch.stack(means).mean(), atol=1e-6, rtol=0)


# Triplets


@pytest.mark.parametrize("distance, normalize", [*itertools.product(("euclidean", "cosine"), (True, False))])
def test_soft_triplets_slowly(features, distance, normalize):
    vectors, total, anchors = F.normalize(features) if normalize else features, 0.0, 0
    for i in range(8):

        def far(j, i=i):
            if distance == "cosine":
                return 1 - F.cosine_similarity(vectors[i], vectors[j], dim=0).item()
            return max((vectors[i] - vectors[j]).square().sum().item(), 1e-12) ** 0.5

        positive = [far(j) for j in range(8) if j == i or DOMAINS[j] != DOMAINS[i]]
        negative = [far(j) for j in range(8) if DOMAINS[j] == DOMAINS[i] and TARGETS[j] != TARGETS[i]]
        if not negative:
            continue
        pull = [math.exp(d - max(positive)) for d in positive]
        push = [math.exp(-d) for d in negative]
        gap = sum(w * d for w, d in zip(pull, positive)) / (sum(pull) + 1e-6)
        gap -= sum(w * d for w, d in zip(push, negative)) / (sum(push) + 1e-6)
        total, anchors = total + max(gap + 0.3, 0), anchors + 1
    relations = {"positive": ["other_domain"], "negative": ["same_domain"]}
    got = domain_triplet(
        features, TARGETS, DOMAINS, **relations, mining="soft", distance=distance, normalize=normalize
    )
    assert anchors == 7 and got.item() == pytest.approx(total / anchors, abs=1e-6)


@pytest.mark.parametrize("mining", ["hard", "soft"])
def test_triplets_without_negatives_are_zero(mining):
    vectors = torch.randn(3, 2, requires_grad=True)
    loss = domain_triplet(vectors, torch.zeros(3), torch.arange(3), mining=mining)
    loss.backward()
    assert loss.item() == 0 and not vectors.grad.any()


# Heads


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_heads_without_targets_have_no_margin(name, features):
    head = CLASSIFIERS[name](5, 4, 0.2, 16.0).double()
    expected = features @ head.weight.T
    if name != "linear":
        expected = 16 * F.normalize(features) @ F.normalize(head.weight).T
    torch.testing.assert_close(head(features), expected)


@pytest.mark.parametrize("name", ["arc", "circle", "cosine"])
def test_heads_slowly(name, features):
    margin, scale = 0.2, 16.0
    head = CLASSIFIERS[name](5, 4, margin, scale).double()
    cosines = (F.normalize(features) @ F.normalize(head.weight).T).tolist()
    if name == "arc":
        head.t.fill_(0.4)
        mean = sum(row[own] for row, own in zip(cosines, TARGETS.tolist())) / 8
        t = 0.99 * 0.4 + 0.01 * mean
    expected = []
    for row, own in zip(cosines, TARGETS.tolist()):
        wider = math.cos(math.acos(row[own]) + margin)
        for place, cosine in enumerate(row):
            if name == "cosine":
                value = cosine - margin * (place == own)
            elif name == "circle" and place == own:
                value = max(1 + margin - cosine, 0) * (cosine - 1 + margin)
            elif name == "circle":
                value = max(cosine + margin, 0) * (cosine - margin)
            elif place == own:
                value = wider if math.acos(cosine) < math.pi - margin else cosine - margin * math.sin(margin)
            else:
                value = cosine * (t + cosine) if cosine > wider else cosine
            expected.append(scale * value)
    torch.testing.assert_close(head(features, TARGETS).flatten().tolist(), expected)
    if name == "arc":
        assert head.t.item() == pytest.approx(t) and "t" in head.state_dict()


@pytest.mark.parametrize("name", ["arc", "circle", "cosine"])
def test_heads_have_finite_gradients_on_and_opposite_to_a_class(name):
    head = CLASSIFIERS[name](3, 2)
    vectors = torch.cat((head.weight.detach() * 5, -head.weight.detach())).requires_grad_()
    F.cross_entropy(head(vectors, torch.tensor([0, 1, 0, 1])), torch.tensor([0, 1, 0, 1])).backward()
    assert vectors.grad.isfinite().all() and head.weight.grad.isfinite().all()


def test_a_head_in_half_precision_is_that_in_full():
    torch.manual_seed(0)
    head = ArcMargin(5, 4)
    vectors = torch.randn(6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(vectors).dtype == torch.float32


# Poolings


def test_poolings_by_hand():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    assert maximum(maps).item() == 5
    assert average_and_maximum(maps).item() == 7
    assert clipped_average(maps).item() == 1 and clipped_average(-maps).item() == 0
    assert GeneralizedMean()(maps).item() == pytest.approx((134 / 4) ** (1 / 3))
    assert GeneralizedMean(1.0)(maps).item() == pytest.approx(2)
    assert GeneralizedMean()(torch.zeros(1, 1, 2, 2)).item() == pytest.approx(1e-6)


def test_a_learned_exponent_learns():
    pool = GeneralizedMean(learned=True)
    maps = torch.rand(2, 3, 4, 4).mul(3).requires_grad_()
    pool(maps).sum().backward()
    assert isinstance(pool.power, nn.Parameter) and pool.power.grad.item() > 0
    assert torch.autograd.gradcheck(
        pool.double(), (torch.rand(1, 2, 2, 2, dtype=torch.float64) + 0.5).requires_grad_()
    )


# By name


def test_every_loss_is_found_by_its_name(features):
    given = {"logits": features, "features": features, "targets": TARGETS, "domains": DOMAINS, "count": 3}
    given["centers"] = torch.zeros(4, 5)
    for loss in chosen("method.losses", list(LOSSES), ("global",), {}, centers=True):
        assert loss(**given).isfinite() and loss.weight == 1


def test_weight_options_and_defaults(features):
    given = {"features": features, "targets": TARGETS, "domains": DOMAINS, "count": 3}
    entries = ["triplet", {"name": "triplet", "margin": 2.0, "weight": 0.5}]
    first, second = chosen("x", entries, ("global", "bn"), {"triplet": {"margin": 1.0}})
    assert first(**given).item() == domain_triplet(features, TARGETS, DOMAINS, margin=1.0).item()
    assert second(**given).item() == domain_triplet(features, TARGETS, DOMAINS, margin=2.0).item() / 2
    assert (first.feature, second.feature) == ("global", "global")


@pytest.mark.parametrize(
    "entries, said",
    [
        ([], "method.base_losses is empty"),
        (["triple"], "'triple'"),
        ([{"margin": 1}], "None"),
        ([{"name": "triplet", "mining": "medium"}], "hard or soft"),
        ([{"name": "triplet", "margins": 1}], "no option 'margins'.*margin, mining"),
        ([{"name": "triplet", "positive": ["same_camera"]}], "unknown relation 'same_camera'"),
        ([{"name": "triplet", "distance": "city"}], "euclidean or cosine"),
        ([{"name": "scatter", "distance": "city"}], "cosine or euclidean"),
        ([{"name": "circle", "feature": "neck"}], "'neck'.*global or bn"),
        ([{"name": "contrast", "temperature": 0}], "temperature is 0"),
        ([{"name": "mmd", "ratio": "two"}], "mmd does not take these options"),
        ([{"name": "mmd", "distance": "city"}], "squared or absolute"),
        ([{"name": "deviation", "within": "camera"}], "domain or batch"),
    ],
)
def test_wrong_lists_of_losses_are_explained(entries, said):
    with pytest.raises(UserError, match=said):
        chosen("method.base_losses", entries, ("global", "bn"), {})


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"cross_entropy", "focal", "circle"}))
def test_gradients(name, features):
    entry = {"name": name, "bandwidth": 1.0} if name == "mmd" else name
    (loss,) = chosen("x", [entry], ("global",), {}, centers=True)
    given = {
        "targets": TARGETS,
        "domains": DOMAINS,
        "count": 3,
        "centers": torch.eye(4, 5, dtype=torch.float64),
    }
    assert torch.autograd.gradcheck(lambda v: loss(features=v, **given), features.requires_grad_(), atol=1e-6)
