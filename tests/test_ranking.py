import numpy as np
import pytest
import torch

from crossreid.ops import ranking, ranks
from crossreid.protocols.results import mean_scores
from crossreid.records import UserError

GALLERY = np.array([1, 1, 2, 2, 3, 3]), np.array([1, 2, 1, 4, 2, 5])
DISTANCE = np.array(
    [
        [0.50, 0.10, 0.20, 0.30, 0.05, 0.60],
        [0.40, 0.35, 0.10, 0.70, 0.20, 0.60],
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    ]
)
QUERY = np.array([1, 2, 4])


def plain(distance, query_ids, gallery_ids, query_key, gallery_key, by_identity, ranks):
    """Stable sort of every row, in plain loops."""
    curves, precisions, penalties = [], [], []
    for row, identity, key in zip(distance, query_ids, query_key):
        order = [item for item in np.argsort(row, kind="stable") if gallery_key[item] != key]
        sequence = [gallery_ids[item] for item in order]
        hits = [at + 1 for at, found in enumerate(sequence) if found == identity]
        if not hits:
            continue
        precisions.append(np.mean([(k + 1) / rank for k, rank in enumerate(hits)]))
        penalties.append(len(hits) / hits[-1])
        listed = list(dict.fromkeys(sequence)) if by_identity else sequence
        curves.append([float(listed.index(identity) < rank) for rank in range(1, ranks + 1)])
    return np.mean(curves, axis=0), np.mean(precisions), np.mean(penalties), len(curves)


def random_case(seed, queries=60, gallery=90, identities=12, cameras=4, ties=True):
    rng = np.random.default_rng(seed)
    distance = rng.integers(0, 25, (queries, gallery)) if ties else rng.random((queries, gallery))
    return (
        distance.astype(np.float32),
        rng.integers(0, identities + 3, queries),
        rng.integers(0, identities, gallery),
        rng.integers(0, cameras, queries),
        rng.integers(0, cameras, gallery),
    )


def test_worked_example_same_place():
    place = np.array([3, 6, 6]), GALLERY[1]
    place = np.where(place[0] == 3, 2, place[0]), place[1]
    scores = ranking.evaluate_distance(DISTANCE, QUERY, GALLERY[0], excluded=place, cmc="identity", ranks=4)
    assert scores.cmc == pytest.approx([0.5, 1, 1, 1])
    assert (scores.mean_ap, scores.mean_inp) == pytest.approx((0.5, 1 / 3))
    assert (scores.valid, scores.queries) == (2, 3)
    assert np.isnan(scores.per_query["average_precision"][2])
    assert scores.per_query["first_rank"][:2] == pytest.approx([3, 1])
    assert scores.per_query["first_identity_rank"][:2] == pytest.approx([2, 1])


def test_worked_example_without_rule_and_with_cameras():
    scores = ranking.evaluate_distance(DISTANCE, QUERY, GALLERY[0], ranks=6)
    assert scores.cmc == pytest.approx([0.5, 1, 1, 1, 1, 1])
    assert (scores.mean_ap, scores.mean_inp) == pytest.approx((0.558333, 0.366667), abs=1e-6)
    scores = ranking.evaluate_distance(
        DISTANCE, QUERY, GALLERY[0], np.array([1, 4, 6]), GALLERY[1], cmc="identity", ranks=3
    )
    assert scores.cmc == pytest.approx([0.5, 1, 1])
    assert (scores.mean_ap, scores.mean_inp) == pytest.approx((0.75, 0.75))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("rule", ["same_camera", "place", None])
@pytest.mark.parametrize("cmc", ["image", "identity"])
def test_equals_plain_stable_sort(ties, rule, cmc):
    distance, query, gallery, query_camera, gallery_camera = random_case(3, ties=ties)
    if rule == "same_camera":
        keys = query * 100 + query_camera, gallery * 100 + gallery_camera
    elif rule == "place":
        keys = rule_keys = query_camera, gallery_camera
    else:
        keys = np.full(len(query), -1), np.full(len(gallery), -2)
    expected = plain(distance, query, gallery, *keys, cmc == "identity", 20)
    given = rule_keys if rule == "place" else rule
    options = {"excluded": given, "cmc": cmc, "ranks": 20, "block": 7}
    scores = ranking.evaluate_distance(distance, query, gallery, query_camera, gallery_camera, **options)
    assert scores.cmc == pytest.approx(expected[0], abs=1e-9)
    assert (scores.mean_ap, scores.mean_inp, scores.valid) == pytest.approx(expected[1:], abs=1e-9)
    streamed = ranking.evaluate_blocks(
        lambda start, stop: torch.from_numpy(distance[start:stop]),
        query, gallery, query_camera, gallery_camera, **options,
    )  # fmt: skip
    assert streamed.mean_ap == scores.mean_ap


@pytest.mark.parametrize("by_identity", [True, False])
def test_torch_path_equals_compiled_path(by_identity):
    distance, query, gallery, query_camera, gallery_camera = random_case(4)
    task = ranks.Task(
        query,
        gallery,
        query_camera,
        gallery_camera,
        "same_camera",
        "identity" if by_identity else "image",
        20,
    )
    sorted_ = ranks.rank_sorted(
        torch.from_numpy(distance), task.query_identity, task.query_key, task.gallery_identity,
        task.gallery_key, by_identity,
    )  # fmt: skip
    task.add(0, distance.copy(), (), 0)
    np.testing.assert_allclose(task.found, sorted_, atol=1e-12)


def test_very_many_matches_take_the_sort():
    distance, query, gallery, *_ = random_case(5, queries=6, gallery=3000, identities=2)
    key = np.full(len(query), -1), np.full(len(gallery), -2)
    expected = plain(distance, query, gallery, *key, False, 20)
    scores = ranking.evaluate_distance(distance, query, gallery, ranks=20)
    assert (scores.mean_ap, scores.mean_inp) == pytest.approx(expected[1:3], abs=1e-9)


@pytest.mark.parametrize("metric", ranking.METRICS)
def test_features_equal_their_distances(metric):
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(20, 8)), rng.normal(size=(50, 8))
    ids = rng.integers(0, 5, 20), rng.integers(0, 5, 50)
    if metric == "euclidean":
        distance = np.linalg.norm(query[:, None] - gallery[None], axis=2)
    else:
        unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (query, gallery)]
        distance = (1 - unit[0] @ unit[1].T) * (2 if metric == "squared_euclidean_unit" else 1)
    np.testing.assert_allclose(ranking.blocks(query, gallery, metric)(3, 9), distance[3:9], atol=1e-6)
    for dtype in (np.float32, np.float64):
        scores = ranking.evaluate(query.astype(dtype), gallery.astype(dtype), *ids, metric=metric, block=6)
        assert scores.mean_ap == pytest.approx(ranking.evaluate_distance(distance, *ids).mean_ap, abs=1e-6)


def test_input_is_not_changed():
    distance, query, gallery, query_camera, gallery_camera = random_case(6)
    before = distance.copy()
    ranking.evaluate_distance(distance, query, gallery, query_camera, gallery_camera)
    ranking.evaluate_distance(torch.from_numpy(distance), query, gallery, query_camera, gallery_camera)
    ranking.evaluate_blocks(lambda a, b: distance[a:b], query, gallery, query_camera, gallery_camera)
    assert (distance == before).all()


def test_ranked_is_the_order_of_the_metrics():
    distance, query, gallery, query_camera, gallery_camera = random_case(7)
    order = ranking.ranked(distance, query, gallery, query_camera, gallery_camera, top=90)
    scores = ranking.evaluate_distance(distance, query, gallery, query_camera, gallery_camera)
    for row, items in enumerate(order):
        items = items[items >= 0]
        assert not ((gallery[items] == query[row]) & (gallery_camera[items] == query_camera[row])).any()
        first = np.flatnonzero(gallery[items] == query[row])
        rank = scores.per_query["first_rank"][row]
        assert np.isnan(rank) if not len(first) else rank == first[0] + 1
    short = ranking.ranked(distance, query, gallery, query_camera, gallery_camera, top=5)
    assert (short == order[:, :5]).all()
    plainly = ranking.ranked(lambda start, stop: distance[start:stop], queries=60, top=4)
    assert (plainly == np.argsort(distance, axis=1, kind="stable")[:, :4]).all()


def test_curve_continues_and_single_item():
    scores = ranking.evaluate_distance([[0.3, 0.1]], [7], [7, 8], ranks=5)
    assert scores.cmc == pytest.approx([0, 1, 1, 1, 1])


def test_errors_say_what_to_do():
    with pytest.raises(
        UserError, match=r"none of the 2 .*cameras are 1 .*same-camera rule off.*distinct cameras"
    ):
        ranking.evaluate_distance(np.zeros((2, 2)), [1, 2], [1, 2], [1, 1], [1, 1])
    with pytest.raises(UserError, match="number their identities alike"):
        ranking.evaluate_distance(np.zeros((2, 2)), [1, 2], [3, 4])
    bad = np.zeros((3, 4), np.float32)
    bad[1, 2] = np.nan
    with pytest.raises(UserError, match="query 1 to gallery item 2"):
        ranking.evaluate_distance(bad, [1, 1, 1], [1, 1, 1, 1])
    with pytest.raises(UserError, match="query features of row 1"):
        ranking.evaluate(bad, np.zeros((2, 4), np.float32), [1, 1, 1], [1, 1])
    with pytest.raises(UserError, match="2 query and 2 gallery identities"):
        ranking.evaluate_distance(np.zeros((3, 4)), [1, 2], [1, 2])
    with pytest.raises(UserError, match="cosine, euclidean"):
        ranking.evaluate(bad, bad, [1] * 3, [1] * 3, metric="cos")
    with pytest.raises(UserError, match="at least one of each"):
        ranking.evaluate(np.zeros((0, 4)), np.zeros((3, 4)), [], [1, 1, 1])


def test_trials_share_one_pass():
    rng = np.random.default_rng(1)
    query, gallery = rng.normal(size=(30, 6)), rng.normal(size=(80, 6))
    query_ids, gallery_ids = rng.integers(0, 6, 30), rng.integers(0, 6, 80)
    cameras = rng.integers(0, 3, 30), rng.integers(0, 3, 80)
    trials, alone = [], []
    for _ in range(3):
        rows = rng.choice(80, 40, replace=False)
        rule = cameras[0], cameras[1][rows]
        trials.append((rows, rule))
        alone.append(
            ranking.evaluate(
                query, gallery[rows], query_ids, gallery_ids[rows], excluded=rule, cmc="identity"
            )
        )
    rows = ranking.blocks(query, gallery)
    together = ranking.evaluate_trials(rows, query_ids, gallery_ids, trials, cmc="identity", block=7)
    assert [scores.mean_ap for scores in together] == pytest.approx([scores.mean_ap for scores in alone])
    mean = mean_scores(together)
    assert mean.mean_ap == pytest.approx(np.mean([scores.mean_ap for scores in alone]))
    assert len(mean.per_trial) == 3 and mean.queries == 30


def test_the_mean_over_queries_counts_every_query_alike():
    """Both trials offer the person of the first query, at rank 1; one offers that of the second, at rank 2."""
    distance = np.array([[0.1, 0.5, 0.9], [0.2, 0.3, 0.9]])
    trials = [ranking.evaluate_distance(distance, [1, 2], ids, ranks=3) for ids in ([1, 3, 4], [1, 2, 4])]
    by_query, by_trial = mean_scores(trials, "queries"), mean_scores(trials)
    assert by_query.cmc.tolist() == [0.5, 1, 1] and (by_query.mean_ap, by_query.mean_inp) == (0.75, 0.75)
    assert by_trial.cmc.tolist() == [0.75, 1, 1] and (by_trial.mean_ap, by_trial.mean_inp) == (0.875, 0.875)
    assert len(by_query.per_trial) == 2 and (by_query.valid, by_query.queries) == (2, 2)


def test_the_distances_given_are_left_as_they_are():
    rng = np.random.default_rng(3)
    distance, ids = rng.random((9, 20)), (np.arange(9) % 4, np.arange(20) % 4)
    before = distance.copy()
    rule = np.arange(9) % 3, np.arange(20) % 3
    scores = ranking.evaluate_distance(distance, *ids, excluded=rule)
    blockwise = ranking.evaluate_blocks(lambda start, stop: distance[start:stop], *ids, excluded=rule)
    trial = [(np.arange(20), rule)]
    (trials,) = ranking.evaluate_trials(lambda start, stop: distance[start:stop], *ids, trial)
    assert scores.mean_ap == blockwise.mean_ap == trials.mean_ap
    np.testing.assert_array_equal(distance, before)


def test_many_positives_are_counted_among_the_nearer_items_alone():
    """From five positives on the row is first cut to what is no farther than the last of them."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        distance = rng.integers(0, 6, (5, 60)).astype(np.float32)
        ids = rng.integers(0, 3, 5), rng.integers(0, 3, 60)
        keys = np.zeros(5, int), np.ones(60, int)
        _, precision, penalty, _ = plain(distance, *ids, *keys, False, 50)
        scores = ranking.evaluate_distance(distance, *ids)
        assert scores.mean_ap == pytest.approx(precision) and scores.mean_inp == pytest.approx(penalty)


def test_one_query_and_an_identity_without_a_match():
    one = ranking.evaluate_distance([[0.3, 0.2, 0.1]], [1], [1, 1, 2])
    assert (one.valid, one.queries) == (1, 1) and one.mean_ap == pytest.approx((1 / 2 + 2 / 3) / 2)
    lost = ranking.evaluate_distance([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]], [1, 7], [1, 1, 2])
    assert (lost.valid, lost.queries) == (1, 2) and lost.mean_ap == one.mean_ap
    assert np.isnan(lost.per_query["average_precision"]).tolist() == [False, True]


def test_a_bar_is_shown_on_a_terminal_only(capsys, monkeypatch):
    ranking.evaluate_distance([[0.3, 0.2]], [1], [1, 1], progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ranking.evaluate_distance([[0.3, 0.2]], [1], [1, 1], progress=True)
    assert "ranking" in capsys.readouterr().err
    ranking.evaluate_distance([[0.3, 0.2]], [1], [1, 1])
    assert capsys.readouterr().err == ""


def test_the_number_of_workers_changes_nothing():
    rng = np.random.default_rng(0)
    query, gallery = (
        rng.normal(size=(70, 24)).astype(np.float32),
        rng.normal(size=(900, 24)).astype(np.float32),
    )
    people = [rng.integers(0, 30, count) for count in (70, 900)] + [
        rng.integers(0, 4, count) for count in (70, 900)
    ]
    heard: dict = {}

    class Listener:
        def __init__(self, workers):
            self.blocks = heard.setdefault(workers, {})

        def offer(self, block):
            self.blocks[block.start] = block.distance.copy()

    found = [
        ranking.evaluate(query, gallery, *people, block=8, workers=workers, listeners=[Listener(workers)])
        for workers in (1, 2, 5)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other.cmc, found[0].cmc)
        for name, values in found[0].per_query.items():
            np.testing.assert_array_equal(other.per_query[name], values)
    for workers in (2, 5):
        assert sorted(heard[workers]) == list(range(0, 70, 8))
        for start, distance in heard[1].items():
            np.testing.assert_array_equal(heard[workers][start], distance)
    assert found[0].mean_ap == pytest.approx(ranking.evaluate(query, gallery, *people).mean_ap)


def test_a_worker_names_the_first_distance_that_is_not_finite():
    rows = ranking.Rows(
        (40, 9), lambda start, stop: torch.full((stop - start, 9), torch.nan if start > 7 else 1.0)
    )
    with pytest.raises(UserError, match="query 8 to gallery item 0"):
        ranking.evaluate_blocks(rows, np.zeros(40), np.zeros(9), block=4, workers=3)
