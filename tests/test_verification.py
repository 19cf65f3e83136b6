"""Accepting pairs: rates, curves and histograms against all pairs kept and sorted, with bounded memory too."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from test_ranking import random_case

from crossreid.evaluation.verification import (
    Sample,
    accepted,
    curve,
    histogram,
    histogram_edges,
    verification_rates,
)
from crossreid.ops import ranking


def test_verification_by_hand():
    genuine, impostor = [0.1, 0.2, 0.9], np.linspace(0.15, 1.15, 100)
    rates = verification_rates(genuine, impostor, (0.001, 0.01, 0.1))
    assert rates["TPR@FAR=0.001"] == pytest.approx(1 / 3)
    assert rates["TPR@FAR=0.01"] == pytest.approx(1 / 3)
    assert rates["TPR@FAR=0.1"] == pytest.approx(2 / 3)
    assert rates["legacy TPR@FPR=0.001"] == 0


@pytest.mark.parametrize("levels", [None, 40])
def test_legacy_verification_equals_scikit_learn(levels):
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(8):
        rng = np.random.default_rng(seed)
        genuine, impostor = (
            rng.normal(0.5, 0.2, 130).astype(np.float32),
            rng.normal(1, 0.2, 3000).astype(np.float32),
        )
        if levels:
            genuine, impostor = np.round(genuine * levels), np.round(impostor * levels)
        found = verification_rates(genuine, impostor, (1e-4, 1e-3, 1e-2, 0.1, 0.5))
        labels = np.r_[np.zeros(130), np.ones(3000)]
        false_positive, true_positive, _ = metrics.roc_curve(labels, np.r_[genuine, impostor])
        for rate in (1e-4, 1e-3, 1e-2, 0.1, 0.5):
            expected = true_positive[np.argmin(np.abs(false_positive - rate))]
            assert found[f"legacy TPR@FPR={rate:g}"] == expected


def test_verification_keeps_only_allowed_pairs():
    distance, query, gallery, query_camera, gallery_camera = random_case(8)
    genuine, impostor = Sample(), Sample()

    class Listener:
        def offer(self, block):
            for sample, values in zip((genuine, impostor), block.pairs(block.distance)):
                sample.add(values)

    ranking.evaluate_distance(
        distance, query, gallery, query_camera, gallery_camera, listeners=[Listener()], block=9
    )
    same = query[:, None] == gallery
    allowed = ~(same & (query_camera[:, None] == gallery_camera))
    expected = verification_rates(distance[same & allowed], distance[~same])
    assert verification_rates(genuine, impostor) == expected


def test_equal_distances_and_negative_ones():
    genuine, impostor = Sample([-0.5, 0.0, 0.5]), Sample([0.0, 0.25, 0.25])
    # A third of the impostors may be accepted below 1/4, as two thirds may.
    thresholds, true = accepted(genuine, impostor, (1 / 3, 2 / 3, 1.0))
    assert thresholds.tolist() == [0.25, 0.25, np.inf] and true.tolist() == [2 / 3, 2 / 3, 1]
    found = curve([(genuine, impostor)])
    assert found["threshold"][-1] == 0.5 and found["false_positive"][0] >= 1 / 3
    edges = histogram_edges([genuine, impostor], [[genuine], [impostor]])
    for sample in (genuine, impostor):
        counts = histogram(sample, edges)
        assert (
            counts.tolist()
            == np.histogram(sample.distinct().repeat(sample_counts(sample)), edges)[0].tolist()
        )


def sample_counts(sample):
    values = sample.distinct()
    return sample.within(values) - sample.nearer(values)


@pytest.mark.parametrize("ties", [False, True])
def test_a_bounded_sample_is_exact_where_false_positives_are_rare(ties):
    rng = np.random.default_rng(0)
    values = rng.normal(0.8, 0.1, 400_000).astype("f4")
    values = np.round(values, 3) if ties else values
    whole, bounded = Sample(values), Sample(limit=2**16, exact=2**14)
    for part in np.array_split(values, 23):
        bounded.add(part)
    assert bounded.total == whole.total == 400_000 and len(bounded.distinct()) < 2**16
    few = np.array([0, 1, 400, 4000, 4001])
    np.testing.assert_array_equal(bounded.at(few), whole.at(few))
    many = np.array([20_000, 200_000, 399_999])
    np.testing.assert_allclose(bounded.at(many), whole.at(many), rtol=2**-11)
    threshold = whole.at(np.array([4000, 200_000]))
    np.testing.assert_allclose(bounded.nearer(threshold), whole.nearer(threshold), atol=2000)
    both = bounded.merged(whole)
    assert both.total == 800_000 and both.at(0) == whole.at(0)


def test_trials_are_merged_as_if_they_were_one():
    rng = np.random.default_rng(1)
    parts = [rng.random(500).astype("f4") for _ in range(3)]
    merged = Sample(parts[0]).merged(Sample(parts[1])).merged(Sample(parts[2]))
    whole = Sample(np.concatenate(parts))
    assert merged.total == 1500
    np.testing.assert_array_equal(merged.at(np.arange(1500)), whole.at(np.arange(1500)))


def test_neither_order_nor_threads_change_a_bounded_sample():
    rng = np.random.default_rng(3)
    values = np.round(rng.normal(1, 0.3, 300_000), 3).astype(np.float32)
    parts = np.array_split(values, 37)
    one, other = (Sample(limit=2**16, exact=2**14) for _ in range(2))
    for part in parts:
        one.add(part)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(other.add, parts[::-1]))
    assert one.total == other.total == len(values)
    np.testing.assert_array_equal(one.distinct(), other.distinct())
    np.testing.assert_array_equal(one.within(one.distinct()), other.within(one.distinct()))
    rare = np.sort(values)[: 2**13]
    np.testing.assert_array_equal(one.nearer(rare), np.searchsorted(np.sort(values), rare))
