"""Thresholds and operating points against counting, and what is said when nothing is known."""

import json

import numpy as np
import pytest
import torch

from crossreid.evaluation import EvaluateConfig, ExpandConfig, score_subsets
from crossreid.evaluation.entry import Results
from crossreid.evaluation.thresholds import known, stats_at, strictest, thresholds
from crossreid.evaluation.verification import Sample, operating_points
from crossreid.records import Embedding, Image, Metric, Trial, UserError


def of(genuine, impostor, scale=1.0):
    return operating_points(Sample(genuine), Sample(impostor), scale)


def point(name, modalities, genuine, impostor):
    return {"subset": name, "modalities": modalities, **of(genuine, impostor)}


def test_by_hand():
    points = [point("all", ["visible", "visible"], [0.1, 0.3], [0.2, 0.5, 0.9, 1.0])]
    for distance, true, false in ((0.05, 0, 0), (0.1, 0.5, 0), (0.2, 0.5, 0.25), (0.3, 1, 0.25), (2, 1, 1)):
        (found,) = stats_at(points, distance)
        assert found.subset == "all" and (found.genuine, found.impostor) == (2, 4)
        assert found.true_positive == pytest.approx(true, abs=0.02)
        assert found.false_positive == pytest.approx(false, abs=0.02)


def test_against_counting_with_ties():
    rng = np.random.default_rng(0)
    for values in (rng.random(20_000) ** 2 * 2, rng.integers(0, 30, 5000) / 20, np.full(7, 0.4)):
        points = json.loads(json.dumps([point("r", ["both", "both"], values, values)]))
        for distance in (*rng.random(30) * 2, *rng.choice(values, 30), 0.4):
            (found,) = stats_at(points, distance)
            counted = np.mean(values <= distance + 1e-7)
            # Interpolation is exact at the kept shares, which lie at most one percent apart.
            assert found.true_positive == found.false_positive == pytest.approx(counted, abs=0.0101)
    rare = np.linspace(0, 1, 100_001)
    assert stats_at([point("r", ["both", "both"], rare, rare)], 1e-4)[0].false_positive == pytest.approx(
        1e-4, rel=0.15
    )


def test_nothing_is_made_of_nothing():
    for wrong in ([np.nan], [np.inf]):
        with pytest.raises(ValueError, match="finite"):
            of(wrong, [1.0])


def test_a_threshold_keeps_its_rate_and_says_what_it_accepts():
    rng = np.random.default_rng(2)
    genuine = rng.normal(0.4, 0.15, 3000).clip(0).astype("f4")
    impostor = rng.normal(0.9, 0.2, 50_000).clip(0).astype("f4")
    points = [point("all", ["visible", "visible"], genuine, impostor)]
    for rate in (1e-4, 1e-3, 1e-2, 0.1, 0.034):
        (found,) = thresholds(points, rate)
        assert np.mean(impostor < found.distance) <= found.false_positive <= rate
        assert found.true_positive == pytest.approx(np.mean(genuine < found.distance), abs=1e-3)
        assert found.accepts(found.distance - 1e-6) and not found.accepts(found.distance)
    assert (found.genuine, found.impostor, found.subset) == (3000, 50_000, "all")
    with pytest.raises(UserError, match=r"50000 pairs of two people, which can tell rates from 2.5e-05 on"):
        thresholds(points, 1e-6)
    for wrong in (0, 1.5, -1):
        with pytest.raises(UserError, match="a share above 0 and up to 1"):
            thresholds(points, wrong)


def test_the_strictest_subset_decides():
    points = [
        point(name, ["visible", "visible"], [0.1, 0.2], np.linspace(low, 1.5, 200))
        for name, low in (("near", 0.3), ("far", 0.7))
    ]
    assert strictest(points, 0.01, None, "").subset == "near"
    assert strictest(points, 0.01, ("visible", "visible"), "").subset == "near"
    with pytest.raises(UserError, match="no threshold is known: nowhere"):
        strictest(points, 0.01, ("infrared", "infrared"), "nowhere")


def brute(vectors, identity, trials, subset):
    genuine, impostor = [], []
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for trial in trials:
        if trial.subset != subset:
            continue
        for q, i in enumerate(trial.query):
            for g, j in enumerate(trial.gallery):
                if trial.excluded is None or trial.excluded[0][q] != trial.excluded[1][g]:
                    (genuine if identity[i] == identity[j] else impostor).append(1 - unit[i] @ unit[j])
    return genuine, impostor


class Given:
    cmc, average = "image", "trials"

    def __init__(self, identity, camera, modality, trials):
        self.images = [
            Image(f"{row}.jpg", int(i), int(c), str(m))
            for row, (i, c, m) in enumerate(zip(identity, camera, modality))
        ]
        self._trials = trials

    def trials(self):
        return self._trials


def example(count=60):
    rng = np.random.default_rng(3)
    identity, camera = rng.integers(0, 8, count), rng.integers(1, 4, count)
    modality = np.array(["visible", "infrared"])[rng.integers(0, 2, count)]
    vectors = np.eye(8)[identity] * 2 + rng.normal(size=(count, 8))
    return vectors, identity, camera, modality


def trials_of(identity, camera, modality):
    """Everyone against everyone of either modality, but not a person's images by one camera."""
    rule = identity * 10 + camera
    sides = {kind: np.flatnonzero(modality == kind) for kind in ("visible", "infrared")}
    subsets = {"visible": ("visible", "visible"), "across": ("visible", "infrared")}
    return [
        Trial(name, sides[one], sides[two], (rule[sides[one]], rule[sides[two]]))
        for name, (one, two) in subsets.items()
    ]


def measured(vectors, protocol, metric="cosine", **settings):
    embedding = Embedding(torch.from_numpy(vectors).float())
    config = EvaluateConfig(**settings)
    return score_subsets(protocol, embedding, Metric(metric), config, measures=("verification",))


@pytest.mark.parametrize("metric", ["cosine", "squared_euclidean_unit", "euclidean", "expanded"])
def test_operating_points_against_a_slow_recomputation(metric):
    """They are about 1 - cosine of two images, whatever the method itself ranks by."""
    vectors, identity, camera, modality = example()
    trials = trials_of(identity, camera, modality)
    settings = {"expand": ExpandConfig(k=5)} if metric == "expanded" else {}
    metric = "cosine" if settings else metric
    found = measured(vectors, Given(identity, camera, modality, trials), metric, **settings)
    assert set(found) == {"visible", "across"}
    for subset, scores in found.items():
        (points,) = scores.results["operating_points"]
        genuine, impostor = brute(vectors, identity, trials, subset)
        assert (points["genuine"]["pairs"], points["impostor"]["pairs"]) == (len(genuine), len(impostor))
        (stats,) = stats_at([points], 0.5)
        assert stats.true_positive == pytest.approx(np.mean(np.array(genuine) <= 0.5), abs=0.02)
        assert stats.false_positive == pytest.approx(np.mean(np.array(impostor) <= 0.5), abs=0.02)
        (limit,) = thresholds([points], 0.1)
        assert np.mean(np.array(impostor) < limit.distance - 1e-6) <= 0.1
        assert limit.true_positive == pytest.approx(np.mean(np.array(genuine) < limit.distance), abs=0.02)
    assert points["modalities"] == ["visible", "infrared"]
    results = Results(found)
    assert results.threshold(0.1).distance == min(
        results.threshold(0.1, subset).distance for subset in results
    )
    with pytest.raises(UserError, match="choose one of visible, across"):
        results.threshold(0.1, "nowhere")
    assert "Rank-1" in repr(results)


def test_trials_of_a_subset_are_pooled():
    vectors, identity, camera, modality = example(200)
    everything = np.arange(200)
    whole = [Trial("all", everything, everything)]
    twice = [Trial("all", everything[:100], everything), Trial("all", everything[100:], everything)]
    one, two = (
        measured(vectors, Given(identity, camera, modality, trials))["all"].results["operating_points"]
        for trials in (whole, twice)
    )
    assert one == two and one[0]["modalities"] == ["both", "both"]


def test_subsets_of_other_modalities_are_left_out():
    points = [
        point(name, modalities, [0.1], [0.9])
        for name, modalities in (
            ("cross", ["infrared", "visible"]),
            ("v", ["visible", "visible"]),
            ("mixed", ["both", "both"]),
        )
    ]
    subsets = {pair: [each.subset for each in stats_at(points, 0.5, pair)] for pair in KINDS}
    assert subsets == {
        ("visible", "visible"): ["v", "mixed"],
        ("visible", "infrared"): ["cross", "mixed"],
        ("infrared", "visible"): ["cross", "mixed"],
        ("infrared", "infrared"): ["mixed"],
    }


KINDS = [(a, b) for a in ("visible", "infrared") for b in ("visible", "infrared")]


def test_reading_says_what_is_known(tmp_path):
    model = tmp_path / "last.pt"
    found, why = known(model)
    assert found == [] and "no evaluation.json lies beside last.pt" in why
    evaluation = {"checkpoint": "best.pt"}

    def write(**more):
        (tmp_path / "evaluation.json").write_text(json.dumps(evaluation | more), encoding="utf-8")

    write()
    assert "whose checkpoint is best.pt" in known(model)[1]
    write(checkpoint="last.pt")
    assert "says nothing of distances" in known(model)[1]
    points = [point("all", ["visible", "visible"], [0.1], [0.9])]
    write(checkpoint="last.pt", operating_points=points, fingerprint="aa")
    assert known(model, "aa") == (points, str(tmp_path / "evaluation.json"))
    assert known(model)[0] == points
    assert "whose fingerprint is aa" in known(model, "bb")[1]
    write(checkpoint="last.pt", operating_points=points, feature="global")
    assert known(model, "bb", "global")[0] == points
    assert "whose feature is global" in known(model, "bb", "bn")[1]
    for broken in ("{", "[]", '{"checkpoint": "last.pt", "operating_points": [{}]}'):
        (tmp_path / "evaluation.json").write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match="evaluate the model with"):
            known(model)
    write(checkpoint="last.pt", operating_points=points, protocol={"provenance": "rendered people"})
    found, source = known(model)
    assert source.endswith("evaluation.json, on rendered people")
    assert found == [point | {"provenance": "rendered people"} for point in points]
    exported = tmp_path / "exported"
    exported.mkdir()
    assert "no model.json" in known(exported)[1]
    (exported / "model.json").write_text(json.dumps({"operating_points": points}), encoding="utf-8")
    assert known(exported)[0] == known(exported / "visible.onnx")[0] == points
    (exported / "model.json").write_text(json.dumps({"operating_points": found}), encoding="utf-8")
    assert known(exported)[1].endswith("model.json, on rendered people")
