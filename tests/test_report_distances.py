"""Distances of genuine and impostor pairs: histograms and rates, against all pairs kept and sorted."""

import numpy as np
import pytest
import torch
from test_report import change, features, make, write_features, written

from crossreid.evaluation import EvaluateConfig, score_subsets, scoring, within_across
from crossreid.ops import distance
from crossreid.records import Embedding, Image, Metric, Trial


class Protocol:
    cmc, average = "image", "trials"

    def __init__(self, labels, trials):
        self.images = [
            Image(str(row), int(identity), int(camera), str(modality), int(domain))
            for row, (identity, camera, modality, domain) in enumerate(zip(*labels.values()))
        ]
        self._trials = trials

    def trials(self):
        return self._trials


def kept(values, labels, trial):
    """All allowed distances of a trial, of one person and of two."""
    value = distance.cosine(values[trial.query], values[trial.gallery]).numpy()
    same = labels["identity"][trial.query][:, None] == labels["identity"][trial.gallery]
    allowed = np.ones_like(same)
    if trial.excluded is not None:
        allowed = np.asarray(trial.excluded[0])[:, None] != np.asarray(trial.excluded[1])
    return value[same & allowed], value[~same & allowed]


def noisy(people=12, each=10, noise=0.9):
    rng = np.random.default_rng(3)
    identity = np.repeat(np.arange(people), each)
    vectors = rng.normal(size=(people, 12))[identity] + noise * rng.normal(size=(people * each, 12))
    labels = {
        "identity": identity,
        "camera": rng.integers(0, 4, people * each),
        "modality": np.where(rng.random(people * each) < 0.5, "infrared", "visible"),
        "domain": identity % 2,
    }
    return vectors.astype("f4"), labels


def trials(labels, count=2):
    rng = np.random.default_rng(1)
    for _ in range(count):
        order = rng.permutation(len(labels["identity"]))
        query, gallery = order[:40], order[40:]
        key = labels["identity"] * 10 + labels["camera"]
        yield Trial("all", query, gallery, (key[query], key[gallery]))


def measured(labels, chosen, vectors, stripes=None, kind=None):
    embedding = Embedding(torch.from_numpy(vectors), None if stripes is None else torch.from_numpy(stripes))
    config = EvaluateConfig(verification=True)
    metric = Metric("cosine", kind)
    found = score_subsets(Protocol(labels, chosen), embedding, metric, config, measures=("verification",))
    return found["all"], found["all"].results["pairs"][0]


def test_rates_and_histograms_equal_those_of_all_pairs():
    vectors, labels = noisy()
    chosen = list(trials(labels))
    scores, found = measured(labels, chosen, vectors)
    pairs = [kept(torch.from_numpy(vectors), labels, trial) for trial in chosen]
    for position, kind in enumerate(("genuine", "impostor")):
        values = np.concatenate([pair[position] for pair in pairs])
        assert found[kind] == sum(found["histogram"][kind]) == len(values)
        assert found["histogram"][kind] == np.histogram(values, found["edges"])[0].tolist()
    assert found["false_positive"][-1] == 1 and found["true_positive"][-1] == 1
    assert found["false_positive"][0] * min(len(pair[1]) for pair in pairs) >= 1 - 1e-6
    rows = zip(found["false_positive"][:-1], found["true_positive"], found["threshold"])
    for rate, share, threshold in rows:
        shares, limits = [], []
        for genuine, impostor in pairs:
            limit = np.sort(impostor)[int(np.floor(rate * len(impostor) * (1 + 1e-7)))]
            limits.append(limit)
            shares.append(np.mean([value < limit for value in genuine]))
            assert np.mean(impostor < limit) <= rate * (1 + 1e-7)
        assert share == pytest.approx(np.mean(shares), abs=1e-8)
        assert threshold == pytest.approx(np.mean(limits), abs=1e-6)
    # One definition: the table's numbers are points of the curve.
    for rate in (1e-2,):
        at = found["false_positive"].index(rate)
        assert scores.verification[f"TPR@FAR={rate:g}"] == pytest.approx(found["true_positive"][at], abs=1e-8)
    assert 1e-4 not in found["false_positive"]  # there are too few impostor pairs to tell


def test_pairs_within_and_across():
    vectors, labels = noisy(people=8, each=6)
    # The same number is another person in another domain.
    labels["domain"] = np.arange(len(vectors)) % 2
    values = distance.cosine(torch.from_numpy(vectors), torch.from_numpy(vectors)).numpy()
    person, camera = labels["identity"] * 10 + labels["domain"], labels["camera"] * 10 + labels["domain"]
    for key in ("modality", "domain"):
        _, found = within_across.histograms(labels, key, lambda start, stop: values[start:stop, start:])
        sums = {}
        for i in range(len(vectors)):
            for j in range(i + 1, len(vectors)):
                if camera[i] != camera[j]:
                    kind = "genuine" if person[i] == person[j] else "impostor"
                    where = f"within a {key}" if labels[key][i] == labels[key][j] else "across"
                    where = where.replace(
                        "across", "across modalities" if key == "modality" else "across domains"
                    )
                    sums[f"{kind}, {where}"] = sums.get(f"{kind}, {where}", 0) + 1
        assert {kind: int(counts.sum()) for kind, counts in found.items()} == sums
        assert "genuine, across domains" not in found


def test_the_evaluation_keeps_them_for_the_report():
    vectors, labels = noisy(people=8, each=6)
    protocol = Protocol(labels, list(trials(labels)))
    embedding = Embedding(torch.from_numpy(vectors))
    found = within_across.within_and_across(protocol, embedding, Metric("cosine"))
    assert [each["by"] for each in found] == ["modality", "domain"]
    values = distance.cosine(torch.from_numpy(vectors), torch.from_numpy(vectors)).numpy()
    edges, counts = within_across.histograms(
        labels, "modality", lambda start, stop: values[start:stop, start:]
    )
    assert found[0]["edges"] == edges.tolist()
    assert found[0]["histogram"] == {kind: each.tolist() for kind, each in counts.items()}
    labels["modality"][:], labels["domain"][:] = "visible", 0
    assert within_across.within_and_across(Protocol(labels, list(trials(labels))), embedding, Metric()) == []


def test_half_of_the_matrix_is_computed_and_a_block_of_it_kept(monkeypatch):
    vectors, labels = noisy(people=8, each=40)
    protocol, embedding = Protocol(labels, list(trials(labels))), Embedding(torch.from_numpy(vectors))
    whole = within_across.within_and_across(protocol, embedding, Metric("cosine"))
    made = []
    blocks = scoring.distance_blocks

    def counting(metric, query, gallery, device=None):
        made.append((len(query), len(gallery)))
        return blocks(metric, query, gallery, device)

    monkeypatch.setattr(scoring, "distance_blocks", counting)
    monkeypatch.setattr(within_across, "BLOCK_BYTES", 4 * 2000)
    assert within_across.within_and_across(protocol, embedding, Metric("cosine")) == whole
    count = len(vectors)
    assert max(one * other for one, other in made) <= 2000
    half, slack = count * (count + 1) / 2, 2000 * count / 10
    assert sum(one * other for one, other in made) <= 2 * (half + slack)  # by modality, and by domain


def test_stripes_count_where_the_method_compares_them():
    vectors, labels = noisy(people=4, each=4)
    stripes = np.random.default_rng(0).normal(size=(16, 3, 5)).astype("f4")
    stripes /= np.linalg.norm(stripes, axis=2, keepdims=True)
    trial = Trial("all", np.arange(0, 16, 2), np.arange(1, 16, 2))
    whole = [measured(labels, [trial], vectors, stripes, kind)[1] for kind in (None, "unaligned")]
    assert whole[1]["edges"][-1] > whole[0]["edges"][-1] + 0.3
    assert [each["metric"]["stripes"] for each in whole] == [None, "unaligned"]


def test_page_shows_them_with_their_numbers(tmp_path):
    folder = make(tmp_path / "run", images=False)
    write_features(folder)
    text = written(tmp_path, folder)
    vectors, labels = features()
    infrared, visible = (np.flatnonzero(labels["modality"] == name) for name in ("infrared", "visible"))
    keys = labels["camera"] // 2
    trial = Trial("all", infrared, visible, (keys[infrared], keys[visible]))
    genuine, impostor = kept(torch.from_numpy(vectors), labels, trial)
    assert f"{len(genuine)} genuine, {len(impostor)} impostor pairs; feature bn" in text
    assert "ROC" in text and "TPR<br>@FPR=0.01" in text and "Distances within and across modalities" in text
    several = written(tmp_path, folder, make(tmp_path / "other", images=False))
    assert "ROC, all" in several and "Distances of other, all" in several


def test_pairs_that_the_evaluation_kept_are_drawn_whatever_else_there_is(tmp_path):
    vectors, labels = noisy(people=8, each=6)
    folder = make(tmp_path / "run", images=False, features=False)
    change(folder, pairs=[measured(labels, list(trials(labels)), vectors)[1]])
    # Vectors that do not say who was searched for: none can be compared again.
    np.savez(folder / "features.npz", vectors=vectors, feature="bn", **labels)
    text = written(tmp_path, folder)
    assert "ROC" in text and "Distances, all" in text and "within and across" not in text
