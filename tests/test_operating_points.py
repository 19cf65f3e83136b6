"""Operating points against counting, and what is said when nothing is known."""

import json

import numpy as np
import pytest

from crossreid import operating_points
from crossreid.operating_points import measure, of, place
from crossreid.records import Trial, UserError


def test_by_hand():
    points = [{"subset": "all", "modalities": ["visible", "visible"], **of([0.1, 0.3], [0.2, 0.5, 0.9, 1.0])}]
    for distance, true, false in ((0.05, 0, 0), (0.1, 0.5, 0), (0.2, 0.5, 0.25), (0.3, 1, 0.25), (2, 1, 1)):
        (found,) = place(points, distance)
        assert found.subset == "all" and (found.genuine, found.impostor) == (2, 4)
        assert found.true_positive == pytest.approx(true, abs=0.02)
        assert found.false_positive == pytest.approx(false, abs=0.02)


def test_against_counting_with_ties():
    rng = np.random.default_rng(0)
    for values in (rng.random(20_000) ** 2 * 2, rng.integers(0, 30, 5000) / 20, np.full(7, 0.4)):
        points = json.loads(
            json.dumps([{"subset": "r", "modalities": ["both", "both"], **of(values, values)}])
        )
        for distance in (*rng.random(30) * 2, *rng.choice(values, 30), 0.4):
            (found,) = place(points, distance)
            counted = np.mean(values <= distance + 1e-7)
            # Interpolation is exact at the kept shares, which lie at most one percent apart.
            assert found.true_positive == found.false_positive == pytest.approx(counted, abs=0.0101)
    rare = np.linspace(0, 1, 100_001)
    points = [{"subset": "r", "modalities": ["both", "both"], **of(rare, rare)}]
    assert place(points, 1e-4)[0].false_positive == pytest.approx(1e-4, rel=0.15)


def test_nothing_is_made_of_nothing():
    for wrong in ([], [np.nan], [np.inf]):
        with pytest.raises(ValueError, match="finite"):
            of(wrong, [1.0])


def brute(vectors, identity, trials, row):
    genuine, impostor = [], []
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for trial in trials:
        if trial.subset != row:
            continue
        for q, i in enumerate(trial.query):
            for g, j in enumerate(trial.gallery):
                if trial.excluded is None or trial.excluded[0][q] != trial.excluded[1][g]:
                    (genuine if identity[i] == identity[j] else impostor).append(1 - unit[i] @ unit[j])
    return genuine, impostor


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
    rows = {"visible": ("visible", "visible"), "across": ("visible", "infrared")}
    return [
        Trial(row, sides[one], sides[two], (rule[sides[one]], rule[sides[two]]))
        for row, (one, two) in rows.items()
    ]


def test_measure_against_a_slow_recomputation():
    vectors, identity, camera, modality = example()
    trials = trials_of(identity, camera, modality)
    measured = {each["subset"]: each for each in measure(vectors, identity, modality, trials)}
    assert set(measured) == {"visible", "across"}
    for row in measured:
        genuine, impostor = brute(vectors, identity, trials, row)
        assert (measured[row]["genuine"]["pairs"], measured[row]["impostor"]["pairs"]) == (
            len(genuine),
            len(impostor),
        )
        (found,) = place([measured[row]], 0.5)
        assert found.true_positive == pytest.approx(np.mean(np.array(genuine) <= 0.5), abs=0.02)
        assert found.false_positive == pytest.approx(np.mean(np.array(impostor) <= 0.5), abs=0.02)
    assert measured["across"]["modalities"] == ["visible", "infrared"]


def test_many_pairs_are_thinned_and_trials_pooled():
    vectors, identity, _, modality = example(200)
    everything = np.arange(200)
    whole = [Trial("all", everything, everything)]
    twice = [Trial("all", everything[:100], everything), Trial("all", everything[100:], everything)]
    (one,), (two,) = (measure(vectors, identity, modality, trials) for trials in (whole, twice))
    assert one == two and one["modalities"] == ["both", "both"]
    (few,) = measure(vectors, identity, modality, whole, pairs=4000)
    assert few["genuine"]["pairs"] + few["impostor"]["pairs"] == 4000
    close, near = place([few], 0.6)[0], place([one], 0.6)[0]
    assert close.false_positive == pytest.approx(near.false_positive, abs=0.08)
    assert (
        measure(vectors, everything, modality, [Trial("no pair of one", everything[:5], everything[5:])])
        == []
    )


def test_rows_of_other_modalities_are_left_out():
    points = [
        {"subset": name, "modalities": modalities, **of([0.1], [0.9])}
        for name, modalities in (
            ("cross", ["infrared", "visible"]),
            ("v", ["visible", "visible"]),
            ("mixed", ["both", "both"]),
        )
    ]
    rows = {pair: [each.subset for each in place(points, 0.5, pair)] for pair in KINDS}
    assert rows == {
        ("visible", "visible"): ["v", "mixed"],
        ("visible", "infrared"): ["cross", "mixed"],
        ("infrared", "visible"): ["cross", "mixed"],
        ("infrared", "infrared"): ["mixed"],
    }


KINDS = [(a, b) for a in ("visible", "infrared") for b in ("visible", "infrared")]


def test_reading_says_what_is_known(tmp_path):
    model = tmp_path / "last.pt"
    found, why = operating_points.read(model)
    assert found == [] and "no evaluation.json lies beside last.pt" in why
    evaluation = {"checkpoint": "best.pt"}

    def write(**more):
        (tmp_path / "evaluation.json").write_text(json.dumps(evaluation | more), encoding="utf-8")

    write()
    assert "whose checkpoint is best.pt" in operating_points.read(model)[1]
    write(checkpoint="last.pt")
    assert "says nothing of distances" in operating_points.read(model)[1]
    vectors, identity, camera, modality = example()
    trials, arrays = trials_of(identity, camera, modality), {}
    for number, trial in enumerate(trials):
        arrays |= {f"query_{number}": trial.query, f"gallery_{number}": trial.gallery}
        arrays |= {
            f"excluded_query_{number}": trial.excluded[0],
            f"excluded_gallery_{number}": trial.excluded[1],
        }
    record = json.dumps({"trials": [trial.subset for trial in trials]})
    labels = {"identity": identity, "domain": 0 * identity, "modality": modality}
    np.savez(tmp_path / "features.npz", vectors=vectors, record=record, **labels, **arrays)
    found, why = operating_points.read(model)
    assert found == measure(vectors, identity, modality, trials)
    assert "features.npz" in why
    points = [{"subset": "all", "modalities": ["visible", "visible"], **of([0.1], [0.9])}]
    write(checkpoint="last.pt", operating_points=points, fingerprint="aa")
    assert operating_points.read(model, "aa") == (points, str(tmp_path / "evaluation.json"))
    assert operating_points.read(model)[0] == points
    assert "whose fingerprint is aa" in operating_points.read(model, "bb")[1]
    write(checkpoint="last.pt", operating_points=points, feature="global")
    assert operating_points.read(model, "bb", "global")[0] == points
    assert "whose feature is global" in operating_points.read(model, "bb", "bn")[1]
    for broken in ("{", "[]", '{"checkpoint": "last.pt", "operating_points": [{}]}'):
        (tmp_path / "evaluation.json").write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match="evaluate the model with"):
            operating_points.read(model)
    exported = tmp_path / "exported"
    exported.mkdir()
    assert "no model.json" in operating_points.read(exported)[1]
    (exported / "model.json").write_text(json.dumps({"operating_points": points}), encoding="utf-8")
    assert operating_points.read(exported)[0] == operating_points.read(exported / "visible.onnx")[0] == points
