"""Tracklets of one person are found again under constraints."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from crossreid.evaluation.clusters import b_cubed, identification, pairwise
from crossreid.ops.linking import average_linkage, forbidden


def noisy(count, identities, noise, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities, 32))
    vectors = centres[rng.integers(0, identities, count)] + noise * rng.standard_normal((count, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def same_partition(one, other):
    pairs = set(zip(one.tolist(), other.tolist()))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("constrained", [False, True])
def test_it_is_the_average_linkage_of_scipy(seed, constrained):
    rng = np.random.default_rng(seed)
    vectors = noisy(120, 25, 0.6, seed)
    camera = rng.integers(0, 3, 120)
    start = rng.uniform(0, 300, 120)
    end = start + rng.uniform(5, 30, 120)
    if not constrained:
        start = end = np.full(120, np.nan)
    distance = squareform(pdist(vectors.astype(np.float64), "cosine"))
    least = np.where(np.eye(3, dtype=bool), 0.0, -np.inf)
    never = forbidden((camera, start, end), (camera, start, end), least)
    np.fill_diagonal(never, False)
    assert never.any() == constrained
    distance[never] = 1e9  # an average with it is far above every threshold
    for threshold in (0.25, 0.45, 0.7):
        expected = fcluster(linkage(squareform(distance), "average"), threshold, "distance")
        found = average_linkage(vectors, threshold, camera, start, end, np.full(120, -1))
        assert same_partition(found, expected)
        assert 1 < len(set(found.tolist())) < 120


def test_two_at_once_before_one_camera_are_two_people():
    vectors = np.tile(np.eye(4, dtype=np.float32)[0], (4, 1))
    camera, start = np.array([0, 0, 1, 0]), np.array([0.0, 5.0, 5.0, 10.0])
    end = np.array([10.0, 15.0, 15.0, 20.0])  # the last begins where the first ends
    found = average_linkage(vectors, 0.5, camera, start, end, np.full(4, -1))
    assert found[0] != found[1] and found[1] != found[3]
    # Nobody gets from one camera to the other in less than half a minute.
    least = np.array([[0.0, 30.0], [30.0, 0.0]])
    apart = average_linkage(vectors, 0.5, camera, start, end, np.full(4, -1), least)
    assert apart[2] not in apart[[0, 1, 3]]
    later = start + np.array([0, 0, 60.0, 0])
    assert average_linkage(vectors, 0.5, camera, later, later + 10, np.full(4, -1), least)[2] == 0


def test_what_is_known_stays_and_is_joined():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 0]]
    nothing = np.full(5, np.nan)
    known = np.array([7, 3, -1, 7, 3])
    found = average_linkage(vectors, 0.9, np.zeros(5, int), nothing, nothing, known)
    assert found[0] == found[3] and found[1] == found[4] and found[0] != found[1]
    assert found[2] == found[1]  # nearer on average to those two


@pytest.mark.slow
def test_ten_thousand_tracklets_take_minutes_and_little_memory():
    import tracemalloc

    rng = np.random.default_rng(0)
    count, identities = 10000, 1500
    truth = rng.integers(0, identities, count)
    vectors = rng.standard_normal((identities, 64))[truth] + 0.45 * rng.standard_normal((count, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    start = rng.uniform(0, 1e6, count)
    tracemalloc.start()
    found = average_linkage(vectors, 0.5, rng.integers(0, 8, count), start, start + 10, np.full(count, -1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400e6  # all pairs in float64 would be 800 MB
    assert same_partition(found, truth)


def test_measures_of_clusters_by_hand():
    truth, found = np.array([1, 1, 1, 2, 2]), np.array([5, 5, 6, 6, 7])
    # Together rightly: the first two. Put together: two pairs; of one person: four.
    assert pairwise(truth, found) == {"precision": 1 / 2, "recall": 1 / 4, "f1": pytest.approx(1 / 3)}
    cubed = b_cubed(truth, found)
    assert cubed["precision"] == pytest.approx((1 + 1 + 1 / 2 + 1 / 2 + 1) / 5)
    assert cubed["recall"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 / 2 + 1 / 2) / 5)
    # Person 1 is 5, and person 2 is 7 with ten frames rather than 6 with one.
    frames = np.array([2, 3, 4, 1, 10])
    assert identification(truth, found, frames)["f1"] == pytest.approx((2 + 3 + 10) / 20)
    alone = np.arange(5)
    assert pairwise(truth, alone) == {"precision": 1.0, "recall": 0.0, "f1": 0.0}
    assert b_cubed(truth, truth)["f1"] == identification(truth, truth, frames)["f1"] == 1.0
